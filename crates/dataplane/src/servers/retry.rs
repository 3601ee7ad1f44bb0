//! When a request may be tried on another server, and how much of that a pool can bear.

use std::sync::Mutex;

/// Why an attempt ended without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, no such socket, or not in time.
    Connect,
    /// The connection broke before the first byte of a response.
    Reset { sent: bool },
    /// The server took too long.
    Timeout,
    /// The response is not HTTP as we know it.
    Malformed(&'static str),
}

impl Failure {
    /// Whether the request cannot have had an effect that a second attempt would double.
    pub fn may_retry(self, idempotent: bool) -> bool {
        match self {
            Self::Connect | Self::Reset { sent: false } => true,
            Self::Reset { sent: true } => idempotent,
            Self::Timeout | Self::Malformed(_) => false,
        }
    }

    /// Whether a second attempt is extra load; an attempt that never reached a server is not.
    pub fn costs(self) -> bool {
        self != Self::Connect
    }
}

/// Retries allowed: a share of the requests, and a floor that a whole server's death does not use up.
#[derive(Debug)]
pub struct Budget {
    state: Mutex<Tokens>,
}

#[derive(Debug)]
struct Tokens {
    tokens: f64,
    at_ms: u64,
    requests: u64,
}

const FLOOR_PER_S: f64 = 10.0;
/// Retries that may come at once: more than one server's requests in flight.
const BURST: f64 = 256.0;

impl Default for Budget {
    fn default() -> Self {
        Self { state: Mutex::new(Tokens { tokens: BURST, at_ms: 0, requests: 0 }) }
    }
}

impl Budget {
    /// Takes one retry out of the budget. `requests_total` is the pool's count so far.
    pub fn take(&self, now_ms: u64, requests_total: u64, share: f64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let elapsed_s = now_ms.saturating_sub(state.at_ms) as f64 / 1000.0;
        let requests = requests_total.saturating_sub(state.requests) as f64;
        state.at_ms = now_ms;
        state.requests = requests_total;
        state.tokens = (state.tokens + elapsed_s * FLOOR_PER_S + requests * share).min(BURST);
        if state.tokens < 1.0 {
            return false;
        }
        state.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_have_had_an_effect_is_repeated() {
        assert!(Failure::Connect.may_retry(false));
        assert!(Failure::Reset { sent: false }.may_retry(false));
        assert!(!Failure::Reset { sent: true }.may_retry(false));
        assert!(Failure::Reset { sent: true }.may_retry(true));
        assert!(!Failure::Timeout.may_retry(true));
        assert!(!Failure::Malformed("").may_retry(true));
    }

    #[test]
    fn the_budget_is_a_share_of_requests_with_a_floor() {
        let budget = Budget::default();
        let taken = (0..1000).filter(|_| budget.take(0, 0, 0.2)).count();
        assert_eq!(taken, 256);
        assert!(!budget.take(0, 0, 0.2));
        assert!(budget.take(0, 5, 0.2), "five requests pay for one retry");
        assert!(!budget.take(0, 5, 0.2));
        let after_a_second = (0..100).filter(|_| budget.take(1000, 5, 0.2)).count();
        assert_eq!(after_a_second, 10);
    }
}
