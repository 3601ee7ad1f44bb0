//! The client's side of a session: its stream, and the bytes of it that have arrived and are not used yet.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::buffer::{Buffer, LARGE, SMALL};
use crate::net::stream::Stream;

#[derive(Debug)]
pub struct Client {
    pub stream: Stream,
    /// None while there are none, so that idle connections cost little.
    inbound: Option<Buffer>,
    ended: bool,
    /// When it stops to be answered, although it has ended its side.
    patience: Option<Pin<Box<Sleep>>>,
}

/// A client may end its side once it has asked everything. One that has left looks the same, until something is sent to it.
const ENDED: Duration = Duration::from_secs(2);

impl Client {
    pub fn new(stream: Stream) -> Self {
        Self { stream, inbound: None, ended: false, patience: None }
    }

    pub fn arrived(&self) -> &[u8] {
        self.inbound.as_ref().map_or(&[], Buffer::filled)
    }

    pub fn consume(&mut self, count: usize) {
        if let Some(buffer) = &mut self.inbound {
            buffer.consume(count);
            if buffer.is_empty() {
                self.inbound = None;
            }
        }
    }

    /// The first `count` bytes that have arrived, to be kept while more arrive.
    pub fn take(&mut self, count: usize) -> Option<Buffer> {
        let buffer = self.inbound.take()?;
        if buffer.len() > count {
            self.inbound = Some(copy_of(&buffer.filled()[count..]));
        }
        Some(buffer)
    }

    /// Takes bytes back that were taken before those that have arrived since.
    pub fn give_back(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.inbound = Some(copy_of(&[bytes, self.arrived()].concat()));
        }
    }

    /// Reads more. Zero: the client has left. A full buffer grows up to `most` bytes; the caller has seen to it that
    /// what it waits for is not larger.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        if self.inbound.is_none() {
            std::task::ready!(self.stream.poll_read_ready(cx))?;
        }
        let mut buffer = self.inbound.take().unwrap_or_else(Buffer::small);
        if buffer.is_full() {
            buffer.grow(most);
        }
        let read = if buffer.is_full() {
            Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()))
        } else {
            self.stream.poll_read(cx, buffer.room())
        };
        if let Poll::Ready(Ok(count)) = read {
            buffer.advance(count);
            self.ended = count == 0;
        }
        if !buffer.is_empty() {
            self.inbound = Some(buffer);
        }
        read
    }

    /// Ready when the client has left while it should be waiting. One that has sent more already is not asked; one that has
    /// only ended its side is waited with for a moment.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.inbound.is_some() {
            return Poll::Pending;
        }
        match self.poll_fill(cx, SMALL) {
            Poll::Ready(Ok(0)) => {
                let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(ENDED)));
                patience.as_mut().poll(cx)
            }
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        poll_fn(|cx| {
            while written < bytes.len() {
                match std::task::ready!(self.stream.poll_write(cx, &bytes[written..])) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Ok(count) => written += count,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            self.stream.poll_flush(cx)
        })
        .await
    }
}

/// `bytes` in a buffer of their own, with room for more.
fn copy_of(bytes: &[u8]) -> Buffer {
    let mut buffer = if bytes.len() < SMALL { Buffer::small() } else { Buffer::large() };
    while bytes.len() >= buffer.room().len() {
        if !buffer.grow((bytes.len() + 1).next_power_of_two().max(LARGE)) {
            break;
        }
    }
    buffer.push(bytes);
    buffer
}
