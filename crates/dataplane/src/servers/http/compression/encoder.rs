//! A body on its way out, compressed piece by piece and sent as chunks. What the server has sent so far never waits
//! in here for more to come: when it pauses, `flush` lets everything out.

use std::io::{self, Write};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::write::GzEncoder;

use super::Coding;

/// Levels that cost about as much as the request itself does in an app; more would hold up the thread's other clients.
const GZIP_LEVEL: u32 = 4;
const BROTLI_LEVEL: i32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// How far back a repetition may lie, as a power of two, where the length is not known or large. Bounds the memory.
const WINDOW_LOG: u32 = 19;
/// Room in front of a chunk for its size line.
const SIZE_LINE: usize = 12;

pub struct Encoder {
    coder: Coder,
    /// Something went in after the last flush.
    pub holds_back: bool,
}

enum Coder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

/// A chunk with its size line; it begins at `start`.
pub struct Chunk {
    pub bytes: Vec<u8>,
    pub start: usize,
}

impl Encoder {
    /// `length` is that of the whole body, if it is known.
    pub fn new(coding: Coding, length: Option<u64>) -> io::Result<Self> {
        let out = room();
        let window_log = length.map_or(WINDOW_LOG, |length| length.max(1).ilog2() + 1).clamp(10, WINDOW_LOG);
        let coder = match coding {
            Coding::Gzip => Coder::Gzip(GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL))),
            Coding::Brotli => {
                let lgwin = i32::try_from(window_log).unwrap_or(22);
                let size_hint = length.map_or(0, |length| length as usize);
                let params = BrotliEncoderParams { quality: BROTLI_LEVEL, lgwin, size_hint, ..Default::default() };
                Coder::Brotli(Box::new(CompressorWriter::with_params(out, 4096, &params)))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
                encoder.set_pledged_src_size(length)?;
                encoder.window_log(window_log)?;
                Coder::Zstd(encoder)
            }
        };
        Ok(Self { coder, holds_back: false })
    }

    pub fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.holds_back |= !data.is_empty();
        self.writer().write_all(data)
    }

    /// Lets out everything that went in.
    pub fn flush(&mut self) -> io::Result<()> {
        self.holds_back = false;
        self.writer().flush()
    }

    /// What has come out, if that is anything.
    pub fn take(&mut self) -> Option<Chunk> {
        let out = match &mut self.coder {
            Coder::Gzip(coder) => coder.get_mut(),
            Coder::Brotli(coder) => coder.get_mut(),
            Coder::Zstd(coder) => coder.get_mut(),
        };
        (out.len() > SIZE_LINE).then(|| chunk(std::mem::replace(out, room())))
    }

    /// The rest, and the end of the body with `trailers` (whole lines).
    pub fn finish(self, trailers: &[u8]) -> io::Result<Chunk> {
        let out = match self.coder {
            Coder::Gzip(coder) => coder.finish()?,
            Coder::Brotli(coder) => coder.into_inner(),
            Coder::Zstd(coder) => coder.finish()?,
        };
        let mut last = if out.len() > SIZE_LINE { chunk(out) } else { Chunk { bytes: Vec::new(), start: 0 } };
        for part in [&b"0\r\n"[..], trailers, b"\r\n"] {
            last.bytes.extend_from_slice(part);
        }
        Ok(last)
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.coder {
            Coder::Gzip(coder) => coder,
            Coder::Brotli(coder) => coder,
            Coder::Zstd(coder) => coder,
        }
    }
}

fn room() -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.resize(SIZE_LINE, 0);
    out
}

/// Writes the size line right before what follows the room for it.
fn chunk(mut bytes: Vec<u8>) -> Chunk {
    let line = format!("{:x}\r\n", bytes.len() - SIZE_LINE);
    let start = SIZE_LINE - line.len();
    bytes[start..SIZE_LINE].copy_from_slice(line.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    Chunk { bytes, start }
}
