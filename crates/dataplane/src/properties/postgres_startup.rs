//! The packets that open a connection to the PostgreSQL gateway: read byte-exact, and the same however they arrive.

use std::future::poll_fn;
use std::time::Duration;

use tokio::task::spawn;

use super::{cut, pieces, runtime, say};
use crate::databases::causal::{parse_position, show_position};
use crate::databases::frontend::{Greeting, greet};
use crate::databases::protocol::messages::to_server;
use crate::databases::protocol::startup::{self, First, LENGTH_MAX, SECRET_MAX, Startup};
use crate::net::local::LocalStream;
use crate::net::stream::Stream;

/// Far beyond what anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Packets with a byte 0xff between them, whose lengths are put before them; or bytes as they are, behind a first 0xff.
fn said(data: &[u8]) -> Vec<u8> {
    if let [0xff, bytes @ ..] = data {
        return bytes.to_vec();
    }
    let packet = |contents: &[u8]| [&(contents.len() as u32 + 4).to_be_bytes(), contents].concat();
    data.split(|byte| *byte == 0xff).map(packet).collect::<Vec<_>>().concat()
}

pub fn hold(data: &[u8]) {
    let said = said(data);
    check_packet(&said);
    let whole = greeted(&said, std::iter::repeat(usize::MAX));
    assert_eq!(greeted(&said, pieces(data)), whole, "what a client wants depends on packets");
    check_position(&String::from_utf8_lossy(data));
}

fn check_packet(bytes: &[u8]) {
    let Ok(Some(length)) = startup::length(bytes) else { return };
    assert!((8..=LENGTH_MAX).contains(&length));
    assert!((0..4).all(|count| startup::length(&bytes[..count]) == Ok(None)));
    let Some(packet) = bytes.get(..length) else { return };
    assert!(startup::read(&packet[..length - 1]).is_err(), "a packet that is cut off");
    let mut again = Vec::new();
    match startup::read(packet) {
        Ok(First::Startup(startup)) => {
            check_startup(&startup, packet);
            let parameters: Vec<_> = startup.parameters.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            to_server::startup(&mut again, startup.minor, &parameters);
            assert_eq!(startup::read(&again), Ok(First::Startup(Startup { options: Vec::new(), ..startup.clone() })));
            assert_eq!(startup.options.is_empty(), again == packet, "a packet that means another");
        }
        Ok(First::Cancel(cancel)) => {
            assert!((1..=SECRET_MAX).contains(&cancel.secret.len()));
            to_server::cancel_request(&mut again, cancel.process, &cancel.secret);
            assert_eq!(again, packet);
        }
        Ok(First::Tls) => {
            to_server::ssl_request(&mut again);
            assert_eq!(again, packet);
        }
        Ok(First::Gss) => assert_eq!(length, 8),
        Ok(First::Version { major, .. }) => assert_ne!(major, 3),
        Err(_) => {}
    }
}

fn check_startup(startup: &Startup, packet: &[u8]) {
    assert_eq!(packet[4..8], [[0, 3], startup.minor.to_be_bytes()].concat(), "another version");
    let names = startup.parameters.iter().map(|(name, _)| name);
    assert!(names.chain(&startup.options).all(|name| !name.is_empty() && !name.contains('\0')));
    assert!(startup.parameters.iter().all(|(name, value)| !name.starts_with("_pq_.") && !value.contains('\0')));
    assert!(startup.agreed_minor() <= startup.minor);
    assert!(startup.needs_negotiation() || startup.agreed_minor() == startup.minor);
}

/// What a client of these bytes gets to hear, and what the gateway takes it for.
fn greeted(said: &[u8], pieces: impl Iterator<Item = usize>) -> (String, Vec<u8>) {
    runtime(async {
        let (near, far) = LocalStream::pair().expect("a pair of sockets");
        let mut client = Stream::Unix(far);
        let parts = cut(said, pieces);
        let saying = spawn(async move {
            say(&mut client, parts).await;
            client.finish_sending();
            client
        });
        let outcome = match greet(Stream::Unix(near), None, LIMIT).await {
            Ok(Greeting::Startup(opening)) => {
                assert!(!opening.user.is_empty() && !opening.database.is_empty());
                assert!(!opening.is_encrypted());
                format!("{} on {}: {:?}", opening.user, opening.database, opening.startup)
            }
            Ok(Greeting::Cancel(cancel)) => format!("{cancel:?}"),
            Err(refused) => format!("{refused:?}"),
        };
        let mut client = saying.await.expect("the client says it all");
        let (mut answer, mut room) = (Vec::new(), [0; 512]);
        while let Ok(count @ 1..) = poll_fn(|cx| client.poll_read(cx, &mut room)).await {
            answer.extend_from_slice(&room[..count]);
        }
        (outcome, answer)
    })
}

/// A place in the WAL, as servers tell it.
fn check_position(text: &str) {
    if let Some(position) = parse_position(text) {
        let (high, low) = text.trim().split_once('/').expect("two halves");
        let number = |half: &str| u64::from_str_radix(half, 16);
        assert_eq!((number(high), number(low)), (Ok(position >> 32), Ok(position & 0xffff_ffff)));
        assert_eq!(parse_position(&show_position(position)), Some(position));
    }
}
