//! What is asked, and how the answer is read.

use super::Answer;
use crate::databases::protocol::ProtocolError;

pub(super) const NAME: &str = "trimaran_vitals";

/// Once for each connection: the sizes by which `Wal::end_of_record` finds page headers. What the role or the
/// database has set must not get in the way of the question.
pub(super) const SETTINGS: &str = "SET statement_timeout = 0; SET idle_session_timeout = 0; SET search_path = pg_catalog; \
    SELECT current_setting('wal_block_size'), pg_size_bytes(current_setting('wal_segment_size'))";

/// Everything about the node at one moment. `OFFSET 0` keeps the planner from asking `pg_is_in_recovery()` twice: a node
/// that is promoted in between would be both.
///
/// The timeline: a primary writes it into the names of its WAL files at once. A replica has it from its WAL receiver, which
/// a role without `pg_read_all_stats` may not see, and from its control file, which follows at restart points; timelines
/// only grow, so the largest is right.
///
/// The lag is zero when everything that was received is replayed, else the age of the last transaction that was replayed. A
/// node that receives from nobody cannot know it, nor can any node know what was never sent to it: `History` can.
pub(super) const SQL: &str = "
SELECT recovering,
       CASE WHEN recovering THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0'::pg_lsn,
       pg_last_wal_receive_lsn() - '0/0'::pg_lsn,
       CASE WHEN recovering
            THEN greatest((SELECT received_tli FROM pg_stat_wal_receiver),
                          (SELECT timeline_id FROM pg_control_checkpoint()),
                          (SELECT min_recovery_end_timeline FROM pg_control_recovery()))
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END,
       CASE WHEN NOT recovering THEN 0
            WHEN NOT EXISTS (SELECT FROM pg_stat_wal_receiver) THEN NULL
            WHEN pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() THEN 0
            ELSE (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::bigint END
  FROM (SELECT pg_is_in_recovery() AS recovering OFFSET 0) AS role";

/// How the server lays out its WAL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wal {
    block: u64,
    segment: u64,
}

impl Wal {
    /// Reads the answer to `SETTINGS`.
    pub fn read(rows: &[Vec<Option<String>>]) -> Result<Self, String> {
        let number = |at: usize| rows.first()?.get(at)?.as_ref()?.parse().ok().filter(|size| *size > 0);
        match (number(0), number(1)) {
            (Some(block), Some(segment)) => Ok(Self { block, segment }),
            _ => Err("the server does not tell how its WAL is laid out".into()),
        }
    }

    /// Reads the answer to `SQL`.
    pub fn answer(self, rows: &[Vec<Option<String>>]) -> Result<Answer, ProtocolError> {
        const PROBLEM: ProtocolError = ProtocolError("unexpected answer about a node's role and position");
        let [row] = rows else { return Err(PROBLEM) };
        let [recovering, position, received, timeline, lag] = row.as_slice() else { return Err(PROBLEM) };
        let number = |text: &Option<String>| match text {
            Some(text) => text.parse::<i64>().map(Some).map_err(|_| PROBLEM),
            None => Ok(None),
        };
        let in_recovery = recovering.as_deref() == Some("t");
        let position = number(position)?.unwrap_or(0) as u64;
        Ok(Answer {
            in_recovery,
            position: if in_recovery { position } else { self.end_of_record(position) },
            received: number(received)?.unwrap_or(0) as u64,
            timeline: number(timeline)?.unwrap_or(0) as u32,
            lag_ms: number(lag)?.map(|ms| ms.max(0) as u64),
        })
    }

    /// Where the last record ends, from the position at which the next one will begin.
    ///
    /// They differ where a page is exactly full: the next record begins behind the next page's header, while a replica that
    /// has replayed everything says that it is at the end of the page. It would be waited for until something else is written.
    fn end_of_record(self, insert: u64) -> u64 {
        /// `SizeOfXLogLongPHD` and `SizeOfXLogShortPHD`: the headers of the first and of the other pages of a segment.
        const LONG: u64 = 40;
        const SHORT: u64 = 24;
        if insert % self.segment == LONG {
            insert - LONG
        } else if insert % self.block == SHORT && insert % self.segment != SHORT {
            insert - SHORT
        } else {
            insert
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAL: Wal = Wal { block: 8192, segment: 16 << 20 };

    fn row(values: [&str; 5]) -> Vec<Vec<Option<String>>> {
        vec![values.map(|value| (!value.is_empty()).then(|| value.to_owned())).into()]
    }

    #[test]
    fn a_primary_and_a_replica() {
        let primary = WAL.answer(&row(["f", "50331928", "", "3", "0"])).unwrap();
        let expected = Answer { in_recovery: false, position: 50_331_928, received: 0, timeline: 3, lag_ms: Some(0) };
        assert_eq!(primary, expected);
        let replica = WAL.answer(&row(["t", "8216", "9000", "1", ""])).unwrap();
        assert_eq!(replica, Answer { in_recovery: true, position: 8216, received: 9000, timeline: 1, lag_ms: None });
        assert!(WAL.answer(&[]).is_err());
        assert!(WAL.answer(&row(["f", "0/3000118", "", "3", "0"])).is_err());
    }

    #[test]
    fn a_full_page_ends_where_a_replica_says_it_does() {
        let segment = 16 << 20;
        for (insert, end) in [
            (segment + 40, segment),
            (segment + 8192 + 24, segment + 8192),
            // Records begin here too, or the position cannot be one.
            (segment + 24, segment + 24),
            (segment + 8192 + 40, segment + 8192 + 40),
            (segment + 8192 + 32, segment + 8192 + 32),
        ] {
            assert_eq!(WAL.end_of_record(insert), end);
        }
    }

    #[test]
    fn the_layout_must_be_told() {
        assert!(Wal::read(&row(["8192", "16777216", "", "", ""])).is_ok());
        assert!(Wal::read(&row(["0", "16777216", "", "", ""])).is_err());
        assert!(Wal::read(&[]).is_err());
    }
}
