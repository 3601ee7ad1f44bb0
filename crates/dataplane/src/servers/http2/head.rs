//! Heads between the two versions: a request as HTTP/1.1 says it, and a response as HTTP/2 wants it. Without I/O.

use std::mem::MaybeUninit;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, request};

use crate::servers::http::fields::{Known, length};

const FIELDS_MAX: usize = 256;

/// How the request's body is written into the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    None,
    Plain,
    Chunked,
}

/// How the response's body is read from the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Download {
    Length(u64),
    Chunked,
}

/// The request head in HTTP/1.1. An error is the status to refuse it with.
///
/// Values cannot hold line ends: `http`'s types let none in. What only HTTP/1.1 gives a meaning to is left out.
pub fn request_head(parts: &request::Parts, ended: bool) -> Result<(Vec<u8>, Upload), StatusCode> {
    if parts.method == Method::CONNECT {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let is_target = target.starts_with('/') || (target == "*" && parts.method == Method::OPTIONS);
    if !is_target {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let host = match (parts.uri.authority().map(|authority| authority.as_str().as_bytes()), hosts.next()) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return Err(StatusCode::BAD_REQUEST),
        (Some(authority), _) => authority,
        (None, Some(host)) => host,
        (None, None) => return Err(StatusCode::BAD_REQUEST),
    };
    if hosts.next().is_some() {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut out = Vec::with_capacity(512);
    for part in [parts.method.as_str().as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\nHost: ", host, b"\r\n"] {
        out.extend_from_slice(part);
    }
    let mut cookies: Vec<&[u8]> = Vec::new();
    for (name, value) in &parts.headers {
        match Known::of(name.as_str().as_bytes()) {
            Known::Host | Known::TransferEncoding | Known::Connection | Known::HopByHop | Known::Upgrade => {}
            // A browser may send its cookies one by one, but an app expects them in one field (RFC 9113, 8.2.3).
            Known::Cookie => cookies.push(value.as_bytes()),
            _ => write_field(&mut out, name, value.as_bytes()),
        }
    }
    if !cookies.is_empty() {
        write_field(&mut out, &header::COOKIE, &cookies.join(&b"; "[..]));
    }
    let upload = match (ended, parts.headers.contains_key(header::CONTENT_LENGTH)) {
        (true, _) => Upload::None,
        (false, true) => Upload::Plain,
        (false, false) => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            Upload::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    Ok((out, upload))
}

pub fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// A response head of our own making at the front of `bytes`: its length, itself, and what follows it.
pub fn response_head(bytes: &[u8], to_head: bool) -> Option<(usize, Response<()>, Download)> {
    let mut storage = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let Ok(httparse::Status::Complete(size)) =
        config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut storage)
    else {
        return None;
    };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(parsed.code?).ok()?;
    let (mut chunked, mut announced) = (false, 0);
    for field in parsed.headers.iter() {
        match Known::of(field.name.as_bytes()) {
            Known::Connection | Known::HopByHop | Known::Upgrade => continue,
            Known::TransferEncoding => {
                chunked = true;
                continue;
            }
            Known::ContentLength => announced = length(field.value)?,
            _ => {}
        }
        response.headers_mut().append(name(field.name.as_bytes())?, HeaderValue::from_bytes(field.value).ok()?);
    }
    let status = response.status().as_u16();
    let bodiless = to_head || status < 200 || status == 204 || status == 304;
    let download = match (bodiless, chunked) {
        (true, _) => Download::Length(0),
        (false, true) => Download::Chunked,
        (false, false) => Download::Length(announced),
    };
    Some((size, response, download))
}

/// Trailer lines of a chunked body as fields.
pub fn trailers(lines: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        if let Some(colon) = memchr::memchr(b':', line) {
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
            if let (Some(name), Ok(value)) = (name(&line[..colon]), value) {
                fields.append(name, value);
            }
        }
    }
    fields
}

fn name(bytes: &[u8]) -> Option<HeaderName> {
    HeaderName::from_bytes(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_of(uri: &str, method: Method, fields: &[(&str, &str)], ended: bool) -> Result<String, u16> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let made = request_head(&parts, ended).map_err(|status| status.as_u16())?;
        Ok(String::from_utf8(made.0).unwrap())
    }

    #[test]
    fn a_request() {
        let fields = [("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("te", "trailers")];
        assert_eq!(
            head_of("https://shop.example/a?b=c", Method::GET, &fields, true).unwrap(),
            "GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\nx-a: 1\r\ncookie: a=1; b=2\r\n\r\n"
        );
    }

    #[test]
    fn framing_is_ours() {
        let smuggled = [("transfer-encoding", "gzip"), ("connection", "x"), ("upgrade", "h2c")];
        let made = head_of("https://a/", Method::POST, &smuggled, false).unwrap();
        assert_eq!(made, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let made = head_of("https://a/", Method::POST, &[("content-length", "3")], false).unwrap();
        assert_eq!(made, "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 3\r\n\r\n");
    }

    #[test]
    fn refused() {
        assert_eq!(head_of("a:80", Method::CONNECT, &[], true), Err(405));
        assert_eq!(head_of("/", Method::GET, &[], true), Err(400));
        assert_eq!(head_of("https://a/", Method::GET, &[("host", "b")], true), Err(400));
        assert_eq!(head_of("/", Method::GET, &[("host", "a"), ("host", "a")], true), Err(400));
        assert!(head_of("/", Method::GET, &[("host", "a")], true).is_ok());
        assert_eq!(head_of("*", Method::GET, &[("host", "a")], true), Err(400));
    }

    #[test]
    fn a_response() {
        let bytes = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nrest";
        let (size, response, download) = response_head(bytes, false).unwrap();
        assert_eq!((size, download), (bytes.len() - 4, Download::Chunked));
        assert_eq!(response.headers().len(), 1);
        assert!(response_head(&bytes[..20], false).is_none());
        let (_, _, download) = response_head(b"HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", false).unwrap();
        assert_eq!(download, Download::Length(0));
    }

    #[test]
    fn trailer_lines() {
        let fields = trailers(b"X-Sum: 1\r\nX-Sum: 2\r\nbroken\r\n");
        assert_eq!(fields.get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}
