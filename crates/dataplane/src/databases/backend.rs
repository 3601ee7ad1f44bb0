//! Opening a connection to a server: encryption, login, and what the server says about itself. Cancelling on one.

mod failure;
mod session;

use std::time::Duration;

use tokio::time::timeout;

pub use self::failure::ConnectFailure;
use self::failure::credentials;
pub use self::session::{QueryFailure, Session};
use super::auth::password::{Secret, md5_response};
use super::auth::scram;
use super::auth::scram::binding::end_point;
use super::auth::scram::client::{Answered, Begun, Binding};
use super::protocol::messages::to_server;
use super::protocol::report::Report;
use super::protocol::tag::to_client as tag;
use super::protocol::{MINOR_NEWEST, ProtocolError, fields};
use super::transfer::{Inbox, ReadError, read_exact, write_all};
use crate::net::address::Address;
use crate::net::stream::Stream;
use crate::net::tls_client::{TlsClient, Trust};

/// Longest message of a login.
const MESSAGE_MAX: usize = 32 * 1024;
/// Most parameters that a server may report; PostgreSQL 18 has 15.
pub const PARAMETERS_MAX: usize = 256;

/// Whether and how the connection to a server is encrypted: libpq's `sslmode`. Unix sockets never are.
#[derive(Debug)]
pub enum Encryption {
    Disabled,
    /// Where the server offers it.
    Preferred(TlsClient),
    Required(TlsClient),
}

impl Encryption {
    /// `mode` is one of libpq's. `name` is the server's for `verify-full`; `authorities` a PEM file for both `verify`
    /// modes. As in libpq, `require` with such a file checks as `verify-ca` does.
    pub fn new(mode: &str, authorities: Option<&str>, name: &str) -> Result<Self, String> {
        let client = |trust| TlsClient::new(trust, authorities, name, Some(super::frontend::ALPN));
        match mode {
            "disable" => Ok(Self::Disabled),
            "prefer" => client(Trust::Any).map(Self::Preferred),
            "require" if authorities.is_none() => client(Trust::Any).map(Self::Required),
            "require" | "verify-ca" => client(Trust::Authority).map(Self::Required),
            "verify-full" => client(Trust::Name).map(Self::Required),
            _ => Err(format!("sslmode {mode:?}: expected disable, prefer, require, verify-ca or verify-full")),
        }
    }
}

/// Where a server is and how to speak to it.
#[derive(Debug)]
pub struct Endpoint {
    pub address: Address,
    pub encryption: Encryption,
}

/// As whom to log in.
#[derive(Debug)]
pub struct Login {
    pub user: String,
    pub database: String,
    pub secret: Secret,
}

/// A session of ours on a server, ready for a query.
#[derive(Debug)]
pub struct Connected {
    pub stream: Stream,
    /// What the server reported, in its order: `server_version`, `client_encoding` and more.
    pub parameters: Vec<(String, String)>,
    pub process: u32,
    /// The cancellation key; empty when the server gave none.
    pub secret: Vec<u8>,
    /// The minor version of the protocol that the server speaks.
    pub minor: u16,
    /// What the server has sent since it was ready, nearly always nothing. It comes before what the stream gives.
    pub rest: Vec<u8>,
}

/// Logs in. `parameters` go into the startup packet behind user and database; `limit` is for all of it together.
pub async fn connect(
    endpoint: &Endpoint,
    login: &Login,
    parameters: &[(&str, &str)],
    limit: Duration,
) -> Result<Connected, ConnectFailure> {
    timeout(limit, log_in(endpoint, login, parameters)).await.unwrap_or(Err(ConnectFailure::Timeout))
}

/// Asks the server to cancel what a session is doing. Returns when the server has taken the request and closed the
/// connection; whether there was anything to cancel nobody is told.
pub async fn cancel(endpoint: &Endpoint, process: u32, secret: &[u8], limit: Duration) -> Result<(), ConnectFailure> {
    let request = async {
        let mut stream = reach(endpoint).await?;
        let mut out = Vec::new();
        to_server::cancel_request(&mut out, process, secret);
        write_all(&mut stream, &out).await?;
        match read_exact(&mut stream, &mut [0]).await {
            // Some servers reset a connection on which they have nothing to say.
            Err(ReadError::Closed | ReadError::Io(_)) => Ok(()),
            _ => Err(ConnectFailure::Protocol(ProtocolError("answer to a cancel request"))),
        }
    };
    timeout(limit, request).await.unwrap_or(Err(ConnectFailure::Timeout))
}

/// The connection, encrypted as the endpoint says.
async fn reach(endpoint: &Endpoint) -> Result<Stream, ConnectFailure> {
    let mut stream = Stream::connect(&endpoint.address).await?;
    let (client, is_required) = match &endpoint.encryption {
        Encryption::Preferred(client) => (client, false),
        Encryption::Required(client) => (client, true),
        Encryption::Disabled => return Ok(stream),
    };
    if matches!(stream, Stream::Unix(_)) {
        return Ok(stream);
    }
    let mut out = Vec::new();
    to_server::ssl_request(&mut out);
    write_all(&mut stream, &out).await?;
    // One byte and no more: what follows it in the clear would not be the server's (CVE-2021-23222).
    let mut answer = [0];
    read_exact(&mut stream, &mut answer).await?;
    match (answer[0], stream) {
        (b'S', Stream::Tcp(socket)) => match client.connect(socket).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => Err(ConnectFailure::Encryption(error.to_string())),
        },
        (b'N', stream) if !is_required => Ok(stream),
        (b'N', _) => Err(ConnectFailure::Encryption("the server does not offer it".into())),
        // Nobody has proved to be the server yet: its text is not passed on (CVE-2024-10977).
        (b'E', _) => Err(ConnectFailure::Encryption("the server sent an error when asked for it".into())),
        _ => Err(ConnectFailure::Protocol(ProtocolError("invalid answer to an SSL request"))),
    }
}

async fn log_in(endpoint: &Endpoint, login: &Login, parameters: &[(&str, &str)]) -> Result<Connected, ConnectFailure> {
    let mut stream = reach(endpoint).await?;
    let mut all = vec![("user", login.user.as_str()), ("database", &login.database)];
    all.extend(parameters);
    let mut out = Vec::new();
    to_server::startup(&mut out, MINOR_NEWEST, &all);
    write_all(&mut stream, &out).await?;
    let mut inbox = Inbox::new(Vec::new(), MESSAGE_MAX);
    let minor = authenticate(&mut stream, &mut inbox, login).await?;
    let mut connected =
        Connected { stream, parameters: Vec::new(), process: 0, secret: Vec::new(), minor, rest: Vec::new() };
    loop {
        let message = inbox.next(&mut connected.stream).await?;
        match message[0] {
            tag::PARAMETER_STATUS => {
                let (name, value) = fields::parameter_status(message)?;
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                note(&mut connected.parameters, &text(name), &text(value))?;
            }
            tag::BACKEND_KEY_DATA => {
                let (process, secret) = fields::backend_key_data(message)?;
                connected.process = process;
                connected.secret = secret.to_vec();
            }
            tag::READY_FOR_QUERY => {
                fields::ready_for_query(message)?;
                connected.rest = inbox.into_rest();
                return Ok(connected);
            }
            tag::ERROR_RESPONSE => return Err(Report::read(message)?.into()),
            tag::NOTICE_RESPONSE => {}
            _ => return Err(ProtocolError("unexpected message from the server after the login").into()),
        }
    }
}

/// Keeps a value that a server has reported. An error: of ever more names.
pub fn note(parameters: &mut Vec<(String, String)>, name: &str, value: &str) -> Result<(), ProtocolError> {
    if let Some(known) = parameters.iter_mut().find(|(each, _)| *each == name) {
        value.clone_into(&mut known.1);
    } else if parameters.len() < PARAMETERS_MAX {
        parameters.push((name.to_owned(), value.to_owned()));
    } else {
        return Err(ProtocolError("the server reports too many parameters"));
    }
    Ok(())
}

/// The server's side of a SCRAM exchange that is awaited.
enum Exchange {
    None,
    Challenge(Begun),
    Proof(Answered),
    /// Both sides have proved themselves.
    Done,
}

/// Until `AuthenticationOk`. Returns the minor version of the protocol.
async fn authenticate(stream: &mut Stream, inbox: &mut Inbox, login: &Login) -> Result<u16, ConnectFailure> {
    let mut minor = MINOR_NEWEST;
    let mut exchange = Exchange::None;
    loop {
        let message = inbox.next(stream).await?;
        match message[0] {
            tag::AUTHENTICATION => {}
            tag::NEGOTIATE_PROTOCOL_VERSION => {
                minor = minor.min(fields::negotiate_protocol_version(message)?);
                continue;
            }
            tag::ERROR_RESPONSE => return Err(Report::read(message)?.into()),
            tag::NOTICE_RESPONSE => continue,
            _ => return Err(ProtocolError("unexpected message from the server in the login").into()),
        }
        let (kind, contents) = fields::authentication(message)?;
        let mut out = Vec::new();
        exchange = match (kind, exchange) {
            (0, Exchange::None | Exchange::Done) => return Ok(minor),
            (3, Exchange::None) => {
                if matches!(stream, Stream::Tcp(_)) {
                    return Err(credentials(
                        "the server asks for the password in the clear on a connection without TLS",
                    ));
                }
                to_server::password(&mut out, known_password(login)?);
                Exchange::None
            }
            (5, Exchange::None) => {
                let salt: &[u8; 4] = contents.try_into().map_err(|_| ProtocolError("malformed MD5 salt"))?;
                to_server::password(&mut out, &md5_response(&login.user, known_password(login)?, salt));
                Exchange::None
            }
            (10, Exchange::None) => {
                let mechanisms = fields::sasl_mechanisms(contents)?;
                let binding = binding(stream, &mechanisms)?;
                let (begun, mechanism, first) = Begun::new(binding, scram::nonce());
                to_server::sasl_initial_response(&mut out, mechanism, &first);
                Exchange::Challenge(begun)
            }
            (11, Exchange::Challenge(begun)) => {
                let (answered, last) = begun.answer(contents, &login.secret)?;
                to_server::sasl_response(&mut out, &last);
                Exchange::Proof(answered)
            }
            (12, Exchange::Proof(answered)) => {
                answered.verify(contents)?;
                Exchange::Done
            }
            (1..=9, Exchange::None) => {
                return Err(credentials(
                    "the server asks for a way to log in that is not supported (Kerberos, GSSAPI, SSPI)",
                ));
            }
            // Also a server that says "ok" in the middle of an exchange, without having proved itself.
            _ => return Err(ProtocolError("authentication message out of turn").into()),
        };
        write_all(stream, &out).await?;
    }
}

fn known_password(login: &Login) -> Result<&str, ConnectFailure> {
    login.secret.text().ok_or_else(|| credentials("the server asks for the password itself, which is not known here"))
}

/// What to bind a SCRAM exchange to, by what the server offers and this side can do.
fn binding(stream: &Stream, mechanisms: &[&[u8]]) -> Result<Binding, ConnectFailure> {
    let offers = |mechanism: &str| mechanisms.contains(&mechanism.as_bytes());
    let digest = match stream {
        Stream::Tls(stream) => {
            stream.get_ref().1.peer_certificates().and_then(<[_]>::first).and_then(|it| end_point(it))
        }
        _ => None,
    };
    match digest {
        Some(digest) if offers(scram::MECHANISM_PLUS) => Ok(Binding::EndPoint(digest)),
        _ if !offers(scram::MECHANISM) => Err(credentials("the server offers no SASL mechanism that is supported")),
        Some(_) => Ok(Binding::NotOffered),
        None => Ok(Binding::None),
    }
}

#[cfg(test)]
mod tests;
