//! Opening a connection from a client: encryption, what it wants, who it is.
//!
//! Nothing is read from the socket beyond the message that is being waited for. So nothing that was sent in the clear can
//! be taken for something that came through TLS (CVE-2021-23214), and nothing is left over for the session.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::auth::scram::binding::end_point;
use super::auth::scram::server::{Challenge, Channel};
use super::auth::scram::verifier::Verifier;
use super::auth::scram::{self, Key, ScramError};
use super::protocol::messages::to_client;
use super::protocol::report::{Report, sqlstate};
use super::protocol::startup::{self, Cancel, First, Startup};
use super::protocol::{MINOR_NEWEST, fields, tag};
use super::transfer::{ReadError, read_exact, read_message, write_all};
use crate::net::stream::Stream;
use crate::net::tls::accept_as;

/// The protocol's name in TLS (ALPN). Required where a client begins with TLS at once.
pub const ALPN: &[u8] = b"postgresql";
/// Longest message of a SASL exchange, as in PostgreSQL.
const SASL_MAX: usize = 1024;
/// How long a client that is refused may take to be told so.
const TELLING: Duration = Duration::from_secs(1);
/// The record type of a TLS handshake; no first packet of ours can begin with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the client came for.
#[derive(Debug)]
pub enum Greeting {
    Startup(Opening),
    /// To cancel something. Nothing is answered: close the stream.
    Cancel(Cancel),
}

/// A client that wants a session and has not shown yet that it may.
#[derive(Debug)]
pub struct Opening {
    pub stream: Stream,
    pub startup: Startup,
    pub user: String,
    /// The user's name, unless the client says otherwise.
    pub database: String,
    /// What a proof can be bound to: `tls-server-end-point` of the certificate that this client was shown.
    pub end_point: Option<Vec<u8>>,
}

impl Opening {
    pub fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

/// A connection, and what a proof can be bound to.
type Encrypted = (Stream, Option<Vec<u8>>);

/// What the gateway knows to check a client by.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub verifier: Verifier,
}

/// A client that has proved who it is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// With it the gateway can log in to a server that keeps the same verifier.
    pub client_key: Key,
    pub verifier: Verifier,
}

/// For counters: why a connection came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client left, or the network did.
    Closed,
    Timeout,
    Malformed,
    /// The TLS handshake failed.
    Tls,
    /// Another major version of the protocol.
    Version,
    /// The proof was wrong, or the user is unknown: which of them nobody is told.
    Password,
}

/// A connection that came to nothing.
#[derive(Debug)]
pub struct Refused {
    pub reason: Reason,
    /// What the client was told, where it could be told something.
    pub report: Option<Report>,
}

impl Refused {
    fn silently(reason: Reason) -> Self {
        Self { reason, report: None }
    }

    fn with(reason: Reason, code: &str, message: impl Into<String>) -> Self {
        Self { reason, report: Some(Report::fatal(code, message)) }
    }
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(_) | ReadError::Closed => Self::silently(Reason::Closed),
            ReadError::Protocol(error) => Self::with(Reason::Malformed, sqlstate::PROTOCOL_VIOLATION, error.0),
        }
    }
}

impl From<std::io::Error> for Refused {
    fn from(_: std::io::Error) -> Self {
        Self::silently(Reason::Closed)
    }
}

/// Reads what a client opens with, and encrypts the connection if it wants that and `tls` is there. A client that asks for a
/// newer protocol is told what there is.
///
/// `tls` must offer `ALPN`. `limit` is for all of it together.
pub async fn greet(stream: Stream, tls: Option<Arc<ServerConfig>>, limit: Duration) -> Result<Greeting, Refused> {
    timeout(limit, open(stream, tls)).await.unwrap_or(Err(Refused::silently(Reason::Timeout)))
}

async fn open(stream: Stream, tls: Option<Arc<ServerConfig>>) -> Result<Greeting, Refused> {
    let (mut stream, mut end_point) = match (stream, &tls) {
        (Stream::Tcp(stream), Some(tls)) if begins_with_tls(&stream).await? => direct(stream, tls).await?,
        (stream, _) => (stream, None),
    };
    // Each may be asked for once, and neither inside TLS.
    let (mut may_tls, mut may_gss) = match stream {
        Stream::Tls(_) => (false, false),
        _ => (true, true),
    };
    loop {
        match read_first(&mut stream).await {
            Ok(First::Tls) if may_tls => {
                may_tls = false;
                (stream, end_point) = match (stream, &tls) {
                    (Stream::Tcp(stream), Some(tls)) => {
                        may_gss = false;
                        requested(stream, tls).await?
                    }
                    (mut stream, _) => {
                        write_all(&mut stream, b"N").await?;
                        (stream, None)
                    }
                };
            }
            Ok(First::Gss) if may_gss => {
                may_gss = false;
                write_all(&mut stream, b"N").await?;
            }
            Ok(first @ (First::Tls | First::Gss)) => {
                // As PostgreSQL does: it takes it for a version then.
                let minor = if first == First::Tls { 5679 } else { 5680 };
                return Err(told(&mut stream, of_version(1234, minor)).await);
            }
            Ok(First::Cancel(cancel)) => return Ok(Greeting::Cancel(cancel)),
            Ok(First::Version { major, minor }) => {
                return Err(told(&mut stream, of_version(major, minor)).await);
            }
            Ok(First::Startup(startup)) => {
                if startup.needs_negotiation() {
                    let mut out = Vec::new();
                    to_client::negotiate_protocol_version(&mut out, startup.agreed_minor(), &startup.options);
                    write_all(&mut stream, &out).await?;
                }
                return match named(&startup) {
                    Ok((user, database)) => {
                        Ok(Greeting::Startup(Opening { stream, startup, user, database, end_point }))
                    }
                    Err(refused) => Err(told(&mut stream, refused).await),
                };
            }
            Err(refused) => return Err(told(&mut stream, refused).await),
        }
    }
}

fn of_version(major: u16, minor: u16) -> Refused {
    let text = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{MINOR_NEWEST}");
    Refused::with(Reason::Version, sqlstate::FEATURE_NOT_SUPPORTED, text)
}

/// Who wants to use what.
fn named(startup: &Startup) -> Result<(String, String), Refused> {
    let user = startup.get("user").filter(|user| !user.is_empty()).ok_or_else(|| {
        const TEXT: &str = "no PostgreSQL user name specified in startup packet";
        Refused::with(Reason::Malformed, sqlstate::INVALID_AUTHORIZATION, TEXT)
    })?;
    let database = startup.get("database").filter(|database| !database.is_empty()).unwrap_or(user);
    Ok((user.to_owned(), database.to_owned()))
}

async fn read_first(stream: &mut Stream) -> Result<First, Refused> {
    // The shortest packet is a length and a code.
    let mut packet = vec![0; 8];
    read_exact(stream, &mut packet).await?;
    if let Some(length) = startup::length(&packet).map_err(ReadError::Protocol)? {
        packet.resize(length, 0);
        read_exact(stream, &mut packet[8..]).await?;
    }
    Ok(startup::read(&packet).map_err(ReadError::Protocol)?)
}

async fn begins_with_tls(stream: &TcpStream) -> Result<bool, Refused> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(Refused::silently(Reason::Closed)),
        _ => Ok(first[0] == TLS_HANDSHAKE),
    }
}

/// TLS from the first byte. The protocol must be named in it, or a client of another one could be led here.
async fn direct(stream: TcpStream, tls: &ServerConfig) -> Result<Encrypted, Refused> {
    const TEXT: &str = "received direct SSL connection request without ALPN protocol negotiation extension";
    let (mut stream, end_point) = handshake(stream, tls).await?;
    let is_named = match &stream {
        Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(ALPN),
        _ => false,
    };
    if is_named {
        return Ok((stream, end_point));
    }
    Err(told(&mut stream, Refused::with(Reason::Malformed, sqlstate::PROTOCOL_VIOLATION, TEXT)).await)
}

/// TLS after an `SSLRequest`.
async fn requested(stream: TcpStream, tls: &ServerConfig) -> Result<Encrypted, Refused> {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    if SockRef::from(&stream).peek(&mut byte).is_ok_and(|count| count > 0) {
        const TEXT: &str = "received unencrypted data after SSL request";
        let refused = Refused::with(Reason::Malformed, sqlstate::PROTOCOL_VIOLATION, TEXT);
        return Err(told(&mut Stream::Tcp(stream), refused).await);
    }
    let mut stream = Stream::Tcp(stream);
    write_all(&mut stream, b"S").await?;
    match stream {
        Stream::Tcp(stream) => handshake(stream, tls).await,
        _ => Err(Refused::silently(Reason::Tls)),
    }
}

async fn handshake(stream: TcpStream, tls: &ServerConfig) -> Result<Encrypted, Refused> {
    let accepted = accept_as(tls, ALPN, stream).await.map_err(|_| Refused::silently(Reason::Tls))?;
    let end_point = accepted.certificate.and_then(|certificate| end_point(&certificate));
    Ok((Stream::Tls(Box::new(accepted.stream.into())), end_point))
}

/// Lets the client prove with SCRAM-SHA-256 that it is `user`, bound to `end_point` if it wants that. Without credentials the
/// user is unknown, which shows only in that no proof is right. What follows (`AuthenticationOk` and the rest) is left to the
/// session.
pub async fn authenticate(
    stream: &mut Stream,
    user: &str,
    credentials: Option<&Credentials>,
    end_point: Option<&[u8]>,
    limit: Duration,
) -> Result<Identity, Refused> {
    let verifier = credentials.map(|credentials| &credentials.verifier);
    let proved = timeout(limit, prove(stream, user, verifier, end_point)).await;
    match proved.unwrap_or(Err(Refused::silently(Reason::Timeout))) {
        Ok(identity) => Ok(identity),
        Err(refused) => Err(told(stream, refused).await),
    }
}

async fn prove(
    stream: &mut Stream,
    user: &str,
    verifier: Option<&Verifier>,
    end_point: Option<&[u8]>,
) -> Result<Identity, Refused> {
    let mut out = Vec::new();
    let offered: &[_] = match end_point {
        Some(_) => &[scram::MECHANISM_PLUS, scram::MECHANISM],
        None => &[scram::MECHANISM],
    };
    to_client::authentication_sasl(&mut out, offered);
    write_all(stream, &out).await?;
    let message = read_sasl(stream).await?;
    let (mechanism, first) = fields::sasl_initial_response(&message).map_err(ReadError::Protocol)?;
    let channel = match end_point {
        Some(end_point) if mechanism == scram::MECHANISM_PLUS.as_bytes() => Channel::Bound(end_point),
        Some(_) if mechanism == scram::MECHANISM.as_bytes() => Channel::Declined,
        None if mechanism == scram::MECHANISM.as_bytes() => Channel::Unbound,
        _ => return Err(malformed("client selected an invalid SASL authentication mechanism")),
    };
    let first = if let Some(first) = first {
        first.to_vec()
    } else {
        // It may come on its own, asked for by an empty challenge.
        out.clear();
        to_client::authentication_sasl_continue(&mut out, b"");
        write_all(stream, &out).await?;
        let message = read_sasl(stream).await?;
        fields::sasl_response(&message).map_err(ReadError::Protocol)?.to_vec()
    };
    let (challenge, server_first) =
        Challenge::new(user, verifier, channel, &first, &scram::nonce()).map_err(|error| refused(error, user))?;
    out.clear();
    to_client::authentication_sasl_continue(&mut out, &server_first);
    write_all(stream, &out).await?;
    let message = read_sasl(stream).await?;
    let last = fields::sasl_response(&message).map_err(ReadError::Protocol)?;
    let proven = challenge.prove(last).map_err(|error| refused(error, user))?;
    out.clear();
    to_client::authentication_sasl_final(&mut out, &proven.message);
    write_all(stream, &out).await?;
    let verifier = verifier.ok_or_else(|| refused(ScramError::Proof, user))?.clone();
    Ok(Identity { client_key: proven.client_key, verifier })
}

async fn read_sasl(stream: &mut Stream) -> Result<Vec<u8>, Refused> {
    let message = read_message(stream, SASL_MAX).await?;
    match message.first() {
        Some(&tag::to_server::PASSWORD) => Ok(message),
        other => {
            let kind = other.copied().unwrap_or(0);
            Err(malformed(format!("expected SASL response, got message type {kind}")))
        }
    }
}

fn malformed(text: impl Into<String>) -> Refused {
    Refused::with(Reason::Malformed, sqlstate::PROTOCOL_VIOLATION, text)
}

fn refused(error: ScramError, user: &str) -> Refused {
    match error {
        ScramError::Client(violation) => Refused {
            reason: Reason::Malformed,
            report: Some(Report::fatal(violation.code, violation.message).with_detail(violation.detail)),
        },
        ScramError::Exchange(text) => malformed(text),
        ScramError::Proof | ScramError::Secret(_) => {
            let text = format!("password authentication failed for user \"{user}\"");
            Refused::with(Reason::Password, sqlstate::INVALID_PASSWORD, text)
        }
    }
}

/// Sends what there is to tell. A client that does not take it loses only the explanation.
async fn told(stream: &mut Stream, refused: Refused) -> Refused {
    if let Some(report) = &refused.report {
        let mut out = Vec::new();
        report.write_error(&mut out);
        let _ = timeout(TELLING, write_all(stream, &out)).await;
    }
    refused
}

#[cfg(test)]
mod tests;
