//! Both ends of an opening: our server side against our client side, over sockets, and against bytes by hand.

use std::future::Future;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio::task::spawn;

use super::super::auth::password::Secret;
use super::super::backend::{ConnectFailure, Encryption, Endpoint, Login, connect};
use super::super::protocol::messages::to_client::TransactionStatus;
use super::super::protocol::messages::to_server;
use super::*;
use crate::net::address::Address;
use crate::net::local::LocalStream;

const LIMIT: Duration = Duration::from_secs(20);

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A certificate for `localhost`: the server's side, and the file of its authority.
struct Certificate {
    server: Arc<ServerConfig>,
    authority: std::path::PathBuf,
}

impl Certificate {
    fn new(name: &str) -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into();
        let mut server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        server.alpn_protocols = vec![ALPN.to_vec()];
        let authority = std::env::temp_dir().join(format!("trimaran-{name}-{}.pem", std::process::id()));
        std::fs::write(&authority, cert.pem()).unwrap();
        Self { server: Arc::new(server), authority }
    }

    fn encryption(&self, mode: &str, name: &str) -> Encryption {
        let authority = mode.starts_with("verify").then(|| self.authority.to_str().unwrap());
        Encryption::new(mode, authority, name).unwrap()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.authority);
    }
}

fn login(secret: Secret) -> Login {
    Login { user: "ada".into(), database: "flights".into(), secret }
}

/// What the other side of a pipe hears of a client that says `said` and no more.
async fn heard(said: &[u8]) -> (Result<Greeting, Refused>, Vec<u8>) {
    let (near, far) = LocalStream::pair().unwrap();
    let mut client = Stream::Unix(far);
    write_all(&mut client, said).await.unwrap();
    client.finish_sending();
    let greeting = greet(Stream::Unix(near), None, LIMIT).await;
    // Keeps the server's end open where the greeting owns it, so only what is there can be read.
    let mut answer = vec![0; 4096];
    let count = timeout(Duration::from_millis(1), std::future::poll_fn(|cx| client.poll_read(cx, &mut answer)));
    let count = count.await.map_or(0, |read| read.unwrap_or(0));
    answer.truncate(count);
    (greeting, answer)
}

fn startup_bytes(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    to_server::startup(&mut bytes, minor, parameters);
    bytes
}

const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

#[test]
fn encryption_that_is_not_to_be_had_is_declined_once_each() {
    run(async {
        let opening = [&SSL[..], &GSS, &startup_bytes(0, &[("user", "ada"), ("application_name", "x")])].concat();
        let (greeting, answer) = heard(&opening).await;
        let Ok(Greeting::Startup(opening)) = greeting else { panic!("{greeting:?}") };
        assert_eq!(answer, b"NN");
        assert_eq!((opening.user.as_str(), opening.database.as_str()), ("ada", "ada"));
        assert!(!opening.is_encrypted());
        let (greeting, _) = heard(&[SSL, SSL].concat()).await;
        assert_eq!(greeting.unwrap_err().reason, Reason::Version);
    });
}

#[test]
fn refusals_tell_the_client_why() {
    run(async {
        let version_2 = [&[0, 0, 0, 9][..], &(2_u32 << 16).to_be_bytes(), b"\0"].concat();
        for (said, reason, code) in [
            (version_2, Reason::Version, "0A000"),
            (startup_bytes(0, &[("database", "flights")]), Reason::Malformed, "28000"),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Reason::Malformed, "08P01"),
            (b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0".to_vec(), Reason::Closed, ""),
            (b"\0\0".to_vec(), Reason::Closed, ""),
        ] {
            let (greeting, answer) = heard(&said).await;
            assert_eq!(greeting.unwrap_err().reason, reason, "{said:?}");
            let told = Report::read(&answer).map(|report| report.code).unwrap_or_default();
            assert_eq!(told, code, "{said:?}");
        }
    });
}

#[test]
fn a_client_of_a_future_protocol_is_told_what_there_is() {
    run(async {
        let (greeting, answer) = heard(&startup_bytes(9999, &[("user", "ada"), ("_pq_.wish", "on")])).await;
        assert!(matches!(greeting, Ok(Greeting::Startup(_))));
        assert_eq!(answer, b"v\0\0\0\x16\0\x03\0\x02\0\0\0\x01_pq_.wish\0");
    });
}

#[test]
fn a_cancel_request_is_read() {
    run(async {
        let mut said = Vec::new();
        to_server::cancel_request(&mut said, 42, &[7; 32]);
        let (greeting, answer) = heard(&said).await;
        let Ok(Greeting::Cancel(cancel)) = greeting else { panic!("{greeting:?}") };
        assert_eq!((cancel.process, cancel.secret, answer), (42, vec![7; 32], Vec::new()));
    });
}

/// A server made of our own server side, for one connection: what it concluded, and what the client side did.
async fn meet(
    tls: Option<Arc<ServerConfig>>,
    credentials: Option<Credentials>,
    encryption: Encryption,
    secret: Secret,
) -> (Result<Identity, Refused>, Result<super::super::backend::Connected, ConnectFailure>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    let server = spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut opening = match greet(Stream::Tcp(stream), tls, LIMIT).await? {
            Greeting::Startup(opening) => opening,
            Greeting::Cancel(_) => panic!("nobody cancels here"),
        };
        let identity =
            authenticate(&mut opening.stream, &opening.user, credentials.as_ref(), opening.end_point.as_deref(), LIMIT)
                .await?;
        let mut out = Vec::new();
        to_client::authentication_ok(&mut out);
        to_client::parameter_status(&mut out, "server_version", "18.6");
        to_client::parameter_status(&mut out, "encrypted", if opening.is_encrypted() { "yes" } else { "no" });
        to_client::backend_key_data(&mut out, 42, &[7; 32]);
        to_client::ready_for_query(&mut out, TransactionStatus::Idle);
        to_client::parameter_status(&mut out, "TimeZone", "UTC");
        write_all(&mut opening.stream, &out).await?;
        Ok(identity)
    });
    let connected = connect(&Endpoint { address, encryption }, &login(secret), &[("TimeZone", "UTC")], LIMIT).await;
    (server.await.unwrap(), connected)
}

fn credentials(password: &str) -> Credentials {
    Credentials { verifier: Verifier::of_password(password) }
}

#[test]
fn a_client_and_a_server_meet() {
    run(async {
        let certificate = Certificate::new("meet");
        let tls = || Some(Arc::clone(&certificate.server));
        for (tls, mode, encrypted) in [
            (None, "disable", "no"),
            (None, "prefer", "no"),
            (tls(), "prefer", "yes"),
            (tls(), "require", "yes"),
            (tls(), "verify-full", "yes"),
        ] {
            let encryption = certificate.encryption(mode, "localhost");
            let (identity, connected) =
                meet(tls, Some(credentials("pencil")), encryption, Secret::password("pencil")).await;
            let connected = connected.unwrap();
            let reported: Vec<_> = connected.parameters.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(reported, [("server_version", "18.6"), ("encrypted", encrypted)]);
            assert_eq!((connected.process, connected.secret, connected.minor), (42, vec![7; 32], 2));
            // It may come with the rest or later, but nothing else may.
            assert!(connected.rest.is_empty() || connected.rest[0] == b'S');
            let Identity { client_key, verifier } = identity.unwrap();
            let known = Some(Credentials { verifier: verifier.clone() });
            let passed_on = Secret::ClientKey { client_key, verifier };
            let (_, again) = meet(None, known, Encryption::Disabled, passed_on).await;
            assert!(again.is_ok());
        }
    });
}

#[test]
fn certificates_are_trusted_as_far_as_asked_for() {
    run(async {
        let (certificate, other) = (Certificate::new("trust"), Certificate::new("other"));
        for (authority, mode, name, is_trusted) in [
            (&certificate, "verify-full", "localhost", true),
            (&certificate, "verify-full", "elsewhere.example", false),
            (&certificate, "verify-ca", "elsewhere.example", true),
            (&other, "verify-ca", "localhost", false),
            (&other, "require", "localhost", true),
        ] {
            let encryption = authority.encryption(mode, name);
            let tls = Some(Arc::clone(&certificate.server));
            let (_, connected) = meet(tls, Some(credentials("pencil")), encryption, Secret::password("pencil")).await;
            match connected {
                Ok(_) => assert!(is_trusted, "{mode} {name}"),
                Err(ConnectFailure::Encryption(_)) => assert!(!is_trusted, "{mode} {name}"),
                Err(other) => panic!("{other}"),
            }
        }
        let encryption = certificate.encryption("require", "localhost");
        let (_, connected) = meet(None, Some(credentials("pencil")), encryption, Secret::password("pencil")).await;
        assert!(matches!(connected, Err(ConnectFailure::Encryption(_))));
    });
}

#[test]
fn wrong_passwords_and_unknown_users_are_told_the_same() {
    run(async {
        let mut told = Vec::new();
        for known in [Some(credentials("pencil")), None] {
            let (identity, connected) = meet(None, known, Encryption::Disabled, Secret::password("pen")).await;
            assert_eq!(identity.unwrap_err().reason, Reason::Password);
            let Err(ConnectFailure::Credentials(report)) = connected else { panic!("{connected:?}") };
            told.push(report);
        }
        assert_eq!(told[0], told[1]);
        assert_eq!(told[0].code, "28P01");
    });
}

#[test]
fn what_was_sent_in_the_clear_behind_an_ssl_request_is_refused() {
    run(async {
        let certificate = Certificate::new("clear");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Stream::connect(&Address::Tcp(listener.local_addr().unwrap())).await.unwrap();
        let said = [&SSL[..], &startup_bytes(0, &[("user", "mallory")])].concat();
        write_all(&mut client, &said).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let refused = greet(Stream::Tcp(stream), Some(Arc::clone(&certificate.server)), LIMIT).await.unwrap_err();
        assert_eq!(refused.reason, Reason::Malformed);
        assert_eq!(refused.report.unwrap().message, "received unencrypted data after SSL request");
    });
}

#[test]
fn tls_from_the_first_byte_must_name_the_protocol() {
    run(async {
        let certificate = Certificate::new("direct");
        for (alpn, is_taken) in [(Some(ALPN), true), (None, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let tls = Some(Arc::clone(&certificate.server));
            let server = spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                greet(Stream::Tcp(stream), tls, LIMIT).await
            });
            let client =
                crate::net::tls_client::TlsClient::new(crate::net::tls_client::Trust::Any, None, "localhost", alpn)
                    .unwrap();
            let stream = client.connect(TcpStream::connect(address).await.unwrap()).await.unwrap();
            let mut stream = Stream::Tls(Box::new(stream));
            write_all(&mut stream, &startup_bytes(2, &[("user", "ada")])).await.unwrap();
            match server.await.unwrap() {
                Ok(Greeting::Startup(opening)) => assert!(is_taken && opening.is_encrypted()),
                Err(refused) => assert!(!is_taken && refused.reason == Reason::Malformed),
                Ok(other) => panic!("{other:?}"),
            }
        }
    });
}
