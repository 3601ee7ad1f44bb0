//! Responses: from what a lane writes to frames, as the client's windows and the room for frames allow. Without I/O.
//!
//! Lanes that have to wait stand in one line, and each gets its turn for one frame or what it writes at once, if that is
//! less, so that a large response holds up no other.

use super::frame::{HEAD, Head, PAYLOAD_MAX, WINDOW_MAX, counted, flag, kind};
use super::response::{Down, put_head, put_trailers};
use super::state::{Phase, State};
use crate::servers::http::chunked::Piece;

/// Bytes of frames that may wait for the client before lanes have to.
pub const WAITING_MAX: usize = 64 * 1024;

/// What became of bytes that a lane wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Taken(usize),
    /// Nothing can be taken now; the lane will be woken.
    Blocked,
    /// The lane has nobody to write to, or writes nonsense.
    Broken,
}

impl State {
    /// Takes as much of `bytes` as may be sent.
    pub fn put(&mut self, at: usize, bytes: &[u8]) -> Put {
        let mut taken = 0;
        let put = loop {
            if taken == bytes.len() {
                break Put::Taken(taken);
            }
            if self.lanes[at].phase != Phase::Busy {
                break if taken > 0 { Put::Taken(taken) } else { Put::Broken };
            }
            match self.put_some(at, &bytes[taken..]) {
                Put::Taken(count) => taken += count,
                Put::Blocked => break if taken > 0 { Put::Taken(taken) } else { Put::Blocked },
                Put::Broken => break Put::Broken,
            }
        };
        if self.lanes[at].turn_left < PAYLOAD_MAX {
            // What is left of its turn is not kept for a lane that may write nothing more for long.
            self.use_turn(at);
        }
        if taken == bytes.len() {
            self.settle(at);
        }
        put
    }

    fn put_some(&mut self, at: usize, bytes: &[u8]) -> Put {
        let stream = self.stream_of(at);
        match &self.lanes[at].down {
            Down::Head => {
                if self.out.len() >= WAITING_MAX && !self.lanes[at].is_granted {
                    self.block(at);
                    return Put::Blocked;
                }
                self.use_turn(at);
                let before = self.out.len();
                let to_head = self.lanes[at].to_head;
                let Some((size, down)) = put_head(&mut self.out, &mut self.encoder, stream, bytes, to_head) else {
                    self.out.truncate(before);
                    return Put::Broken;
                };
                self.lanes[at].down = down;
                Put::Taken(size)
            }
            Down::Length(left) => {
                let left = *left;
                let wanted = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                let count = self.allowance(at, wanted);
                if count == 0 {
                    return Put::Blocked;
                }
                let left = left - count as u64;
                self.put_data(at, &bytes[..count]);
                if left == 0 {
                    self.end_data(at);
                } else {
                    self.lanes[at].down = Down::Length(left);
                }
                Put::Taken(count)
            }
            Down::Chunked(_) => self.put_chunked(at, bytes),
            // A body where none belongs is not sent.
            Down::Done => Put::Taken(bytes.len()),
        }
    }

    fn put_chunked(&mut self, at: usize, bytes: &[u8]) -> Put {
        let stream = self.stream_of(at);
        // A piece of data must not be looked at before there is room for it.
        let count = self.allowance(at, bytes.len());
        if count == 0 {
            return Put::Blocked;
        }
        let Down::Chunked(decoder) = &mut self.lanes[at].down else { return Put::Broken };
        match decoder.next(&bytes[..count]) {
            Ok(Piece::Data(count)) => {
                self.put_data(at, &bytes[..count]);
                Put::Taken(count)
            }
            Ok(Piece::Framing(count)) => Put::Taken(count),
            Ok(Piece::End(count)) => {
                if decoder.trailers().is_empty() {
                    self.end_data(at);
                } else {
                    put_trailers(&mut self.out, &mut self.encoder, stream, decoder.trailers());
                    self.lanes[at].down = Down::Done;
                }
                Put::Taken(count)
            }
            Ok(Piece::More) | Err(_) => Put::Broken,
        }
    }

    /// How many of `wanted` bytes may be sent now. When there are none, the lane will be woken.
    fn allowance(&mut self, at: usize, wanted: usize) -> usize {
        let lane = &mut self.lanes[at];
        if lane.send_window <= 0 {
            // The turn goes to another; the client's next window update wakes this one.
            self.use_turn(at);
            self.grant();
            return 0;
        }
        let room = if lane.is_granted {
            // It was kept.
            lane.turn_left
        } else if self.blocked.is_empty() && self.turns == 0 {
            WAITING_MAX.saturating_sub(self.out.len())
        } else {
            0
        };
        let window = self.send_window.min(lane.send_window).max(0) as usize;
        let count = wanted.min(room).min(window).min(PAYLOAD_MAX);
        if count == 0 {
            self.block(at);
        }
        count
    }

    fn block(&mut self, at: usize) {
        self.use_turn(at);
        let lane = &mut self.lanes[at];
        if !lane.is_blocked {
            lane.is_blocked = true;
            self.blocked.push_back(at);
        }
    }

    /// A lane's turn is over.
    pub fn use_turn(&mut self, at: usize) {
        self.lanes[at].turn_left = PAYLOAD_MAX;
        if std::mem::take(&mut self.lanes[at].is_granted) {
            self.turns -= 1;
        }
    }

    /// Wakes those whose turn it is, and keeps room for them.
    pub fn grant(&mut self) {
        let mut room = WAITING_MAX.saturating_sub(self.out.len() + self.turns * PAYLOAD_MAX);
        while room > 0 && self.send_window > 0 {
            let Some(at) = self.blocked.pop_front() else { break };
            room = room.saturating_sub(PAYLOAD_MAX);
            let lane = &mut self.lanes[at];
            lane.is_blocked = false;
            lane.is_granted = true;
            lane.turn_left = PAYLOAD_MAX;
            self.turns += 1;
            lane.wake();
        }
    }

    /// Appends data, to the last frame where that is possible.
    fn put_data(&mut self, at: usize, data: &[u8]) {
        let stream = self.stream_of(at);
        let lane = &mut self.lanes[at];
        lane.turn_left = lane.turn_left.saturating_sub(data.len());
        if lane.turn_left == 0 {
            self.use_turn(at);
        }
        let lane = &mut self.lanes[at];
        lane.send_window -= counted(data.len());
        self.send_window -= counted(data.len());
        let (last, start, end) = self.tail;
        let is_last = last == stream && end == self.out.len();
        if is_last && end - start - HEAD + data.len() <= PAYLOAD_MAX {
            self.out.extend_from_slice(data);
            let length = self.out.len() - start - HEAD;
            let head = Head { length, kind: kind::DATA, flags: 0, stream };
            self.out[start..start + HEAD].copy_from_slice(&head.bytes());
            self.tail.2 = self.out.len();
            return;
        }
        let start = self.out.len();
        let head = Head { length: data.len(), kind: kind::DATA, flags: 0, stream };
        self.out.reserve(HEAD + data.len());
        self.out.extend_from_slice(&head.bytes());
        self.out.extend_from_slice(data);
        self.tail = (stream, start, self.out.len());
    }

    /// The body is complete.
    fn end_data(&mut self, at: usize) {
        let stream = self.stream_of(at);
        let (last, start, end) = self.tail;
        if last == stream && end == self.out.len() {
            // Byte 4 of a frame's head holds the flags.
            self.out[start + 4] |= flag::END_STREAM;
        } else {
            let head = Head { length: 0, kind: kind::DATA, flags: flag::END_STREAM, stream };
            self.out.extend_from_slice(&head.bytes());
        }
        self.tail = (0, 0, 0);
        self.lanes[at].down = Down::Done;
    }

    /// Hands over what is to be sent, and leaves `empty` in its place.
    pub fn take_out(&mut self, empty: &mut Vec<u8>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut self.out, empty);
        self.tail = (0, 0, 0);
        self.grant();
    }

    /// The client lets us send more on one stream, or less. False: its window would be too large.
    pub fn widen_stream(&mut self, at: usize, more: i64) -> bool {
        let lane = &mut self.lanes[at];
        let was_shut = lane.send_window <= 0;
        lane.send_window += more;
        if was_shut && lane.send_window > 0 {
            lane.wake();
        }
        lane.send_window <= WINDOW_MAX
    }
}
