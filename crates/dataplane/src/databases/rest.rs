//! Whether anybody uses a group. While nobody does, its nodes are asked less often how they are.
//!
//! Nothing depends on how old a sample is but figures of lag: who needs a position asks for it (`causal`, `borrow`). The
//! first request after a rest, and anything that a replica is seen to lack, makes the questions frequent again at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long nobody must have used a group.
const AFTER: Duration = Duration::from_secs(2);

/// Read with every request, written when a rest begins or ends.
#[derive(Debug, Default)]
pub struct Rest(AtomicBool);

impl Rest {
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether there was one.
    pub fn end(&self) -> bool {
        self.is_on() && self.0.swap(false, Ordering::Relaxed)
    }
}

/// Tells from a count of requests, looked at now and then, whether it is time to rest. Time is handed in.
#[derive(Debug, Default)]
pub struct Weariness {
    requests: u64,
    used_us: u64,
}

impl Weariness {
    /// `is_busy`: something is under way, or a replica lacks something.
    pub fn is_due(&mut self, requests: u64, is_busy: bool, now_us: u64) -> bool {
        if is_busy || requests != self.requests {
            (self.requests, self.used_us) = (requests, now_us);
        }
        now_us.saturating_sub(self.used_us) >= AFTER.as_micros() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_begins_when_nothing_has_happened_for_long_enough() {
        const S: u64 = 1_000_000;
        let mut weariness = Weariness::default();
        assert!(!weariness.is_due(1, false, 5 * S));
        assert!(!weariness.is_due(1, false, 6 * S));
        assert!(weariness.is_due(1, false, 7 * S));
        assert!(!weariness.is_due(2, false, 8 * S), "a request");
        assert!(!weariness.is_due(2, true, 10 * S), "something under way");
        assert!(!weariness.is_due(2, false, 11 * S));
        assert!(weariness.is_due(2, false, 12 * S));
    }

    #[test]
    fn a_rest_ends_once() {
        let rest = Rest::default();
        assert!(!rest.end());
        rest.begin();
        assert!(rest.is_on() && rest.end() && !rest.is_on() && !rest.end());
    }
}
