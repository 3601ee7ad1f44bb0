//! What can be wrong before traffic flows. Traffic itself has refusals (`servers::http::refusal`) and outcomes.

use std::fmt;

/// Why a data plane cannot start or take a snapshot.
#[derive(Debug)]
pub enum Error {
    /// The snapshot is malformed; the text names the key.
    Snapshot(String),
    /// An address cannot be bound.
    Bind { address: String, source: std::io::Error },
    /// The access log cannot be opened.
    AccessLog { path: String, source: std::io::Error },
    /// A thread or its event loop cannot be started.
    Runtime(std::io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(text) => write!(f, "snapshot: {text}"),
            Self::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::AccessLog { path, source } => {
                write!(f, "cannot open the access log {path}: {source}")
            }
            Self::Runtime(source) => write!(f, "cannot start a data-plane thread: {source}"),
        }
    }
}

impl std::error::Error for Error {}
