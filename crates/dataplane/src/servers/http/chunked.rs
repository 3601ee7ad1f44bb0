//! The chunked transfer coding (RFC 9112, section 7.1), read strictly and without I/O.
//!
//! Strict means: CRLF and nothing else ends a line, sizes are plain hexadecimal, and limits hold for sizes,
//! extensions and trailers. What one side would read differently from the other is refused.

/// Longest chunk extension and longest trailer section.
const EXTENSION_MAX: usize = 1024;
const TRAILERS_MAX: usize = 8192;
/// 15 hexadecimal digits keep the size far away from overflow.
const DIGITS_MAX: u8 = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkError(pub &'static str);

/// What the front of the input is. Numbers are counts of bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the body.
    Data(usize),
    /// Bytes of framing: sizes, line ends, trailers.
    Framing(usize),
    /// The body ends after these bytes of framing.
    End(usize),
    /// Nothing can be said without more input.
    More,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        digits: u8,
    },
    Extension {
        length: usize,
    },
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a line after the last chunk.
    TrailerStart,
    TrailerLine,
    TrailerLf,
    EndLf,
    Done,
}

#[derive(Debug)]
pub struct ChunkDecoder {
    state: State,
    remaining: u64,
    trailers: Vec<u8>,
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self { state: State::Size { digits: 0 }, remaining: 0, trailers: Vec::new() }
    }
}

impl ChunkDecoder {
    /// The trailer section as received, line by line, without the empty line; complete after `Piece::End`.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Looks at the front of `input`. The caller consumes what the answer counts and calls again.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, ChunkError> {
        if self.state == State::Data && !input.is_empty() {
            let count = usize::try_from(self.remaining).map_or(input.len(), |left| left.min(input.len()));
            self.remaining -= count as u64;
            if self.remaining == 0 {
                self.state = State::DataCr;
            }
            return Ok(Piece::Data(count));
        }
        for (at, &byte) in input.iter().enumerate() {
            self.state = self.step(byte)?;
            match self.state {
                State::Data => return Ok(Piece::Framing(at + 1)),
                State::Done => return Ok(Piece::End(at + 1)),
                _ => {}
            }
        }
        Ok(if input.is_empty() { Piece::More } else { Piece::Framing(input.len()) })
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        Ok(match (self.state, byte) {
            (State::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == DIGITS_MAX {
                    return Err(ChunkError("chunk size too large"));
                }
                let value = (byte as char).to_digit(16).unwrap_or(0);
                self.remaining = self.remaining * 16 + u64::from(value);
                State::Size { digits: digits + 1 }
            }
            (State::Size { digits: 1.. }, b'\r') => State::SizeLf,
            (State::Size { digits: 1.. }, b';') => State::Extension { length: 0 },
            (State::Size { .. }, _) => return Err(ChunkError("bad chunk size")),
            (State::Extension { .. }, b'\r') => State::SizeLf,
            (State::Extension { length }, b'\t' | b' '..=b'~' | 0x80..) if length < EXTENSION_MAX => {
                State::Extension { length: length + 1 }
            }
            (State::Extension { .. }, _) => return Err(ChunkError("bad chunk extension")),
            (State::SizeLf, b'\n') if self.remaining > 0 => State::Data,
            (State::SizeLf, b'\n') => State::TrailerStart,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { digits: 0 },
            (State::DataCr | State::DataLf, _) => {
                return Err(ChunkError("chunk longer than its size"));
            }
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerLine, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => {
                self.trailers.extend_from_slice(b"\r\n");
                State::TrailerStart
            }
            (State::TrailerStart | State::TrailerLine, b'\n') => {
                return Err(ChunkError("line not ended by CRLF"));
            }
            (State::TrailerStart | State::TrailerLine, _) => {
                if self.trailers.len() >= TRAILERS_MAX {
                    return Err(ChunkError("trailers too large"));
                }
                self.trailers.push(byte);
                State::TrailerLine
            }
            (State::EndLf, b'\n') => {
                self.check_trailers()?;
                State::Done
            }
            (State::SizeLf | State::TrailerLf | State::EndLf, _) => {
                return Err(ChunkError("line not ended by CRLF"));
            }
            (State::Data | State::Done, _) => return Err(ChunkError("byte out of place")),
        })
    }

    /// Fields that would change framing, routing or identity after the fact have no place in trailers
    /// (RFC 9110, section 6.5.1).
    fn check_trailers(&self) -> Result<(), ChunkError> {
        if self.trailers.is_empty() {
            return Ok(());
        }
        let mut lines = self.trailers.clone();
        lines.extend_from_slice(b"\r\n");
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let parsed = httparse::parse_headers(&lines, &mut fields).map_err(|_| ChunkError("malformed trailer"))?;
        let httparse::Status::Complete((_, fields)) = parsed else {
            return Err(ChunkError("malformed trailer"));
        };
        for field in fields {
            if super::fields::Known::of(field.name.as_bytes()).is_forbidden_in_trailers() {
                return Err(ChunkError("forbidden trailer field"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Body, trailers and how many bytes were used.
    type Decoded = (Vec<u8>, Vec<u8>, usize);

    /// Input is given in slices of `step`.
    fn decode(input: &[u8], step: usize) -> Result<Option<Decoded>, ChunkError> {
        let (mut decoder, mut body, mut at, mut seen) = (ChunkDecoder::default(), Vec::new(), 0, 0);
        loop {
            match decoder.next(&input[at..seen])? {
                Piece::Data(count) => {
                    body.extend_from_slice(&input[at..at + count]);
                    at += count;
                }
                Piece::Framing(count) => at += count,
                Piece::End(count) => {
                    return Ok(Some((body, decoder.trailers().to_vec(), at + count)));
                }
                Piece::More if seen == input.len() => return Ok(None),
                Piece::More => seen = (seen + step).min(input.len()),
            }
        }
    }

    #[test]
    fn body_extensions_and_trailers() {
        let input = b"5\r\nhello\r\n6;name=\"v\"\r\n world\r\n0\r\nDigest: x\r\nA: b\r\n\r\nGET";
        for step in 1..input.len() {
            let (body, trailers, used) = decode(input, step).unwrap().unwrap();
            assert_eq!(body, b"hello world");
            assert_eq!(trailers, b"Digest: x\r\nA: b\r\n");
            assert_eq!(used, input.len() - 3);
        }
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for input in [
            &b"\r\n"[..],
            b"-5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\rhello",
            b"5\r\nhello\n",
            b"5\r\nhello0\r\n",
            b"5\r\nhelloworld\r\n",
            b"5;a\nb\r\nhello\r\n",
            b"5;\x00\r\nhello\r\n",
            b"1000000000000000\r\n",
            b"0\r\n\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
            b"0\r\nContent-Length: 5\r\n\r\n",
            b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"0\r\nHost: elsewhere\r\n\r\n",
            b"0\r\n\rX",
        ] {
            for step in [1, 3, input.len()] {
                assert!(decode(input, step).is_err(), "{:?}", String::from_utf8_lossy(input));
            }
        }
    }

    #[test]
    fn limits_hold() {
        let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(EXTENSION_MAX + 1));
        assert!(decode(extension.as_bytes(), 4096).is_err());
        let trailers = format!("0\r\nA: {}\r\n\r\n", "x".repeat(TRAILERS_MAX));
        assert!(decode(trailers.as_bytes(), 4096).is_err());
    }

    proptest! {
        #[test]
        fn any_body_in_any_chunks_survives(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8), step in 1_usize..400) {
            let mut input = Vec::new();
            for chunk in &chunks {
                input.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                input.extend_from_slice(chunk);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0\r\n\r\n");
            let (body, _, used) = decode(&input, step).unwrap().unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(used, input.len());
        }

        #[test]
        fn any_bytes_end_in_an_answer_that_does_not_depend_on_packets(input in prop::collection::vec(prop::sample::select(b"0123abcF;\r\n\t :x".to_vec()), 0..60)) {
            let whole = decode(&input, 100).map_err(|_| ());
            for step in 1..5 {
                prop_assert_eq!(&decode(&input, step).map_err(|_| ()), &whole);
            }
        }
    }
}
