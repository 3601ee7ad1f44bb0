//! What a session loses with its connection, and which ends of a connection its client does not see. Pure.

/// What a session holds on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Nothing,
    /// A transaction, or a batch that is not over.
    Transaction,
    /// State of its session.
    State,
}

impl Held {
    /// Whether the client does not see a FATAL of this SQLSTATE: it is about the server or the connection, and the session goes
    /// on elsewhere. A transaction is reported as lost.
    pub fn hides(self, code: &[u8]) -> bool {
        // 40001 and 57P04 with it: what a replica had under way was in the way of replay.
        let is_leaving = matches!(code, b"57P01" | b"57P02" | b"57P03" | b"57P04" | b"40001");
        match self {
            Self::Nothing => is_leaving || matches!(code, b"57P05" | b"25P03"),
            Self::Transaction => is_leaving,
            Self::State => false,
        }
    }
}
