//! Errors of a replica that say something about the replica, not about the statement. Pure.

/// What a replica may say although the statement is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 25006: it writes, or does what is a write to a standby.
    Writes,
    /// Another error that only a standby gives.
    Standby,
    /// 0A000: its transaction is serializable by a default that the gateway does not know.
    Serializable,
    /// 0A000: it reads a table whose data is on the primary only.
    Unlogged,
    /// 40001: replay needed what the statement was reading.
    Conflict,
    /// An error that may be the replica's own: whether it is, is seen when the primary does the same without.
    Doubtful,
    /// What it names is unknown: it may not have arrived here yet.
    Stale,
}

/// Errors of `Refusal::Doubtful`: classes (the first two characters) in which there are some of PostgreSQL that only a standby
/// gives, and that of what functions raise when they have caught another.
const DOUBTFUL: [&[u8]; 6] = [b"0A", b"25", b"55", b"58", b"P0", b"XX"];
/// Names that are not there, and rights.
const STALE: [&[u8]; 7] = [b"42P01", b"42703", b"42704", b"42883", b"42501", b"3F000", b"26000"];

impl Refusal {
    /// What an error of a replica says, by where it is raised, which is the same in every language.
    pub fn of(code: &[u8], routine: &[u8]) -> Option<Self> {
        Some(match (code, routine) {
            (b"25006", _) | (b"XX000", b"GetNewTransactionId" | b"XLogBeginInsert") => Self::Writes,
            (b"0A000", b"get_relation_info") => Self::Unlogged,
            (b"0A000", b"GetSerializableTransactionSnapshot" | b"GetSerializableTransactionSnapshotInt") => {
                Self::Serializable
            }
            // SET TRANSACTION READ WRITE, and ISOLATION LEVEL SERIALIZABLE; strong locks.
            (b"0A000", b"call_bool_check_hook" | b"call_enum_check_hook") | (b"55000", b"LockAcquireExtended") => {
                Self::Standby
            }
            // 40P01: replay and the statement have waited for each other.
            (b"40001" | b"40P01", _) => Self::Conflict,
            _ if DOUBTFUL.iter().any(|class| code.starts_with(class)) => Self::Doubtful,
            _ if STALE.contains(&code) => Self::Stale,
            _ => return None,
        })
    }

    /// Whether a primary gives no such error to a READ ONLY transaction.
    pub fn is_of_standby(self, routine: &[u8]) -> bool {
        match self {
            Self::Writes => routine != b"PreventCommandIfReadOnly",
            Self::Unlogged | Self::Standby | Self::Serializable => true,
            Self::Conflict | Self::Doubtful | Self::Stale => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_known_by_where_they_are_raised() {
        for (code, routine, refusal) in [
            ("25006", "PreventCommandIfReadOnly", Some(Refusal::Writes)),
            ("25006", "PreventCommandDuringRecovery", Some(Refusal::Writes)),
            ("XX000", "GetNewTransactionId", Some(Refusal::Writes)),
            ("0A000", "get_relation_info", Some(Refusal::Unlogged)),
            ("0A000", "GetSerializableTransactionSnapshot", Some(Refusal::Serializable)),
            ("0A000", "call_bool_check_hook", Some(Refusal::Standby)),
            ("55000", "LockAcquireExtended", Some(Refusal::Standby)),
            ("55000", "pg_switch_wal", Some(Refusal::Doubtful)),
            ("58P01", "mdopenfork", Some(Refusal::Doubtful)),
            ("P0001", "exec_stmt_raise", Some(Refusal::Doubtful)),
            ("40001", "ProcessInterrupts", Some(Refusal::Conflict)),
            ("42P01", "parserOpenTable", Some(Refusal::Stale)),
            ("22012", "int4div", None),
            ("57014", "ProcessInterrupts", None),
        ] {
            assert_eq!(Refusal::of(code.as_bytes(), routine.as_bytes()), refusal, "{code} {routine}");
        }
    }

    #[test]
    fn what_a_primary_refuses_in_a_read_only_transaction_too_is_not_of_the_standby() {
        assert!(!Refusal::Writes.is_of_standby(b"PreventCommandIfReadOnly"));
        assert!(Refusal::Writes.is_of_standby(b"PreventCommandDuringRecovery"));
        assert!(!Refusal::Conflict.is_of_standby(b"ProcessInterrupts"));
    }
}
