//! Request heads: what is accepted is HTTP, and means to the server what it means here.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use super::grammar::{Field, Framing, Head, is_authority};
use super::pieces;
use crate::events::Events;
use crate::servers::http::request::{BodyFraming, Peer, Request, check_start, head_end};
use crate::servers::topology::Topology;

const STRANGER: Peer = Peer { address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), https: false, http2: false };
const PROXY: Peer = Peer { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), https: false, http2: false };

/// Fields that the gateway writes by itself or keeps to itself.
const OURS: [&str; 14] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "keep-alive",
    "http2-settings",
    "proxy-connection",
    "proxy-authorization",
    "upgrade",
    "expect",
    "x-request-id",
    "x-real-ip",
    "forwarded",
];

fn topology() -> &'static Topology {
    static TOPOLOGY: OnceLock<Topology> = OnceLock::new();
    TOPOLOGY.get_or_init(|| {
        let snapshot = serde_json::json!({
            "listeners": [], "threads": 1, "tls": null, "access_log": {"format": "off", "path": "-"},
            "http": {
                "trusted_proxies": ["10.0.0.0/8"], "forwarded": "both", "connections_max": 1, "head_max_bytes": 16384,
                "fields_max": 100, "body_max_bytes": 0, "request_buffering": "full", "request_memory_bytes": 65536,
                "spool_directory": "", "response_buffer_bytes": 65536, "head_timeout_ms": 1000, "body_timeout_ms": 1000,
                "write_timeout_ms": 1000, "keep_alive_timeout_ms": 1000, "stream_idle_timeout_ms": 1000,
                "rate_limits": [{"path": "/login", "by": "header:x-key", "requests_per_s": 1.0, "burst": 2}],
                "compression": {"encodings": ["br", "gzip"], "types": ["text/*"], "min_bytes": 100},
            },
            "routes": [{"host": "*", "path": "/", "pool": "app"}],
            "pools": [{
                "name": "app", "policy": {"name": "hash", "bound": 2.0}, "hash_by": "cookie:sid", "slow_start_ms": 0, "queue_max": 1,
                "queue_timeout_ms": 1, "connect_timeout_ms": 1, "response_timeout_ms": 1, "idle_connections_max": 1,
                "retries_max": 0, "retry_share_max": 0.0, "active": null,
                "passive": {"failures": 3, "base_ms": 1, "max_ms": 1}, "eject_share_max": 0.5, "panic_share": 0.0,
                "servers": [],
            }],
        });
        let snapshot = serde_json::from_value(snapshot).expect("a snapshot");
        Topology::build(snapshot, None, &Arc::new(Events::default())).expect("a topology")
    })
}

/// Parses a head as a stranger sends it.
pub fn parsed(head: &[u8]) -> Option<Request> {
    Request::parse(head, STRANGER, topology(), false).ok()
}

pub fn hold(data: &[u8]) {
    // Empty lines in front are taken off before.
    let blank = data.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let data = &data[blank..];
    let whole = head_end(data, &mut 0);
    assert_eq!(arriving(data), whole, "where the head ends depends on packets");
    let Some(end) = whole else { return };
    let head = &data[..end];
    for peer in [STRANGER, PROXY] {
        let Ok(request) = Request::parse(head, peer, topology(), true) else { continue };
        let read = Head::read(head).unwrap_or_else(|why| panic!("accepted, though there is {why}"));
        read.check_request_line().unwrap_or_else(|why| panic!("accepted in spite of {why}"));
        for cut in 1..end {
            assert!(check_start(&head[..cut]).is_ok(), "refused early, but accepted whole");
        }
        check_framing(&request, &read);
        check_meaning(&request, &read, peer);
    }
}

fn arriving(data: &[u8]) -> Option<usize> {
    let (mut scanned, mut seen) = (0, 0);
    for piece in pieces(data) {
        seen = (seen + piece).min(data.len());
        let found = head_end(&data[..seen], &mut scanned);
        if found.is_some() || seen == data.len() {
            return found;
        }
    }
    None
}

fn check_framing(request: &Request, read: &Head) {
    let framing = read.framing().unwrap_or_else(|why| panic!("accepted in spite of {why}"));
    assert!(read.all("content-length").len() < 2, "a request with two lengths was accepted");
    let expected = match framing {
        Framing::None => BodyFraming::Empty,
        Framing::Length(length) => BodyFraming::Length(length),
        Framing::Chunked => BodyFraming::Chunked,
    };
    assert_eq!(request.body, expected);
    assert_eq!(request.is_http11, read.start[2] == b"HTTP/1.1");
    assert!(request.is_http11 || expected != BodyFraming::Chunked, "HTTP/1.0 knows no chunks");
    assert_eq!(request.is_head, read.start[0] == b"HEAD");
}

/// What the server gets is the same request.
fn check_meaning(request: &Request, read: &Head, peer: Peer) {
    let out = [&request.head[..], b"\r\n"].concat();
    let written = Head::read(&out).unwrap_or_else(|why| panic!("the server would get {why}"));
    written.check_request_line().unwrap_or_else(|why| panic!("the server would get {why}"));
    assert_eq!(written.framing(), Ok(Framing::None), "framing comes later, from us");
    assert_eq!(written.start[0], read.start[0]);
    assert_eq!(written.start[2], b"HTTP/1.1");

    let (authority, target) = origin_form(&read.start[1]);
    assert_eq!(written.start[1], target, "another target");
    let hosts = read.all("host");
    assert!(hosts.len() < 2, "two hosts were accepted");
    let host = authority.as_deref().or(hosts.first().copied()).unwrap_or(b"");
    assert!(is_authority(host) || (host.is_empty() && !request.is_http11), "a host that is none");
    assert_eq!(written.all("host"), [host], "another host");

    let nominated = options(read);
    let is_ours = |name: &str| OURS.contains(&name) || name.starts_with("x-forwarded-");
    let passes = |name: &str| {
        // Nobody has claimed a name of twelve letters.
        let is_own = is_ours(name) && name != "x-forwarded-";
        !(is_own || name == "proxy" || name.contains('_') || nominated.iter().any(|other| other == name))
    };
    let wanted: Vec<&Field> = read.fields.iter().filter(|field| passes(&field.0)).collect();
    let written_on: Vec<&Field> =
        written.fields.iter().filter(|field| !is_ours(&field.0) || field.0 == "x-forwarded-").collect();
    assert_eq!(written_on, wanted, "fields were lost, added or changed");
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-request-id", "forwarded"] {
        assert_eq!(written.all(name).len(), 1, "{name}");
    }
    if peer.address == STRANGER.address {
        assert_eq!(written.all("x-forwarded-for"), [b"203.0.113.9"], "a stranger was believed");
        assert_eq!(written.all("x-forwarded-proto"), [b"http"], "a stranger was believed");
    }
    if request.upgrade {
        assert_eq!(read.all("upgrade").last(), written.all("upgrade").last());
        assert!(nominated.contains(&"upgrade".to_owned()), "an upgrade that nobody asked for");
        assert!(matches!(request.body, BodyFraming::Empty | BodyFraming::Length(0)));
    } else {
        assert!(written.all("upgrade").is_empty() && written.all("connection").is_empty());
    }
    // HTTP/1.0 may leave the host out; a server then gets an empty one, with which HTTP/1.1 says the same. And what we add
    // may be what is too much for the next.
    if !host.is_empty() && read.fields.len() < 90 {
        check_again(request, &out);
    }
}

/// Another gateway of our kind would pass the same on.
fn check_again(request: &Request, out: &[u8]) {
    let Some(again) = parsed(out) else { panic!("what we write we would not accept") };
    let lines = |head: &[u8]| -> Vec<Vec<u8>> {
        let ids = [&b"X-Request-Id"[..], b"X-Forwarded-", b"Forwarded:"];
        let told = |line: &&[u8]| !ids.iter().any(|id| line.starts_with(id));
        head.split(|byte| *byte == b'\n').filter(told).map(<[u8]>::to_vec).collect()
    };
    assert_eq!(lines(&again.head), lines(&request.head), "the second time it means something else");
    assert_eq!(
        (again.upgrade, again.is_head, again.idempotent),
        (request.upgrade, request.is_head, request.idempotent)
    );
}

/// The authority of an absolute form, and the path with its query.
fn origin_form(target: &[u8]) -> (Option<Vec<u8>>, Vec<u8>) {
    if target.starts_with(b"/") || target == b"*" {
        return (None, target.to_vec());
    }
    let text = String::from_utf8_lossy(target);
    let (_, rest) = text.split_once("://").expect("an absolute form");
    let (authority, path) = rest.split_once('/').map_or((rest, "/".into()), |(a, path)| (a, format!("/{path}")));
    (Some(authority.as_bytes().to_vec()), path.into_bytes())
}

fn options(read: &Head) -> Vec<String> {
    let values = read.all("connection");
    let texts = values.iter().map(|value| String::from_utf8_lossy(value).to_ascii_lowercase());
    texts.flat_map(|text| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>()).collect()
}
