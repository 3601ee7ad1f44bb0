//! A request head: parsed strictly, routed, and rewritten for the server, in one pass over the bytes.
//!
//! What is ambiguous is refused, never repaired: the bytes that reach a server mean to it what they meant here.

use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::sync::Arc;

use super::compression::Offer;
use super::fields::{Copier, Known, has_bare_lf, length, list};
use super::forwarded::{Claims, Origin, is_trusted};
use super::refusal::Refusal;
use crate::access_log::LogFields;
use crate::clock::now_us;
use crate::net::tls::Tls;
use crate::request_id::RequestId;
use crate::servers::pool::Pool;
use crate::servers::router::normal_host;
use crate::servers::topology::Topology;

/// Authorities that check whether a host is ours ask in the clear, and must get the app's answer (RFC 8555, section 8.3).
const ACME: &[u8] = b"/.well-known/acme-challenge/";
/// Most fields that settings allow.
const FIELDS_MAX: usize = 256;

/// How the end of a request body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    Empty,
    Length(u64),
    Chunked,
}

/// One request, ready to be sent once its body's framing is decided.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Facts of one message, each asked for by another step.
pub struct Request {
    pub pool: Arc<Pool>,
    /// What the pool's policy hashes, when it asks for a key.
    pub key: Option<u64>,
    /// The head for the server, without the fields that frame the body and without the empty line.
    pub head: Vec<u8>,
    pub body: BodyFraming,
    pub is_http11: bool,
    pub keep_alive: bool,
    pub expects_continue: bool,
    /// The client asks to leave HTTP (WebSocket and others).
    pub upgrade: bool,
    pub is_head: bool,
    /// Repeating it has no effect beyond the first time (RFC 9110, section 9.2.2).
    pub idempotent: bool,
    pub id: RequestId,
    /// In the clear, but this is where it should have come.
    pub redirect: Option<String>,
    /// Its client has sent too many: the seconds until the next may come.
    pub limited_s: Option<u32>,
    /// What a browser should be told about encryption, in seconds.
    pub hsts_max_age_s: Option<u64>,
    /// How the response may be compressed. `None`: not at all, for anyone.
    pub compression: Option<Offer>,
    pub log: Option<Box<LogFields>>,
}

/// What a connection knows before its first request.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub address: IpAddr,
    pub https: bool,
    /// Whether it speaks HTTP/2, whose requests come here in the shape of HTTP/1.1.
    pub http2: bool,
}

/// Where the head in `bytes` ends, if it does. `scanned` remembers how far earlier calls have looked.
pub fn head_end(bytes: &[u8], scanned: &mut usize) -> Option<usize> {
    let from = scanned.saturating_sub(3);
    let found = memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| {
        let rest = &bytes[from + at + 1..];
        if rest.starts_with(b"\r\n") {
            Some(from + at + 3)
        } else if rest.starts_with(b"\n") {
            Some(from + at + 2)
        } else {
            None
        }
    });
    *scanned = bytes.len();
    found
}

/// Refuses what can be seen to be no request from its first bytes, so that nobody waits for the rest of it.
pub fn check_start(bytes: &[u8]) -> Result<(), Refusal> {
    let mut none: [httparse::Header<'_>; 0] = [];
    match httparse::Request::new(&mut none).parse(bytes) {
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Ok(()),
        Err(error) => Err(refusal(error)),
    }
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName => Refusal::BadRequest("malformed header name"),
        httparse::Error::HeaderValue => Refusal::BadRequest("malformed header value"),
        httparse::Error::NewLine => Refusal::BadRequest("line not ended by CRLF"),
        httparse::Error::Token => Refusal::BadRequest("malformed request line"),
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::Version => Refusal::VersionNotSupported,
        httparse::Error::Status => Refusal::BadRequest("malformed request"),
    }
}

/// What the fields of a head say about the message itself.
#[derive(Default)]
struct Message<'h> {
    host: Option<&'h [u8]>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_asked: bool,
    upgrade: Option<&'h [u8]>,
    expects_continue: bool,
    request_id: Option<&'h [u8]>,
    claims: Claims<'h>,
    /// Names listed in `Connection`, other than the usual ones: fields meant for us alone.
    nominated: Vec<&'h [u8]>,
}

impl<'h> Message<'h> {
    /// Notes in `known` what each field is.
    fn read(fields: &[httparse::Header<'h>], known: &mut [Known; FIELDS_MAX], http11: bool) -> Result<Self, Refusal> {
        let mut message = Self::default();
        for (field, known) in fields.iter().zip(known) {
            let value = field.value;
            *known = Known::of(field.name.as_bytes());
            match *known {
                Known::Host if message.host.replace(value).is_some() => {
                    return Err(Refusal::BadRequest("more than one Host"));
                }
                Known::ContentLength => {
                    let length = length(value).ok_or(Refusal::BadRequest("malformed Content-Length"))?;
                    if message.length.replace(length).is_some() {
                        return Err(Refusal::BadRequest("more than one Content-Length"));
                    }
                }
                Known::TransferEncoding => {
                    if message.chunked || !http11 {
                        return Err(Refusal::BadRequest("Transfer-Encoding out of place"));
                    }
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Refusal::TransferCodingUnknown);
                    }
                    message.chunked = true;
                }
                Known::Connection => message.read_connection(value),
                Known::Upgrade => message.upgrade = Some(value),
                Known::Expect => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal::ExpectationFailed);
                    }
                    message.expects_continue = http11;
                }
                Known::RequestId => message.request_id = Some(value),
                Known::ForwardedFor => message.claims.forwarded_for.push(value),
                Known::ForwardedProto => message.claims.proto = Some(value),
                Known::ForwardedHost => message.claims.host = Some(value),
                _ => {}
            }
        }
        if message.chunked && message.length.is_some() {
            return Err(Refusal::BadRequest("both Content-Length and Transfer-Encoding"));
        }
        Ok(message)
    }

    fn read_connection(&mut self, value: &'h [u8]) {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_asked = true;
            } else {
                self.nominated.push(option);
            }
        }
    }

    fn body(&self) -> BodyFraming {
        match (self.chunked, self.length) {
            (true, _) => BodyFraming::Chunked,
            (false, Some(length)) => BodyFraming::Length(length),
            (false, None) => BodyFraming::Empty,
        }
    }

    /// The protocol that the client wants to switch to. Cleartext HTTP/2 is not offered, and a request with a body
    /// does not switch: where its body ends and the new protocol begins has been an attack too often.
    fn upgrade(&self, http11: bool) -> Option<&'h [u8]> {
        let protocol = self.upgrade.filter(|_| self.upgrade_asked && http11)?;
        let bodiless = matches!(self.body(), BodyFraming::Empty | BodyFraming::Length(0));
        (bodiless && !list(protocol).any(|name| name.eq_ignore_ascii_case(b"h2c"))).then_some(protocol)
    }
}

impl Request {
    /// Parses `head`, a complete request head that ends with its empty line.
    pub fn parse(head: &[u8], peer: Peer, topology: &Topology, wants_log: bool) -> Result<Self, Refusal> {
        let mut storage = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let most = topology.http.fields_max.min(FIELDS_MAX);
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, &mut storage[..most]) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Refusal::BadRequest("malformed request")),
            Err(error) => return Err(refusal(error)),
        }
        if has_bare_lf(head) {
            return Err(Refusal::BadRequest("line not ended by CRLF"));
        }
        let (Some(method), Some(raw_target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(Refusal::BadRequest("malformed request"));
        };
        let http11 = version == 1;
        let mut known = [Known::Other; FIELDS_MAX];
        let message = Message::read(parsed.headers, &mut known, http11)?;
        let (authority, target) = split_target(method, raw_target)?;
        let host = authority.or(message.host);
        match host {
            Some(host) if is_host(host) => {}
            None if !http11 => {}
            None => return Err(Refusal::BadRequest("no Host")),
            Some(_) => return Err(Refusal::BadRequest("malformed Host")),
        }
        let host = host.unwrap_or(b"");
        let trusted = is_trusted(&topology.trusted_proxies, peer.address);
        let origin = if trusted {
            Origin::claimed(peer.address, peer.https, &message.claims, &topology.trusted_proxies)
        } else {
            Origin::direct(peer.address, peer.https)
        };
        let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
        let tls = topology.tls.as_deref();
        let redirect_port = tls.and_then(Tls::redirect_port).filter(|_| !origin.https && !path.starts_with(ACME));
        if redirect_port.is_some() && host.is_empty() {
            return Err(Refusal::BadRequest("no Host"));
        }
        let pool = topology.router.route(&normal_host(host), path).ok_or(Refusal::NoRoute)?;
        let id = message.request_id.filter(|_| trusted).and_then(RequestId::accept).unwrap_or_else(RequestId::fresh);
        let upgrade = message.upgrade(http11);
        let key = pool.view().key(parsed.headers, path, origin.client);

        let mut out = Vec::with_capacity(head.len() + 256);
        for part in [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n"] {
            out.extend_from_slice(part);
        }
        write_fields(&mut out, head, parsed.headers, &known, &message.nominated);
        let claimed_host = message.claims.host.filter(|host| trusted && is_host(host));
        origin.write(&mut out, claimed_host.unwrap_or(host), topology.http.forwarded);
        for part in [b"X-Request-Id: ", id.as_str().as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
        if let Some(protocol) = upgrade {
            for part in [b"Connection: upgrade\r\nUpgrade: ", protocol, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        Ok(Self {
            pool,
            key,
            head: out,
            body: message.body(),
            is_http11: http11,
            keep_alive: !message.close && (http11 || message.keep_alive),
            expects_continue: message.expects_continue,
            upgrade: upgrade.is_some(),
            is_head: method == "HEAD",
            idempotent: matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"),
            id,
            redirect: redirect_port.map(|port| encrypted_location(host, port, target)),
            limited_s: topology
                .limits
                .iter()
                .find_map(|limit| limit.take(path, parsed.headers, origin.client, now_us())),
            hsts_max_age_s: tls.and_then(Tls::hsts_max_age_s).filter(|_| origin.https),
            compression: topology
                .compression
                .as_ref()
                .filter(|_| http11)
                .map(|rules| Offer::new(rules, parsed.headers.iter().map(|field| (field.name, field.value)))),
            log: wants_log.then(|| {
                let protocol = if peer.http2 { "HTTP/2.0" } else { ["HTTP/1.0", "HTTP/1.1"][usize::from(http11)] };
                LogFields::of(method, raw_target, host, origin.client, protocol, parsed.headers)
            }),
        })
    }
}

/// The same page, encrypted.
fn encrypted_location(host: &[u8], port: u16, target: &[u8]) -> String {
    let name_end = if host.starts_with(b"[") {
        memchr::memchr(b']', host).map_or(host.len(), |at| at + 1)
    } else {
        memchr::memchr(b':', host).unwrap_or(host.len())
    };
    let name = String::from_utf8_lossy(&host[..name_end]);
    let target = if target == b"*" { "/".into() } else { String::from_utf8_lossy(target) };
    if port == 443 { format!("https://{name}{target}") } else { format!("https://{name}:{port}{target}") }
}

/// Copies the fields that are the app's business.
fn write_fields(
    out: &mut Vec<u8>,
    head: &[u8],
    fields: &[httparse::Header<'_>],
    known: &[Known; FIELDS_MAX],
    nominated: &[&[u8]],
) {
    let mut copier = Copier::new(head);
    for (field, known) in fields.iter().zip(known) {
        let name = field.name.as_bytes();
        let passes = matches!(
            known,
            Known::Other | Known::Cookie | Known::ContentType | Known::UserAgent | Known::Referer | Known::Trailer
        );
        if passes && !nominated.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            copier.copy(out, name, field.value);
        }
    }
    copier.flush(out);
}

/// The authority (absolute form only) and the target in origin form (RFC 9112, section 3.2).
fn split_target<'t>(method: &str, target: &'t str) -> Result<(Option<&'t [u8]>, &'t [u8]), Refusal> {
    if method == "CONNECT" {
        return Err(Refusal::MethodNotAllowed);
    }
    if target.contains('#') {
        return Err(Refusal::BadRequest("fragment in the request target"));
    }
    // A URI has none (RFC 3986, section 2), and servers differ in what they make of them.
    if !target.is_ascii() {
        return Err(Refusal::BadRequest("byte beyond ASCII in the request target"));
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok((None, target.as_bytes()));
    }
    let scheme_end = target.find("://").ok_or(Refusal::BadRequest("malformed request target"))?;
    let (scheme, rest) = (&target[..scheme_end], &target[scheme_end + 3..]);
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Refusal::BadRequest("malformed request target"));
    }
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| (&rest[..at], &rest[at..]));
    if authority.is_empty() || authority.contains(['@', '?']) {
        return Err(Refusal::BadRequest("malformed request target"));
    }
    Ok((Some(authority.as_bytes()), path.as_bytes()))
}

/// `uri-host [":" port]` (RFC 9110, section 7.2), and nothing that an app might take for more than a name.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = if host.first() == Some(&b'[') {
        let Some(end) = memchr::memchr(b']', host) else {
            return false;
        };
        let inside = &host[1..end];
        if inside.is_empty() || !inside.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) {
            return false;
        }
        (inside, &host[end + 1..])
    } else {
        let end = memchr::memchr(b':', host).unwrap_or(host.len());
        let name = &host[..end];
        if !name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'%')) {
            return false;
        }
        (name, &host[end..])
    };
    let port_is_fine = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !name.is_empty() && port_is_fine
}
