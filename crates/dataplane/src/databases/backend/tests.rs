//! Servers by hand, also hostile ones. Our own server side is met in the tests of `frontend`, real servers in Python's.

use std::future::Future;

use tokio::net::TcpListener;
use tokio::task::spawn;

use super::super::protocol::messages::to_client::{self, TransactionStatus};
use super::super::protocol::report::Severity;
use super::super::transfer::read_message;
use super::*;
use crate::net::local::LocalStream;

const LIMIT: Duration = Duration::from_secs(20);

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn built(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    build(&mut out);
    out
}

/// Logs in to a server that reads something, answers with the next of `answers`, and so on, and then closes.
fn log_in_to(answers: Vec<Vec<u8>>, mode: &str, secret: Secret) -> Result<Connected, ConnectFailure> {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let server = spawn(async move {
            let mut stream = Stream::Tcp(listener.accept().await.unwrap().0);
            for answer in answers {
                // A startup packet, a request for TLS or a password: all are longer than this, and read in one piece.
                let mut room = [0; 1024];
                let _ = std::future::poll_fn(|cx| stream.poll_read(cx, &mut room)).await;
                let _ = write_all(&mut stream, &answer).await;
            }
        });
        let encryption = Encryption::new(mode, None, "localhost").unwrap();
        let login = Login { user: "ada".into(), database: "flights".into(), secret };
        let connected = connect(&Endpoint { address, encryption }, &login, &[], LIMIT).await;
        server.await.unwrap();
        connected
    })
}

fn fatal(code: &str) -> Vec<u8> {
    built(|out| Report::fatal(code, "no").write_error(out))
}

#[test]
fn a_server_of_an_older_protocol_without_a_password() {
    let answer = built(|out| {
        to_client::negotiate_protocol_version(out, 0, &[]);
        to_client::authentication_ok(out);
        Report::new(Severity::Notice, "00000", "welcome").write_notice(out);
        to_client::parameter_status(out, "TimeZone", "UTC");
        to_client::parameter_status(out, "TimeZone", "Europe/Berlin");
        to_client::backend_key_data(out, 42, b"1234");
        to_client::ready_for_query(out, TransactionStatus::Idle);
    });
    let connected = log_in_to(vec![answer], "disable", Secret::None).unwrap();
    assert_eq!((connected.minor, connected.process, connected.secret), (0, 42, b"1234".to_vec()));
    assert_eq!(connected.parameters, [("TimeZone".to_owned(), "Europe/Berlin".to_owned())]);
}

#[test]
fn refusals_are_told_apart() {
    let kind = |code| match log_in_to(vec![fatal(code)], "disable", Secret::None).unwrap_err() {
        ConnectFailure::NotReady(report) => ("not ready", report.code),
        ConnectFailure::Credentials(report) => ("credentials", report.code),
        ConnectFailure::Refused(report) => ("refused", report.code),
        other => panic!("{other}"),
    };
    for (code, expected) in [
        ("57P03", "not ready"),
        ("28P01", "credentials"),
        ("28000", "credentials"),
        ("53300", "refused"),
        ("3D000", "refused"),
    ] {
        assert_eq!(kind(code), (expected, code.to_owned()));
    }
    assert!(matches!(log_in_to(vec![Vec::new()], "disable", Secret::None), Err(ConnectFailure::Unreachable(_))));
}

#[test]
fn a_server_that_skips_its_own_proof_is_refused() {
    let sasl = built(|out| to_client::authentication_sasl(out, &["SCRAM-SHA-256"]));
    let ok = built(to_client::authentication_ok);
    let failure = log_in_to(vec![sasl, ok], "disable", Secret::password("pencil")).unwrap_err();
    assert!(matches!(failure, ConnectFailure::Protocol(_)), "{failure}");
}

#[test]
fn a_password_is_not_given_to_whoever_asks() {
    let asks = |kind: &[u8]| [b"R", &(kind.len() as u32 + 4).to_be_bytes()[..], kind].concat();
    let in_the_clear = asks(b"\0\0\0\x03");
    let md5 = asks(b"\0\0\0\x05salt");
    let kerberos = asks(b"\0\0\0\x07");
    let other_sasl = built(|out| to_client::authentication_sasl(out, &["OAUTHBEARER"]));
    for (asked, secret) in [
        (in_the_clear, Secret::password("pencil")),
        (md5, Secret::None),
        (kerberos, Secret::password("pencil")),
        (other_sasl, Secret::password("pencil")),
    ] {
        let failure = log_in_to(vec![asked], "disable", secret).unwrap_err();
        assert!(matches!(failure, ConnectFailure::Credentials(_)), "{failure}");
    }
}

#[test]
fn answers_to_a_request_for_tls() {
    for (answer, mode, expected) in [
        (b"N".to_vec(), "require", "TLS: the server does not offer it"),
        // What it says could be anybody's.
        (fatal("53300"), "prefer", "TLS: the server sent an error when asked for it"),
        (b"X".to_vec(), "prefer", "does not speak PostgreSQL's protocol: invalid answer to an SSL request"),
    ] {
        assert_eq!(log_in_to(vec![answer], mode, Secret::None).unwrap_err().to_string(), expected);
    }
    for mode in ["verify-full", "verify-ca", "allow", ""] {
        assert!(Encryption::new(mode, None, "localhost").is_err(), "{mode}");
    }
}

#[test]
fn a_server_that_floods_the_login_is_refused() {
    let flood = built(|out| {
        to_client::authentication_ok(out);
        (0..1000).for_each(|number| to_client::parameter_status(out, &number.to_string(), ""));
    });
    let failure = log_in_to(vec![flood], "disable", Secret::None).unwrap_err();
    assert!(matches!(failure, ConnectFailure::Protocol(_)), "{failure}");
    let long = built(|out| to_client::parameter_status(out, "long", &"x".repeat(MESSAGE_MAX)));
    assert!(matches!(log_in_to(vec![long], "disable", Secret::None), Err(ConnectFailure::Protocol(_))));
}

/// A session on a server that answers each message with the next of `answers`, and then goes on listening.
fn session(answers: Vec<Vec<u8>>) -> Session {
    let (near, far) = LocalStream::pair().unwrap();
    spawn(async move {
        let mut stream = Stream::Unix(far);
        for answer in answers {
            if read_message(&mut stream, 10_000).await.is_err() {
                return;
            }
            let _ = write_all(&mut stream, &answer).await;
        }
        let _ = read_message(&mut stream, 10_000).await;
    });
    let stream = Stream::Unix(near);
    let (parameters, secret, rest) = (Vec::new(), Vec::new(), Vec::new());
    Session::new(Connected { stream, parameters, process: 0, secret, minor: 0, rest })
}

fn rows_and_ready(count: usize) -> Vec<u8> {
    built(|out| {
        to_client::row_description(out, &["a", "b"]);
        (0..count).for_each(|number| to_client::data_row(out, &[Some(number.to_string()), None]));
        to_client::command_complete(out, "SELECT");
        to_client::ready_for_query(out, TransactionStatus::Idle);
    })
}

#[test]
fn a_session_goes_on_after_an_error_of_the_server() {
    run(async {
        let error = built(|out| {
            Report::error("22012", "division by zero").write_error(out);
            to_client::ready_for_query(out, TransactionStatus::Idle);
        });
        let mut session = session(vec![error, rows_and_ready(2)]);
        let failure = session.query("SELECT 1/0", LIMIT).await.unwrap_err();
        assert!(matches!(failure, QueryFailure::Server(report) if report.code == "22012"));
        let rows = session.query("SELECT", LIMIT).await.unwrap();
        assert_eq!(rows, [[Some("0".to_owned()), None], [Some("1".to_owned()), None]]);
    });
}

#[test]
fn a_session_that_was_given_up_takes_no_more_statements() {
    run(async {
        let mut slow = session(vec![Vec::new(), rows_and_ready(1)]);
        assert!(matches!(slow.query("SELECT", Duration::ZERO).await, Err(QueryFailure::Timeout)));
        assert!(!slow.is_ready());
        // The answer to the first must not be taken for one to the second.
        assert!(matches!(slow.query("SELECT", LIMIT).await, Err(QueryFailure::Broken(_))));
        let mut ended = session(vec![fatal("57P01")]);
        ended.query("SELECT", Duration::from_millis(1)).await.unwrap_err();
        assert!(!ended.is_ready());
        let mut flooded = session(vec![rows_and_ready(20_000)]);
        assert!(matches!(flooded.query("SELECT", LIMIT).await, Err(QueryFailure::Protocol(_))));
        assert!(!flooded.is_ready());
    });
}
