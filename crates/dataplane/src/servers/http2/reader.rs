//! A client's bytes, taken apart into frames, with a limit on everything that costs it little and us much. Without I/O.

use tokio::time::Instant;

use super::frame::{Code, HEAD, Head, PAYLOAD_MAX, PREFACE, flag, kind, put};
use super::state::State;
use crate::buffer::Buffer;

/// A header block in parts may take so many frames more than its size needs.
const CONTINUATIONS_MAX: u32 = 16;
/// Frames that carry nothing forward, within `CHATTER_MS`.
const CHATTER_MAX: u32 = 10_000;
const CHATTER_MS: u128 = 10_000;
/// A client that has wasted this many requests, and most of what it sent, is an attack (rapid reset, CVE-2023-44487).
const WASTED_MAX: usize = 100;
/// Room for one frame and the head of the next.
const ROOM: usize = 2 * PAYLOAD_MAX;

/// Opaque content of the PING that asks whether a GOAWAY has arrived.
pub const FAREWELL: &[u8; 8] = b"farewell";

#[derive(Debug, Default)]
pub struct Reader {
    preface_seen: bool,
    settings_seen: bool,
    /// A header block that is not complete.
    block: Vec<u8>,
    headers: Option<Headers>,
    data: Option<Data>,
    chatter: u32,
    chatter_since: Option<Instant>,
    /// The client will begin nothing more.
    pub client_leaves: bool,
    /// The client has seen our GOAWAY.
    pub farewell_seen: bool,
}

#[derive(Debug, Clone, Copy)]
struct Headers {
    stream: u32,
    ends_stream: bool,
    frames: u32,
}

/// The rest of a DATA frame.
#[derive(Debug, Clone, Copy)]
struct Data {
    stream: u32,
    lane: Option<usize>,
    left: usize,
    padding: usize,
    ends_stream: bool,
}

impl Reader {
    /// Whether the client has shown that it speaks HTTP/2.
    pub fn is_introduced(&self) -> bool {
        self.settings_seen
    }

    /// Whether a body is on its way, so that large reads pay.
    pub fn is_in_body(&self) -> bool {
        self.data.is_some()
    }

    /// Takes all frames off `buffer` that are complete, and data as it comes. An error ends the connection.
    pub fn take(&mut self, buffer: &mut Buffer, state: &mut State) -> Result<(), Code> {
        loop {
            if !self.preface_seen {
                let count = buffer.len().min(PREFACE.len());
                if buffer.filled()[..count] != PREFACE[..count] {
                    return Err(Code::ProtocolError);
                }
                if count < PREFACE.len() {
                    return Ok(());
                }
                buffer.consume(PREFACE.len());
                self.preface_seen = true;
            }
            if self.data.is_some() {
                self.take_data(buffer, state);
                if self.data.is_some() {
                    return Ok(());
                }
            }
            let Some(head) = Head::read(buffer.filled()) else { return Ok(()) };
            self.check(head)?;
            if head.kind == kind::DATA {
                if !self.begin_data(head, buffer, state)? {
                    return Ok(());
                }
                continue;
            }
            if buffer.len() < HEAD + head.length {
                if buffer.is_full() {
                    buffer.grow(ROOM);
                }
                return Ok(());
            }
            self.frame(head, &buffer.filled()[HEAD..HEAD + head.length], state)?;
            buffer.consume(HEAD + head.length);
            if state.wasted > WASTED_MAX && state.wasted * 2 > state.begun {
                return Err(Code::EnhanceYourCalm);
            }
        }
    }

    /// What can be said of a frame by its head.
    fn check(&self, head: Head) -> Result<(), Code> {
        if head.length > PAYLOAD_MAX {
            return Err(Code::FrameSizeError);
        }
        if !self.settings_seen && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Code::ProtocolError);
        }
        let is_expected = match self.headers {
            Some(headers) => head.kind == kind::CONTINUATION && head.stream == headers.stream,
            None => head.kind != kind::CONTINUATION,
        };
        let is_placed = match head.kind {
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => head.stream != 0,
            kind::SETTINGS | kind::PING | kind::GOAWAY => head.stream == 0,
            // Only servers push.
            kind::PUSH_PROMISE => false,
            _ => true,
        };
        if is_expected && is_placed { Ok(()) } else { Err(Code::ProtocolError) }
    }

    fn frame(&mut self, head: Head, payload: &[u8], state: &mut State) -> Result<(), Code> {
        match head.kind {
            kind::HEADERS => self.begin_headers(head, payload, state),
            kind::CONTINUATION => self.more_headers(head, payload, state),
            kind::RST_STREAM => state.reset_by_client(head.stream, payload),
            kind::WINDOW_UPDATE => state.window_update(head.stream, payload),
            kind::SETTINGS if head.has(flag::ACK) => {
                self.chatter()?;
                if payload.is_empty() { Ok(()) } else { Err(Code::FrameSizeError) }
            }
            kind::SETTINGS if payload.len() % 6 == 0 => {
                self.settings_seen = true;
                self.chatter()?;
                state.settings(payload)
            }
            kind::PING if payload.len() == 8 => {
                if head.has(flag::ACK) {
                    self.farewell_seen |= payload == FAREWELL;
                } else {
                    put(&mut state.out, kind::PING, flag::ACK, 0, payload);
                }
                self.chatter()
            }
            kind::GOAWAY if payload.len() >= 8 => {
                self.client_leaves = true;
                self.chatter()
            }
            kind::PRIORITY if payload.len() == 5 => self.chatter(),
            kind::SETTINGS | kind::PING | kind::GOAWAY | kind::PRIORITY => Err(Code::FrameSizeError),
            // What is unknown is ignored (RFC 9113, section 5.5).
            _ => self.chatter(),
        }
    }

    fn begin_headers(&mut self, head: Head, payload: &[u8], state: &mut State) -> Result<(), Code> {
        let mut block = payload;
        let mut padding = 0;
        if head.has(flag::PADDED) {
            let (first, rest) = block.split_first().ok_or(Code::FrameSizeError)?;
            (padding, block) = (usize::from(*first), rest);
        }
        if head.has(flag::PRIORITY) {
            block = block.get(5..).ok_or(Code::FrameSizeError)?;
        }
        block = block.len().checked_sub(padding).map(|length| &block[..length]).ok_or(Code::ProtocolError)?;
        let ends_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return state.headers(head.stream, block, ends_stream);
        }
        self.block.extend_from_slice(block);
        self.headers = Some(Headers { stream: head.stream, ends_stream, frames: 0 });
        Ok(())
    }

    fn more_headers(&mut self, head: Head, payload: &[u8], state: &mut State) -> Result<(), Code> {
        let Some(headers) = &mut self.headers else { return Err(Code::ProtocolError) };
        headers.frames += 1;
        // Huffman makes text shorter, never so much that a head within the limit would come near this.
        let most = 2 * state.head_max + PAYLOAD_MAX;
        let frames_max = CONTINUATIONS_MAX + (most / PAYLOAD_MAX) as u32;
        if self.block.len() + payload.len() > most || headers.frames > frames_max {
            return Err(Code::EnhanceYourCalm);
        }
        self.block.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            let Headers { stream, ends_stream, .. } = *headers;
            self.headers = None;
            let block = std::mem::take(&mut self.block);
            return state.headers(stream, &block, ends_stream);
        }
        Ok(())
    }

    /// False: more must arrive before anything can be said of the frame.
    fn begin_data(&mut self, head: Head, buffer: &mut Buffer, state: &mut State) -> Result<bool, Code> {
        let mut padding = 0;
        let mut left = head.length;
        let mut size = HEAD;
        if head.has(flag::PADDED) {
            let Some(first) = buffer.filled().get(HEAD).filter(|_| left > 0) else {
                return if left == 0 { Err(Code::FrameSizeError) } else { Ok(false) };
            };
            padding = usize::from(*first);
            size += 1;
            left = (left - 1).checked_sub(padding).ok_or(Code::ProtocolError)?;
        }
        let ends_stream = head.has(flag::END_STREAM);
        if left == 0 && !ends_stream {
            self.chatter()?;
        }
        let lane = state.begin_data(head.stream, head.length, left)?;
        buffer.consume(size);
        if lane.is_some() && size > HEAD {
            state.padding(head.stream, 1);
        }
        self.data = Some(Data { stream: head.stream, lane, left, padding, ends_stream });
        Ok(true)
    }

    /// Takes what is there of a DATA frame.
    fn take_data(&mut self, buffer: &mut Buffer, state: &mut State) {
        let Some(data) = &mut self.data else { return };
        // The stream may have ended since; its lane then has another one, or none.
        let lane = data.lane.filter(|at| state.stream_of(*at) == data.stream);
        let count = data.left.min(buffer.len());
        if count > 0 {
            match (lane, data.lane) {
                (Some(at), _) => state.data(at, &buffer.filled()[..count]),
                // It counted for the stream when the frame began.
                (None, Some(_)) => state.release(count as u32),
                (None, None) => {}
            }
            buffer.consume(count);
            data.left -= count;
        }
        if data.left == 0 {
            let count = data.padding.min(buffer.len());
            buffer.consume(count);
            data.padding -= count;
            if count > 0 && data.lane.is_some() {
                state.padding(data.stream, count);
            }
        }
        if data.left == 0 && data.padding == 0 {
            let (stream, ends) = (data.stream, data.ends_stream);
            self.data = None;
            if ends {
                state.end_of_data(stream);
            }
        }
    }

    /// How much of a DATA frame has been counted and has not arrived, and for which lane's stream; then what is kept of a
    /// header block.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn unfinished(&self) -> (Option<(u32, usize)>, usize) {
        let data = self.data.filter(|data| data.lane.is_some());
        (data.map(|data| (data.stream, data.left + data.padding)), self.block.len())
    }

    /// A frame that carries nothing forward.
    fn chatter(&mut self) -> Result<(), Code> {
        self.chatter += 1;
        if self.chatter == 1 {
            self.chatter_since = Some(Instant::now());
        } else if self.chatter >= CHATTER_MAX {
            self.chatter = 0;
            if self.chatter_since.is_some_and(|since| since.elapsed().as_millis() < CHATTER_MS) {
                return Err(Code::EnhanceYourCalm);
            }
        }
        Ok(())
    }
}
