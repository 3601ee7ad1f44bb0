//! Request bodies on their way in: decoded, limited, and kept in memory or in a file until they are complete.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::chunked::{ChunkDecoder, Piece};
use super::client::Client;
use super::refusal::Refusal;
use super::request::BodyFraming;
use crate::snapshot::Http;

/// A complete body that can be sent as often as needed.
#[derive(Debug)]
pub struct Payload {
    pub memory: Vec<u8>,
    /// What did not fit in memory, in a file without a name.
    pub spool: Option<File>,
    pub length: u64,
    pub trailers: Vec<u8>,
}

/// Takes a body's bytes off a client connection.
#[derive(Debug)]
pub enum BodyReader {
    Length(u64),
    Chunked { decoder: Box<ChunkDecoder>, total: u64, most: u64 },
    Done { trailers: Vec<u8> },
}

/// What one look at the arrived bytes brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes were appended.
    Data(usize),
    Done,
    /// More must arrive first.
    Starved,
}

impl BodyReader {
    pub fn new(framing: BodyFraming, body_max_bytes: u64) -> Result<Self, Refusal> {
        let most = if body_max_bytes == 0 { u64::MAX } else { body_max_bytes };
        match framing {
            BodyFraming::Length(length) if length > most => Err(Refusal::BodyTooLarge),
            BodyFraming::Length(0) | BodyFraming::Empty => Ok(Self::Done { trailers: Vec::new() }),
            BodyFraming::Length(length) => Ok(Self::Length(length)),
            BodyFraming::Chunked => Ok(Self::Chunked { decoder: Box::default(), total: 0, most }),
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }

    /// Appends decoded bytes that have arrived to `out`.
    pub fn take(&mut self, client: &mut Client, out: &mut Vec<u8>) -> Result<Progress, Refusal> {
        let before = out.len();
        loop {
            let arrived = client.arrived();
            if arrived.is_empty() && !self.is_done() {
                break;
            }
            match self {
                Self::Done { .. } => {
                    return Ok(if out.len() > before { Progress::Data(out.len() - before) } else { Progress::Done });
                }
                Self::Length(left) => {
                    let count = usize::try_from(*left).map_or(arrived.len(), |left| left.min(arrived.len()));
                    out.extend_from_slice(&arrived[..count]);
                    client.consume(count);
                    *left -= count as u64;
                    if *left == 0 {
                        *self = Self::Done { trailers: Vec::new() };
                    }
                }
                Self::Chunked { decoder, total, most } => {
                    match decoder.next(arrived).map_err(|error| Refusal::BadRequest(error.0))? {
                        Piece::Data(count) => {
                            *total += count as u64;
                            if *total > *most {
                                return Err(Refusal::BodyTooLarge);
                            }
                            out.extend_from_slice(&arrived[..count]);
                            client.consume(count);
                        }
                        Piece::Framing(count) => client.consume(count),
                        Piece::End(count) => {
                            client.consume(count);
                            let trailers = decoder.trailers().to_vec();
                            *self = Self::Done { trailers };
                        }
                        Piece::More => break,
                    }
                }
            }
        }
        Ok(if out.len() > before { Progress::Data(out.len() - before) } else { Progress::Starved })
    }

    /// The same, waiting for bytes to arrive when there are none. An early end is the client's.
    pub fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Progress, Refusal>> {
        loop {
            match self.take(client, out) {
                Ok(Progress::Starved) => {}
                progress => return Poll::Ready(progress),
            }
            match std::task::ready!(client.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => {
                    return Poll::Ready(Err(Refusal::BadRequest("the body ended early")));
                }
            }
        }
    }
}

impl Payload {
    pub fn empty() -> Self {
        Self { memory: Vec::new(), spool: None, length: 0, trailers: Vec::new() }
    }

    /// Waits until all of the body has arrived.
    pub async fn collect(client: &mut Client, framing: BodyFraming, http: &Http) -> Result<Self, Refusal> {
        let mut reader = BodyReader::new(framing, http.body_max_bytes)?;
        let mut payload = Self::empty();
        if let BodyFraming::Length(length) = framing {
            payload.memory.reserve_exact(length.min(http.request_memory_bytes as u64) as usize);
        }
        let mut piece = Vec::new();
        loop {
            piece.clear();
            client.deadline.set(Instant::now(), http.body_timeout_ms);
            let taken = poll_fn(|cx| match reader.poll_take(cx, client, &mut piece) {
                Poll::Pending => client.deadline.poll_passed(cx).map(|()| Err(Refusal::RequestTimeout)),
                ready => ready,
            });
            let progress = taken.await?;
            payload.push(&piece, http)?;
            if let (Progress::Done, BodyReader::Done { trailers }) = (progress, &mut reader) {
                if payload.length > 0 {
                    payload.trailers = std::mem::take(trailers);
                }
                return Ok(payload);
            }
        }
    }

    fn push(&mut self, piece: &[u8], http: &Http) -> Result<(), Refusal> {
        self.length += piece.len() as u64;
        if self.spool.is_none() && self.memory.len() + piece.len() <= http.request_memory_bytes {
            self.memory.extend_from_slice(piece);
            return Ok(());
        }
        let spooled = match &mut self.spool {
            Some(file) => file.write_all(piece),
            none => nameless_file(&http.spool_directory).and_then(|mut file| {
                file.write_all(piece)?;
                *none = Some(file);
                Ok(())
            }),
        };
        spooled.map_err(|_| Refusal::SpoolFailed)
    }

    /// Goes back to the start, for the first sending and for each further one.
    pub fn rewind(&mut self) -> io::Result<()> {
        match &mut self.spool {
            Some(file) => file.seek(SeekFrom::Start(0)).map(drop),
            None => Ok(()),
        }
    }

    /// Reads on in the spooled part; zero at its end.
    pub fn read_spool(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.spool.as_mut().map_or(Ok(0), |file| file.read(room))
    }
}

/// A file that no crash can leave behind: it has no name once it is open.
fn nameless_file(directory: &str) -> io::Result<File> {
    let directory = if directory.is_empty() { std::env::temp_dir() } else { Path::new(directory).to_owned() };
    let path = directory.join(format!("trimaran-spool-{:016x}", crate::request_id::random()));
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
