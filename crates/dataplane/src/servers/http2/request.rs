//! A request's fields, as they come out of a header block, become a head in HTTP/1.1. Without I/O.
//!
//! What HTTP/2 calls malformed ends the stream (RFC 9113, section 8.1.1); what is only not allowed here is answered.

use super::hpack::ENTRY_EXTRA;
use crate::servers::http::fields::length;
use crate::servers::http::refusal::Refusal;

/// How the request's body goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// There is none, or all of it was taken.
    Done,
    /// As it is: its length was announced.
    Plain,
    Chunked,
}

/// A request that may be served; its head is in `Builder::text`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    pub upload: Upload,
    pub announced: Option<u64>,
    pub is_head: bool,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// The stream is to be reset.
    Malformed,
    Refused(Refusal),
}

/// Takes the fields of one request after the other. Its buffers are used again.
#[derive(Debug, Default)]
pub struct Builder {
    pub text: Vec<u8>,
    method: Vec<u8>,
    scheme: Vec<u8>,
    authority: Vec<u8>,
    path: Vec<u8>,
    cookies: Vec<u8>,
    has_authority: bool,
    has_host: bool,
    /// The request line is written: no pseudo-field may follow.
    begun: bool,
    announced: Option<u64>,
    /// What the fields count together (RFC 9113, section 6.5.2).
    size: usize,
    size_max: usize,
    rejected: Option<Rejected>,
}

impl Builder {
    /// Starts a request whose fields may count `size_max` together.
    pub fn begin(&mut self, size_max: usize) {
        for buffer in [&mut self.text, &mut self.method, &mut self.scheme, &mut self.authority] {
            buffer.clear();
        }
        self.path.clear();
        self.cookies.clear();
        (self.has_authority, self.has_host, self.begun) = (false, false, false);
        (self.announced, self.rejected) = (None, None);
        (self.size, self.size_max) = (0, size_max);
    }

    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + ENTRY_EXTRA;
        if self.size > self.size_max {
            self.reject(Rejected::Refused(Refusal::HeadTooLarge));
        }
        // Malformed beats refused, but nothing is written any more.
        if self.rejected.is_some() {
            return;
        }
        let taken = if name.first() == Some(&b':') { self.pseudo(name, value) } else { self.regular(name, value) };
        if let Err(rejected) = taken {
            self.reject(rejected);
        }
    }

    fn reject(&mut self, rejected: Rejected) {
        self.rejected.get_or_insert(rejected);
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), Rejected> {
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":path" => &mut self.path,
            b":authority" if !self.has_authority => {
                self.has_authority = true;
                &mut self.authority
            }
            _ => return Err(Rejected::Malformed),
        };
        // Visible characters and nothing else, so that none can end a line or a word.
        let is_plain = !value.is_empty() && value.iter().all(|b| *b > b' ' && *b != 127);
        if self.begun || !place.is_empty() || !is_plain {
            return Err(Rejected::Malformed);
        }
        place.extend_from_slice(value);
        Ok(())
    }

    fn regular(&mut self, name: &[u8], value: &[u8]) -> Result<(), Rejected> {
        check(name, value)?;
        if !self.begun {
            self.start()?;
        }
        match name {
            b"host" => return self.host(value),
            // A browser may send its cookies one by one, but an app expects them in one field (RFC 9113, section 8.2.3).
            b"cookie" if value.is_empty() => return Ok(()),
            b"cookie" => {
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(value);
                return Ok(());
            }
            b"te" => {
                return if value.eq_ignore_ascii_case(b"trailers") { Ok(()) } else { Err(Rejected::Malformed) };
            }
            b"content-length" => {
                let length = length(value).ok_or(Rejected::Malformed)?;
                if self.announced.replace(length).is_some() {
                    return Err(Rejected::Malformed);
                }
            }
            _ => {}
        }
        put_field(&mut self.text, name, value);
        Ok(())
    }

    /// An authority in the old place. It may only repeat the new one.
    fn host(&mut self, value: &[u8]) -> Result<(), Rejected> {
        let differs = self.has_authority && !value.eq_ignore_ascii_case(&self.authority);
        if differs || self.has_host {
            return Err(Rejected::Refused(Refusal::BadRequest("more than one Host")));
        }
        self.has_host = true;
        if !self.has_authority {
            put_field(&mut self.text, b"Host", value);
        }
        Ok(())
    }

    /// Writes the request line, and the host where it is known.
    fn start(&mut self) -> Result<(), Rejected> {
        self.begun = true;
        if self.method.is_empty() || !self.method.iter().all(|b| is_token(*b)) {
            return Err(Rejected::Malformed);
        }
        if self.method == b"CONNECT" {
            return Err(Rejected::Refused(Refusal::MethodNotAllowed));
        }
        if self.scheme.is_empty() || self.path.is_empty() {
            return Err(Rejected::Malformed);
        }
        let is_path = self.path[0] == b'/' || (self.path == b"*" && self.method == b"OPTIONS");
        if !is_path {
            return Err(Rejected::Refused(Refusal::BadRequest("malformed request target")));
        }
        // A fragment is the client's own business, and was sent by mistake.
        let path = self.path.split(|b| *b == b'#').next().unwrap_or(&self.path);
        for part in [&self.method[..], b" ", path, b" HTTP/1.1\r\n"] {
            self.text.extend_from_slice(part);
        }
        if self.has_authority {
            put_field(&mut self.text, b"Host", &self.authority);
        }
        Ok(())
    }

    /// The request is complete; with `ended` it has no body.
    pub fn finish(&mut self, ended: bool) -> Result<Made, Rejected> {
        if self.rejected.is_none() && !self.begun {
            if let Err(rejected) = self.start() {
                self.reject(rejected);
            }
        }
        if let Some(rejected) = self.rejected {
            return Err(rejected);
        }
        if !self.has_authority && !self.has_host {
            return Err(Rejected::Refused(Refusal::BadRequest("no Host")));
        }
        if !self.cookies.is_empty() {
            put_field(&mut self.text, b"cookie", &self.cookies);
        }
        let upload = match (ended, self.announced) {
            (true, Some(1..)) => return Err(Rejected::Malformed),
            (true, _) => Upload::Done,
            (false, Some(_)) => Upload::Plain,
            (false, None) => {
                self.text.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                Upload::Chunked
            }
        };
        self.text.extend_from_slice(b"\r\n");
        Ok(Made { upload, announced: self.announced, is_head: self.method == b"HEAD" })
    }

    /// Starts a trailer section, for which `trailer` is to be called.
    pub fn begin_trailers(&mut self, size_max: usize) {
        self.begin(size_max);
        self.begun = true;
    }

    pub fn trailer(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + ENTRY_EXTRA;
        if self.size > self.size_max || check(name, value).is_err() {
            self.reject(Rejected::Malformed);
        } else if self.rejected.is_none() {
            put_field(&mut self.text, name, value);
        }
    }

    /// The lines of the trailer section.
    pub fn finish_trailers(&self) -> Result<&[u8], Rejected> {
        self.rejected.map_or(Ok(&self.text), Err)
    }
}

fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Whether a field may be in a message (RFC 9113, section 8.2).
fn check(name: &[u8], value: &[u8]) -> Result<(), Rejected> {
    let is_name = !name.is_empty() && name.iter().all(|b| is_token(*b) && !b.is_ascii_uppercase());
    let is_value = value.iter().all(|b| *b >= b' ' && *b != 127 || *b == b'\t')
        && !matches!(value.first(), Some(b' ' | b'\t'))
        && !matches!(value.last(), Some(b' ' | b'\t'));
    // What speaks of a connection has no place on a stream.
    let is_foreign =
        matches!(name, b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade");
    if is_name && is_value && !is_foreign { Ok(()) } else { Err(Rejected::Malformed) }
}

const fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let (mut at, others) = (0, b"!#$%&'*+-.^_`|~");
        while at < 256 {
            table[at] = (at as u8).is_ascii_alphanumeric();
            at += 1;
        }
        at = 0;
        while at < others.len() {
            table[others[at] as usize] = true;
            at += 1;
        }
        table
    };
    TOKEN[byte as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/a?b=c")];

    fn made(fields: &[(&str, &str)], ended: bool) -> Result<(String, Made), Rejected> {
        let mut builder = Builder::default();
        builder.begin(1_000);
        for (name, value) in fields {
            builder.field(name.as_bytes(), value.as_bytes());
        }
        let made = builder.finish(ended)?;
        Ok((String::from_utf8(builder.text).unwrap(), made))
    }

    fn with(more: &[(&str, &str)], ended: bool) -> Result<(String, Made), Rejected> {
        made(&[&LINE[..], more].concat(), ended)
    }

    #[test]
    fn a_request() {
        let more = [("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("te", "trailers")];
        let (text, made) = with(&more, true).unwrap();
        assert_eq!(text, "GET /a?b=c HTTP/1.1\r\nHost: a\r\nx-a: 1\r\ncookie: a=1; b=2\r\n\r\n");
        assert_eq!(made, Made { upload: Upload::Done, announced: None, is_head: false });
    }

    #[test]
    fn cookies_that_say_nothing_leave_nothing() {
        let (text, _) =
            with(&[("cookie", ""), ("cookie", "a=1"), ("cookie", ""), ("cookie", "b=2"), ("cookie", "")], true)
                .unwrap();
        assert!(text.ends_with("cookie: a=1; b=2\r\n\r\n"), "{text}");
        let (text, _) = with(&[("cookie", "")], true).unwrap();
        assert!(!text.contains("cookie"), "{text}");
    }

    #[test]
    fn bodies() {
        let (text, made) = with(&[], false).unwrap();
        assert_eq!(text, "GET /a?b=c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(made.upload, Upload::Chunked);
        let (text, made) = with(&[("content-length", "3")], false).unwrap();
        assert_eq!(text, "GET /a?b=c HTTP/1.1\r\nHost: a\r\ncontent-length: 3\r\n\r\n");
        assert_eq!((made.upload, made.announced), (Upload::Plain, Some(3)));
    }

    #[test]
    fn malformed() {
        for more in [
            [("X-Upper", "1")],
            [("", "1")],
            [("a b", "1")],
            [("x", "a\r\nb: c")],
            [("x", " a")],
            [("x", "a\t")],
            [("connection", "close")],
            [("transfer-encoding", "chunked")],
            [("te", "gzip")],
            [("content-length", "+1")],
            [("content-length", "1")],
            [(":path", "/b")],
            [(":status", "200")],
        ] {
            assert_eq!(with(&more, true), Err(Rejected::Malformed), "{more:?}");
        }
        for missing in [0, 1, 3] {
            let mut line = LINE.to_vec();
            line.remove(missing);
            assert_eq!(made(&line, true), Err(Rejected::Malformed), "{missing}");
        }
        for (at, value) in [(0, "GET /"), (0, "G\r\n"), (1, ""), (2, ""), (2, "a b"), (3, ""), (3, "/a b"), (3, "/\n")]
        {
            let mut line = LINE;
            line[at].1 = value;
            assert_eq!(made(&line, true), Err(Rejected::Malformed), "{at} {value:?}");
        }
        assert_eq!(with(&[("x-a", "1"), (":scheme", "http")], true), Err(Rejected::Malformed));
        assert_eq!(with(&[("content-length", "1"), ("content-length", "1")], false), Err(Rejected::Malformed));
    }

    #[test]
    fn refused() {
        let refused = |result: Result<_, Rejected>| match result {
            Err(Rejected::Refused(refusal)) => refusal.status(),
            _ => 0,
        };
        assert_eq!(refused(made(&[(":method", "CONNECT"), (":authority", "a:1")], true)), 405);
        assert_eq!(refused(with(&[("host", "b")], true)), 400);
        assert_eq!(refused(with(&[("host", "a"), ("host", "a")], true)), 400);
        assert!(with(&[("host", "a")], true).is_ok());
        assert_eq!(refused(with(&[("x", &"x".repeat(1_000))], true)), 431);
        let alone = [LINE[0], LINE[1], LINE[3]];
        assert_eq!(refused(made(&alone, true)), 400);
        let (text, _) = made(&[&alone[..], &[("host", "b")]].concat(), true).unwrap();
        assert_eq!(text, "GET /a?b=c HTTP/1.1\r\nHost: b\r\n\r\n");
    }

    #[test]
    fn trailers() {
        let mut builder = Builder::default();
        builder.begin_trailers(100);
        builder.trailer(b"x-sum", b"1");
        assert_eq!(builder.finish_trailers(), Ok(&b"x-sum: 1\r\n"[..]));
        for (name, value) in [(&b":path"[..], &b"/"[..]), (b"x", b"a\nb"), (b"x", &[b'x'; 100])] {
            builder.begin_trailers(100);
            builder.trailer(name, value);
            assert_eq!(builder.finish_trailers(), Err(Rejected::Malformed));
        }
    }
}
