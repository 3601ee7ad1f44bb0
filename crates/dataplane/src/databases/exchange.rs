//! One exchange: what was composed goes to the server, and its answer to the client, byte for byte where nothing has to be
//! taken out or put in. Both directions move at once, so neither side can block the other, and nothing is read from the
//! server that the client has no room for.

use std::future::poll_fn;
use std::io::IoSlice;
use std::task::{Context, Poll};

use super::client::Client;
use super::connection::Connection;
use super::expect::{Expectations, Verdict};
use super::held::Held;
use super::protocol::fields::{self, ReportFields};
use super::protocol::frame::HEADER;
use super::protocol::report::{Report, Severity};
use super::readonly::{DETAIL, HINT};
use super::refusal::Refusal;
use crate::buffer::Buffer;

mod copy;

/// Messages that have to be looked at as a whole are never larger, except errors, which then pass unread.
const LOOKED_AT_MAX: usize = 1024 * 1024;
/// Rows of the answer to an audit: one for each setting, at most.
const AUDIT_ROWS_MAX: usize = 10_000;

/// Why an exchange did not come to its end. The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    ClientGone,
    /// `sent`: a part of it may have reached the server.
    ServerGone {
        sent: bool,
    },
    /// The server said what cannot be.
    Protocol,
    /// The server refuses a setting of the session; nothing of the unit was sent.
    Setting,
    /// The server has ended it with a FATAL, which the client has got: its connection ends too.
    Fatal,
}

/// From a report of the server, and how many messages of the unit it has answered before.
pub type Restore<'r> = dyn Fn(&[u8], usize) -> Option<Vec<u8>> + Sync + 'r;

/// What became of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The server has refused it as one that a replica cannot serve; the client has seen nothing of it.
    Refused(Refusal),
}

/// What is to be sent: a part of ours, and the client's own bytes.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    pub ours: &'r [u8],
    pub unit: &'r [u8],
}

pub struct Exchange<'e> {
    pub client: &'e mut Client,
    pub connection: &'e mut Connection,
    pub expect: &'e mut Expectations,
    pub held: Held,
    /// Puts the client's names for statements into a report.
    pub names: Option<&'e Restore<'e>>,
    request_max: usize,
    sent: usize,
    /// For the client, ahead of what is passed from the connection's buffer.
    out: Vec<u8>,
    written: usize,
    /// Bytes at the front of the connection's buffer that go to the client.
    pass: usize,
    /// What is still to come of a message that passes without being looked at.
    passing: usize,
    /// COPY data and its end, for the server.
    copy: Vec<u8>,
    copied: usize,
    /// Nothing has to be held back any more.
    released: bool,
    /// The client was sent a part of it.
    seen: bool,
    refused: Option<Refusal>,
    /// The server ends the connection, which the client does not see.
    leaving: bool,
    /// It does, with a FATAL for the client.
    fatal: bool,
    /// The server takes nothing any more; what it has said last is still read.
    unwritable: bool,
    /// The client has sent what is not allowed within COPY data: the server is about to end the connection.
    violated: bool,
    /// Nothing was asked: whatever comes is passed on.
    unasked: bool,
    /// Errors that may be the replica's own are refusals too.
    pub doubts: bool,
    /// Held back is all of the answer that there is room for, because it is to several statements.
    pub holds: bool,
    /// A refusal that cannot be kept from the client tells it what to do.
    pub advises: bool,
    advice: Option<Report>,
}

impl<'e> Exchange<'e> {
    /// `careful`: the answer is held back until it is clear that a replica serves the statement.
    pub fn new(
        client: &'e mut Client,
        connection: &'e mut Connection,
        expect: &'e mut Expectations,
        careful: bool,
        request_max: usize,
    ) -> Self {
        let released = !careful;
        Self {
            client,
            connection,
            expect,
            held: Held::Nothing,
            names: None,
            request_max,
            released,
            sent: 0,
            out: Vec::new(),
            written: 0,
            pass: 0,
            passing: 0,
            copy: Vec::new(),
            copied: 0,
            refused: None,
            leaving: false,
            fatal: false,
            unwritable: false,
            violated: false,
            unasked: false,
            seen: false,
            doubts: false,
            holds: false,
            advises: false,
            advice: None,
        }
    }

    /// Runs it to the end: everything sent, every expected answer passed on.
    pub async fn run(&mut self, request: Request<'_>) -> Result<Outcome, Broken> {
        self.take_ready();
        self.digest()?;
        poll_fn(|cx| self.poll(cx, request)).await
    }

    /// Gives the client what has arrived for it from a server that is gone, as far as it ends with a message: from then on
    /// the expectations say what it still waits for.
    pub async fn hand_over(&mut self) -> Result<(), Broken> {
        if self.passing == 0 && self.released { poll_fn(|cx| self.poll_pass_on(cx)).await } else { Ok(()) }
    }

    /// Passes on what the server says without being asked. Ready when either side is gone.
    pub fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        self.unasked = true;
        // Some may have come together with the end of the last answer.
        if let Err(broken) = self.digest() {
            return Poll::Ready(broken);
        }
        let moved = self.poll_pass_on(cx).map(|done| done.and_then(|()| self.poll_receive(cx)));
        match moved {
            Poll::Ready(Err(broken)) => Poll::Ready(broken),
            // More may have come, and what has come is to be passed on.
            Poll::Ready(Ok(true)) => self.poll_news(cx),
            Poll::Ready(Ok(false)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Whether all that has come without being asked was passed on, message by message, so that the client may be listened
    /// to: what it asks is answered behind it.
    pub fn is_at_rest(&self) -> bool {
        self.pass == 0 && self.passing == 0 && self.out.is_empty()
    }

    /// Whether the client was sent a part of the answer.
    pub fn was_seen(&self) -> bool {
        self.seen
    }

    /// Whether what the client was sent ends with a message.
    pub fn is_between_messages(&self) -> bool {
        !self.seen || self.passing == 0 && self.pass == 0 && self.out.is_empty()
    }

    fn poll(&mut self, cx: &mut Context<'_>, request: Request<'_>) -> Poll<Result<Outcome, Broken>> {
        loop {
            // What it could not send yet wakes this task; what it has sent makes nothing else possible.
            self.poll_send(cx, request)?;
            if self.fatal {
                return self.poll_pass_on(cx).map(|done| done.and(Err(Broken::Fatal)));
            }
            // COPY data that the server has refused is sent to its end too: half a message would be taken for the next client's.
            let is_sent = self.sent == request.ours.len() + request.unit.len() && self.copy.is_empty();
            if self.is_answered() && is_sent {
                self.released = true;
                if let Poll::Ready(done) = self.poll_pass_on(cx) {
                    done?;
                    return Poll::Ready(Ok(self.refused.map_or(Outcome::Done, Outcome::Refused)));
                }
                return Poll::Pending;
            }
            let mut moved = false;
            if self.poll_pass_on(cx)?.is_ready() && !self.is_answered() {
                moved = self.poll_receive(cx)?;
                if moved && self.is_answered() && is_sent {
                    // Nearly always here: nobody has to be watched for what is over.
                    continue;
                }
            }
            if self.expect.copying {
                moved |= self.poll_copy_in(cx)?;
            } else if self.client.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Broken::ClientGone));
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    fn is_answered(&self) -> bool {
        self.expect.is_empty() && self.passing == 0 && !self.violated
    }

    /// Sends what is left of the request, then COPY data.
    fn poll_send(&mut self, cx: &mut Context<'_>, request: Request<'_>) -> Result<(), Broken> {
        let length = request.ours.len() + request.unit.len();
        if self.unwritable {
            return Ok(());
        }
        while self.sent < length {
            let ours = &request.ours[self.sent.min(request.ours.len())..];
            let unit = &request.unit[self.sent.saturating_sub(request.ours.len())..];
            let stream = &mut self.connection.stream;
            let written = match (ours.is_empty(), unit.is_empty()) {
                (true, _) => stream.poll_write(cx, unit),
                (_, true) => stream.poll_write(cx, ours),
                _ => stream.poll_write_vectored(cx, &[IoSlice::new(ours), IoSlice::new(unit)]),
            };
            match written {
                Poll::Ready(Ok(count @ 1..)) => self.sent += count,
                Poll::Ready(_) => self.unwritable = true,
                Poll::Pending => return Ok(()),
            }
            if self.unwritable {
                return Ok(());
            }
        }
        while self.copied < self.copy.len() {
            match self.connection.stream.poll_write(cx, &self.copy[self.copied..]) {
                Poll::Ready(Ok(count @ 1..)) => self.copied += count,
                Poll::Ready(_) => self.unwritable = true,
                Poll::Pending => return Ok(()),
            }
            if self.unwritable {
                return Ok(());
            }
        }
        self.copy.clear();
        self.copied = 0;
        match self.connection.stream.poll_flush(cx) {
            Poll::Ready(Err(_)) => Err(self.server_gone()),
            _ => Ok(()),
        }
    }

    fn server_gone(&self) -> Broken {
        Broken::ServerGone { sent: self.sent > 0 }
    }

    /// Writes to the client what is due. Ready when nothing of it is left.
    fn poll_pass_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if !self.released || self.refused.is_some() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let ours = &self.out[self.written..];
            let theirs = self.connection.inbound.as_ref().map_or(&[][..], |buffer| &buffer.filled()[..self.pass]);
            if ours.is_empty() && theirs.is_empty() {
                break;
            }
            let stream = &mut self.client.stream;
            let written = match (ours.is_empty(), theirs.is_empty()) {
                (true, _) => stream.poll_write(cx, theirs),
                (_, true) => stream.poll_write(cx, ours),
                _ => stream.poll_write_vectored(cx, &[IoSlice::new(ours), IoSlice::new(theirs)]),
            };
            let Ok(count @ 1..) = std::task::ready!(written) else {
                return Poll::Ready(Err(Broken::ClientGone));
            };
            self.seen = true;
            let from_ours = count.min(ours.len());
            self.written += from_ours;
            self.consume(count - from_ours);
            self.pass -= count - from_ours;
        }
        self.out.clear();
        self.written = 0;
        self.client.stream.poll_flush(cx).map_err(|_| Broken::ClientGone)
    }

    fn consume(&mut self, count: usize) {
        if let Some(buffer) = &mut self.connection.inbound {
            buffer.consume(count);
            if buffer.is_empty() {
                self.connection.inbound = None;
            }
        }
    }

    /// Reads from the server and decides about what has come. True when something has.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        if self.fatal {
            return Err(Broken::Fatal);
        }
        if self.leaving {
            return Err(self.server_gone());
        }
        let mut buffer = self.connection.inbound.take().unwrap_or_else(Buffer::small);
        if buffer.is_full() && self.passing == 0 {
            buffer.grow(LOOKED_AT_MAX + HEADER);
        }
        if buffer.is_full() {
            // Only what is held back can fill it; a message that large is part of a proper answer.
            self.released = true;
            self.connection.inbound = Some(buffer);
            return Ok(true);
        }
        let read = self.connection.stream.poll_read(cx, buffer.room());
        let count = match read {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(_)) => 0,
            Poll::Pending => {
                self.connection.inbound = Some(buffer).filter(|buffer| !buffer.is_empty());
                return Ok(false);
            }
        };
        buffer.advance(count);
        self.connection.inbound = Some(buffer);
        if count == 0 {
            return Err(self.server_gone());
        }
        self.digest()?;
        Ok(true)
    }

    /// Goes through the messages that have arrived.
    fn digest(&mut self) -> Result<(), Broken> {
        loop {
            let Some(buffer) = &self.connection.inbound else { return Ok(()) };
            let rest = &buffer.filled()[self.pass..];
            if rest.is_empty() || self.leaving || self.fatal {
                return Ok(());
            }
            if self.passing > 0 {
                let count = self.passing.min(rest.len());
                self.passing -= count;
                if self.refused.is_some() {
                    // Nothing of it is for the client.
                    self.consume(count);
                } else {
                    self.pass += count;
                }
                if self.passing == 0 {
                    self.take_ready();
                }
                if self.is_complete() {
                    return Ok(());
                }
                continue;
            }
            if rest.len() < HEADER {
                return Ok(());
            }
            let tag = rest[0];
            let length = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]) as usize + 1;
            if length < HEADER {
                return Err(Broken::Protocol);
            }
            let is_ours = self.expect.is_own() || self.expect.is_asked();
            let is_bulk = matches!(tag, b'D' | b'd' | b'T' | b't' | b'V') && !is_ours;
            if is_bulk || length > LOOKED_AT_MAX {
                if self.expect.arrived(tag, 0) != Some(Verdict::Pass) {
                    return Err(Broken::Protocol);
                }
                self.released |= !self.holds && matches!(tag, b'D' | b'd');
                self.passing = length;
                continue;
            }
            if rest.len() < length {
                return Ok(());
            }
            self.message(tag, length)?;
            if self.is_complete() {
                return Ok(());
            }
        }
    }

    /// Whether what comes next is no answer any more: it is left where it is. Nothing counts behind a good-bye.
    fn is_complete(&self) -> bool {
        self.leaving || self.fatal || self.is_answered() && !self.unasked
    }

    /// One message that has arrived as a whole.
    fn message(&mut self, tag: u8, length: usize) -> Result<(), Broken> {
        let Some(buffer) = &self.connection.inbound else { return Ok(()) };
        let message = &buffer.filled()[self.pass..self.pass + length];
        let mut status = 0;
        match tag {
            b'Z' => status = fields::ready_for_query(message).map_err(|_| Broken::Protocol)?,
            b'S' => {
                let (name, value) = fields::parameter_status(message).map_err(|_| Broken::Protocol)?;
                let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                let (name, value) = (name.into_owned(), value.into_owned());
                self.connection.note_parameter(&name, &value).map_err(|_| Broken::Protocol)?;
            }
            b'E' if self.note_error(length)? => return Ok(()),
            b'D' if self.expect.is_asked() => self.note_answer(length)?,
            b'D' if self.expect.is_audit() => self.note_row(length)?,
            b'C' if !self.expect.is_own() => self.released |= !self.holds,
            b'G' | b'H' if !self.expect.is_own() => self.released = true,
            _ => {}
        }
        if self.refused.is_some() {
            // Nothing more of this answer is for the client; it only has to end.
            self.expect.arrived(tag, status).ok_or(Broken::Protocol)?;
            self.expect.ready.clear();
            self.cut(length);
            return Ok(());
        }
        let restored = match tag {
            b'E' | b'N' => self.restored(length),
            _ => None,
        };
        match self.expect.arrived(tag, status).ok_or(Broken::Protocol)? {
            Verdict::Pass if restored.is_some() => {
                self.cut(length);
                self.out.extend(restored.unwrap_or_default());
            }
            Verdict::Pass => self.pass += length,
            Verdict::Drop => self.cut(length),
            Verdict::Replace(instead) => {
                self.cut(length);
                self.out.extend_from_slice(&instead);
            }
        }
        if tag == b'E' {
            self.sync_behind_error();
        }
        self.take_ready();
        Ok(())
    }

    /// A report with the client's names for its statements, where it has ours.
    fn restored(&mut self, length: usize) -> Option<Vec<u8>> {
        let buffer = self.connection.inbound.as_ref()?;
        let report = &buffer.filled()[self.pass..self.pass + length];
        let advised = self.advice.take().map(|report| {
            let mut out = Vec::new();
            report.with_detail(DETAIL).with_hint(HINT).write_error(&mut out);
            out
        });
        let restored = self.names.and_then(|names| names(advised.as_deref().unwrap_or(report), self.expect.answered));
        restored.or(advised)
    }

    /// Takes the value that a question of ours is answered with.
    fn note_answer(&mut self, length: usize) -> Result<(), Broken> {
        let Some(buffer) = &self.connection.inbound else { return Ok(()) };
        let row = fields::data_row(&buffer.filled()[self.pass..self.pass + length]).map_err(|_| Broken::Protocol)?;
        let value = row.first().copied().flatten();
        self.expect.told = value.map(|value| String::from_utf8_lossy(value).into_owned());
        Ok(())
    }

    /// Keeps a row of the answer to an audit.
    fn note_row(&mut self, length: usize) -> Result<(), Broken> {
        let Some(buffer) = &self.connection.inbound else { return Ok(()) };
        let row = fields::data_row(&buffer.filled()[self.pass..self.pass + length]).map_err(|_| Broken::Protocol)?;
        if self.expect.rows.len() >= AUDIT_ROWS_MAX {
            return Err(Broken::Protocol);
        }
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        self.expect.rows.push(row.into_iter().map(|value| value.map(text)).collect());
        Ok(())
    }

    /// Looks at an error. True when it ends the connection, and so is not an answer.
    fn note_error(&mut self, length: usize) -> Result<bool, Broken> {
        let Some(buffer) = &self.connection.inbound else { return Ok(false) };
        let message = &buffer.filled()[self.pass..self.pass + length];
        let error = ReportFields::read(message).map_err(|_| Broken::Protocol)?;
        if self.expect.is_own() {
            let text = |value| String::from_utf8_lossy(value).into_owned();
            self.expect.own_error = Some((text(error.code()), text(error.message())));
            self.expect.unasked = self.expect.is_asked().then(|| message.to_vec());
        }
        let code = error.code();
        self.expect.outdated |= code == b"0A000" && error.routine() == b"RevalidateCachedQuery";
        let severity = error.severity();
        self.expect.timed_out |= severity == Severity::Fatal && code == b"57P05";
        if severity == Severity::Panic || severity == Severity::Fatal && self.held.hides(code) {
            self.leaving = true;
            self.cut(length);
            return Ok(true);
        }
        if severity == Severity::Fatal && !(self.held == Held::Nothing && self.expect.is_own()) {
            (self.fatal, self.released, self.refused) = (true, true, None);
            self.pass += length;
            return Ok(true);
        }
        if self.expect.is_own() {
            return Ok(false);
        }
        let refusal = Refusal::of(code, error.routine());
        let is_of_standby = refusal.is_some_and(|refusal| refusal.is_of_standby(error.routine()));
        if self.released {
            self.expect.refusal = refusal;
            self.advice = (self.advises && is_of_standby).then(|| Report::read(message)).and_then(Result::ok);
        } else {
            self.refused = refusal.filter(|is| self.doubts || !matches!(is, Refusal::Doubtful | Refusal::Stale));
            if self.refused.is_some() {
                // What was held back is forgotten with it.
                let held = self.pass;
                self.pass = 0;
                self.consume(held);
                self.out.clear();
            } else {
                self.released = true;
            }
        }
        Ok(false)
    }

    /// Takes the message at the end of what passes out of the buffer; what comes before it is kept in `out`.
    fn cut(&mut self, length: usize) {
        self.gather();
        self.consume(length);
    }

    /// Moves what passes into `out`, so that something can be put behind it.
    fn gather(&mut self) {
        if let Some(buffer) = self.connection.inbound.as_ref().filter(|_| self.pass > 0) {
            self.out.extend_from_slice(&buffer.filled()[..self.pass]);
            let count = std::mem::take(&mut self.pass);
            self.consume(count);
        }
    }

    /// Answers of ours whose turn has come.
    fn take_ready(&mut self) {
        if self.refused.is_some() {
            self.expect.ready.clear();
        } else if !self.expect.ready.is_empty() {
            self.gather();
            self.out.append(&mut self.expect.ready);
        }
    }
}

#[cfg(test)]
mod tests;
