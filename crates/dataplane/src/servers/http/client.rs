//! A connection from a client: its bytes that have arrived, its deadline, and what is counted for it.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::deadline::Deadline;
use super::refusal::Refusal;
use super::request::{Peer, check_start, head_end};
use crate::buffer::Buffer;
use crate::clock::instant;
use crate::net::stream::Stream;
use crate::snapshot::Http;

/// Bytes of empty lines in front of a request: two of them, which is what careless clients send behind a body.
const BLANK_MAX: usize = 4;

#[derive(Debug)]
pub struct Client {
    pub stream: Stream,
    pub peer: Peer,
    pub deadline: Deadline,
    /// Bytes that have arrived and are not used yet. None while there are none, so that idle connections cost little.
    inbound: Option<Buffer>,
    /// Between two requests: may be closed at any time without loss.
    pub idle: Arc<AtomicBool>,
    /// The client's end of sending was seen.
    ended: bool,
    pub bytes_in: u64,
}

impl Client {
    pub fn new(stream: Stream, peer: Peer, idle: Arc<AtomicBool>) -> Self {
        Self { stream, peer, deadline: Deadline::default(), inbound: None, idle, ended: false, bytes_in: 0 }
    }

    /// The connection itself, and what was read of it and not used.
    pub fn into_parts(self) -> (Stream, Option<Buffer>) {
        (self.stream, self.inbound)
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

    /// Waits from `now_us` on for a complete request head and says how long it is. `None`: the client has left, or was
    /// idle for too long.
    pub async fn head(&mut self, http: &Http, first: bool, now_us: u64) -> Result<Option<usize>, Refusal> {
        let mut scanned = 0;
        // A new connection has to show what it wants; one that was served before may rest.
        let idle_ms = if first { http.head_timeout_ms } else { http.keep_alive_timeout_ms };
        let (mut started, mut blank) = (false, 0);
        loop {
            let skip = blank_lines(self.arrived());
            if skip > 0 {
                // Empty lines before a request are forgiven (RFC 9112, section 2.2), but not for ever.
                blank += skip;
                if blank > BLANK_MAX {
                    return Err(Refusal::BadRequest("malformed request line"));
                }
                self.consume(skip);
            }
            if self.arrived().is_empty() {
                self.deadline.set(instant(now_us), idle_ms);
            } else {
                if let Some(length) = head_end(self.arrived(), &mut scanned) {
                    return if length > http.head_max_bytes { Err(Refusal::HeadTooLarge) } else { Ok(Some(length)) };
                }
                if scanned >= http.head_max_bytes {
                    return Err(Refusal::HeadTooLarge);
                }
                if !started {
                    started = true;
                    // HTTP/2 does not begin like a request, but ends one: see `is_http2`.
                    if !self.arrived().starts_with(b"PRI") {
                        check_start(self.arrived())?;
                    }
                    self.deadline.set(Instant::now(), http.head_timeout_ms);
                }
                if let Some(buffer) = self.inbound.as_mut().filter(|buffer| buffer.is_full()) {
                    // One byte more than allowed must fit, to be seen as too many.
                    buffer.grow((http.head_max_bytes + 1).next_power_of_two());
                }
            }
            self.idle.store(!started, Ordering::Relaxed);
            let read = poll_fn(|cx| match self.poll_fill(cx) {
                Poll::Ready(read) => Poll::Ready(Some(read)),
                Poll::Pending => self.deadline.poll_passed(cx).map(|()| None),
            });
            let read = read.await;
            self.idle.store(false, Ordering::Relaxed);
            match read {
                Some(Ok(0) | Err(_)) => return Ok(None),
                Some(Ok(_)) => {}
                None if started => return Err(Refusal::RequestTimeout),
                None => return Ok(None),
            }
        }
    }

    /// Reads more bytes. Zero: the client has finished sending. Must not be called while the buffer is full.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let read = self.stream.poll_fill(cx, &mut self.inbound, Buffer::small);
        if let Poll::Ready(Ok(count)) = read {
            self.bytes_in += count as u64;
            self.ended = count == 0;
        }
        read
    }

    /// Ready when the client has left while it should be waiting for its response. A client that has sent more
    /// requests already is waiting by that alone.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.inbound.is_some() {
            return Poll::Pending;
        }
        match self.stream.poll_read_ready(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(()),
            // More bytes: the next request, read when its turn comes.
            Poll::Ready(Ok(())) if self.stream.is_at_end() => Poll::Ready(()),
            Poll::Ready(Ok(())) => match self.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
                _ => Poll::Pending,
            },
        }
    }

    /// Writes all of `bytes` within the deadline that is set.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        poll_fn(|cx| {
            while written < bytes.len() {
                match self.stream.poll_write(cx, &bytes[written..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => written += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        return self.deadline.poll_passed(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
                    }
                }
            }
            match self.stream.poll_flush(cx) {
                Poll::Ready(flushed) => Poll::Ready(flushed),
                Poll::Pending => self.deadline.poll_passed(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
            }
        })
        .await
    }
}

/// Length of the empty lines at the front.
fn blank_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let [b'\n', after @ ..] | [b'\r', b'\n', after @ ..] = rest {
        rest = after;
    }
    bytes.len() - rest.len()
}
