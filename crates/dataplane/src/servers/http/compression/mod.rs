//! Responses are compressed when client, type and size allow it, and nobody has encoded them before.
//!
//! What is compressed is another representation of the same thing: its `ETag` becomes a weak one, `Vary` tells caches
//! what the choice depended on, and ranges of it are not offered (RFC 9110, sections 8.8.3, 12.5.5 and 14.3).

pub mod encoder;
mod negotiation;

use std::sync::Arc;

use serde::Deserialize;

use super::fields::list;
use crate::snapshot::Compression;

/// A content coding. The text form is the token on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Coding {
    #[serde(rename = "gzip")]
    Gzip,
    #[serde(rename = "br")]
    Brotli,
    #[serde(rename = "zstd")]
    Zstd,
}

impl Coding {
    pub fn token(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// What one request may get.
#[derive(Debug)]
pub struct Offer {
    rules: Arc<Compression>,
    /// The client's and our common choice. `None`: unencoded.
    pub coding: Option<Coding>,
    /// The client asks whether what it has is still good, and has a weak tag.
    has_weak_tag: bool,
}

/// What becomes of a response's representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Not ours to touch.
    Untouched,
    /// Passed on as it is, though another client would get it compressed.
    Plain,
    Compressed(Coding),
    /// 304 for what the client got compressed, whose tag was weakened then.
    Revalidated,
}

impl Offer {
    pub fn new<'h>(rules: &Arc<Compression>, fields: impl Iterator<Item = (&'h str, &'h [u8])>) -> Self {
        let (mut accepted, mut has_weak_tag) = (Vec::new(), false);
        for (name, value) in fields {
            if name.eq_ignore_ascii_case("accept-encoding") {
                accepted.push(value);
            } else if name.eq_ignore_ascii_case("if-none-match") {
                has_weak_tag |= memchr::memmem::find(value, b"W/").is_some();
            }
        }
        Self { coding: negotiation::choose(&accepted, &rules.encodings), rules: Arc::clone(rules), has_weak_tag }
    }

    /// Decides by status and fields of the response. `length` is its announced length.
    pub fn plan(&self, status: u16, length: Option<u64>, fields: &[httparse::Header<'_>]) -> Plan {
        if status == 304 && self.has_weak_tag {
            return Plan::Revalidated;
        }
        // A part of something cannot be encoded as if it were the whole, and these others have no content.
        let too_short = length.is_some_and(|length| length < self.rules.min_bytes);
        if status < 200 || matches!(status, 204 | 205 | 206 | 304) || too_short {
            return Plan::Untouched;
        }
        let mut has_type = false;
        for field in fields {
            let value = field.value;
            let is = |known: &str| field.name.eq_ignore_ascii_case(known);
            let forbids = match field.name.len() {
                12 if is("content-type") => {
                    has_type = self.rules.is_compressible(value);
                    false
                }
                16 if is("content-encoding") => !value.eq_ignore_ascii_case(b"identity"),
                13 if is("cache-control") => list(value).any(|item| item.eq_ignore_ascii_case(b"no-transform")),
                13 => is("content-range"),
                // The app vouches for these very bytes.
                6 => is("digest"),
                11 => is("repr-digest") || is("content-md5"),
                14 => is("content-digest"),
                _ => false,
            };
            if forbids {
                return Plan::Untouched;
            }
        }
        match self.coding {
            _ if !has_type => Plan::Untouched,
            Some(coding) => Plan::Compressed(coding),
            None => Plan::Plain,
        }
    }
}

impl Compression {
    /// `value` is a `Content-Type`; parameters do not count, and event streams are never held up.
    fn is_compressible(&self, value: &[u8]) -> bool {
        let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if kind.eq_ignore_ascii_case(b"text/event-stream") {
            return false;
        }
        self.types.iter().any(|own| match own.strip_suffix('*') {
            Some(start) => kind.len() >= start.len() && kind[..start.len()].eq_ignore_ascii_case(start.as_bytes()),
            None => kind.eq_ignore_ascii_case(own.as_bytes()),
        })
    }
}

impl Plan {
    /// Whether the fields of the response stay as they are.
    pub fn keeps_fields(self) -> bool {
        matches!(self, Self::Untouched | Self::Plain)
    }

    /// Appends a field of the response as this plan wants it, or leaves it out.
    pub fn write_field(self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if let Self::Compressed(_) = self
            && (is("content-length") || is("accept-ranges") || is("content-encoding"))
        {
            return;
        }
        let weakened =
            matches!(self, Self::Compressed(_) | Self::Revalidated) && is("etag") && value.starts_with(b"\"");
        let prefix: &[u8] = if weakened { b"W/" } else { b"" };
        for part in [name, b": ", prefix, value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }

    /// Appends what this plan adds to the `fields` of the response.
    pub fn write_own_fields(self, out: &mut Vec<u8>, fields: &[httparse::Header<'_>]) {
        if let Self::Compressed(coding) = self {
            for part in ["Content-Encoding: ", coding.token(), "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        let names_encoding = |item: &[u8]| item == b"*" || item.eq_ignore_ascii_case(b"accept-encoding");
        let varies = || {
            let mut vary = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("vary"));
            vary.any(|field| list(field.value).any(names_encoding))
        };
        if self != Self::Untouched && !varies() {
            out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(asked: &str, weak: &str) -> Offer {
        let rules = Compression {
            encodings: vec![Coding::Brotli, Coding::Gzip],
            types: vec!["text/*".into(), "application/json".into()],
            min_bytes: 100,
        };
        let fields = [("Accept-Encoding", asked.as_bytes()), ("If-None-Match", weak.as_bytes())];
        Offer::new(&Arc::new(rules), fields.into_iter())
    }

    fn plan(offer: &Offer, status: u16, length: Option<u64>, fields: &[(&str, &str)]) -> Plan {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        offer.plan(status, length, &fields)
    }

    #[test]
    fn by_type_and_size() {
        let offer = offer("gzip", "");
        let html = ("content-type", "Text/HTML; charset=utf-8");
        assert_eq!(plan(&offer, 200, None, &[html]), Plan::Compressed(Coding::Gzip));
        assert_eq!(plan(&offer, 404, Some(100), &[html]), Plan::Compressed(Coding::Gzip));
        assert_eq!(plan(&offer, 200, Some(99), &[html]), Plan::Untouched);
        assert_eq!(plan(&offer, 200, None, &[]), Plan::Untouched);
        for kind in ["image/png", "text", "application/json2", "text/event-stream"] {
            assert_eq!(plan(&offer, 200, None, &[("content-type", kind)]), Plan::Untouched, "{kind}");
        }
        for status in [101, 103, 204, 205, 206, 304] {
            assert_eq!(plan(&offer, status, None, &[html]), Plan::Untouched, "{status}");
        }
    }

    #[test]
    fn never_what_is_somebody_elses() {
        let offer = offer("gzip", "");
        for (name, value) in [
            ("Content-Encoding", "br"),
            ("Content-Range", "bytes 0-1/2"),
            ("Cache-Control", "public, No-Transform"),
            ("Content-Digest", "sha-256=:x:"),
            ("Repr-Digest", "sha-256=:x:"),
            ("digest", "sha-256=x"),
            ("content-MD5", "x"),
        ] {
            let fields = [("Content-Type", "text/plain"), (name, value)];
            assert_eq!(plan(&offer, 200, None, &fields), Plan::Untouched, "{name}");
        }
    }

    #[test]
    fn who_wants_none_gets_it_plain() {
        let html = [("content-type", "text/html")];
        assert_eq!(plan(&offer("identity", ""), 200, None, &html), Plan::Plain);
        assert_eq!(plan(&offer("gzip", "W/\"a\""), 304, None, &[]), Plan::Revalidated);
        assert_eq!(plan(&offer("gzip", "\"a\""), 304, None, &[]), Plan::Untouched);
    }

    #[test]
    fn fields_of_the_other_representation() {
        let mut out = Vec::new();
        let plan = Plan::Compressed(Coding::Zstd);
        for (name, value) in [("ETag", "\"a\""), ("etag", "W/\"b\""), ("Accept-Ranges", "bytes"), ("X", "\"c\"")] {
            plan.write_field(&mut out, name.as_bytes(), value.as_bytes());
        }
        plan.write_own_fields(&mut out, &[httparse::Header { name: "Vary", value: b"Cookie" }]);
        plan.write_own_fields(&mut out, &[httparse::Header { name: "Vary", value: b"cookie, accept-encoding" }]);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ETag: W/\"a\"\r\netag: W/\"b\"\r\nX: \"c\"\r\n\
             Content-Encoding: zstd\r\nVary: Accept-Encoding\r\nContent-Encoding: zstd\r\n"
        );
    }
}
