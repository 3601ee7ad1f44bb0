//! The end of a lane that `flow` holds: a connection in HTTP/1.1 to all appearances.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::request::Upload;
use super::send::Put;
use super::state::{Lane as Inner, Phase, State};

/// A chunk is made only where at least so much room is.
const CHUNK_ROOM: usize = 64;
/// Otherwise it is made on the side, with so much data at most.
const SMALL_CHUNK: usize = 1024;
/// Digits and line ends around a chunk's data.
const CHUNK_EXTRA: usize = 12;

/// All tasks of a connection run on one thread: the lock is never fought for.
#[derive(Debug)]
pub struct Shared(Mutex<State>);

impl Shared {
    pub fn new(state: State) -> Arc<Self> {
        Arc::new(Self(Mutex::new(state)))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub struct Lane {
    shared: Arc<Shared>,
    at: usize,
}

impl Lane {
    pub fn new(shared: Arc<Shared>, at: usize) -> Self {
        Self { shared, at }
    }

    /// Reads requests; zero when there will be none any more, or no more of this one.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        let before = state.out.len();
        let Some(count) = state.read(self.at, into.initialize_unfilled()) else {
            note(&mut state.lanes[self.at], cx);
            return Poll::Pending;
        };
        into.advance(count);
        if state.out.len() != before {
            state.wake();
        }
        Poll::Ready(Ok(()))
    }

    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if state.lanes[self.at].phase == Phase::Finished {
            state.make_free(self.at);
        }
        let lane = &mut state.lanes[self.at];
        if lane.has_more() {
            return Poll::Ready(Ok(()));
        }
        note(lane, cx);
        Poll::Pending
    }

    /// Whether the client has taken its request back, or has left.
    pub fn is_at_end(&self) -> bool {
        self.shared.lock().lanes[self.at].phase == Phase::Gone
    }

    /// Writes responses.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        let before = state.out.len();
        let put = state.put(self.at, bytes);
        if state.out.len() != before {
            state.wake();
        }
        match put {
            Put::Taken(count) => Poll::Ready(Ok(count)),
            Put::Broken => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Put::Blocked => {
                note(&mut state.lanes[self.at], cx);
                Poll::Pending
            }
        }
    }

    pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut written = 0;
        for part in parts.iter().filter(|part| !part.is_empty()) {
            match self.poll_write(cx, part) {
                Poll::Ready(Ok(count)) => {
                    written += count;
                    if count < part.len() {
                        break;
                    }
                }
                Poll::Pending | Poll::Ready(Err(_)) if written > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(written))
    }

    /// Nothing more is written: ends the stream, and the lane with it.
    pub fn finish_sending(&mut self) {
        self.shared.lock().close(self.at);
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Lane {
    pub fn stream(&self) -> u32 {
        self.shared.lock().stream_of(self.at)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.lock().vacate(self.at);
    }
}

/// Takes note of who is to be woken.
fn note(lane: &mut Inner, cx: &Context<'_>) {
    match &mut lane.waker {
        Some(waker) => waker.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}

impl Inner {
    /// Whether a read would bring something, if only the end.
    fn has_more(&self) -> bool {
        match self.phase {
            Phase::Busy => {
                let ends = self.remote_ended && self.upload == Upload::Chunked;
                ends || !self.text.is_empty() || !self.data.is_empty()
            }
            Phase::Idle | Phase::Finished => false,
            Phase::Gone | Phase::Vacant => true,
        }
    }

    /// Makes what the coding of the body asks for into text: a chunk of the data, or the end.
    fn make_text(&mut self) -> u32 {
        let data = &self.data[self.data_read..];
        if data.is_empty() {
            self.text.extend_from_slice(b"0\r\n");
            self.text.extend_from_slice(&self.trailers);
            self.text.extend_from_slice(b"\r\n");
            self.upload = Upload::Done;
            return 0;
        }
        let count = data.len().min(SMALL_CHUNK);
        self.text.resize(count + CHUNK_EXTRA, 0);
        let length = put_chunk(&mut self.text, &data[..count]);
        self.text.truncate(length);
        count as u32
    }

    /// Data was read.
    fn consume(&mut self, count: usize) {
        self.data_read += count;
        if self.data_read == self.data.len() {
            self.data.clear();
            self.data_read = 0;
            if self.upload == Upload::Plain && self.remote_ended {
                self.upload = Upload::Done;
            }
        }
    }
}

impl State {
    /// What the lane is to read next. `None`: nothing for now.
    fn read(&mut self, at: usize, room: &mut [u8]) -> Option<usize> {
        let lane = &mut self.lanes[at];
        match lane.phase {
            Phase::Finished => {
                self.make_free(at);
                return None;
            }
            Phase::Gone | Phase::Vacant => return Some(0),
            Phase::Idle => return None,
            Phase::Busy if !lane.has_more() => return None,
            Phase::Busy => {}
        }
        if lane.text.is_empty() {
            let data = &lane.data[lane.data_read..];
            if lane.upload == Upload::Plain || (!data.is_empty() && room.len() >= CHUNK_ROOM) {
                let (count, length) = if lane.upload == Upload::Plain {
                    let count = data.len().min(room.len());
                    room[..count].copy_from_slice(&data[..count]);
                    (count, count)
                } else {
                    let count = data.len().min(room.len() - CHUNK_EXTRA);
                    (count, put_chunk(room, &data[..count]))
                };
                lane.consume(count);
                self.release_of(at, count as u32);
                self.settle(at);
                return Some(length);
            }
            let count = lane.make_text();
            lane.consume(count as usize);
            self.release_of(at, count);
        }
        let lane = &mut self.lanes[at];
        let text = &lane.text[lane.text_read..];
        let count = text.len().min(room.len());
        room[..count].copy_from_slice(&text[..count]);
        lane.text_read += count;
        if lane.text_read == lane.text.len() {
            lane.text.clear();
            lane.text_read = 0;
            self.settle(at);
        }
        Some(count)
    }
}

/// Writes `data` as a chunk to the front of `room` and says how long it became.
fn put_chunk(room: &mut [u8], data: &[u8]) -> usize {
    let mut size = [0; 8];
    let mut at = size.len();
    let mut rest = data.len();
    while rest > 0 {
        at -= 1;
        size[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
    }
    let mut length = 0;
    for part in [&size[at..], b"\r\n", data, b"\r\n"] {
        room[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks() {
        let mut room = [0; 64];
        let length = put_chunk(&mut room, b"seventeen bytes..");
        assert_eq!(&room[..length], b"11\r\nseventeen bytes..\r\n");
    }
}
