//! Hot or cold by requests in flight, then by latency: the HCL rule of Prequal (Wydrowski et al., NSDI 2024).
//!
//! A server is hot when its requests in flight exceed a quantile of what is seen. While a server is cold, latency decides:
//! lowest wins. When all are hot, fewest in flight wins. The paper probes other machines and keeps a pool of answers; here
//! the gateway owns the counters, so each pick reads them fresh: all servers of a pool up to 16, else a random 16, the
//! paper's pool size.
//!
//! Two rules are ours. The quantile is interpolated, so in a pool of four the one server that is ahead of the others is
//! hot. And latencies within half of the lowest count as equal, and then fewer in flight wins: a median of eight requests
//! of mixed lengths is off by that much, and would lead requests past an idle server to a busy one.

use super::{Chance, Load, Policy, Signal, lowest_latency};

/// Servers looked at in one pick.
const SEEN_MAX: usize = 16;

/// Latencies up to this times the lowest are as good as it.
const ALIKE: f64 = 1.5;

/// The paper's default, 2^-0.25.
pub(super) fn default_quantile() -> f64 {
    0.5_f64.powf(0.25)
}

pub(super) struct Prequal {
    quantile: f64,
}

impl Prequal {
    /// A quantile outside 0 to 1 is forced into it.
    pub(super) fn new(quantile: f64) -> Self {
        Self { quantile: quantile.max(0.0).clamp(0.0, 1.0) }
    }
}

impl Policy for Prequal {
    fn signal(&self) -> Signal {
        Signal::AtInFlight
    }

    fn needs_key(&self) -> bool {
        false
    }

    fn pick(&self, candidates: &[Load], _key: Option<u64>, chance: &mut Chance) -> usize {
        if candidates.len() < 2 {
            return 0;
        }
        let mut positions = [0; SEEN_MAX];
        let seen = if candidates.len() <= SEEN_MAX {
            for (at, position) in positions.iter_mut().enumerate() {
                *position = at;
            }
            candidates.len()
        } else {
            chance.distinct(candidates.len(), &mut positions)
        };
        let positions = &positions[..seen];
        let hot_above = self.hot_above(candidates, positions);
        let is_cold = |load: &Load| load.relative_load() <= hot_above;
        let cold = || positions.iter().map(|at| candidates[*at]).filter(is_cold);
        let unknown = lowest_latency(cold());
        let latency = |load: &Load| load.known_latency().unwrap_or(unknown);
        let lowest = cold().map(|load| latency(&load)).fold(f64::INFINITY, f64::min);
        // No cold server: `lowest` stays infinite, and all are compared by load alone.
        let good = |load: &Load| !lowest.is_finite() || (is_cold(load) && latency(load) <= lowest * ALIKE);
        least_loaded(candidates, positions.iter().copied().filter(|at| good(&candidates[*at])), chance)
    }
}

impl Prequal {
    /// The load above which a server is hot: the quantile of the seen loads, interpolated between neighbours.
    fn hot_above(&self, candidates: &[Load], positions: &[usize]) -> f64 {
        let mut sorted = [0.0; SEEN_MAX];
        let loads = &mut sorted[..positions.len()];
        for (load, at) in loads.iter_mut().zip(positions) {
            *load = candidates[*at].relative_load();
        }
        loads.sort_unstable_by(f64::total_cmp);
        let rank = self.quantile * (loads.len() - 1) as f64;
        let below = rank.floor();
        let low = loads[below as usize];
        let high = loads[(below as usize + 1).min(loads.len() - 1)];
        low + (high - low) * (rank - below)
    }
}

/// The least loaded of some positions; ties fall by chance and weight.
fn least_loaded(candidates: &[Load], positions: impl Iterator<Item = usize>, chance: &mut Chance) -> usize {
    let (mut least, mut chosen, mut weights) = (f64::INFINITY, 0, 0.0);
    for at in positions {
        let (load, weight) = (candidates[at].relative_load(), candidates[at].sane_weight());
        if load < least {
            (least, chosen, weights) = (load, at, weight);
        } else if load <= least {
            weights += weight;
            if chance.unit() * weights < weight {
                chosen = at;
            }
        }
    }
    chosen
}
