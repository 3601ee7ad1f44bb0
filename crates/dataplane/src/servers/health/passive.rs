//! Passive health: failures of real requests eject a server for a while, longer each time.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

/// When traffic ejects a server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassiveSettings {
    /// Failed requests in a row that eject; 0 switches ejection off.
    pub failures: u32,
    /// First ejection time; each further one is twice as long.
    pub base_ms: u64,
    pub max_ms: u64,
}

/// One server's record.
///
/// After an ejection the server is on probation: its first outcome decides whether it stays or is ejected again, for twice
/// the time. Each stretch of healthy time four times as long as the last ejection undoes one doubling.
#[derive(Debug, Default)]
pub struct Passive {
    /// Failures in a row. The success path reads nothing else while it is zero.
    in_a_row: AtomicU32,
    /// Whether a request has succeeded since the last ejection. Idle time alone is no sign of health.
    proven: AtomicBool,
    until_ms: AtomicU64,
    /// Doublings; only the failure path takes this lock.
    level: Mutex<u32>,
}

/// Healthy time that undoes one doubling, in ejection times.
const REHABILITATION: u64 = 4;

impl Passive {
    pub fn new() -> Self {
        Self::default()
    }

    /// A request succeeded.
    pub fn success(&self) {
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
            self.proven.store(true, Relaxed);
        }
    }

    /// A request failed; true when this ejects the server now, until `until_ms`.
    ///
    /// While it is ejected, failures of requests that were on their way already count for nothing.
    pub fn failure(&self, settings: &PassiveSettings, now_ms: u64) -> bool {
        if settings.failures == 0 {
            return false;
        }
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let until_ms = self.until_ms.load(Relaxed);
        if now_ms < until_ms {
            return false;
        }
        let on_probation = *level > 0 && !self.proven.load(Relaxed);
        let in_a_row = self.in_a_row.load(Relaxed).saturating_add(1);
        self.in_a_row.store(in_a_row, Relaxed);
        if in_a_row < settings.failures && !on_probation {
            return false;
        }
        if !on_probation {
            *level = rehabilitated(*level, now_ms - until_ms, settings);
        }
        self.until_ms.store(now_ms.saturating_add(ejection_ms(*level, settings)), Relaxed);
        self.proven.store(false, Relaxed);
        *level = level.saturating_add(1);
        true
    }

    /// When the last ejection ends or ended; 0 when there was none.
    pub fn until_ms(&self) -> u64 {
        self.until_ms.load(Relaxed)
    }

    /// Forgets everything: another process has taken the server's place.
    pub fn forget(&self) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        *level = 0;
        self.until_ms.store(0, Relaxed);
        self.in_a_row.store(0, Relaxed);
        self.proven.store(false, Relaxed);
    }
}

/// The length of an ejection after this many earlier ones.
fn ejection_ms(level: u32, settings: &PassiveSettings) -> u64 {
    let doubled = settings.base_ms.saturating_mul(1_u64.checked_shl(level).unwrap_or(u64::MAX));
    // A maximum below the base is a contradiction; the base wins, because it is asked for first.
    doubled.min(settings.max_ms.max(settings.base_ms))
}

/// What is left of a level after a healthy time.
fn rehabilitated(mut level: u32, mut healthy_ms: u64, settings: &PassiveSettings) -> u32 {
    while level > 0 {
        let price = ejection_ms(level - 1, settings).saturating_mul(REHABILITATION);
        if healthy_ms < price {
            break;
        }
        healthy_ms -= price;
        level -= 1;
    }
    level
}

#[cfg(test)]
#[path = "passive_tests.rs"]
mod tests;
