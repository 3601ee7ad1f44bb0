//! Our own statements on a connection, for the few things that the gateway itself wants to know.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::super::protocol::messages::to_server;
use super::super::protocol::report::Report;
use super::super::protocol::tag::to_client as tag;
use super::super::protocol::{ProtocolError, fields};
use super::super::transfer::{Inbox, ReadError, write_all};
use super::Connected;
use crate::net::stream::Stream;

/// Most rows of an answer.
pub const ROWS_MAX: usize = 10_000;
/// Longest message of an answer, in bytes.
const MESSAGE_MAX: usize = 1024 * 1024;

/// Rows of text values; `None` is NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// Why a statement has no answer. After anything but `Server` the session is of no use any more.
#[derive(Debug)]
pub enum QueryFailure {
    /// The server refuses the statement.
    Server(Report),
    /// The connection broke.
    Broken(io::Error),
    Protocol(ProtocolError),
    Timeout,
}

impl fmt::Display for QueryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(report) => report.fmt(f),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::Protocol(error) => write!(f, "protocol: {error}"),
            Self::Timeout => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for QueryFailure {}

impl From<ReadError> for QueryFailure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Broken(error),
            ReadError::Closed => Self::Broken(io::ErrorKind::UnexpectedEof.into()),
            ReadError::Protocol(error) => Self::Protocol(error),
        }
    }
}

impl From<ProtocolError> for QueryFailure {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<io::Error> for QueryFailure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

#[derive(Debug)]
pub struct Session {
    stream: Stream,
    inbox: Inbox,
    /// No answer is under way. False for ever once one was not read to its end.
    is_ready: bool,
}

impl Session {
    pub fn new(connected: Connected) -> Self {
        Self { stream: connected.stream, inbox: Inbox::new(connected.rest, MESSAGE_MAX), is_ready: true }
    }

    /// Whether another statement may be sent.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Runs SQL with the simple protocol; the rows of all its statements, one after the other.
    pub async fn query(&mut self, sql: &str, limit: Duration) -> Result<Rows, QueryFailure> {
        let mut out = Vec::new();
        to_server::query(&mut out, sql.as_bytes());
        self.ask(&out, limit).await
    }

    /// Prepares a statement without parameters, so that `run` need not have it parsed and planned.
    pub async fn prepare(&mut self, name: &str, sql: &str, limit: Duration) -> Result<(), QueryFailure> {
        let mut out = Vec::new();
        to_server::parse(&mut out, name.as_bytes(), sql.as_bytes(), &[]);
        to_server::sync(&mut out);
        self.ask(&out, limit).await.map(|_| ())
    }

    /// Runs a prepared statement.
    pub async fn run(&mut self, name: &str, limit: Duration) -> Result<Rows, QueryFailure> {
        let mut out = Vec::new();
        to_server::bind(&mut out, b"", name.as_bytes(), &[]);
        to_server::execute(&mut out, b"", 0);
        to_server::sync(&mut out);
        self.ask(&out, limit).await
    }

    /// Sends, and reads until the server is ready again. Giving up half-way leaves the session unusable, not confused.
    async fn ask(&mut self, messages: &[u8], limit: Duration) -> Result<Rows, QueryFailure> {
        if !self.is_ready {
            return Err(QueryFailure::Broken(io::ErrorKind::NotConnected.into()));
        }
        self.is_ready = false;
        let answer = async {
            write_all(&mut self.stream, messages).await?;
            read_answer(&mut self.stream, &mut self.inbox).await
        };
        let (rows, is_open) = timeout(limit, answer).await.unwrap_or(Err(QueryFailure::Timeout))?;
        self.is_ready = is_open;
        rows.map_err(QueryFailure::Server)
    }
}

/// The rows or the error, and whether the connection goes on.
async fn read_answer(stream: &mut Stream, inbox: &mut Inbox) -> Result<(Result<Rows, Report>, bool), QueryFailure> {
    let mut rows = Vec::new();
    let mut error = None;
    loop {
        let message = match inbox.next(stream).await {
            // The server has said why it ends, and does.
            Err(ReadError::Closed | ReadError::Io(_)) if error.is_some() => break,
            message => message?,
        };
        match message[0] {
            tag::DATA_ROW if rows.len() >= ROWS_MAX => return Err(ProtocolError("too many rows").into()),
            tag::DATA_ROW => {
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                rows.push(fields::data_row(message)?.into_iter().map(|value| value.map(text)).collect());
            }
            tag::ERROR_RESPONSE => error = Some(Report::read(message)?),
            tag::READY_FOR_QUERY => {
                fields::ready_for_query(message)?;
                return Ok((error.map_or(Ok(rows), Err), true));
            }
            tag::COPY_IN_RESPONSE | tag::COPY_OUT_RESPONSE | tag::COPY_BOTH_RESPONSE => {
                return Err(ProtocolError("COPY in a statement of our own").into());
            }
            // Ends of statements, descriptions, notices, reports of settings.
            _ => {}
        }
    }
    Ok((error.map_or(Ok(rows), Err), false))
}
