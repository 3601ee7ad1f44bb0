//! Sending a request to a server: its head, then its body from memory, from a file, or straight from the client.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use super::client::Client;
use super::payload::{BodyReader, Payload, Progress};
use super::refusal::Refusal;
use crate::net::stream::Stream;

/// Bytes read from a file or a client before they are sent on.
const STAGE: usize = 64 * 1024;

/// Where the body comes from.
#[derive(Debug)]
pub enum Source {
    /// Complete, so it can be sent again.
    Payload(Payload),
    /// Sent on as it arrives.
    Stream { reader: BodyReader, chunked: bool },
}

impl Source {
    /// Goes back to the start of the body, where that is possible.
    pub fn rewind(&mut self) -> io::Result<()> {
        match self {
            Self::Payload(payload) => payload.rewind(),
            Self::Stream { .. } => Ok(()),
        }
    }
}

/// How far a request was sent on one connection.
#[derive(Debug, Default)]
pub struct Sending {
    /// Bytes of the head and of the body's part in memory that were sent.
    sent: usize,
    stage: Vec<u8>,
    stage_sent: usize,
    /// The source is used up; what is staged is the last.
    drained: bool,
    pub sent_any: bool,
}

/// One sending of one request.
#[derive(Debug)]
pub struct Upload<'r> {
    pub head: &'r [u8],
    pub source: &'r mut Source,
    pub sending: Sending,
}

/// Why sending stopped.
#[derive(Debug)]
pub enum UploadError {
    /// The server does not take it.
    Server,
    /// The client's body is malformed, too large or ended early.
    Client(Refusal),
    Spool,
}

impl Upload<'_> {
    /// Whether the body is read from the client meanwhile, so that its silence is not the end of its patience.
    pub fn reads_client(&self) -> bool {
        matches!(&*self.source, Source::Stream { reader, .. } if !reader.is_done())
    }

    /// Sends as much as the server takes. Ready when all is sent.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut Stream,
        client: &mut Client,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            ready!(self.poll_memory(cx, server))?;
            ready!(self.poll_stage(cx, server))?;
            if self.sending.drained {
                return Poll::Ready(Ok(()));
            }
            ready!(self.fill_stage(cx, client))?;
        }
    }

    /// The head and the part in memory, in as few system calls as possible.
    fn poll_memory(&mut self, cx: &mut Context<'_>, server: &mut Stream) -> Poll<Result<(), UploadError>> {
        let memory: &[u8] = match &*self.source {
            Source::Payload(payload) => &payload.memory,
            Source::Stream { .. } => &[],
        };
        let head = self.head;
        while self.sending.sent < head.len() + memory.len() {
            let written = if self.sending.sent >= head.len() {
                server.poll_write(cx, &memory[self.sending.sent - head.len()..])
            } else if memory.is_empty() {
                server.poll_write(cx, &head[self.sending.sent..])
            } else {
                server.poll_write_vectored(cx, &[IoSlice::new(&head[self.sending.sent..]), IoSlice::new(memory)])
            };
            self.sending.sent += taken(&ready!(written))?;
            self.sending.sent_any = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_stage(&mut self, cx: &mut Context<'_>, server: &mut Stream) -> Poll<Result<(), UploadError>> {
        while self.sending.stage_sent < self.sending.stage.len() {
            self.sending.stage_sent +=
                taken(&ready!(server.poll_write(cx, &self.sending.stage[self.sending.stage_sent..])))?;
        }
        Poll::Ready(Ok(()))
    }

    fn fill_stage(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<Result<(), UploadError>> {
        self.sending.stage.clear();
        self.sending.stage_sent = 0;
        match &mut *self.source {
            Source::Payload(payload) if payload.spool.is_some() => {
                self.sending.stage.resize(STAGE, 0);
                let count = payload.read_spool(&mut self.sending.stage).map_err(|_| UploadError::Spool)?;
                self.sending.stage.truncate(count);
                self.sending.drained = count == 0;
                if self.sending.drained {
                    append_trailers(&mut self.sending.stage, &payload.trailers);
                }
            }
            Source::Payload(payload) => {
                self.sending.drained = true;
                append_trailers(&mut self.sending.stage, &payload.trailers);
            }
            Source::Stream { reader, chunked } => {
                let mut data = Vec::with_capacity(STAGE);
                let progress = ready!(reader.poll_take(cx, client, &mut data)).map_err(UploadError::Client)?;
                if *chunked && !data.is_empty() {
                    self.sending.stage.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                    self.sending.stage.append(&mut data);
                    self.sending.stage.extend_from_slice(b"\r\n");
                } else {
                    self.sending.stage = data;
                }
                if let (Progress::Done, BodyReader::Done { trailers }) = (progress, &*reader) {
                    self.sending.drained = true;
                    if *chunked {
                        self.sending.stage.extend_from_slice(b"0\r\n");
                        self.sending.stage.extend_from_slice(trailers);
                        self.sending.stage.extend_from_slice(b"\r\n");
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A complete body with trailers goes out as chunks, of which this is the end.
fn append_trailers(stage: &mut Vec<u8>, trailers: &[u8]) {
    if !trailers.is_empty() {
        stage.extend_from_slice(b"\r\n0\r\n");
        stage.extend_from_slice(trailers);
        stage.extend_from_slice(b"\r\n");
    }
}

fn taken(written: &io::Result<usize>) -> Result<usize, UploadError> {
    match written {
        Ok(count @ 1..) => Ok(*count),
        Ok(0) | Err(_) => Err(UploadError::Server),
    }
}
