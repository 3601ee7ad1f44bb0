//! HTTP/2: what a client is heard to say does not depend on packets, keeps to all limits, and is HTTP/1.1 afterwards.

mod talk;

use super::grammar::{Field, Framing, Head};
use super::reference::hpack;
use super::reference::http2::{Client, Told, frames};
use super::{pieces, requests};
use crate::servers::http2::frame::PAYLOAD_MAX;
use talk::{HEAD_MAX, Heard, said};

pub fn hold(data: &[u8]) {
    let said = said(data);
    let heard = || (Heard::of(&said, std::iter::repeat(usize::MAX)), Heard::of(&said, pieces(data)));
    let (mut whole, mut arriving) = heard();
    if arriving != whole {
        // What is refused is told with the date: a second may have ended in between, but not twice.
        (whole, arriving) = heard();
    }
    assert_eq!(arriving, whole, "what a client says depends on packets");
    let client = Client::read(&said.concat());
    for (stream, text) in &whole.requests {
        let told = client.streams.get(stream).expect("a request that nobody made");
        check_request(text, told);
    }
    check_sent(&whole, &client);
}

/// What a lane has read is what the client has told.
fn check_request(text: &[u8], told: &Told) {
    let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        // Nobody has read on.
        return;
    };
    let (head, body) = text.split_at(end);
    assert!(head.len() <= HEAD_MAX + 100, "a head of {} bytes", head.len());
    let read = Head::read(head).unwrap_or_else(|why| panic!("accepted, though there is {why}"));
    check_pseudo_fields(&read, told);
    check_fields(&read, told);
    let framing = read.framing().unwrap_or_else(|why| panic!("accepted in spite of {why}"));
    check_body(body, told, framing);
    // What the flow takes of it obeys all that holds for HTTP/1.1.
    requests::hold(head);
}

fn check_pseudo_fields(read: &Head, told: &Told) {
    let count = told.fields.iter().take_while(|(name, _)| name.starts_with(b":")).count();
    let (pseudo, regular) = told.fields.split_at(count);
    assert!(regular.iter().all(|(name, _)| !name.starts_with(b":")), "a pseudo-field among the others");
    let one = |wanted: &[u8]| {
        let mut found = pseudo.iter().filter(|(name, _)| name == wanted);
        let value = found.next().map(|(_, value)| &value[..]);
        assert!(found.next().is_none() && value.is_none_or(|value| !value.is_empty()), "pseudo-fields");
        value
    };
    let known = [&b":method"[..], b":scheme", b":authority", b":path"];
    assert!(pseudo.iter().all(|(name, _)| known.contains(&&name[..])), "a pseudo-field that requests do not have");
    assert!(one(b":scheme").is_some());
    assert_ne!(one(b":method"), Some(&b"CONNECT"[..]));
    assert_eq!(Some(&read.start[0][..]), one(b":method"));
    assert!(super::grammar::is_token(&read.start[0]));
    let target = one(b":path").and_then(|path| path.split(|byte| *byte == b'#').next());
    assert_eq!(Some(&read.start[1][..]), target);
    assert!(read.start[1].starts_with(b"/") || (&read.start[0][..], &read.start[1][..]) == (b"OPTIONS", b"*"));
    assert_eq!(read.start[2], b"HTTP/1.1");
    let hosts: Vec<&[u8]> = regular.iter().filter(|(name, _)| name == b"host").map(|(_, value)| &value[..]).collect();
    assert!(hosts.len() < 2, "two hosts were accepted");
    let host = one(b":authority").or(hosts.first().copied()).expect("a host");
    assert!(hosts.iter().all(|other| other.eq_ignore_ascii_case(host)), "two hosts were accepted");
    assert_eq!(read.all("host"), [host]);
}

fn check_fields(read: &Head, told: &Told) {
    let forbidden = [&b"connection"[..], b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
    let (mut expected, mut cookies): (Vec<Field>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for (name, value) in told.fields.iter().filter(|(name, _)| !name.starts_with(b":")) {
        assert!(!name.iter().any(u8::is_ascii_uppercase), "a name in capitals");
        assert!(!forbidden.contains(&&name[..]), "a field that HTTP/2 forbids");
        match &name[..] {
            b"te" => assert!(value.eq_ignore_ascii_case(b"trailers")),
            b"host" => {}
            b"cookie" if value.is_empty() => {}
            b"cookie" => cookies.push(value),
            _ => expected.push((String::from_utf8_lossy(name).into_owned(), value.clone())),
        }
    }
    if !cookies.is_empty() {
        expected.push(("cookie".into(), cookies.join(&b"; "[..])));
    }
    if !told.is_bodiless && read.all("content-length").is_empty() {
        expected.push(("transfer-encoding".into(), b"chunked".to_vec()));
    }
    let written: Vec<Field> = read.fields.iter().filter(|(name, _)| name != "host").cloned().collect();
    assert_eq!(written, expected, "fields were lost, added or changed");
}

fn check_body(body: &[u8], told: &Told, framing: Framing) {
    match framing {
        Framing::None => assert!(told.is_bodiless && body.is_empty()),
        Framing::Length(length) => {
            assert!(told.body.starts_with(body), "another body");
            assert!(body.len() as u64 <= length, "more than was announced");
            assert!(!told.is_bodiless || length == 0, "less than was announced");
        }
        Framing::Chunked => {
            let (data, trailers) = super::chunks::unfinished(body);
            assert!(told.body.starts_with(&data), "another body");
            if let Some(trailers) = trailers {
                assert!(told.has_ended && told.body == data, "a body that ends too early");
                let written: Vec<hpack::Field> =
                    trailers.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
                assert_eq!(written, told.trailers);
            }
        }
    }
}

/// What we send is whole frames, none too large, that the client's windows allow.
fn check_sent(heard: &Heard, client: &Client) {
    let (frames, rest) = frames(&heard.sent);
    assert!(rest.is_empty(), "a frame that is cut off");
    let mut decoder = hpack::Decoder::new(4096);
    let (mut block, mut data) = (Vec::new(), 0);
    for (kind, flags, stream, payload) in &frames {
        assert!(payload.len() <= PAYLOAD_MAX);
        match kind {
            0 => {
                let told = client.streams.get(stream).expect("data for nobody");
                data += payload.len() as u64;
                assert!(data <= 65_535 + client.widened, "more than the connection's window");
                let all = frames.iter().filter(|frame| (frame.0, frame.2) == (0, *stream)).map(|frame| frame.3.len());
                assert!(all.sum::<usize>() as u64 <= client.window + told.widened, "more than the stream's window");
            }
            1 | 9 => {
                block.extend_from_slice(payload);
                if flags & 4 != 0 {
                    let fields = decoder.decode(&std::mem::take(&mut block)).expect("a header block");
                    let lower = |(name, _): &hpack::Field| !name.iter().any(u8::is_ascii_uppercase);
                    assert!(fields.iter().all(lower));
                }
            }
            _ => assert!(block.is_empty(), "a frame within a header block"),
        }
    }
}
