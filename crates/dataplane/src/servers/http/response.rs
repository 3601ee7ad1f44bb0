//! A response head: parsed, checked, and rewritten for the client.

use std::mem::MaybeUninit;

use super::compression::{Coding, Offer, Plan};
use super::fields::{Copier, Known, has_bare_lf, length, list};
use super::request::Request;

const FIELDS_MAX: usize = 256;
/// Largest head a server may send.
pub const HEAD_MAX: usize = 64 * 1024;

/// How the server marks the end of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Empty,
    Length(u64),
    Chunked,
    UntilClose,
}

/// How the body goes on to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emission {
    Verbatim,
    /// The client speaks HTTP/1.0: chunks are taken apart, and closing marks the end.
    Dechunk,
    /// The server marks the end by closing; the client gets chunks, so that it can tell an end from an accident.
    Enchunk,
    /// Whatever the framing was, the client gets chunks of the compressed body.
    Compress(Coding),
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Facts of one message, each asked for by another step.
pub struct Response {
    pub status: u16,
    /// Length of the head as the server sent it.
    pub head_length: usize,
    pub framing: Framing,
    pub emission: Emission,
    pub server_keeps: bool,
    pub client_keeps: bool,
    /// `text/event-stream`: goes on for as long as both sides like.
    pub is_event_stream: bool,
    /// 101 to a request that asked for it.
    pub is_switch: bool,
}

impl Response {
    pub fn is_informational(&self) -> bool {
        self.status < 200 && !self.is_switch
    }
}

/// What the fields of a response head say about the message itself.
#[derive(Default)]
struct Message<'h> {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade: Option<&'h [u8]>,
    is_event_stream: bool,
    nominated: Vec<&'h [u8]>,
}

impl<'h> Message<'h> {
    /// Notes in `known` what each field is.
    fn read(fields: &[httparse::Header<'h>], known: &mut [Known; FIELDS_MAX]) -> Result<Self, &'static str> {
        let mut message = Self::default();
        for (field, known) in fields.iter().zip(known) {
            *known = Known::of(field.name.as_bytes());
            match *known {
                Known::ContentLength => {
                    let length = length(field.value).ok_or("the server sent a malformed Content-Length")?;
                    if message.length.replace(length).is_some_and(|other| other != length) {
                        return Err("the server sent two different lengths");
                    }
                }
                Known::TransferEncoding => {
                    if message.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                        return Err("the server sent an unknown transfer coding");
                    }
                    message.chunked = true;
                }
                Known::Connection => {
                    for option in list(field.value) {
                        if option.eq_ignore_ascii_case(b"close") {
                            message.close = true;
                        } else if option.eq_ignore_ascii_case(b"keep-alive") {
                            message.keep_alive = true;
                        } else if !option.eq_ignore_ascii_case(b"upgrade") {
                            message.nominated.push(option);
                        }
                    }
                }
                Known::Upgrade => message.upgrade = Some(field.value),
                Known::ContentType => {
                    let kind = field.value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
                    message.is_event_stream = kind.eq_ignore_ascii_case(b"text/event-stream");
                }
                _ => {}
            }
        }
        if message.chunked && message.length.is_some() {
            return Err("the server sent both a length and a transfer coding");
        }
        Ok(message)
    }

    /// A server that announces a body where none can be may well send it, in front of its next response.
    fn announces_body_of(&self, status: u16) -> bool {
        (status < 200 || status == 204) && (self.chunked || self.length.is_some_and(|length| length > 0))
    }

    fn framing(&self, status: u16, is_head: bool) -> Framing {
        if is_head || status < 200 || status == 204 || status == 304 {
            Framing::Empty
        } else if self.chunked {
            Framing::Chunked
        } else {
            self.length.map_or(Framing::UntilClose, Framing::Length)
        }
    }
}

/// Parses the head at the front of `bytes` and appends the client's version to `out`. `None`: more must arrive.
///
/// Nothing is written for 100, which the gateway has sent by itself. `client_keeps` says whether the client's
/// connection may be used again as far as the gateway is concerned.
pub fn rewrite(
    bytes: &[u8],
    request: &Request,
    client_keeps: bool,
    out: &mut Vec<u8>,
) -> Result<Option<Response>, &'static str> {
    let mut storage = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let head_length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut storage) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() > HEAD_MAX => {
            return Err("the server's response head is too large");
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("the server's response is not HTTP"),
    };
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Err("the server's response is not HTTP");
    };
    if has_bare_lf(&bytes[..head_length]) {
        return Err("the server's response has a line that does not end with CRLF");
    }
    let mut known = [Known::Other; FIELDS_MAX];
    let message = Message::read(parsed.headers, &mut known)?;
    let is_switch = status == 101;
    if is_switch && !(request.upgrade && message.upgrade.is_some()) {
        return Err("the server switched protocols without being asked");
    }
    if status < 100 {
        return Err("the server's status is no status");
    }
    let framing = message.framing(status, request.is_head);
    let plan = match &request.compression {
        Some(offer) if status >= 200 => Offer::plan(offer, status, message.length, parsed.headers),
        _ => Plan::Untouched,
    };
    let emission = match (framing, plan) {
        (Framing::Empty, _) => Emission::Verbatim,
        (_, Plan::Compressed(coding)) => Emission::Compress(coding),
        (Framing::Chunked, _) if !request.is_http11 => Emission::Dechunk,
        (Framing::UntilClose, _) if request.is_http11 => Emission::Enchunk,
        _ => Emission::Verbatim,
    };
    let ends_by_close = !request.is_http11 && matches!(framing, Framing::Chunked | Framing::UntilClose);
    let response = Response {
        status,
        head_length,
        framing,
        emission,
        server_keeps: !message.close
            && (version == 1 || (message.keep_alive && !message.chunked))
            && framing != Framing::UntilClose
            && !message.announces_body_of(status),
        client_keeps: client_keeps && !ends_by_close && !is_switch,
        is_event_stream: message.is_event_stream && framing != Framing::Empty,
        is_switch,
    };
    if status != 100 {
        let line = [b'0' + (status / 100) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8];
        for part in [b"HTTP/1.1 ", &line[..], b" ", parsed.reason.unwrap_or("").as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
        write_passed(out, &bytes[..head_length], parsed.headers, &known, &message, response.status, plan);
        write_own(out, parsed.headers, &message, &response, request, plan);
        out.extend_from_slice(b"\r\n");
    }
    Ok(Some(response))
}

/// The server's fields that are the client's business.
fn write_passed(
    out: &mut Vec<u8>,
    head: &[u8],
    fields: &[httparse::Header<'_>],
    known: &[Known; FIELDS_MAX],
    message: &Message<'_>,
    status: u16,
    plan: Plan,
) {
    let mut copier = Copier::new(head);
    let may_have_body = status >= 200 && status != 204;
    let mut length_told = false;
    for (field, known) in fields.iter().zip(known) {
        let name = field.name.as_bytes();
        let passes = match known {
            Known::TransferEncoding | Known::Connection | Known::HopByHop | Known::Upgrade => false,
            // A length means nothing on 1xx and 204, and would mislead; one that is there twice, with the same value, goes
            // on once (RFC 9110, section 8.6).
            Known::ContentLength => may_have_body && !std::mem::replace(&mut length_told, true),
            _ => true,
        };
        if !passes || message.nominated.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            continue;
        }
        if plan.keeps_fields() {
            copier.copy(out, name, field.value);
        } else {
            plan.write_field(out, name, field.value);
        }
    }
    copier.flush(out);
}

/// The fields that are the gateway's own.
fn write_own(
    out: &mut Vec<u8>,
    fields: &[httparse::Header<'_>],
    message: &Message<'_>,
    response: &Response,
    request: &Request,
    plan: Plan,
) {
    plan.write_own_fields(out, fields);
    if let Some(seconds) = request.hsts_max_age_s.filter(|_| response.status >= 200) {
        // The app may say it by itself.
        if !fields.iter().any(|field| field.name.eq_ignore_ascii_case("strict-transport-security")) {
            out.extend_from_slice(format!("Strict-Transport-Security: max-age={seconds}\r\n").as_bytes());
        }
    }
    let chunked = match response.emission {
        Emission::Verbatim => response.framing == Framing::Chunked,
        Emission::Enchunk | Emission::Compress(_) => true,
        Emission::Dechunk => false,
    };
    let may_have_body = response.status >= 200 && response.status != 204;
    // To HEAD, the fields are those of GET (RFC 9110, section 9.3.2).
    let as_to_get = (message.chunked || matches!(plan, Plan::Compressed(_))) && request.is_http11 && may_have_body;
    if chunked || (request.is_head && as_to_get) {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let Some(protocol) = message.upgrade.filter(|_| response.is_switch || response.status == 426) {
        for part in [b"Connection: upgrade\r\nUpgrade: ", protocol, b"\r\n"] {
            out.extend_from_slice(part);
        }
    } else if response.status >= 200 {
        if !response.client_keeps {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if !request.is_http11 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
    }
}
