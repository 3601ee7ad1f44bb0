//! Values of single fields: lists, lengths, cookies, claimed addresses, request ids, and the paths that limits cover.

use std::net::IpAddr;

use super::grammar::Head;
use crate::net::network::Network;
use crate::request_id::RequestId;
use crate::servers::http::fields::{cookie, length, list};
use crate::servers::http::forwarded::{Claims, Origin};
use crate::servers::rate_limit::covers;
use crate::snapshot::Forwarded;

pub fn hold(data: &[u8]) {
    check_list(data);
    check_length(data);
    check_cookie(data);
    check_claims(data);
    check_paths(data);
    if let Some(id) = RequestId::accept(data) {
        assert_eq!(id.as_str().as_bytes(), data);
        assert!(data.iter().all(|byte| byte.is_ascii_graphic() && !b"\"',;<>&\\".contains(byte)));
    }
}

fn check_list(data: &[u8]) {
    let joined = list(data).collect::<Vec<_>>().join(&b", "[..]);
    assert!(list(data).all(|item| !item.is_empty() && !item.contains(&b',')));
    assert!(list(&joined).eq(list(data)), "joined again, it is another list");
}

fn check_length(data: &[u8]) {
    if let Some(found) = length(data) {
        let text = std::str::from_utf8(data).expect("digits");
        assert!(!text.starts_with('+'));
        assert_eq!(text.parse(), Ok(found));
    }
}

/// RFC 6265, section 4.2.1: pairs with `; ` between them.
fn check_cookie(data: &[u8]) {
    let mut expected = None;
    for pair in data.split(|byte| *byte == b';') {
        let pair = pair.trim_ascii();
        if let (None, Some(equals)) = (expected, pair.iter().position(|byte| *byte == b'=')) {
            expected = (&pair[..equals] == b"sid").then(|| &pair[equals + 1..]);
        }
    }
    assert_eq!(cookie(data, "sid"), expected);
}

fn check_claims(data: &[u8]) {
    let networks = [Network::parse("10.0.0.0/8").expect("a network")];
    let halves = data.split_at(data.len() / 2);
    for values in [vec![data], vec![halves.0, halves.1]] {
        let claims = Claims { forwarded_for: values, proto: Some(data), ..Claims::default() };
        for peer in ["10.0.0.1", "2001:db8::1"] {
            let peer: IpAddr = peer.parse().expect("an address");
            let origin = Origin::claimed(peer, false, &claims, &networks);
            assert!(origin.proxies.iter().all(|proxy| networks[0].contains(*proxy)), "a stranger counts as a proxy");
            assert!(!origin.proxies.is_empty() || origin.client == peer);
            let mut out = b"GET / HTTP/1.1\r\n".to_vec();
            origin.write(&mut out, b"example.com", Forwarded::Both);
            out.extend_from_slice(b"\r\n");
            let written = Head::read(&out).unwrap_or_else(|why| panic!("the server would get {why}"));
            assert_eq!(written.fields.len(), 4);
            // The next hop, which trusts us and those before us, sees the same client.
            let told = written.all("x-forwarded-for").concat();
            let chain: Vec<IpAddr> = list(&told)
                .map(|item| std::str::from_utf8(item).ok().and_then(|text| text.parse().ok()).expect("an address"))
                .collect();
            assert_eq!(chain[0], origin.client);
            assert_eq!(chain[1..], origin.proxies);
        }
    }
}

/// A limit covers a path in any spelling of its letters.
fn check_paths(data: &[u8]) {
    let path = data.split(|byte| matches!(byte, b'?' | b'%')).next().unwrap_or(data);
    let escaped: Vec<u8> = path.iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect();
    let mixed: Vec<u8> = path
        .iter()
        .enumerate()
        .flat_map(|(at, byte)| if at % 2 == 0 { vec![*byte] } else { format!("%{byte:02X}").into_bytes() })
        .collect();
    let plain = covers(b"/login", path);
    assert_eq!(covers(b"/login", &escaped), plain);
    assert_eq!(covers(b"/login", &mixed), plain);
    assert_eq!(plain, path.strip_prefix(b"/login").is_some_and(|rest| matches!(rest, [] | [b'/', ..])));
    let below = [b"/login/", data].concat();
    assert!(covers(b"/login", &below));
}
