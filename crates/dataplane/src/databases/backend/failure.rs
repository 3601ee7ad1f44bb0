//! Why a connection to a server could not be opened.

use std::fmt;
use std::io;

use super::super::auth::scram::ScramError;
use super::super::protocol::ProtocolError;
use super::super::protocol::report::{Report, sqlstate};
use super::super::transfer::ReadError;

/// Why there is no connection. Whether it is worth trying again, or elsewhere, depends on the kind.
#[derive(Debug)]
pub enum ConnectFailure {
    /// Nobody listens there, or the connection broke before the server had said anything about it.
    Unreachable(io::Error),
    /// The server says no, for another reason than the two below.
    Refused(Report),
    /// It starts, stops or recovers (57P03): it may be ready soon.
    NotReady(Report),
    /// The user, or what it proves itself with, is not accepted, or the server asks for a proof that is not had here.
    Credentials(Report),
    /// The connection cannot be encrypted as asked for, or the certificate is not trusted.
    Encryption(String),
    /// The other side does not speak the protocol.
    Protocol(ProtocolError),
    Timeout,
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "cannot be reached: {error}"),
            Self::Refused(report) | Self::NotReady(report) | Self::Credentials(report) => report.fmt(f),
            Self::Encryption(problem) => write!(f, "TLS: {problem}"),
            Self::Protocol(error) => write!(f, "does not speak PostgreSQL's protocol: {error}"),
            Self::Timeout => f.write_str("did not let us in in time"),
        }
    }
}

impl std::error::Error for ConnectFailure {}

impl From<ReadError> for ConnectFailure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Unreachable(error),
            ReadError::Closed => Self::Unreachable(io::ErrorKind::UnexpectedEof.into()),
            ReadError::Protocol(error) => Self::Protocol(error),
        }
    }
}

impl From<ProtocolError> for ConnectFailure {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<io::Error> for ConnectFailure {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

impl From<ScramError> for ConnectFailure {
    fn from(error: ScramError) -> Self {
        match error {
            ScramError::Exchange(text) => Self::Protocol(ProtocolError(text)),
            ScramError::Client(_) => Self::Protocol(ProtocolError("malformed SCRAM message")),
            ScramError::Proof => Self::Protocol(ProtocolError("the server does not prove that it knows the password")),
            ScramError::Secret(text) => credentials(text),
        }
    }
}

impl From<Report> for ConnectFailure {
    fn from(report: Report) -> Self {
        match report.code.as_str() {
            sqlstate::CANNOT_CONNECT_NOW => Self::NotReady(report),
            sqlstate::INVALID_PASSWORD | sqlstate::INVALID_AUTHORIZATION => Self::Credentials(report),
            _ => Self::Refused(report),
        }
    }
}

pub(super) fn credentials(text: &str) -> ConnectFailure {
    ConnectFailure::Credentials(Report::fatal(sqlstate::INVALID_AUTHORIZATION, text))
}
