//! Header fields that a gateway must know by name, and small readers of field values.

use std::ops::Range;

/// A field that is not simply passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    /// `Keep-Alive`, `Proxy-Connection`, `TE`, `Proxy-Authorization`, `HTTP2-Settings`: meant for the next hop, which is us.
    HopByHop,
    Upgrade,
    Expect,
    Trailer,
    /// `X-Forwarded-For`.
    ForwardedFor,
    /// Other `X-Forwarded-*` and `X-Real-IP`.
    ForwardedOther,
    ForwardedProto,
    ForwardedHost,
    Forwarded,
    RequestId,
    Cookie,
    ContentType,
    UserAgent,
    Referer,
    /// `Proxy`, which CGI-like servers would turn into the variable `HTTP_PROXY`.
    Proxy,
    /// The name holds an underscore, so that servers would confuse it with its twin with a dash.
    Underscore,
    Other,
}

impl Known {
    pub fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let known = match name.len() {
            2 if is("te") => Self::HopByHop,
            4 if is("host") => Self::Host,
            5 if is("proxy") => Self::Proxy,
            6 if is("cookie") => Self::Cookie,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            7 if is("trailer") => Self::Trailer,
            7 if is("referer") => Self::Referer,
            9 if is("forwarded") => Self::Forwarded,
            9 if is("x-real-ip") => Self::ForwardedOther,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::HopByHop,
            10 if is("user-agent") => Self::UserAgent,
            12 if is("content-type") => Self::ContentType,
            12 if is("x-request-id") => Self::RequestId,
            14 if is("content-length") => Self::ContentLength,
            14 if is("http2-settings") => Self::HopByHop,
            15 if is("x-forwarded-for") => Self::ForwardedFor,
            16 if is("proxy-connection") => Self::HopByHop,
            16 if is("x-forwarded-host") => Self::ForwardedHost,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            17 if is("x-forwarded-proto") => Self::ForwardedProto,
            19 if is("proxy-authorization") => Self::HopByHop,
            13.. if name[..12].eq_ignore_ascii_case(b"x-forwarded-") => Self::ForwardedOther,
            _ => Self::Other,
        };
        if known == Self::Other && name.contains(&b'_') { Self::Underscore } else { known }
    }

    pub fn is_forbidden_in_trailers(self) -> bool {
        !matches!(self, Self::Other)
    }
}

/// The members of a comma-separated list, trimmed, without empty ones.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// A `Content-Length`: digits and nothing else.
pub fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |total, digit| total * 10 + u64::from(digit - b'0')))
}

/// The value of cookie `name` in a `Cookie` field.
pub fn cookie<'v>(value: &'v [u8], name: &str) -> Option<&'v [u8]> {
    value.split(|byte| *byte == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let rest = pair.strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b"=")
    })
}

/// Whether not every line of a head ends with CRLF; a bare LF is where two parsers may part ways.
pub fn has_bare_lf(head: &[u8]) -> bool {
    // All of it is looked at, without a way out in the middle, so that the compiler takes many bytes at once.
    let pairs = head.iter().zip(head.iter().skip(1));
    let bare = pairs.fold(0, |bare, (before, byte)| bare | (u8::from(*byte == b'\n') & u8::from(*before != b'\r')));
    bare != 0 || head.first() == Some(&b'\n')
}

/// Copies fields out of a head. Neighbours that are spelled as `name: value` with one space are copied together.
pub struct Copier<'h> {
    head: &'h [u8],
    /// Lines of the head that are to be copied and are not yet.
    waiting: Range<usize>,
}

impl<'h> Copier<'h> {
    pub fn new(head: &'h [u8]) -> Self {
        Self { head, waiting: 0..0 }
    }

    /// Takes the next field, whose name and value are parts of the head.
    pub fn copy(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let start = name.as_ptr().addr().wrapping_sub(self.head.as_ptr().addr());
        let end = start.wrapping_add(name.len() + 2 + value.len() + 2);
        let line = self.head.get(start..end).unwrap_or_default();
        let is_plain = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(b": "));
        if is_plain.and_then(|rest| rest.strip_suffix(b"\r\n")) != Some(value) {
            self.flush(out);
            write_line(out, name, value);
        } else if start == self.waiting.end {
            self.waiting.end = end;
        } else {
            self.flush(out);
            self.waiting = start..end;
        }
    }

    /// Copies what waits. To be called after the last field.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[std::mem::take(&mut self.waiting)]);
    }
}

/// Appends `name: value` and the end of the line.
pub fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        assert_eq!(Known::of(b"hOsT"), Known::Host);
        assert_eq!(Known::of(b"X-FORWARDED-FOR"), Known::ForwardedFor);
        assert_eq!(Known::of(b"x-forwarded-prefix"), Known::ForwardedOther);
        assert_eq!(Known::of(b"X_Forwarded_For"), Known::Underscore);
        assert_eq!(Known::of(b"x-forwarded"), Known::Other);
        assert_eq!(Known::of(b"x-forwarded-"), Known::Other);
        assert_eq!(Known::of(b"accept"), Known::Other);
    }

    #[test]
    fn lengths() {
        assert_eq!(length(b"0"), Some(0));
        assert_eq!(length(b"007"), Some(7));
        for bad in [&b""[..], b"+1", b"-1", b"1 ", b"1,1", b"0x1", b"1e3", b"9999999999999999999", "１".as_bytes()] {
            assert_eq!(length(bad), None);
        }
    }

    #[test]
    fn cookies() {
        assert_eq!(cookie(b"a=1; sid=abc=; b=2", "sid"), Some(&b"abc="[..]));
        assert_eq!(cookie(b"xsid=1", "sid"), None);
        assert_eq!(cookie(b"sid", "sid"), None);
    }

    #[test]
    fn fields_are_copied_as_they_are_read() {
        let head = b"HTTP/1.1 200 OK\r\nA: 1\r\nB:2\r\nC: \t3\r\nD: 4 \r\nE:\r\nF: 6\r\nG: 7\r\nH: 8\r\n\r\n";
        let mut storage = [httparse::EMPTY_HEADER; 16];
        let mut parsed = httparse::Response::new(&mut storage);
        assert!(parsed.parse(head).unwrap().is_complete());
        let (mut out, mut copier) = (Vec::new(), Copier::new(head));
        for field in parsed.headers.iter().filter(|field| field.name != "G") {
            copier.copy(&mut out, field.name.as_bytes(), field.value);
        }
        copier.flush(&mut out);
        copier.copy(&mut out, b"From", b"elsewhere");
        copier.flush(&mut out);
        let expected = "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: \r\nF: 6\r\nH: 8\r\nFrom: elsewhere\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn bare_line_feeds() {
        assert!(!has_bare_lf(b"GET / HTTP/1.1\r\n\r\n"));
        assert!(has_bare_lf(b"GET / HTTP/1.1\n\r\n"));
        assert!(has_bare_lf(b"\n"));
        let long = b"GET / HTTP/1.1\r\n".repeat(20);
        assert!(!has_bare_lf(&long));
        for at in long.iter().enumerate().filter(|(_, byte)| **byte == b'\r').map(|(at, _)| at) {
            let mut bad = long.clone();
            bad[at] = b' ';
            assert!(has_bare_lf(&bad), "{at}");
        }
    }
}
