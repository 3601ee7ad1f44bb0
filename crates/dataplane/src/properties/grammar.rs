//! HTTP/1.1's grammar, written a second time from RFC 9110 and RFC 9112, for no other use than to check the parsers.
//!
//! It is slow and plain on purpose, and shares nothing with what it checks.

/// A field's name in lower case and its value without the blanks around it.
pub type Field = (String, Vec<u8>);

#[derive(Debug)]
pub struct Head {
    /// The parts of the first line; the third may hold blanks in a response.
    pub start: [Vec<u8>; 3],
    pub fields: Vec<Field>,
}

/// How a message says where its body ends (RFC 9112, section 6.3).
#[derive(Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

impl Head {
    /// `bytes` are one head with its empty line, and nothing else.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let text = bytes.strip_suffix(b"\r\n\r\n").ok_or("no empty line at the end")?;
        let mut lines = lines(text)?.into_iter();
        let first = lines.next().ok_or("no first line")?;
        let mut parts = first.splitn(3, |byte| *byte == b' ').map(<[u8]>::to_vec);
        let mut part = || parts.next().unwrap_or_default();
        let start = [part(), part(), part()];
        let fields = lines.map(field).collect::<Result<_, _>>()?;
        Ok(Self { start, fields })
    }

    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|field| field.0 == name).map(|field| &field.1[..]).collect()
    }

    pub fn check_request_line(&self) -> Result<(), String> {
        let [method, target, version] = &self.start;
        if !is_token(method) {
            return Err("the method is no token".into());
        }
        if target.is_empty() || !target.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'#') {
            return Err("the target has a byte that no URI can have".into());
        }
        if version != b"HTTP/1.1" && version != b"HTTP/1.0" { Err("version".into()) } else { Ok(()) }
    }

    pub fn check_status_line(&self) -> Result<u16, String> {
        let [version, status, reason] = &self.start;
        if version != b"HTTP/1.1" && version != b"HTTP/1.0" {
            return Err("version".into());
        }
        if !reason.iter().all(|byte| is_text(*byte)) {
            return Err("a control in the reason".into());
        }
        match &status[..] {
            [a, b, c] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) && *a != b'0' => {
                Ok(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
            }
            _ => Err("status".into()),
        }
    }

    /// Fails where two recipients could see different ends.
    pub fn framing(&self) -> Result<Framing, String> {
        let (lengths, codings) = (self.all("content-length"), self.all("transfer-encoding"));
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(Framing::None),
            ([first, rest @ ..], []) => {
                let first = number(first)?;
                // The same value twice is no contradiction, in a response (RFC 9110, section 8.6).
                if rest.iter().all(|other| number(other) == Ok(first)) {
                    Ok(Framing::Length(first))
                } else {
                    Err("two lengths".into())
                }
            }
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            _ => Err("ambiguous framing".into()),
        }
    }
}

fn number(digits: &[u8]) -> Result<u64, String> {
    let text = std::str::from_utf8(digits).map_err(|_| "a length in letters")?;
    if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("the length is not made of digits".into());
    }
    text.parse().map_err(|_| "length beyond 64 bits".into())
}

/// Lines that CRLF separates. A CR or LF that does not belong to one is an error.
pub fn lines(text: &[u8]) -> Result<Vec<&[u8]>, String> {
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            (b'\r', Some(b'\n')) => {
                found.push(&text[start..at]);
                at += 2;
                start = at;
            }
            (b'\r' | b'\n', _) => return Err("a bare CR or LF".into()),
            _ => at += 1,
        }
    }
    found.push(&text[start..]);
    Ok(found)
}

pub fn field(line: &[u8]) -> Result<Field, String> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a line without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err("a field name that is no token".into());
    }
    if !value.iter().all(|byte| is_text(*byte)) {
        return Err("a control in a field value".into());
    }
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
}

pub fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// Tab, blank, visible ASCII, and what lies beyond ASCII.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `uri-host [":" port]`; what is inside brackets is not looked at closely.
pub fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', ..] => match text.iter().position(|byte| *byte == b']') {
            Some(end) => text.split_at(end + 1),
            None => return false,
        },
        _ => text.split_at(text.iter().position(|byte| *byte == b':').unwrap_or(text.len())),
    };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte);
    let host_is_fine = match host {
        [b'[', inside @ .., b']'] => {
            !inside.is_empty() && inside.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
        }
        name => !name.is_empty() && name.iter().all(is_plain),
    };
    host_is_fine && matches!(port, [] | [b':', ..]) && port.iter().skip(1).all(u8::is_ascii_digit)
}
