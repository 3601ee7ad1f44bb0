//! PostgreSQL's frontend/backend protocol, version 3 (PostgreSQL 18, chapter 54), as bytes: no sockets, no state.

pub mod fields;
pub mod frame;
pub mod messages;
mod reader;
pub mod report;
pub mod startup;
pub mod tag;

use std::fmt;

/// The first minor version whose cancellation keys have a length of their own (PostgreSQL 18).
pub const MINOR_NEWEST: u16 = 2;

/// The other side does not speak the protocol. The text says how, for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolError(pub &'static str);

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ProtocolError {}
