//! What a PostgreSQL server answers: the client gets the same however it arrives, in whole messages, and nothing that was
//! not for it.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::task::spawn;

use super::postgres_messages::said;
use super::{cut, pieces, runtime, say};
use crate::databases::backend::{Connected, Encryption, Endpoint, PARAMETERS_MAX};
use crate::databases::client::Client;
use crate::databases::connection::Connection;
use crate::databases::exchange::{Broken, Exchange, Outcome, Request};
use crate::databases::expect::{Expect, Expectations};
use crate::databases::node::Node;
use crate::databases::protocol::frame;
use crate::databases::protocol::messages::to_client;
use crate::databases::protocol::report::Report;
use crate::net::address::Address;
use crate::net::local::LocalStream;
use crate::net::stream::Stream;

/// What is awaited, a letter for each, up to a byte 0xff; behind it, what comes.
pub fn hold(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0xff).unwrap_or(data.len());
    let (awaited, answer) = (&data[..end.min(20)], said(data.get(end + 1..).unwrap_or_default()));
    let careful = awaited.first() == Some(&b'?');
    let whole = exchanged(awaited, &answer, careful, std::iter::repeat(usize::MAX));
    let arriving = exchanged(awaited, &answer, careful, pieces(data));
    assert_eq!(arriving.0, whole.0, "what becomes of an answer depends on packets");
    for (outcome, got) in [&whole, &arriving] {
        check_got(awaited, &answer, *outcome, got);
    }
    if whole.0.is_ok() {
        assert_eq!(arriving.1, whole.1, "what a client gets depends on packets");
    }
}

fn failing() -> Vec<u8> {
    let mut message = Vec::new();
    Report::error("42P05", "ours").write_error(&mut message);
    message
}

fn ready() -> Vec<u8> {
    let mut message = Vec::new();
    to_client::parse_complete(&mut message);
    message
}

fn expectations(awaited: &[u8]) -> Expectations {
    let mut all = Expectations::default();
    for (id, letter) in awaited.iter().enumerate() {
        all.push(match letter {
            b'o' => Expect::Own,
            b'p' => Expect::Parse { own: true, id: Some(id as u64) },
            b'P' => Expect::Parse { own: false, id: None },
            b'B' => Expect::Bind,
            b'D' => Expect::Describe,
            b'E' => Expect::Execute,
            b'c' => Expect::Close { own: true },
            b'C' => Expect::Close { own: false },
            b'S' => Expect::Sync,
            b'F' => Expect::Call,
            b'r' => Expect::Ready(ready()),
            b'f' => Expect::Failing(failing()),
            _ => Expect::Query,
        });
    }
    all
}

/// How it ended, and what the client got.
fn exchanged(
    awaited: &[u8],
    answer: &[u8],
    careful: bool,
    pieces: impl Iterator<Item = usize>,
) -> (Result<Outcome, Broken>, Vec<u8>) {
    runtime(async {
        let pair = || LocalStream::pair().expect("a pair of sockets");
        let ((near, server), (inner, outer)) = (pair(), pair());
        let (mut server, mut outer) = (Stream::Unix(server), Stream::Unix(outer));
        let parts = cut(answer, pieces);
        let saying = spawn(async move {
            say(&mut server, parts).await;
        });
        // All the while: a socket takes few writes, if they are as short as these.
        let hearing = spawn(async move {
            let (mut got, mut room) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = poll_fn(|cx| outer.poll_read(cx, &mut room)).await {
                got.extend_from_slice(&room[..count]);
            }
            got
        });
        let (mut client, mut connection) = (Client::new(Stream::Unix(inner)), connection(Stream::Unix(near)));
        let mut expect = expectations(awaited);
        let mut exchange = Exchange::new(&mut client, &mut connection, &mut expect, careful, 1000);
        let outcome = exchange.run(Request { ours: b"", unit: b"" }).await;
        if outcome.is_ok() {
            assert!(exchange.is_between_messages() && expect.is_empty());
        }
        assert!(connection.parameters.len() <= PARAMETERS_MAX, "a server that says ever more");
        drop((client, connection));
        saying.await.expect("the server says it all");
        (outcome, hearing.await.expect("the client hears it all"))
    })
}

fn connection(stream: Stream) -> Connection {
    let endpoint = Endpoint {
        address: Address::parse("127.0.0.1:1").expect("an address"),
        encryption: Encryption::new("disable", None, "").expect("none"),
    };
    let connected =
        Connected { stream, parameters: Vec::new(), process: 1, secret: Vec::new(), minor: 2, rest: Vec::new() };
    Connection::new(connected, Arc::new(Node::new("n", endpoint)), 0, 0)
}

/// Messages of the server's in their order, and of ours; whole ones where all went well.
fn check_got(awaited: &[u8], answer: &[u8], outcome: Result<Outcome, Broken>, got: &[u8]) {
    let (theirs, _) = messages(answer);
    let (mut rest, (mine, left)) = (theirs.iter(), messages(got));
    assert!(left.is_empty() || outcome.is_err(), "half a message");
    for message in mine {
        let is_ours = awaited.contains(&b'r') && message == ready() || awaited.contains(&b'f') && message == failing();
        assert!(is_ours || rest.any(|their| *their == message), "nobody said {}", message.escape_ascii());
    }
    if outcome == Ok(Outcome::Done) && awaited.iter().all(|letter| *letter == b'o') {
        // Of what we ask for ourselves nobody else hears anything; of notifications the client does.
        assert!(messages(got).0.iter().all(|message| message[0] == b'A'));
    }
}

fn messages(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut messages = Vec::new();
    while let Ok(Some(found)) = frame::next(bytes, usize::MAX) {
        let Some((message, rest)) = bytes.split_at_checked(found.length) else { break };
        messages.push(message);
        bytes = rest;
    }
    (messages, bytes)
}
