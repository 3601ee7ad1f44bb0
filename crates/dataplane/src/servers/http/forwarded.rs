//! Who asked: the client's address as far as trusted proxies tell it, and the fields that pass it on to the app.
//!
//! What an untrusted client claims is dropped. What a trusted proxy says is taken up to the first address that is
//! not a trusted proxy itself: that is the client, and everything further left is its own invention. The app
//! therefore always finds the client at the left end of the list.

use std::io::Write;
use std::net::IpAddr;

use super::fields::list;
use crate::net::network::{Network, canonical};
use crate::snapshot::Forwarded;

/// Claims of the request, as raw field values. Only looked at when the peer is trusted.
#[derive(Debug, Default)]
pub struct Claims<'h> {
    pub forwarded_for: Vec<&'h [u8]>,
    pub proto: Option<&'h [u8]>,
    pub host: Option<&'h [u8]>,
}

/// Who asked, by which scheme, for which host.
#[derive(Debug)]
pub struct Origin {
    pub client: IpAddr,
    /// Trusted proxies between the client and us, nearest to the client first.
    pub proxies: Vec<IpAddr>,
    pub https: bool,
}

pub fn is_trusted(networks: &[Network], peer: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(peer))
}

impl Origin {
    pub fn direct(peer: IpAddr, https: bool) -> Self {
        Self { client: peer, proxies: Vec::new(), https }
    }

    /// Follows the claims of a trusted `peer` from the right.
    pub fn claimed(peer: IpAddr, https: bool, claims: &Claims<'_>, networks: &[Network]) -> Self {
        let mut origin = Self::direct(peer, claims.proto.map_or(https, |proto| proto.eq_ignore_ascii_case(b"https")));
        let chain: Vec<&[u8]> = claims.forwarded_for.iter().flat_map(|value| list(value)).collect();
        for claim in chain.iter().rev() {
            let Some(address) = parse_address(claim) else {
                break;
            };
            if is_trusted(networks, origin.client) {
                origin.proxies.insert(0, origin.client);
                origin.client = address;
            } else {
                break;
            }
        }
        origin
    }

    /// Writes the fields that tell the app.
    pub fn write(&self, out: &mut Vec<u8>, host: &[u8], style: Forwarded) {
        let proto: &[u8] = if self.https { b"https" } else { b"http" };
        if style != Forwarded::Rfc7239 {
            out.extend_from_slice(b"X-Forwarded-For: ");
            write_address(out, self.client);
            for proxy in &self.proxies {
                out.extend_from_slice(b", ");
                write_address(out, *proxy);
            }
            out.extend_from_slice(b"\r\nX-Forwarded-Proto: ");
            out.extend_from_slice(proto);
            if !host.is_empty() {
                out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
                out.extend_from_slice(host);
            }
            out.extend_from_slice(b"\r\n");
        }
        if style != Forwarded::X {
            out.extend_from_slice(b"Forwarded: for=");
            write_node(out, self.client);
            if !host.is_empty() {
                out.extend_from_slice(b";host=\"");
                out.extend_from_slice(host);
                out.push(b'"');
            }
            out.extend_from_slice(b";proto=");
            out.extend_from_slice(proto);
            for proxy in &self.proxies {
                out.extend_from_slice(b", for=");
                write_node(out, *proxy);
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                if octet >= 100 {
                    out.push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    out.push(b'0' + octet / 10 % 10);
                }
                out.push(b'0' + octet % 10);
            }
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

/// A node of `Forwarded` (RFC 7239, section 6): IPv6 goes in brackets and quotes.
fn write_node(out: &mut Vec<u8>, address: IpAddr) {
    if address.is_ipv6() {
        out.extend_from_slice(b"\"[");
        write_address(out, address);
        out.extend_from_slice(b"]\"");
    } else {
        write_address(out, address);
    }
}

/// `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::7`, `[2001:db8::7]`, `[2001:db8::7]:4711`.
fn parse_address(claim: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(claim).ok()?;
    let address = text.parse().or_else(|_| {
        let bare = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or("", |(inside, _)| inside),
            None => text.rsplit_once(':').map_or("", |(address, _)| address),
        };
        bare.parse()
    });
    address.ok().map(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(peer: &str, forwarded_for: &[&str]) -> String {
        let networks = [Network::parse("10.0.0.0/8").unwrap()];
        let claims =
            Claims { forwarded_for: forwarded_for.iter().map(|v| v.as_bytes()).collect(), ..Claims::default() };
        let mut out = Vec::new();
        let peer = peer.parse().unwrap();
        Origin::claimed(peer, false, &claims, &networks).write(&mut out, b"", Forwarded::X);
        String::from_utf8(out).unwrap().lines().next().unwrap().to_owned()
    }

    #[test]
    fn the_client_is_the_first_address_that_is_no_proxy_of_ours() {
        for (peer, claims, expected) in [
            ("10.0.0.1", &["203.0.113.7"][..], "203.0.113.7, 10.0.0.1"),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.7"], "203.0.113.7, 10.0.0.1"),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.7, 10.0.0.2"], "203.0.113.7, 10.0.0.2, 10.0.0.1"),
            ("10.0.0.1", &["6.6.6.6", "203.0.113.7:4711"], "203.0.113.7, 10.0.0.1"),
            ("10.0.0.1", &["[2001:db8::7]:99"], "2001:db8::7, 10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("198.51.100.2", &["203.0.113.7"], "198.51.100.2"),
        ] {
            assert_eq!(origin(peer, claims), format!("X-Forwarded-For: {expected}"), "{peer} {claims:?}");
        }
    }

    #[test]
    fn the_standard_field() {
        let mut out = Vec::new();
        let mut origin = Origin::direct("2001:db8::7".parse().unwrap(), true);
        origin.proxies.push("10.0.0.1".parse().unwrap());
        origin.write(&mut out, b"example.com", Forwarded::Rfc7239);
        let expected = "Forwarded: for=\"[2001:db8::7]\";host=\"example.com\";proto=https, for=10.0.0.1\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
