//! The PROXY header: read byte-exact however it arrives, and never taken for more than it says.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::pieces;
use crate::net::proxy_protocol;

pub fn hold(data: &[u8]) {
    let whole = read(data, Box::new(std::iter::repeat(data.len().max(1))));
    assert_eq!(read(data, Box::new(pieces(data))), whole, "what it says depends on packets");
    match (whole, reference(data)) {
        (Some(ours), theirs) => assert_eq!(Some(ours), theirs, "another reading of the same header"),
        // We refuse more than the protocol does: what is longer than any balancer writes.
        (None, Some((_, length))) => assert!(length > 4096 + 16, "a good header was refused"),
        (None, None) => {}
    }
}

/// The client it tells of, and the length of the header.
type Told = (Option<IpAddr>, usize);
/// How many bytes come at a time.
type Pieces<'d> = Box<dyn Iterator<Item = usize> + 'd>;

fn read(data: &[u8], pieces: Pieces<'_>) -> Option<Told> {
    let mut arriving = Arriving { data, at: 0, pieces };
    let polled = {
        let future = std::pin::pin!(proxy_protocol::read(&mut arriving));
        future.poll(&mut Context::from_waker(Waker::noop()))
    };
    match polled {
        Poll::Ready(Ok(client)) => Some((client, arriving.at)),
        Poll::Ready(Err(_)) => None,
        Poll::Pending => panic!("it waits, though everything is there"),
    }
}

/// Bytes that come in pieces, then an end.
struct Arriving<'d> {
    data: &'d [u8],
    at: usize,
    pieces: Pieces<'d>,
}

impl AsyncRead for Arriving<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let piece = self.pieces.next().unwrap_or(1);
        let count = piece.min(room.remaining()).min(self.data.len() - self.at);
        room.put_slice(&self.data[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

/// proxy-protocol.txt, sections 2.1 and 2.2.
fn reference(data: &[u8]) -> Option<Told> {
    let canonical = |address: IpAddr| address.to_canonical();
    if let Some(rest) = data.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
        let [kind, family, high, low, addresses @ ..] = rest else { return None };
        let length = usize::from(*high) << 8 | usize::from(*low);
        let addresses = addresses.get(..length)?;
        let client = match (kind, family) {
            (0x20, _) => None,
            (0x21, 0x11) if length >= 12 => {
                let octets: [u8; 4] = addresses[..4].try_into().ok()?;
                Some(IpAddr::V4(Ipv4Addr::from(octets)))
            }
            (0x21, 0x21) if length >= 36 => {
                let octets: [u8; 16] = addresses[..16].try_into().ok()?;
                Some(canonical(IpAddr::V6(Ipv6Addr::from(octets))))
            }
            (0x21, 0x11 | 0x21) => return None,
            (0x21, _) => None,
            _ => return None,
        };
        return Some((client, 16 + length));
    }
    let end = data.windows(2).take(106).position(|pair| pair == b"\r\n")?;
    let line = std::str::from_utf8(&data[..end]).ok()?;
    let rest = line.strip_prefix("PROXY ")?;
    let words: Vec<&str> = rest.split(' ').collect();
    let client = match &words[..] {
        ["UNKNOWN", ..] => None,
        [family, source, target, ports @ ..] => {
            if ports.len() != 2 || !ports.iter().all(|port| port.parse::<u16>().is_ok()) {
                return None;
            }
            let client = match *family {
                "TCP4" => source.parse::<Ipv4Addr>().ok().zip(target.parse::<Ipv4Addr>().ok())?.0.into(),
                "TCP6" => source.parse::<Ipv6Addr>().ok().zip(target.parse::<Ipv6Addr>().ok())?.0.into(),
                _ => return None,
            };
            Some(canonical(client))
        }
        _ => return None,
    };
    Some((client, end + 2))
}
