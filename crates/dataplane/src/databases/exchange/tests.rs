//! Exchanges between a client and a server by hand.

use std::future::Future;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::task::spawn;
use tokio::time::timeout;

use super::super::backend::{Connected, Encryption, Endpoint, PARAMETERS_MAX};
use super::super::expect::Expect;
use super::super::node::Node;
use super::super::protocol::messages::to_client::{self, TransactionStatus};
use super::super::protocol::messages::to_server;
use super::super::protocol::report::Report;
use super::super::transfer::{read_message, write_all};
use super::*;
use crate::net::address::Address;
use crate::net::local::LocalStream;
use crate::net::stream::Stream;

const MOST: usize = 1024 * 1024;
const LIMIT: Duration = Duration::from_secs(20);

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(LIMIT, work).await.unwrap() })
}

fn pair() -> (Stream, Stream) {
    let (near, far) = LocalStream::pair().unwrap();
    (Stream::Unix(near), Stream::Unix(far))
}

fn connection(stream: Stream) -> Connection {
    let endpoint = Endpoint {
        address: Address::parse("127.0.0.1:1").unwrap(),
        encryption: Encryption::new("disable", None, "").unwrap(),
    };
    let connected =
        Connected { stream, parameters: Vec::new(), process: 1, secret: Vec::new(), minor: 2, rest: Vec::new() };
    Connection::new(connected, Arc::new(Node::new("n", endpoint)), 0, 0)
}

fn notification(payload: &str) -> Vec<u8> {
    let mut message = vec![b'A'];
    message.extend(u32::try_from(4 + 4 + 2 + payload.len() + 1).unwrap().to_be_bytes());
    message.extend([0, 0, 0, 1, b'c', 0]);
    message.extend(payload.as_bytes());
    message.push(0);
    message
}

#[test]
fn copy_data_that_the_server_refuses_ends_with_a_message() {
    run(async {
        let ((near, mut server), (inner, mut outer)) = (pair(), pair());
        let (mut connection, mut client) = (connection(near), Client::new(inner));
        let mut copied = vec![b'd'];
        copied.extend(60_000_u32.to_be_bytes());
        copied.resize(60_001, b'x');
        let sender = spawn({
            let copied = copied.repeat(40);
            async move {
                let _ = write_all(&mut outer, &copied).await;
                outer
            }
        });
        let serving = spawn(async move {
            assert_eq!(read_message(&mut server, MOST).await.unwrap()[0], b'Q');
            write_all(&mut server, b"G\0\0\0\x07\0\0\0").await.unwrap();
            // The first row is wrong; what comes behind it fills the socket meanwhile.
            assert_eq!(read_message(&mut server, MOST).await.unwrap()[0], b'd');
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let mut answer = Vec::new();
            Report::error("22P04", "extra data").write_error(&mut answer);
            to_client::ready_for_query(&mut answer, TransactionStatus::Idle);
            write_all(&mut server, &answer).await.unwrap();
            // The rest is skipped, message by message, up to what the next session asks.
            loop {
                match read_message(&mut server, MOST).await.unwrap()[0] {
                    b'd' => {}
                    other => return other,
                }
            }
        });
        let mut query = Vec::new();
        to_server::query(&mut query, b"COPY t FROM STDIN");
        let mut expect = Expectations::default();
        expect.push(Expect::Query);
        let mut exchange = Exchange::new(&mut client, &mut connection, &mut expect, false, MOST);
        assert_eq!(exchange.run(Request { ours: &query, unit: &[] }).await, Ok(Outcome::Done));
        to_server::query(&mut query, b"SELECT 1");
        let next = query[query.len() - 14..].to_vec();
        write_all(&mut connection.stream, &next).await.unwrap();
        assert_eq!(serving.await.unwrap(), b'Q');
        drop(client);
        sender.await.unwrap();
    });
}

#[test]
fn what_comes_behind_the_last_answer_is_left_alone_however_it_arrives() {
    run(async {
        let ((near, mut server), (inner, mut outer)) = (pair(), pair());
        let (mut connection, mut client) = (connection(near), Client::new(inner));
        // A description of rows passes without being looked at; what follows it answers to nothing.
        write_all(&mut server, b"T\0\0\0\x06\0\0s\0\0\0\x04").await.unwrap();
        let mut expect = Expectations::default();
        expect.push(Expect::Describe);
        let mut exchange = Exchange::new(&mut client, &mut connection, &mut expect, false, MOST);
        assert_eq!(exchange.run(Request { ours: &[], unit: &[] }).await, Ok(Outcome::Done));
        assert_eq!(read_message(&mut outer, MOST).await.unwrap(), b"T\0\0\0\x06\0\0");
        assert!(!connection.is_quiet(), "no other session gets it");
    });
}

#[test]
fn a_server_that_reports_ever_more_names_is_left() {
    run(async {
        let ((near, mut server), (inner, _outer)) = (pair(), pair());
        let (mut connection, mut client) = (connection(near), Client::new(inner));
        let mut said = Vec::new();
        for number in 0..=PARAMETERS_MAX {
            to_client::parameter_status(&mut said, &number.to_string(), "on");
        }
        write_all(&mut server, &said).await.unwrap();
        let mut expect = Expectations::default();
        expect.push(Expect::Query);
        let mut exchange = Exchange::new(&mut client, &mut connection, &mut expect, false, MOST);
        assert_eq!(exchange.run(Request { ours: &[], unit: &[] }).await, Err(Broken::Protocol));
        assert_eq!(connection.parameters.len(), PARAMETERS_MAX);
    });
}

#[test]
fn news_that_come_together_are_all_passed_on() {
    run(async {
        let ((near, mut server), (inner, mut outer)) = (pair(), pair());
        let (mut connection, mut client) = (connection(near), Client::new(inner));
        let sent = [notification("one"), notification("two"), notification("three")].concat();
        write_all(&mut server, &sent).await.unwrap();
        let mut expect = Expectations::default();
        let mut news = Exchange::new(&mut client, &mut connection, &mut expect, false, MOST);
        poll_fn(|cx| if is_drained(&mut news, cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        for payload in ["one", "two", "three"] {
            assert_eq!(read_message(&mut outer, MOST).await.unwrap(), notification(payload));
        }
    });
}

fn is_drained(news: &mut Exchange<'_>, cx: &mut Context<'_>) -> bool {
    assert!(news.poll_news(cx).is_pending());
    news.is_at_rest() && news.was_seen()
}

#[test]
fn a_client_that_does_not_take_the_news_is_not_between_two_messages() {
    run(async {
        let ((near, mut server), (inner, _outer)) = (pair(), pair());
        let (mut connection, mut client) = (connection(near), Client::new(inner));
        let flood = spawn(async move {
            let news = notification(&"x".repeat(7000)).repeat(500);
            let _ = write_all(&mut server, &news).await;
        });
        let mut expect = Expectations::default();
        let mut news = Exchange::new(&mut client, &mut connection, &mut expect, false, MOST);
        for _ in 0..1000 {
            assert!(news.poll_news(&mut Context::from_waker(Waker::noop())).is_pending());
            tokio::task::yield_now().await;
        }
        assert!(!news.is_at_rest());
        drop(connection);
        flood.await.unwrap();
    });
}
