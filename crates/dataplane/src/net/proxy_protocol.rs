//! The PROXY protocol, versions 1 and 2: a load balancer in front of us says whose connection it passes on, before the first
//! byte of it (haproxy.org, proxy-protocol.txt). Read byte-exact, so that nothing of what follows is taken.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::network::canonical;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// With the line end.
const LINE_MAX: usize = 107;
/// Addresses and what else a balancer tells; those in use tell a few hundred bytes at most.
const REST_MAX: usize = 4096;

/// The client that the balancer tells of. `None`: the balancer speaks for itself, a health check for example.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    // No header of either version is shorter.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == *SIGNATURE { read_binary(stream).await } else { read_line(stream, &start).await }
}

async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [version_and_command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > REST_MAX {
        return Err(malformed());
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (version_and_command, family) {
        (0x20, _) => Ok(None),
        (0x21, 0x11) => address(rest.first_chunk::<4>().filter(|_| length >= 12).map(|a| Ipv4Addr::from(*a).into())),
        (0x21, 0x21) => address(rest.first_chunk::<16>().filter(|_| length >= 36).map(|a| Ipv6Addr::from(*a).into())),
        // Another kind of address, which says nothing to us.
        (0x21, _) => Ok(None),
        _ => Err(malformed()),
    }
}

async fn read_line(stream: &mut (impl AsyncRead + Unpin), start: &[u8]) -> io::Result<Option<IpAddr>> {
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE_MAX || !line.starts_with(b"PROXY ") {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    let text = std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| malformed())?;
    let parts: Vec<&str> = text.split(' ').collect();
    match parts[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, target, source_port, target_port] => {
            let is_right =
                |text: &str| text.parse::<IpAddr>().is_ok_and(|parsed| parsed.is_ipv4() == (family == "TCP4"));
            let are_ports = [source_port, target_port].iter().all(|port| port.parse::<u16>().is_ok());
            address(source.parse().ok().filter(|_| is_right(source) && is_right(target) && are_ports))
        }
        _ => Err(malformed()),
    }
}

fn address(found: Option<IpAddr>) -> io::Result<Option<IpAddr>> {
    found.map(|address| Some(canonical(address))).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read, and what is left for whoever comes next.
    fn outcome(mut bytes: &[u8]) -> Option<(Option<IpAddr>, Vec<u8>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(read(&mut bytes)).ok()?;
        Some((found, bytes.to_vec()))
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest, b"GET"].concat()
    }

    #[test]
    fn lines() {
        for (line, client) in [
            (&b"PROXY TCP4 203.0.113.9 10.0.0.1 40000 80\r\nGET"[..], Some("203.0.113.9")),
            (b"PROXY TCP6 2001:db8::9 2001:db8::1 40000 80\r\nGET", Some("2001:db8::9")),
            (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\nGET", Some("203.0.113.9")),
            (b"PROXY UNKNOWN\r\nGET", None),
            (b"PROXY UNKNOWN ffff:: ffff:: 1 2\r\nGET", None),
        ] {
            let expected = (client.map(|text| text.parse().unwrap()), b"GET".to_vec());
            assert_eq!(outcome(line), Some(expected), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PROXY TCP4 203.0.113.9 10.0.0.1 40000\r\n",
            b"PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n",
            b"PROXY TCP4 203.0.113.9 10.0.0.1 70000 80\r\n",
            b"PROXY TCP4  203.0.113.9 10.0.0.1 1 2\r\n",
            b"PROXY UDP4 203.0.113.9 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 203.0.113.9 10.0.0.1 1 2\n",
            b"proxy tcp4 203.0.113.9 10.0.0.1 1 2\r\n",
            b"PROXY",
        ] {
            assert_eq!(outcome(bytes), None, "{}", bytes.escape_ascii());
        }
        assert_eq!(outcome(&[b"PROXY UNKNOWN ", &[b'x'; 200][..], b"\r\n"].concat()), None);
        assert_eq!(outcome(&binary(0x21, 0x11, &[1; 11])), None);
        assert_eq!(outcome(&binary(0x11, 0x11, &[1; 12])), None);
        assert_eq!(outcome(&binary(0x21, 0x11, &[1; 5000])), None);
    }

    #[test]
    fn binaries() {
        let left = b"GET".to_vec();
        let v4 = binary(0x21, 0x11, &[203, 0, 113, 9, 10, 0, 0, 1, 1, 2, 0, 80]);
        assert_eq!(outcome(&v4), Some((Some("203.0.113.9".parse().unwrap()), left.clone())));
        let more = [&[0x20, 1, 0xd, 0xb8][..], &[0; 31], &[9], b"further things"].concat();
        let v6 = binary(0x21, 0x21, &more);
        assert_eq!(outcome(&v6), Some((Some("2001:db8::".parse().unwrap()), left.clone())));
        assert_eq!(outcome(&binary(0x20, 0, &[])), Some((None, left.clone())));
        assert_eq!(outcome(&binary(0x21, 0x31, &[0; 216])), Some((None, left)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, signed: bool) {
            let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            outcome(&bytes);
        }
    }
}
