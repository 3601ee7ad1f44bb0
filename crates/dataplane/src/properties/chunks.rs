//! The chunked coding, against a second decoder that knows the whole input.

use super::grammar::{Field, field, lines};
use super::pieces;
use crate::servers::http::chunked::{ChunkDecoder, ChunkError, Piece};

/// The body, the trailer section, and how many bytes they took.
type Decoded = (Vec<u8>, Vec<u8>, usize);

pub fn hold(data: &[u8]) {
    let whole = decode(data, std::iter::once(data.len().max(1)).cycle());
    let arriving = decode(data, pieces(data));
    assert_eq!(arriving, whole, "what a body is depends on packets");
    assert_eq!(decode(data, std::iter::repeat(1)), whole, "what a body is depends on packets");
    match (whole, reference(data)) {
        (Ok(Some(ours)), Ok(theirs)) => assert_eq!(ours, theirs),
        (Ok(Some(_)), Err(why)) => panic!("accepted in spite of {why}"),
        // Limits and trailer fields that are forbidden; what ends in the middle is refused when the client closes.
        (Err(_) | Ok(None), _) => {}
    }
}

fn decode(data: &[u8], mut pieces: impl Iterator<Item = usize>) -> Result<Option<Decoded>, ChunkError> {
    let (mut decoder, mut body, mut at, mut seen) = (ChunkDecoder::default(), Vec::new(), 0, 0);
    loop {
        let given = &data[at..seen];
        match decoder.next(given)? {
            Piece::Data(count) => {
                assert!(count > 0 && count <= given.len(), "more than it was given");
                body.extend_from_slice(&given[..count]);
                at += count;
            }
            Piece::Framing(count) => {
                assert!(count > 0 && count <= given.len(), "more than it was given");
                at += count;
            }
            Piece::End(count) => {
                assert!(count > 0 && count <= given.len(), "more than it was given");
                return Ok(Some((body, decoder.trailers().to_vec(), at + count)));
            }
            Piece::More if seen == data.len() => return Ok(None),
            Piece::More => seen = (seen + pieces.next().unwrap_or(1)).min(data.len()),
        }
    }
}

/// RFC 9112, section 7.1.
fn reference(data: &[u8]) -> Result<Decoded, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = line(data, &mut at)?;
        let (size, extension) = line.split_at(line.iter().position(|byte| *byte == b';').unwrap_or(line.len()));
        if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
            return Err("a size that is no number".into());
        }
        if !extension.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)) {
            return Err("a control in an extension".into());
        }
        let size = u128::from_str_radix(&String::from_utf8_lossy(size), 16).map_err(|_| "an endless size")?;
        let size = usize::try_from(size).map_err(|_| "an endless size")?;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size).filter(|end| *end <= data.len()).ok_or("too little data")?;
        body.extend_from_slice(&data[at..end]);
        at = end;
        if data.get(at..at + 2) != Some(b"\r\n") {
            return Err("no line end behind the data".into());
        }
        at += 2;
    }
    let start = at;
    loop {
        let begin = at;
        let line = line(data, &mut at)?;
        if line.is_empty() {
            return Ok((body, data[start..begin].to_vec(), at));
        }
        field(line)?;
    }
}

fn line<'d>(data: &'d [u8], at: &mut usize) -> Result<&'d [u8], String> {
    let rest = &data[*at..];
    let end = rest.windows(2).position(|pair| pair == b"\r\n").ok_or("no line end")?;
    *at += end + 2;
    lines(&rest[..end]).map(|_| &rest[..end])
}

/// What a part of a body, in chunks, has said so far; and the trailers, when that was all.
pub fn unfinished(data: &[u8]) -> (Vec<u8>, Option<Vec<Field>>) {
    let (mut decoder, mut body, mut at) = (ChunkDecoder::default(), Vec::new(), 0);
    loop {
        // Trailer fields that are forbidden are refused by whoever reads them.
        let Ok(piece) = decoder.next(&data[at..]) else { return (body, None) };
        match piece {
            Piece::Data(count) => {
                body.extend_from_slice(&data[at..at + count]);
                at += count;
            }
            Piece::Framing(count) => at += count,
            Piece::End(count) => {
                assert_eq!(at + count, data.len(), "something behind the end");
                let trailers = decoder.trailers().split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                let trailers = trailers.map(|line| field(line.strip_suffix(b"\r").unwrap_or(line)).expect("a field"));
                return (body, Some(trailers.collect()));
            }
            Piece::More => return (body, None),
        }
    }
}
