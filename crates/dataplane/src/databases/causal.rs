//! Causal reads: which WAL position a replica must have replayed before a session may read there. Pure.
//!
//! A session does not know the position of its own commit: asking after each would cost a round trip. It knows when the
//! commit was acknowledged. Any position of the primary that was sampled by a question *begun* after that moment is at or
//! beyond the commit, and one sample serves all sessions. Until there is one, the session reads from the primary.

/// One answer of a node about its position in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When the question was begun; zero before the first.
    pub begun_us: u64,
    pub position: u64,
}

/// What a session has to see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Horizon {
    /// A replica must have replayed this.
    position: u64,
    /// A commit acknowledged then is not in `position` yet; zero when there is none.
    wrote_us: u64,
}

/// Whether it is known what a replica must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Position(u64),
    /// A sample of the primary, begun after this time, will tell.
    SampleSince(u64),
}

impl Horizon {
    /// A commit of this session was acknowledged.
    pub fn wrote(&mut self, now_us: u64) {
        self.wrote_us = now_us;
    }

    /// Another session's position, handed over.
    pub fn after(&mut self, position: u64) {
        self.position = self.position.max(position);
    }

    /// What a replica must have replayed, with the primary's newest sample at hand.
    pub fn need(&mut self, primary: Sample) -> Need {
        if self.wrote_us != 0 {
            // Equal times may be either order.
            if primary.begun_us <= self.wrote_us {
                return Need::SampleSince(self.wrote_us);
            }
            self.position = self.position.max(primary.position);
            self.wrote_us = 0;
        }
        Need::Position(self.position)
    }
}

/// `0/16B3748` as a number.
pub fn parse_position(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let part = |text: &str| {
        let is_hex = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()
    };
    Some(part(high)? << 32 | part(low)?)
}

/// A position as PostgreSQL writes it.
pub fn show_position(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_covered_by_a_sample_begun_after_it() {
        let mut horizon = Horizon::default();
        assert_eq!(horizon.need(Sample { begun_us: 0, position: 0 }), Need::Position(0));
        horizon.wrote(100);
        assert_eq!(horizon.need(Sample { begun_us: 99, position: 5 }), Need::SampleSince(100));
        assert_eq!(horizon.need(Sample { begun_us: 100, position: 5 }), Need::SampleSince(100));
        assert_eq!(horizon.need(Sample { begun_us: 101, position: 7 }), Need::Position(7));
        assert_eq!(
            horizon.need(Sample { begun_us: 200, position: 900 }),
            Need::Position(7),
            "later writes are of others"
        );
    }

    #[test]
    fn positions_only_grow() {
        let mut horizon = Horizon::default();
        horizon.after(50);
        horizon.after(20);
        horizon.wrote(1);
        assert_eq!(horizon.need(Sample { begun_us: 2, position: 30 }), Need::Position(50));
    }

    #[test]
    fn positions_are_written_as_postgresql_does() {
        assert_eq!(parse_position("16/B374D848"), Some(0x16_b374_d848));
        assert_eq!(show_position(0x16_b374_d848), "16/B374D848");
        for text in ["", "1", "x/1", "1/", "1/123456789", "-1/0", "+1/0"] {
            assert_eq!(parse_position(text), None, "{text}");
        }
    }
}
