//! Which server takes a request: one file per policy, one list here.
//!
//! A policy is a pure choice among servers that may take the request. It opens nothing, waits for nothing and allocates
//! nothing; time is inside the numbers it is shown, and chance is handed in. Adding a policy takes a file, a variant of
//! `PolicySettings` and a line in `build`. What is deliberately not here: health, limits and queues, which decide who is
//! a candidate at all.

mod chance;
mod first;
mod hash;
pub mod latency;
mod least_requests;
mod peak_ewma;
mod power_of_two;
mod prequal;
mod random;
mod round_robin;
pub mod slow_start;

#[cfg(test)]
mod policy_tests;

pub use chance::Chance;
pub use hash::hash_key;

use serde::Deserialize;

/// One server as a policy sees it at this moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Position in the pool's member list. A policy answers with a position in the slice it was given, not with this.
    pub index: usize,
    /// Stable hash of the server's name, so that state outlives a change of membership.
    pub identity: u64,
    /// Above zero; slow start already applied.
    pub weight: f64,
    /// Requests being served, without the one to be placed.
    pub in_flight: u32,
    pub limit: u32,
    /// As the policy's `Signal` asks; 0.0 when not known yet.
    pub latency_us: f64,
}

impl Load {
    /// The weight, forced into a range in which sums and quotients stay finite.
    fn sane_weight(&self) -> f64 {
        // `clamp` would let NaN through; `max` turns it into the lower end.
        self.weight.max(1e-6).clamp(1e-6, 1e6)
    }

    /// Requests in flight per unit of weight.
    fn relative_load(&self) -> f64 {
        f64::from(self.in_flight) / self.sane_weight()
    }

    fn known_latency(&self) -> Option<f64> {
        (self.latency_us.is_finite() && self.latency_us > 0.0).then_some(self.latency_us)
    }
}

/// What `Load::latency_us` must hold for a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Not looked at.
    None,
    /// `latency::PeakEwma::read`.
    PeakEwma,
    /// `latency::LatencyAtInFlight::read`.
    AtInFlight,
}

/// A way to choose. Shared by all threads, so inner state is behind atomics or a short lock.
pub trait Policy: Send + Sync {
    fn signal(&self) -> Signal;

    /// Whether `pick` wants the hash of the request's key.
    fn needs_key(&self) -> bool;

    /// Chooses a server; the answer is a position in `candidates`.
    ///
    /// The candidates are in member order, usable and below their limit, and there is at least one (for an empty slice
    /// the answer is 0). Takes O(n) and allocates nothing but a newcomer's state.
    fn pick(&self, candidates: &[Load], key: Option<u64>, chance: &mut Chance) -> usize;
}

/// A policy and its settings, as the snapshot names it: `{"name": "hash", "bound": 1.25}`.
#[derive(Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicySettings {
    Random {},
    RoundRobin {},
    LeastRequests {},
    PowerOfTwo {},
    PeakEwma {
        /// How fast a peak is forgotten: after this time it counts 1/e.
        #[serde(default = "peak_ewma::default_decay_ms")]
        decay_ms: u64,
    },
    Prequal {
        /// Servers above this quantile of requests in flight are hot.
        #[serde(default = "prequal::default_quantile")]
        quantile: f64,
    },
    Hash {
        /// Most load of a server over its fair share; at least 1.
        bound: f64,
    },
    First {},
}

impl PolicySettings {
    /// What to hand to `latency::PeakEwma::new` in this pool.
    pub fn decay_us(&self) -> u64 {
        let decay_ms = if let Self::PeakEwma { decay_ms } = self { *decay_ms } else { peak_ewma::default_decay_ms() };
        decay_ms.saturating_mul(1000)
    }
}

/// The policy of a pool of about `members` servers. Membership may change later: state is keyed by `Load::identity`.
pub fn build(settings: &PolicySettings, members: usize) -> Box<dyn Policy> {
    match *settings {
        PolicySettings::Random {} => Box::new(random::Random),
        PolicySettings::RoundRobin {} => Box::new(round_robin::RoundRobin::new(members)),
        PolicySettings::LeastRequests {} => Box::new(least_requests::LeastRequests::new(members)),
        PolicySettings::PowerOfTwo {} => Box::new(power_of_two::PowerOfTwo),
        PolicySettings::PeakEwma { .. } => Box::new(peak_ewma::PeakEwma),
        PolicySettings::Prequal { quantile } => Box::new(prequal::Prequal::new(quantile)),
        PolicySettings::Hash { bound } => Box::new(hash::Hash::new(bound)),
        PolicySettings::First {} => Box::new(first::First),
    }
}

/// The lowest latency that is known, or 1 when none is. It stands in for an unknown one: a newcomer is tried at once,
/// yet its requests in flight count like anybody's, so it is not flooded before its first answer.
fn lowest_latency(candidates: impl Iterator<Item = Load>) -> f64 {
    let lowest = candidates.filter_map(|load| load.known_latency()).fold(f64::INFINITY, f64::min);
    if lowest.is_finite() { lowest } else { 1.0 }
}
