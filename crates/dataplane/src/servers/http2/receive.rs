//! Frames from the client and what they do. Without I/O.

use super::frame::{Code, WINDOW_MAX, counted, flag, kind, number, put, put_reset, setting, settings};
use super::request::{Rejected, Upload};
use super::response::put_head;
use super::send::WAITING_MAX;
use super::state::{Phase, STREAMS_MAX, State};
use crate::servers::http::refusal::Refusal;

impl State {
    /// A complete header block: a request, or the trailers of one.
    pub fn headers(&mut self, stream: u32, block: &[u8], ended: bool) -> Result<(), Code> {
        if let Some(at) = self.find(stream) {
            return self.trailers(at, block, ended);
        }
        if stream % 2 == 0 {
            return Err(Code::ProtocolError);
        }
        self.builder.begin(self.head_max);
        let builder = &mut self.builder;
        let decoded = self.decoder.decode(block, |name, value| builder.field(name, value));
        decoded.map_err(|_| Code::CompressionError)?;
        if stream <= self.last_stream {
            // Only the trailers of a request that we have answered early.
            return if self.was_closed(stream) { Ok(()) } else { Err(Code::StreamClosed) };
        }
        if self.is_leaving {
            // The client has been told that this one is not served.
            return Ok(());
        }
        self.last_stream = stream;
        self.begun += 1;
        if self.open >= STREAMS_MAX {
            put_reset(&mut self.out, stream, Code::RefusedStream);
            self.remember_closed(stream);
            return Ok(());
        }
        match self.builder.finish(ended) {
            Ok(made) => self.begin(stream, made, ended),
            Err(Rejected::Malformed) => {
                self.wasted += 1;
                put_reset(&mut self.out, stream, Code::ProtocolError);
                self.remember_closed(stream);
            }
            Err(Rejected::Refused(refusal)) => self.refuse(stream, refusal, ended),
        }
        Ok(())
    }

    /// Answers what no server is to see.
    fn refuse(&mut self, stream: u32, refusal: Refusal, ended: bool) {
        let mut text = Vec::new();
        refusal.write(&mut text, "", true, false);
        let before = self.out.len();
        let head = put_head(&mut self.out, &mut self.encoder, stream, &text, false);
        let body = head.map_or(&[][..], |(size, _)| &text[size..]);
        let window = self.send_window.min(self.initial_window);
        self.refused.push(refusal);
        if body.is_empty() || window < counted(body.len()) {
            // No lane waits for the window of one sentence.
            self.out.truncate(before);
            put_reset(&mut self.out, stream, Code::ProtocolError);
            self.remember_closed(stream);
            return;
        }
        self.send_window -= counted(body.len());
        put(&mut self.out, kind::DATA, flag::END_STREAM, stream, body);
        if !ended {
            put_reset(&mut self.out, stream, Code::NoError);
            self.remember_closed(stream);
        }
    }

    fn trailers(&mut self, at: usize, block: &[u8], ended: bool) -> Result<(), Code> {
        self.builder.begin_trailers(self.head_max);
        let builder = &mut self.builder;
        let decoded = self.decoder.decode(block, |name, value| builder.trailer(name, value));
        decoded.map_err(|_| Code::CompressionError)?;
        if self.lanes[at].remote_ended {
            self.waste(at, Code::StreamClosed);
            return Ok(());
        }
        match self.builder.finish_trailers() {
            Ok(lines) if ended => {
                self.lanes[at].trailers.extend_from_slice(lines);
                self.end_request(at);
            }
            _ => self.waste(at, Code::ProtocolError),
        }
        Ok(())
    }

    /// The client did something on a stream that it must not.
    fn waste(&mut self, at: usize, code: Code) {
        self.wasted += 1;
        self.reset(at, code);
    }

    /// The client has sent the last of a request.
    fn end_request(&mut self, at: usize) {
        if self.lanes[at].announced.is_some_and(|left| left > 0) {
            // Shorter than announced.
            self.waste(at, Code::ProtocolError);
            return;
        }
        let lane = &mut self.lanes[at];
        lane.remote_ended = true;
        if lane.upload == Upload::Plain && lane.data.is_empty() {
            lane.upload = Upload::Done;
        }
        lane.wake();
        self.settle(at);
    }

    /// A DATA frame begins with so much `data`, whose payload with its padding counts `length`. Says whether its stream
    /// wants it.
    pub fn begin_data(&mut self, stream: u32, length: usize, data: usize) -> Result<Option<usize>, Code> {
        self.receive_window -= counted(length);
        if self.receive_window < 0 {
            return Err(Code::FlowControlError);
        }
        let Some(at) = self.find(stream) else {
            if stream > self.last_stream {
                return Err(Code::ProtocolError);
            }
            // Was on its way when the stream ended.
            self.release(length as u32);
            return Ok(None);
        };
        let lane = &mut self.lanes[at];
        lane.receive_window -= counted(length);
        let fault = if lane.remote_ended {
            Code::StreamClosed
        } else if lane.receive_window < 0 {
            Code::FlowControlError
        } else {
            match lane.announced.map(|left| left.checked_sub(data as u64)) {
                // Longer than announced. Known by its head: nothing of it is passed on, however it arrives.
                Some(None) => Code::ProtocolError,
                Some(left) => {
                    lane.announced = left;
                    return Ok(Some(at));
                }
                None => return Ok(Some(at)),
            }
        };
        self.waste(at, fault);
        self.release(length as u32);
        Ok(None)
    }

    /// Some of the data of the frame that has begun.
    pub fn data(&mut self, at: usize, bytes: &[u8]) {
        let lane = &mut self.lanes[at];
        if lane.data_read > lane.data.len() / 2 {
            lane.data.drain(..lane.data_read);
            lane.data_read = 0;
        }
        lane.data.extend_from_slice(bytes);
        lane.wake();
    }

    /// The padding of a frame is taken at once.
    pub fn padding(&mut self, stream: u32, length: usize) {
        match self.find(stream) {
            Some(at) => self.release_of(at, length as u32),
            None => self.release(length as u32),
        }
    }

    pub fn end_of_data(&mut self, stream: u32) {
        if let Some(at) = self.find(stream).filter(|at| !self.lanes[*at].remote_ended) {
            self.end_request(at);
        }
    }

    /// The client takes a request back.
    pub fn reset_by_client(&mut self, stream: u32, payload: &[u8]) -> Result<(), Code> {
        if payload.len() != 4 {
            return Err(Code::FrameSizeError);
        }
        if stream == 0 || stream > self.last_stream {
            return Err(Code::ProtocolError);
        }
        if let Some(at) = self.find(stream) {
            self.wasted += 1;
            self.abandon(at);
        }
        Ok(())
    }

    pub fn settings(&mut self, payload: &[u8]) -> Result<(), Code> {
        for (name, value) in settings(payload) {
            match name {
                setting::HEADER_TABLE_SIZE => self.encoder.limit(value as usize),
                setting::ENABLE_PUSH if value > 1 => return Err(Code::ProtocolError),
                setting::INITIAL_WINDOW_SIZE => self.change_windows(i64::from(value))?,
                setting::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => return Err(Code::ProtocolError),
                _ => {}
            }
        }
        put(&mut self.out, kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    /// The windows of all streams change with the setting (RFC 9113, section 6.9.2).
    fn change_windows(&mut self, value: i64) -> Result<(), Code> {
        if value > WINDOW_MAX {
            return Err(Code::FlowControlError);
        }
        let change = value - self.initial_window;
        self.initial_window = value;
        for at in 0..self.lanes.len() {
            if self.lanes[at].phase == Phase::Busy && !self.widen_stream(at, change) {
                return Err(Code::FlowControlError);
            }
        }
        Ok(())
    }

    pub fn window_update(&mut self, stream: u32, payload: &[u8]) -> Result<(), Code> {
        let more = i64::from(number(payload).ok_or(Code::FrameSizeError)? & 0x7fff_ffff);
        if stream == 0 {
            self.send_window += more;
            if more == 0 {
                return Err(Code::ProtocolError);
            }
            if self.send_window > WINDOW_MAX {
                return Err(Code::FlowControlError);
            }
            self.grant();
        } else if stream > self.last_stream {
            return Err(Code::ProtocolError);
        } else if let Some(at) = self.find(stream) {
            if more == 0 {
                self.waste(at, Code::ProtocolError);
            } else if !self.widen_stream(at, more) {
                self.waste(at, Code::FlowControlError);
            }
        }
        Ok(())
    }

    /// Whether so much waits to be sent that nothing more should be read: answers to what a client asks for without end
    /// must not pile up.
    pub fn is_congested(&self) -> bool {
        self.out.len() > 2 * WAITING_MAX
    }
}
