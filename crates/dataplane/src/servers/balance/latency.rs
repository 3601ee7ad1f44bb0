//! How slow each server is: two trackers, one value of each kind per server, shared by all threads.
//!
//! They hold atomics only; time is handed in. Two threads that record in the same instant may leave one sample
//! out of a median; no sample is ever mixed with another. Both know failures apart from latency: a server that fails fast
//! would otherwise look like the best one and draw every request to itself.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// An exponentially weighted mean that jumps to peaks and forgets them with time.
///
/// Without answers it decays, so a server that was slow once is tried again.
pub struct PeakEwma {
    decay_us: f64,
    /// Bits of an f64; 0.0 before the first answer.
    estimate: AtomicU64,
    recorded_us: AtomicU64,
    failures: FailureShare,
}

/// An estimate that has decayed below this share says nothing any more.
const FADED: f64 = 1.0 / 8.0;

/// Latency of a server that has only ever failed.
const ASSUMED_US: f64 = 1_000_000.0;

impl PeakEwma {
    /// After `decay_us` without a sample an estimate has decayed to 1/e.
    pub fn new(decay_us: u64) -> Self {
        let decay_us = decay_us.max(1) as f64;
        Self {
            decay_us,
            estimate: AtomicU64::new(0),
            recorded_us: AtomicU64::new(0),
            failures: FailureShare::new(decay_us),
        }
    }

    /// An answer came after `latency_us`.
    pub fn record(&self, now_us: u64, latency_us: u64) {
        let latency = latency_us.max(1) as f64;
        let before = self.recorded_us.fetch_max(now_us, Relaxed);
        let keep = (-elapsed(before, now_us) / self.decay_us).exp();
        update(
            &self.estimate,
            |estimate| {
                if latency > estimate { latency } else { estimate * keep + latency * (1.0 - keep) }
            },
        );
        self.failures.success();
    }

    /// A request failed: no connection, reset, timed out, or an error that only a broken server gives.
    pub fn record_failure(&self, now_us: u64) {
        self.failures.failure(now_us);
    }

    /// The latency to expect, in microseconds, made worse by recent failures; 0.0 when nothing recent is known.
    pub fn read(&self, now_us: u64) -> f64 {
        let estimate = f64::from_bits(self.estimate.load(Relaxed));
        let fade = (-elapsed(self.recorded_us.load(Relaxed), now_us) / self.decay_us).exp();
        let share = self.failures.read(now_us);
        if share <= 0.0 && fade < FADED {
            return 0.0;
        }
        worsened(estimate * fade.max(FADED), share)
    }
}

/// Latencies by how busy the server was when the request came (Prequal's estimate).
///
/// The latency to expect now is the median of the recent ones that began at, or nearest to, the present number in flight.
/// Numbers up to 3 have a group each, larger ones two groups for every doubling.
pub struct LatencyAtInFlight {
    groups: [Group; GROUPS],
    failures: FailureShare,
}

const GROUPS: usize = 16;
const SAMPLES: usize = 8;

/// Samples older than this many ticks (about 10 s) are no longer recent.
const RECENT_TICKS: u32 = 10_000;

/// How fast failures are forgotten here.
const FAILURE_DECAY_US: f64 = 10_000_000.0;

/// The last answers to requests that began at about the same number in flight.
struct Group {
    samples: [AtomicU64; SAMPLES],
    next: AtomicU32,
    /// Of the recent samples, stamped with the newest: computed once when recorded, read for every choice.
    median: AtomicU64,
}

impl Default for LatencyAtInFlight {
    fn default() -> Self {
        Self::new()
    }
}

impl LatencyAtInFlight {
    pub fn new() -> Self {
        Self { groups: std::array::from_fn(|_| Group::new()), failures: FailureShare::new(FAILURE_DECAY_US) }
    }

    /// An answer came after `latency_us` to a request that found `in_flight_at_arrival` others at the server.
    pub fn record(&self, in_flight_at_arrival: u32, latency_us: u64, now_us: u64) {
        self.groups[group_of(in_flight_at_arrival)].record(latency_us, now_us);
        self.failures.success();
    }

    /// A request failed: no connection, reset, timed out, or an error that only a broken server gives.
    pub fn record_failure(&self, now_us: u64) {
        self.failures.failure(now_us);
    }

    /// The latency of one more request beside `in_flight_now`, in microseconds, made worse by recent failures; 0.0 when
    /// nothing recent is known.
    pub fn read(&self, in_flight_now: u32, now_us: u64) -> f64 {
        let here = group_of(in_flight_now);
        // At equal distance the busier group answers: rather too slow than too fast.
        let nearest = (0..GROUPS).find_map(|distance| {
            let busier = self.groups.get(here + distance).and_then(|group| group.recent_median(now_us));
            busier.or_else(|| self.groups[here.checked_sub(distance)?].recent_median(now_us))
        });
        worsened(nearest.unwrap_or(0.0), self.failures.read(now_us))
    }
}

/// 0, 1, 2, 3, then 4-5, 6-7, 8-11, 12-15, 16-23 and so on; everything from 192 up is one.
fn group_of(in_flight: u32) -> usize {
    if in_flight < 4 {
        return in_flight as usize;
    }
    let doubling = in_flight.ilog2();
    let upper_half = (in_flight >> (doubling - 1)) & 1;
    ((doubling * 2 + upper_half) as usize).min(GROUPS - 1)
}

impl Group {
    fn new() -> Self {
        Self { samples: std::array::from_fn(|_| AtomicU64::new(0)), next: AtomicU32::new(0), median: AtomicU64::new(0) }
    }

    fn record(&self, latency_us: u64, now_us: u64) {
        let slot = self.next.fetch_add(1, Relaxed) as usize % SAMPLES;
        self.samples[slot].store(stamped(latency_us, now_us), Relaxed);
        let (mut recent, mut count) = ([0; SAMPLES], 0);
        for sample in &self.samples {
            if let Some(latency) = if_recent(sample.load(Relaxed), now_us) {
                recent[count] = latency;
                count += 1;
            }
        }
        let recent = &mut recent[..count];
        recent.sort_unstable();
        if let Some(median) = recent.get(count / 2) {
            self.median.store(stamped(u64::from(*median), now_us), Relaxed);
        }
    }

    fn recent_median(&self, now_us: u64) -> Option<f64> {
        if_recent(self.median.load(Relaxed), now_us).map(f64::from)
    }
}

/// Latency and time in one word, so that neither is ever read without the other. Zero means nothing was recorded.
fn stamped(latency_us: u64, now_us: u64) -> u64 {
    latency_us.clamp(1, u64::from(u32::MAX)) << 32 | u64::from(ticks(now_us))
}

fn if_recent(word: u64, now_us: u64) -> Option<u32> {
    let age = ticks(now_us).wrapping_sub(word as u32);
    // An age in the upper half is a stamp from a thread that read the clock a little later.
    let recent = age <= RECENT_TICKS || age > u32::MAX / 2;
    (word != 0 && recent).then_some((word >> 32) as u32)
}

/// Time in steps of 1024 microseconds, which 32 bits hold for 50 days before they start over.
fn ticks(now_us: u64) -> u32 {
    (now_us >> 10) as u32
}

/// The recent share of failures, from 0 to 1: each outcome counts an eighth, and time heals.
struct FailureShare {
    decay_us: f64,
    /// Bits of an f64.
    share: AtomicU64,
    failed_us: AtomicU64,
}

const OUTCOME: f64 = 1.0 / 8.0;

/// A share below this is over.
const HEALED: f64 = 0.02;

/// How many times slower a server that only fails is made to look. One failure: about five times.
const WORST: f64 = 30.0;

impl FailureShare {
    fn new(decay_us: f64) -> Self {
        Self { decay_us, share: AtomicU64::new(0), failed_us: AtomicU64::new(0) }
    }

    fn success(&self) {
        if self.share.load(Relaxed) != 0 {
            update(&self.share, |share| if share < HEALED { 0.0 } else { share * (1.0 - OUTCOME) });
        }
    }

    fn failure(&self, now_us: u64) {
        let before = self.failed_us.fetch_max(now_us, Relaxed);
        let keep = (-elapsed(before, now_us) / self.decay_us).exp();
        update(&self.share, |share| share * keep * (1.0 - OUTCOME) + OUTCOME);
    }

    fn read(&self, now_us: u64) -> f64 {
        let share = f64::from_bits(self.share.load(Relaxed));
        if share < HEALED {
            return 0.0;
        }
        let share = share * (-elapsed(self.failed_us.load(Relaxed), now_us) / self.decay_us).exp();
        if share < HEALED { 0.0 } else { share }
    }
}

/// A latency as it should count; one that is not known counts as bad as soon as there are failures.
fn worsened(latency_us: f64, share: f64) -> f64 {
    if share <= 0.0 {
        return latency_us;
    }
    let latency_us = if latency_us > 0.0 { latency_us } else { ASSUMED_US };
    latency_us * (1.0 + WORST * share)
}

/// Replaces an f64 that lives in an atomic by a function of itself.
fn update(bits: &AtomicU64, change: impl Fn(f64) -> f64) {
    // The closure never gives up, so this never fails.
    let _ = bits.fetch_update(Relaxed, Relaxed, |old| Some(change(f64::from_bits(old)).to_bits()));
}

/// Microseconds between two moments; clocks of threads may disagree by a little, and then none have passed.
fn elapsed(before_us: u64, now_us: u64) -> f64 {
    now_us.saturating_sub(before_us) as f64
}

#[cfg(test)]
#[path = "latency_tests.rs"]
mod tests;
