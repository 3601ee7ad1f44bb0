//! A conversation in memory, as the connection's task holds it: bytes in, lanes read and written in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;

use crate::buffer::Buffer;
use crate::servers::http2::Lane;
use crate::servers::http2::frame::{Code, PAYLOAD_MAX, PREFACE, flag, kind, put};
use crate::servers::http2::lane::Shared;
use crate::servers::http2::reader::Reader;
use crate::servers::http2::state::{CONNECTION_WINDOW, Phase, STREAM_WINDOW, STREAMS_MAX, State};

/// What a request's fields may count. Small, so that short input comes to it.
pub const HEAD_MAX: usize = 1024;

const ANSWERS: [&[u8]; 6] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nServer: x\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n",
];

/// What a client says, in parts between which lanes are served.
///
/// Input that begins with a zero, as every frame does, are its bytes. All other is a script of frames, since lengths are
/// what chance never gets right: a kind, flags and a stream, and a payload up to a byte 0xff.
pub fn said(data: &[u8]) -> Vec<Vec<u8>> {
    if matches!(data, [] | [0, ..]) {
        return vec![data.to_vec()];
    }
    let mut parts = vec![Vec::new()];
    put(&mut parts[0], kind::SETTINGS, 0, 0, &[]);
    for record in data.split(|byte| *byte == 0xff) {
        let [name, flags, stream, payload @ ..] = record else { continue };
        let stream = u32::from(*stream);
        let out = parts.last_mut().expect("one at least");
        match name {
            b'H' => put(out, kind::HEADERS, *flags, stream, &block(*flags, payload)),
            b'C' => put(out, kind::CONTINUATION, *flags, stream, &block(0, payload)),
            b'D' => put(out, kind::DATA, *flags, stream, &payload.repeat(64)),
            b'.' => parts.push(Vec::new()),
            other => put(out, *other, *flags, stream, payload),
        }
    }
    parts
}

/// A header block of `name=value` with 0xfe between them, which begins as the frame's flags say.
fn block(flags: u8, fields: &[u8]) -> Vec<u8> {
    let padding = if flags & flag::PADDED == 0 { &[][..] } else { &[3] };
    let priority = if flags & flag::PRIORITY == 0 { &[][..] } else { &[0; 5] };
    let mut block = [padding, priority].concat();
    for field in fields.split(|byte| *byte == 0xfe).filter(|field| !field.is_empty()) {
        let equals = field.iter().skip(1).position(|byte| *byte == b'=').map_or(field.len(), |at| at + 1);
        let (name, value) = (&field[..equals], field.get(equals + 1..).unwrap_or_default());
        block.push(0x40);
        for text in [name, value] {
            let text = &text[..text.len().min(126)];
            block.push(text.len() as u8);
            block.extend_from_slice(text);
        }
    }
    block.extend_from_slice(&[0; 3][..3 * padding.len()]);
    block
}

/// What the gateway has made of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    /// What was read of every stream's lane.
    pub requests: BTreeMap<u32, Vec<u8>>,
    pub sent: Vec<u8>,
    pub end: Result<(), Code>,
}

struct Served {
    lane: Lane,
    stream: u32,
    answered: bool,
    unwritten: Vec<u8>,
}

impl Heard {
    pub fn of(said: &[Vec<u8>], mut pieces: impl Iterator<Item = usize>) -> Self {
        let (mut reader, shared) = (Reader::default(), Shared::new(State::new(HEAD_MAX)));
        let (mut lanes, mut arrived) = (Vec::new(), None);
        let mut heard = Self { requests: BTreeMap::new(), sent: Vec::new(), end: Ok(()) };
        for (number, part) in std::iter::once(PREFACE).chain(said.iter().map(Vec::as_slice)).enumerate() {
            let mut rest = part;
            while !rest.is_empty() && heard.end.is_ok() {
                let mut buffer = arrived.take().unwrap_or_else(Buffer::small);
                let piece = pieces.next().unwrap_or(1).min(rest.len());
                let count = buffer.push(&rest[..piece]);
                assert!(count > 0, "a buffer that nothing is taken of");
                rest = &rest[count..];
                heard.end = reader.take(&mut buffer, &mut shared.lock());
                let new = std::mem::take(&mut shared.lock().unserved);
                lanes.extend(new.into_iter().map(|at| Served::new(Lane::new(Arc::clone(&shared), at))));
                if heard.end.is_ok() {
                    check(&reader, &buffer, &shared.lock());
                }
                arrived = Some(buffer).filter(|buffer| !buffer.is_empty());
            }
            if heard.end.is_err() {
                break;
            }
            lanes.retain_mut(|served| served.serve(number, &mut heard.requests));
            heard.take_sent(&shared);
            check(&reader, &Buffer::small(), &shared.lock());
        }
        if heard.end.is_err() {
            let begun = shared.lock().last_stream;
            shared.lock().end();
            // Nobody gets anything to do any more.
            lanes.retain_mut(|served| served.serve(0, &mut heard.requests));
            assert!(lanes.is_empty());
            assert_eq!(shared.lock().last_stream, begun);
        }
        lanes.clear();
        heard.take_sent(&shared);
        assert!(heard.end.is_err() || shared.lock().open == 0, "a stream that nobody has");
        heard
    }

    fn take_sent(&mut self, shared: &Shared) {
        let mut out = Vec::new();
        shared.lock().take_out(&mut out);
        self.sent.append(&mut out);
    }
}

impl Served {
    fn new(lane: Lane) -> Self {
        let stream = lane.stream();
        Self { lane, stream, answered: false, unwritten: Vec::new() }
    }

    /// Reads all there is, and answers what was read. False: the lane goes home.
    fn serve(&mut self, number: usize, requests: &mut BTreeMap<u32, Vec<u8>>) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut room = vec![0; if number % 2 == 0 { 50 } else { 1000 }];
        loop {
            let stream = self.lane.stream();
            if stream != self.stream && stream != 0 {
                (self.stream, self.answered) = (stream, false);
                self.unwritten.clear();
            }
            let mut into = ReadBuf::new(&mut room);
            match self.lane.poll_read(&mut cx, &mut into) {
                Poll::Ready(Ok(())) if into.filled().is_empty() => return false,
                Poll::Ready(Ok(())) => requests.entry(self.stream).or_default().extend_from_slice(into.filled()),
                Poll::Ready(Err(error)) => panic!("reading fails: {error}"),
                Poll::Pending => break,
            }
        }
        if self.unwritten.is_empty() && !self.answered && requests.contains_key(&self.stream) {
            let answer = ANSWERS[(number + self.stream as usize) % ANSWERS.len()];
            self.answered = !answer.starts_with(b"HTTP/1.1 100");
            self.unwritten = answer.to_vec();
            if answer.ends_with(b"90000\r\n\r\n") {
                self.unwritten.resize(answer.len() + 90_000, b'x');
            }
        }
        while !self.unwritten.is_empty() {
            match self.lane.poll_write(&mut cx, &self.unwritten) {
                Poll::Ready(Ok(count @ 1..)) => drop(self.unwritten.drain(..count)),
                Poll::Ready(_) => return false,
                Poll::Pending => break,
            }
        }
        true
    }
}

/// Nothing is larger than it may be, and no byte of a window is lost or won.
fn check(reader: &Reader, buffer: &Buffer, state: &State) {
    let (data, block) = reader.unfinished();
    assert!(block <= 2 * HEAD_MAX + 2 * PAYLOAD_MAX && buffer.len() <= 2 * PAYLOAD_MAX);
    assert!(state.open <= STREAMS_MAX);
    let (counted, entries, most) = state.decoder.table();
    assert!(counted == entries && counted <= most);
    let coming = data.map_or(0, |(_, count)| count);
    let unread = |lane: &crate::servers::http2::state::Lane| lane.data.len() - lane.data_read;
    let kept: usize = state.lanes.iter().map(unread).sum();
    assert_eq!(window(state.receive_window, state.to_release, kept + coming), i64::from(CONNECTION_WINDOW));
    let busy = state.lanes.iter().enumerate().filter(|(_, lane)| lane.phase == Phase::Busy);
    let mut open = 0;
    for (at, lane) in busy {
        open += 1;
        let coming = data.filter(|(stream, _)| *stream == state.stream_of(at)).map_or(0, |(_, count)| count);
        let window = window(lane.receive_window, lane.to_release, unread(lane) + coming);
        assert_eq!(window, i64::from(STREAM_WINDOW));
        assert!(lane.data.len() <= 2 * STREAM_WINDOW as usize && lane.text.len() <= 2 * HEAD_MAX);
    }
    assert_eq!(open, state.open);
}

fn window(open: i64, to_release: u32, taken: usize) -> i64 {
    open + i64::from(to_release) + i64::try_from(taken).expect("a small number")
}
