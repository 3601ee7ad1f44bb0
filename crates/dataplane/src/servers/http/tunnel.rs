//! After a switch of protocols: bytes both ways, whatever they mean, with bounded buffers.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::client::Client;
use super::exchange::Answer;
use super::upstream::Upstream;
use crate::buffer::Buffer;
use crate::net::stream::Stream;
use crate::servers::pool::Slot;

/// One direction.
#[derive(Default)]
struct Flow {
    buffer: Option<Buffer>,
    ended: bool,
    /// The end was passed on.
    closed: bool,
    bytes: u64,
}

impl Flow {
    /// Moves what can be moved. True when something was.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream) -> io::Result<bool> {
        let mut moved = false;
        loop {
            let mut buffer = match self.buffer.take() {
                Some(buffer) => buffer,
                None if self.ended => break,
                None => match from.poll_read_ready(cx) {
                    Poll::Ready(ready) => {
                        ready?;
                        Buffer::small()
                    }
                    Poll::Pending => break,
                },
            };
            let mut stuck = true;
            if !self.ended && !buffer.is_full() {
                if let Poll::Ready(read) = from.poll_read(cx, buffer.room()) {
                    let count = read?;
                    buffer.advance(count);
                    self.ended = count == 0;
                    stuck = false;
                }
            }
            if !buffer.is_empty() {
                if let Poll::Ready(written) = to.poll_write(cx, buffer.filled()) {
                    let count = written?;
                    if count == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    buffer.consume(count);
                    self.bytes += count as u64;
                    stuck = false;
                }
            }
            if !buffer.is_empty() {
                self.buffer = Some(buffer);
            }
            if stuck {
                break;
            }
            moved = true;
        }
        if let Poll::Ready(flushed) = to.poll_flush(cx) {
            flushed?;
        }
        if self.ended && self.buffer.is_none() && !self.closed {
            to.finish_sending();
            self.closed = true;
            moved = true;
        }
        Ok(moved)
    }
}

/// Runs until both sides have finished, one breaks, or neither has said anything for `idle_ms`. Returns the bytes that
/// went to the client.
pub async fn tunnel(client: &mut Client, answer: Answer, mut upstream: Upstream, mut slot: Slot, idle_ms: u64) -> u64 {
    slot.becomes_stream();
    let Answer { mut head, arrived, .. } = answer;
    head.extend_from_slice(arrived.filled());
    drop(arrived);
    client.deadline.set(Instant::now(), idle_ms);
    if client.write_all(&head).await.is_err() {
        return 0;
    }
    let (mut up, mut down) = (Flow::default(), Flow::default());
    let early = client.arrived();
    if !early.is_empty() {
        let mut buffer = Buffer::small();
        let taken = buffer.push(early);
        // A head's buffer is never larger than this one unless the head was; what is left over is cut off.
        if taken < early.len() {
            return head.len() as u64;
        }
        client.consume(taken);
        up.buffer = Some(buffer);
    }
    poll_fn(|cx| {
        loop {
            let moved = up
                .poll(cx, &mut client.stream, &mut upstream.stream)
                .and_then(|moved| Ok(moved | down.poll(cx, &mut upstream.stream, &mut client.stream)?));
            match moved {
                Err(_) => return Poll::Ready(()),
                Ok(_) if up.closed && down.closed => return Poll::Ready(()),
                Ok(true) => client.deadline.set(Instant::now(), idle_ms),
                Ok(false) => return client.deadline.poll_passed(cx),
            }
        }
    })
    .await;
    client.bytes_in += up.bytes;
    head.len() as u64 + down.bytes
}
