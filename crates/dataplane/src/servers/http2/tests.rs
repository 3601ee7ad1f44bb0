//! Whole conversations in memory: a client's bytes in, a lane's bytes out, and back.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::frame::{
    Code, HEAD, Head, PREFACE, WINDOW_DEFAULT, counted, flag, kind, put, put_reset, put_settings, setting,
};
use super::hpack::{Decoder, Encoder};
use super::lane::{Lane, Shared};
use super::reader::Reader;
use super::send::WAITING_MAX;
use super::state::State;
use crate::buffer::Buffer;

/// A gateway's side, and what a client says to it.
struct Talk {
    reader: Reader,
    shared: Arc<Shared>,
    lanes: Vec<Lane>,
    said: Vec<u8>,
    encoder: Encoder,
}

impl Talk {
    fn new(settings: &[(u16, u32)]) -> Self {
        let mut said = PREFACE.to_vec();
        put_settings(&mut said, settings);
        let shared = Shared::new(State::new(16 * 1024));
        Self { reader: Reader::default(), shared, lanes: Vec::new(), said, encoder: Encoder::default() }
    }

    fn request(&mut self, stream: u32, fields: &[(&str, &str)], ended: bool) {
        let mut block = Vec::new();
        for (name, value) in [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/")] {
            self.encoder.field(&mut block, name.as_bytes(), value.as_bytes());
        }
        for (name, value) in fields {
            self.encoder.field(&mut block, name.as_bytes(), value.as_bytes());
        }
        let flags = flag::END_HEADERS | if ended { flag::END_STREAM } else { 0 };
        put(&mut self.said, kind::HEADERS, flags, stream, &block);
    }

    fn data(&mut self, stream: u32, data: &[u8], ended: bool) {
        put(&mut self.said, kind::DATA, if ended { flag::END_STREAM } else { 0 }, stream, data);
    }

    fn widen(&mut self, stream: u32, more: u32) {
        put(&mut self.said, kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    }

    /// Lets the gateway hear what was said, in parts of `part` bytes.
    fn hear(&mut self, part: usize) -> Result<(), Code> {
        let said = std::mem::take(&mut self.said);
        let mut buffer = Buffer::small();
        let mut heard = Ok(());
        for mut part in said.chunks(part) {
            while !part.is_empty() && heard.is_ok() {
                let count = buffer.push(part);
                part = &part[count..];
                heard = self.reader.take(&mut buffer, &mut self.shared.lock());
            }
        }
        let new: Vec<usize> = self.shared.lock().unserved.drain(..).collect();
        self.lanes.extend(new.into_iter().map(|at| Lane::new(Arc::clone(&self.shared), at)));
        heard
    }

    fn sent(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.shared.lock().take_out(&mut out);
        out
    }
}

/// All that a lane has to read, in parts of `part` bytes.
fn read(lane: &mut Lane, part: usize) -> Vec<u8> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut text = Vec::new();
    loop {
        let mut room = vec![0; part];
        let mut into = ReadBuf::new(&mut room);
        match lane.poll_read(&mut cx, &mut into) {
            Poll::Ready(Ok(())) if !into.filled().is_empty() => text.extend_from_slice(into.filled()),
            _ => return text,
        }
    }
}

fn write(lane: &mut Lane, bytes: &[u8]) -> usize {
    match lane.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
        Poll::Ready(Ok(count)) => count,
        _ => 0,
    }
}

fn frames(mut bytes: &[u8]) -> Vec<(Head, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some(head) = Head::read(bytes) {
        frames.push((head, bytes[HEAD..HEAD + head.length].to_vec()));
        bytes = &bytes[HEAD + head.length..];
    }
    assert!(bytes.is_empty(), "no frame is cut off");
    frames
}

fn kinds(talk: &Talk) -> Vec<(u8, u32)> {
    frames(&talk.sent()).iter().map(|(head, _)| (head.kind, head.stream)).collect()
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_lane_serves_one_stream_after_the_other() {
    let mut talk = Talk::new(&[]);
    for stream in [1, 3, 5] {
        talk.request(stream, &[], true);
        talk.hear(usize::MAX).unwrap();
        assert_eq!(talk.lanes.len(), 1);
        let lane = &mut talk.lanes[0];
        assert_eq!(read(lane, 100), b"POST / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(write(lane, ANSWER), ANSWER.len());
        assert_eq!(talk.shared.lock().open, 0);
        let sent = frames(&talk.sent());
        let (head, data) = sent.last().unwrap();
        assert_eq!((head.kind, head.flags, head.stream, &data[..]), (kind::DATA, flag::END_STREAM, stream, &b"ok"[..]));
        // Only now it asks for more.
        assert_eq!(read(&mut talk.lanes[0], 100), b"");
    }
}

#[test]
fn a_request_taken_back_unseen_costs_nothing() {
    let mut talk = Talk::new(&[]);
    for stream in [1, 3, 5] {
        talk.request(stream, &[], true);
        put_reset(&mut talk.said, stream, Code::Cancel);
    }
    talk.hear(usize::MAX).unwrap();
    assert_eq!((talk.lanes.len(), talk.shared.lock().open), (1, 0));
    assert_eq!(read(&mut talk.lanes[0], 100), b"");
}

#[test]
fn a_lane_that_is_dropped_resets_its_stream() {
    let mut talk = Talk::new(&[]);
    for stream in [1, 3, 5, 7] {
        talk.request(stream, &[], stream != 7);
    }
    talk.hear(usize::MAX).unwrap();
    // Lanes come in no order.
    talk.lanes.sort_by_key(Lane::stream);
    for at in 1..4 {
        read(&mut talk.lanes[at], 100);
    }
    write(&mut talk.lanes[2], b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
    write(&mut talk.lanes[3], ANSWER);
    talk.sent();
    talk.lanes.clear();
    let sent = frames(&talk.sent());
    let codes: HashMap<u32, u8> = sent.iter().map(|(head, payload)| (head.stream, payload[3])).collect();
    let expected = [(1, Code::RefusedStream), (3, Code::InternalError), (5, Code::InternalError), (7, Code::NoError)];
    assert_eq!(codes, expected.into_iter().map(|(stream, code)| (stream, code as u8)).collect());
    // What is on its way to a stream that we have ended is no mistake.
    talk.data(7, b"late", true);
    talk.hear(usize::MAX).unwrap();
    talk.data(9, b"early", true);
    assert_eq!(talk.hear(usize::MAX), Err(Code::ProtocolError));
}

#[test]
fn windows_are_given_back_as_a_body_is_read() {
    let mut talk = Talk::new(&[]);
    talk.request(1, &[], false);
    for _ in 0..16 {
        talk.data(1, &[b'x'; 16_000], false);
    }
    talk.hear(usize::MAX).unwrap();
    assert_eq!(kinds(&talk), [(kind::SETTINGS, 0)]);
    talk.data(1, &[b'x'; 16_000], false);
    talk.hear(usize::MAX).unwrap();
    assert_eq!(kinds(&talk)[0], (kind::RST_STREAM, 1), "more than the window allows");

    let mut talk = Talk::new(&[]);
    talk.request(1, &[], false);
    for round in 0..40 {
        talk.data(1, &[b'x'; 16_000], round == 39);
        talk.hear(usize::MAX).unwrap();
        read(&mut talk.lanes[0], 5_000);
    }
    let updates = kinds(&talk);
    assert!(updates.contains(&(kind::WINDOW_UPDATE, 0)) && updates.contains(&(kind::WINDOW_UPDATE, 1)));
}

#[test]
fn of_a_frame_beyond_what_was_announced_nothing_is_passed_on_however_it_arrives() {
    for part in [1, 7, usize::MAX] {
        let mut talk = Talk::new(&[]);
        talk.request(1, &[("content-length", "5")], false);
        talk.data(1, b"hel", false);
        talk.data(1, b"lo, and a request", true);
        talk.hear(part).unwrap();
        assert_eq!(kinds(&talk)[1..], [(kind::RST_STREAM, 1)]);
        assert!(!read(&mut talk.lanes[0], 1000).ends_with(b"hello"));
    }
}

#[test]
fn a_large_response_holds_up_no_other() {
    let mut talk = Talk::new(&[(setting::INITIAL_WINDOW_SIZE, 10_000_000)]);
    talk.widen(0, 10_000_000);
    talk.request(1, &[], true);
    talk.request(3, &[], true);
    talk.hear(usize::MAX).unwrap();
    let body = vec![b'x'; 1_000_000];
    let mut written = [0; 2];
    for lane in &mut talk.lanes {
        read(lane, 100);
        write(lane, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    }
    for _ in 0..12 {
        for (at, lane) in talk.lanes.iter_mut().enumerate() {
            // Each writes for as long as it may.
            loop {
                let count = write(lane, &body[written[at]..]);
                written[at] += count;
                if count == 0 {
                    break;
                }
            }
        }
        assert!(talk.sent().len() < 2 * WAITING_MAX);
    }
    assert!(written[0].abs_diff(written[1]) <= WAITING_MAX + 16_384, "{written:?}");
}

#[test]
fn a_refusal_is_a_whole_answer() {
    let mut talk = Talk::new(&[]);
    talk.request(1, &[("host", "b")], true);
    talk.hear(usize::MAX).unwrap();
    let sent = frames(&talk.sent());
    let mut fields = HashMap::new();
    let take = |name: &[u8], value: &[u8]| drop(fields.insert(name.to_vec(), value.to_vec()));
    Decoder::default().decode(&sent[1].1, take).unwrap();
    assert_eq!(fields[&b":status"[..]], b"400");
    assert_eq!(fields[&b"content-length"[..]], sent[2].1.len().to_string().as_bytes());
    assert_eq!((sent[2].0.flags, talk.shared.lock().refused.len()), (flag::END_STREAM, 1));
}

/// One lane's response, and how it is written.
#[derive(Debug, Clone)]
struct Response {
    body: Vec<u8>,
    chunks: Option<usize>,
}

impl Response {
    fn text(&self) -> Vec<u8> {
        let Some(chunk) = self.chunks else {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", self.body.len());
            return [head.as_bytes(), &self.body].concat();
        };
        let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in self.body.chunks(chunk) {
            text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        text
    }
}

fn responses() -> impl Strategy<Value = Vec<Response>> {
    let body = (0_usize..60_000, any::<u8>())
        .prop_map(|(size, seed)| (0..size).map(|at| (at % 251) as u8 ^ seed).collect::<Vec<_>>());
    let one = (body, proptest::option::of(1_usize..9_000)).prop_map(|(body, chunks)| Response { body, chunks });
    proptest::collection::vec(one, 1..6)
}

/// Lets lanes write, each as much as a step says, and then in turn; all responses are whole, and within their windows.
fn arrive(responses: &[Response], window: u32, steps: &[(usize, usize)]) {
    let mut talk = Talk::new(&[(setting::INITIAL_WINDOW_SIZE, window)]);
    let count = responses.len();
    for at in 0..count {
        talk.request(2 * at as u32 + 1, &[], true);
    }
    talk.hear(usize::MAX).unwrap();
    talk.lanes.sort_by_key(Lane::stream);
    let texts: Vec<_> = responses.iter().map(Response::text).collect();
    let mut written = vec![0; count];
    let mut bodies = vec![Vec::new(); count];
    let mut ended = vec![0; count];
    let mut windows = vec![i64::from(window); count];
    let mut all = WINDOW_DEFAULT;
    for lane in &mut talk.lanes {
        read(lane, 1_000);
    }
    let mut step = |talk: &mut Talk, at: usize, most: usize, grants: bool| {
        let rest = &texts[at][written[at]..];
        // A head is always written as a whole.
        let most = if written[at] == 0 { most.max(200) } else { most };
        written[at] += write(&mut talk.lanes[at], &rest[..rest.len().min(most)]);
        for (head, payload) in frames(&talk.sent()) {
            let at = (head.stream / 2) as usize;
            if head.kind == kind::DATA {
                windows[at] -= counted(payload.len());
                all -= counted(payload.len());
                assert!(payload.is_empty() || windows[at] >= 0 && all >= 0);
                bodies[at].extend_from_slice(&payload);
            }
            let ends = matches!(head.kind, kind::DATA | kind::HEADERS) && head.has(flag::END_STREAM);
            ended[at] += usize::from(ends);
        }
        if grants {
            windows[at] += 20_000;
            all += 20_000;
            talk.widen(2 * at as u32 + 1, 20_000);
            talk.widen(0, 20_000);
            talk.hear(usize::MAX).unwrap();
        }
    };
    for &(at, most) in steps {
        step(&mut talk, at, most, most % 3 == 0);
    }
    for _ in 0..20 {
        for at in 0..count {
            step(&mut talk, at, usize::MAX, true);
        }
    }
    for at in 0..count {
        assert!(bodies[at] == responses[at].body, "stream {at} of {count}");
        assert_eq!(ended[at], 1);
    }
    assert_eq!(talk.shared.lock().open, 0);
}

#[test]
fn a_turn_is_for_more_than_one_small_chunk() {
    let body = |size| (0..size).map(|at| (at % 251) as u8).collect();
    let responses = [(25_537, 63), (30_666, 9_000), (37_060, 6)]
        .map(|(size, chunk)| Response { body: body(size), chunks: Some(chunk) });
    arrive(&responses, 29_632, &[(0, 21_031), (1, 65_512), (2, 30_753), (1, 18_036), (1, 59_353), (0, 57_720)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a request is cut into parts, its lane reads the same.
    #[test]
    fn parts_do_not_matter(
        pieces in proptest::collection::vec(0_usize..3_000, 0..8),
        heard in 1_usize..4_000,
        read_in in 1_usize..4_000,
        announced: bool,
    ) {
        let total: usize = pieces.iter().sum();
        let length = total.to_string();
        let fields: &[(&str, &str)] = if announced { &[("content-length", &length)] } else { &[] };
        let mut talk = Talk::new(&[]);
        talk.request(1, fields, false);
        for size in &pieces {
            talk.data(1, &vec![b'x'; *size], false);
        }
        talk.data(1, b"", true);
        talk.hear(heard).unwrap();
        let text = read(&mut talk.lanes[0], read_in);
        let end = text.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let count = text[end..].iter().filter(|byte| **byte == b'x').count();
        prop_assert_eq!(count, total);
        if announced {
            prop_assert_eq!(text.len(), end + total);
        } else {
            prop_assert!(text.ends_with(b"0\r\n\r\n"));
        }
        write(&mut talk.lanes[0], ANSWER);
        prop_assert_eq!(talk.shared.lock().open, 0);
    }

    /// Whatever the windows and whoever writes how much, every response arrives whole, within its windows.
    #[test]
    fn responses_arrive_within_their_windows(
        responses in responses(),
        window in 0_u32..40_000,
        steps in proptest::collection::vec((any::<prop::sample::Index>(), 1_usize..70_000), 1..40),
    ) {
        let steps: Vec<_> = steps.iter().map(|(index, most)| (index.index(responses.len()), *most)).collect();
        arrive(&responses, window, &steps);
    }

    /// Nonsense ends the connection at worst.
    #[test]
    fn nothing_panics(
        said in proptest::collection::vec(
            (0_u8..11, any::<u8>(), 0_u32..8, proptest::collection::vec(any::<u8>(), 0..40)), 0..30
        ),
        part in 1_usize..100,
    ) {
        let mut talk = Talk::new(&[]);
        talk.request(1, &[], false);
        for (kind, flags, stream, payload) in said {
            put(&mut talk.said, kind, flags, stream, &payload);
        }
        let _ = talk.hear(part);
        for lane in &mut talk.lanes {
            read(lane, 50);
            write(lane, ANSWER);
        }
        frames(&talk.sent());
        talk.lanes.clear();
        prop_assert_eq!(talk.shared.lock().open, 0);
    }
}
