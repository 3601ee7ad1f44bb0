//! What a connection and its lanes know together. Without I/O.
//!
//! A lane is a connection in HTTP/1.1 that exists only here: `flow` serves it like any other, one request after the
//! other, and each request is one stream. So a lane is used again and again, and a stream costs neither a task nor a
//! buffer of its own.

use std::collections::VecDeque;
use std::task::Waker;

use super::frame::{Code, PAYLOAD_MAX, WINDOW_DEFAULT, put_reset, put_window_update};
use super::hpack::{Decoder, Encoder};
use super::request::{Builder, Made, Upload};
use super::response::Down;
use crate::servers::http::refusal::Refusal;

/// Requests in progress on one connection.
pub const STREAMS_MAX: usize = 128;
/// Bytes of a body that a client may send before they are taken, on a stream and on all of them together.
pub const STREAM_WINDOW: u32 = 256 * 1024;
pub const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that we have ended, of which the client may not know yet.
const CLOSED_KEPT: usize = 128;
/// A buffer that grew beyond this is not kept for the next request.
const BUFFER_KEPT: usize = 64 * 1024;

/// Where a lane is between two requests, or within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nobody holds its other end.
    Vacant,
    /// Waits for a request.
    Idle,
    /// Has a stream.
    Busy,
    /// Its stream is over; it has not asked for the next one yet.
    Finished,
    /// Gets nothing more, and what it says is heard by nobody.
    Gone,
}

#[derive(Debug)]
pub struct Lane {
    pub phase: Phase,
    /// Bytes in HTTP/1.1 that are to be read first: the head, or the end of a chunked body.
    pub text: Vec<u8>,
    pub text_read: usize,
    /// The body as it arrived.
    pub data: Vec<u8>,
    pub data_read: usize,
    pub upload: Upload,
    /// Bytes that are still announced, beyond the DATA frames that have begun.
    pub announced: Option<u64>,
    pub trailers: Vec<u8>,
    /// The client has ended the stream on its side.
    pub remote_ended: bool,
    /// What the client may still send, and what it may be granted again.
    pub receive_window: i64,
    pub to_release: u32,
    pub down: Down,
    pub to_head: bool,
    pub send_window: i64,
    /// Stands in the line for room to send.
    pub is_blocked: bool,
    /// Has its turn to send.
    pub is_granted: bool,
    /// How much of its turn it has not used.
    pub turn_left: usize,
    pub waker: Option<Waker>,
}

impl Lane {
    fn new() -> Self {
        Self {
            phase: Phase::Vacant,
            text: Vec::new(),
            text_read: 0,
            data: Vec::new(),
            data_read: 0,
            upload: Upload::Done,
            announced: None,
            trailers: Vec::new(),
            remote_ended: false,
            receive_window: 0,
            to_release: 0,
            down: Down::Head,
            to_head: false,
            send_window: 0,
            is_blocked: false,
            is_granted: false,
            turn_left: PAYLOAD_MAX,
            waker: None,
        }
    }

    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Whether nobody has looked at the request yet.
    fn is_unread(&self) -> bool {
        self.text_read == 0 && !self.text.is_empty()
    }

    /// Whether nothing of the request is left to be read.
    pub fn is_used_up(&self) -> bool {
        self.upload == Upload::Done && self.text.is_empty()
    }
}

#[derive(Debug)]
pub struct State {
    /// Frames for the client.
    pub out: Vec<u8>,
    /// The DATA frame that ends `out`, when there is one: its stream, its start, and its end.
    pub tail: (u32, usize, usize),
    pub lanes: Vec<Lane>,
    /// The stream of each lane; 0 for none.
    streams: Vec<u32>,
    free: Vec<usize>,
    vacant: Vec<usize>,
    /// Lanes that nobody serves yet.
    pub unserved: Vec<usize>,
    /// Lanes that wait for room to send, in order.
    pub blocked: VecDeque<usize>,
    /// Lanes that have their turn.
    pub turns: usize,
    pub encoder: Encoder,
    pub decoder: Decoder,
    pub builder: Builder,
    /// What a request's fields may count together.
    pub head_max: usize,
    pub send_window: i64,
    /// The send window of a new stream.
    pub initial_window: i64,
    pub receive_window: i64,
    pub to_release: u32,
    closed: VecDeque<u32>,
    pub last_stream: u32,
    /// Streams in progress.
    pub open: usize,
    /// Streams that were begun, and those of them that the client took back or that were malformed.
    pub begun: usize,
    pub wasted: usize,
    /// Requests that were answered here, for the counters.
    pub refused: Vec<Refusal>,
    /// No further stream is begun.
    pub is_leaving: bool,
    /// The connection is over.
    pub has_ended: bool,
    waker: Option<Waker>,
    is_woken: bool,
}

impl State {
    pub fn new(head_max: usize) -> Self {
        Self {
            out: Vec::new(),
            tail: (0, 0, 0),
            lanes: Vec::new(),
            streams: Vec::new(),
            free: Vec::new(),
            vacant: Vec::new(),
            unserved: Vec::new(),
            blocked: VecDeque::new(),
            turns: 0,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            builder: Builder::default(),
            head_max,
            send_window: WINDOW_DEFAULT,
            initial_window: WINDOW_DEFAULT,
            receive_window: i64::from(CONNECTION_WINDOW),
            to_release: 0,
            closed: VecDeque::new(),
            last_stream: 0,
            open: 0,
            begun: 0,
            wasted: 0,
            refused: Vec::new(),
            is_leaving: false,
            has_ended: false,
            waker: None,
            is_woken: false,
        }
    }

    /// The connection's task waits from now on.
    pub fn sleep(&mut self, waker: &Waker) {
        self.is_woken = false;
        match &mut self.waker {
            Some(own) => own.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// There is something to send.
    pub fn wake(&mut self) {
        if !self.is_woken {
            self.is_woken = true;
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// The lane that carries `stream`.
    pub fn find(&self, stream: u32) -> Option<usize> {
        self.streams.iter().position(|other| *other == stream)
    }

    pub fn stream_of(&self, at: usize) -> u32 {
        self.streams[at]
    }

    /// Whether we ended `stream` not long ago, so that frames for it are no mistake.
    pub fn was_closed(&self, stream: u32) -> bool {
        self.closed.contains(&stream)
    }

    /// Puts the request that was built last on a lane.
    pub fn begin(&mut self, stream: u32, made: Made, ended: bool) {
        let at = self.free.pop().unwrap_or_else(|| {
            let at = self.vacant.pop().unwrap_or_else(|| {
                self.lanes.push(Lane::new());
                self.streams.push(0);
                self.lanes.len() - 1
            });
            self.unserved.push(at);
            at
        });
        self.streams[at] = stream;
        self.open += 1;
        let lane = &mut self.lanes[at];
        lane.phase = Phase::Busy;
        std::mem::swap(&mut lane.text, &mut self.builder.text);
        (lane.text_read, lane.data_read) = (0, 0);
        lane.data.clear();
        lane.upload = made.upload;
        lane.announced = made.announced;
        lane.trailers.clear();
        lane.remote_ended = ended;
        lane.receive_window = i64::from(STREAM_WINDOW);
        lane.to_release = 0;
        lane.down = Down::Head;
        lane.to_head = made.is_head;
        lane.send_window = self.initial_window;
        lane.wake();
    }

    /// The stream of a lane is over when both sides have ended it.
    pub fn settle(&mut self, at: usize) {
        let lane = &self.lanes[at];
        if lane.phase == Phase::Busy && lane.remote_ended && lane.is_used_up() && matches!(lane.down, Down::Done) {
            self.release_stream(at, Phase::Finished);
        }
    }

    /// Takes the stream off a lane.
    fn release_stream(&mut self, at: usize, phase: Phase) {
        let lane = &mut self.lanes[at];
        let unread = lane.data.len() - lane.data_read;
        lane.phase = phase;
        lane.text.clear();
        lane.data.clear();
        if lane.data.capacity() > BUFFER_KEPT {
            lane.data = Vec::new();
        }
        if lane.text.capacity() > BUFFER_KEPT {
            lane.text = Vec::new();
        }
        if std::mem::take(&mut lane.is_blocked) {
            self.blocked.retain(|other| *other != at);
        }
        self.use_turn(at);
        self.streams[at] = 0;
        self.open -= 1;
        self.release(unread as u32);
        self.grant();
    }

    /// Ends the stream of a lane from our side, before its time.
    pub fn reset(&mut self, at: usize, code: Code) {
        let stream = self.streams[at];
        if stream != 0 && !self.has_ended {
            put_reset(&mut self.out, stream, code);
            self.remember_closed(stream);
        }
        self.abandon(at);
    }

    /// The stream of a lane is gone; so is the lane, unless nobody has looked at the request yet.
    pub fn abandon(&mut self, at: usize) {
        if self.lanes[at].phase == Phase::Busy {
            let is_unread = self.lanes[at].is_unread();
            self.release_stream(at, if is_unread { Phase::Idle } else { Phase::Gone });
            if is_unread {
                self.free.push(at);
            }
            self.lanes[at].wake();
        }
    }

    /// Notes a stream that ends while the client may still be sending on it.
    pub fn remember_closed(&mut self, stream: u32) {
        if self.closed.len() == CLOSED_KEPT {
            self.closed.pop_front();
        }
        self.closed.push_back(stream);
    }

    /// A finished lane is free for the next request as soon as it asks for one.
    pub fn make_free(&mut self, at: usize) {
        self.lanes[at].phase = Phase::Idle;
        self.free.push(at);
    }

    /// Sends lanes home that have nothing to do.
    pub fn dismiss_free(&mut self) {
        for at in self.free.drain(..) {
            self.lanes[at].phase = Phase::Gone;
            self.lanes[at].wake();
        }
    }

    /// The holder of a lane is done with it: ends its stream, if there is one.
    pub fn close(&mut self, at: usize) {
        let lane = &self.lanes[at];
        match lane.phase {
            Phase::Busy => {
                let code = if matches!(lane.down, Down::Done) {
                    // The response is complete, and made the rest of the request pointless.
                    Code::NoError
                } else if lane.is_unread() {
                    Code::RefusedStream
                } else if lane.is_blocked || lane.send_window <= 0 {
                    // The client took too long over what it had.
                    Code::Cancel
                } else {
                    Code::InternalError
                };
                let stream = self.streams[at];
                let both_done = code == Code::NoError && lane.remote_ended;
                if !both_done && !self.has_ended {
                    put_reset(&mut self.out, stream, code);
                    self.remember_closed(stream);
                }
                self.release_stream(at, Phase::Gone);
                self.wake();
            }
            Phase::Idle => {
                self.free.retain(|other| *other != at);
                self.lanes[at].phase = Phase::Gone;
            }
            Phase::Finished => self.lanes[at].phase = Phase::Gone,
            Phase::Gone | Phase::Vacant => {}
        }
    }

    /// Nobody holds a lane any more.
    pub fn vacate(&mut self, at: usize) {
        self.close(at);
        // With its buffers: a connection at rest holds none.
        self.lanes[at] = Lane::new();
        self.vacant.push(at);
    }

    /// The connection is over, and all lanes with it.
    pub fn end(&mut self) {
        self.has_ended = true;
        for lane in &mut self.lanes {
            if lane.phase != Phase::Vacant {
                lane.phase = Phase::Gone;
                lane.wake();
            }
        }
        self.blocked.clear();
    }

    /// So many bytes of bodies were taken off the connection: the client may send as many again.
    pub fn release(&mut self, bytes: u32) {
        self.to_release += bytes;
        if self.to_release >= CONNECTION_WINDOW / 4 && !self.has_ended {
            put_window_update(&mut self.out, 0, self.to_release);
            self.receive_window += i64::from(self.to_release);
            self.to_release = 0;
        }
    }

    /// The same for the stream of a lane, and with it for the connection.
    pub fn release_of(&mut self, at: usize, bytes: u32) {
        let lane = &mut self.lanes[at];
        lane.to_release += bytes;
        if lane.to_release >= STREAM_WINDOW / 4 && !lane.remote_ended && !self.has_ended {
            put_window_update(&mut self.out, self.streams[at], lane.to_release);
            lane.receive_window += i64::from(lane.to_release);
            lane.to_release = 0;
        }
        self.release(bytes);
    }
}
