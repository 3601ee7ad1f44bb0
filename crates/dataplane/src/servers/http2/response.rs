//! A response as the flow writes it, in HTTP/1.1, becomes frames. Without I/O.

use std::mem::MaybeUninit;

use super::frame::{self, HEAD, Head, PAYLOAD_MAX, flag, kind};
use super::hpack::{Encoder, put_status};
use crate::servers::http::chunked::ChunkDecoder;
use crate::servers::http::fields::{Known, length};

const FIELDS_MAX: usize = 256;

/// What of a response is to be written next.
#[derive(Debug)]
pub enum Down {
    Head,
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    Done,
}

/// The head of a response, for `stream`, is at the front of `bytes`: appends it as a frame, and says how long it was
/// and what follows. `None`: it is not a complete head.
pub fn put_head(
    out: &mut Vec<u8>,
    encoder: &mut Encoder,
    stream: u32,
    bytes: &[u8],
    to_head: bool,
) -> Option<(usize, Down)> {
    let mut storage = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let Ok(httparse::Status::Complete(size)) =
        config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut storage)
    else {
        return None;
    };
    let status = parsed.code?;
    let (mut chunked, mut announced) = (false, 0);
    let start = begin_block(out);
    encoder.begin(out);
    put_status(out, status);
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
        encoder.field(out, field.name.as_bytes(), field.value);
    }
    let down = if status < 200 {
        Down::Head
    } else if to_head || status == 204 || status == 304 {
        Down::Done
    } else if chunked {
        Down::Chunked(Box::default())
    } else if announced == 0 {
        Down::Done
    } else {
        Down::Length(announced)
    };
    end_block(out, start, stream, matches!(down, Down::Done));
    Some((size, down))
}

/// Appends trailer lines, which end the stream.
pub fn put_trailers(out: &mut Vec<u8>, encoder: &mut Encoder, stream: u32, lines: &[u8]) {
    let start = begin_block(out);
    encoder.begin(out);
    for line in lines.split(|byte| *byte == b'\n') {
        if let Some(colon) = memchr::memchr(b':', line) {
            encoder.field(out, &line[..colon], line[colon + 1..].trim_ascii());
        }
    }
    end_block(out, start, stream, true);
}

/// Leaves room for a frame's head.
fn begin_block(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; HEAD]);
    out.len()
}

/// The header block of `stream` begins at `start` and is complete: writes its frame's head, or spreads it over several.
fn end_block(out: &mut Vec<u8>, start: usize, stream: u32, ends_stream: bool) {
    let length = out.len() - start;
    let ends = if ends_stream { flag::END_STREAM } else { 0 };
    if length <= PAYLOAD_MAX {
        let head = Head { length, kind: kind::HEADERS, flags: ends | flag::END_HEADERS, stream };
        out[start - HEAD..start].copy_from_slice(&head.bytes());
        return;
    }
    let block = out.split_off(start);
    out.truncate(start - HEAD);
    let last = block.chunks(PAYLOAD_MAX).count() - 1;
    for (at, part) in block.chunks(PAYLOAD_MAX).enumerate() {
        let (kind, flags) = if at == 0 { (kind::HEADERS, ends) } else { (kind::CONTINUATION, 0) };
        frame::put(out, kind, if at == last { flags | flag::END_HEADERS } else { flags }, stream, part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::http2::hpack::Decoder;

    fn seen(out: &[u8]) -> (Vec<(u8, u8)>, Vec<String>) {
        let (mut frames, mut block, mut rest) = (Vec::new(), Vec::new(), out);
        while let Some(head) = Head::read(rest) {
            frames.push((head.kind, head.flags));
            block.extend_from_slice(&rest[HEAD..HEAD + head.length]);
            rest = &rest[HEAD + head.length..];
        }
        let mut fields = Vec::new();
        Decoder::default()
            .decode(&block, |name, value| {
                fields.push(format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
            })
            .unwrap();
        (frames, fields)
    }

    fn put(bytes: &[u8], to_head: bool) -> Option<(Vec<u8>, usize, Down)> {
        let mut out = Vec::new();
        let (size, down) = put_head(&mut out, &mut Encoder::default(), 1, bytes, to_head)?;
        Some((out, size, down))
    }

    #[test]
    fn a_response() {
        let bytes = b"HTTP/1.1 203 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nrest";
        let (out, size, down) = put(bytes, false).unwrap();
        assert_eq!((size, matches!(down, Down::Chunked(_))), (bytes.len() - 4, true));
        assert_eq!(seen(&out), (vec![(1, 4)], vec![":status=203".into(), "x-a=1".into()]));
        assert!(put(&bytes[..20], false).is_none());
    }

    #[test]
    fn without_a_body() {
        for (bytes, to_head) in [
            (&b"HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n"[..], false),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        ] {
            let (out, _, down) = put(bytes, to_head).unwrap();
            assert!(matches!(down, Down::Done));
            assert_eq!(seen(&out).0, [(1, 5)]);
        }
        let (out, _, down) = put(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", false).unwrap();
        assert!(matches!(down, Down::Head));
        assert_eq!(seen(&out).0, [(1, 4)]);
    }

    #[test]
    fn a_head_larger_than_a_frame() {
        let long = "x".repeat(15_000);
        let text = format!("HTTP/1.1 200 OK\r\na: {long}\r\nb: {long}\r\nc: {long}\r\nContent-Length: 1\r\n\r\n");
        let (out, _, _) = put(text.as_bytes(), false).unwrap();
        let (frames, fields) = seen(&out);
        assert_eq!(frames, [(1, 0), (9, 0), (9, 4)]);
        assert_eq!((fields.len(), fields[3].len()), (5, 15_002));
    }

    #[test]
    fn trailers() {
        let mut out = Vec::new();
        put_trailers(&mut out, &mut Encoder::default(), 1, b"X-Sum: 1\r\nX-Sum: 2\r\n");
        assert_eq!(seen(&out), (vec![(1, 5)], vec!["x-sum=1".into(), "x-sum=2".into()]));
    }
}
