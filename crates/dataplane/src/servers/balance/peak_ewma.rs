//! Lowest expected wait: peak-sensitive latency x (requests in flight + 1) / weight, as Finagle introduced it.
//!
//! Small pools are looked at whole; larger ones by two draws, which keeps several gateways from running to the same
//! server.

use super::{Chance, Load, Policy, Signal, lowest_latency, random};

/// Pools up to this size are looked at whole.
const WHOLE_MAX: usize = 8;

pub(super) fn default_decay_ms() -> u64 {
    10_000
}

pub(super) struct PeakEwma;

impl Policy for PeakEwma {
    fn signal(&self) -> Signal {
        Signal::PeakEwma
    }

    fn needs_key(&self) -> bool {
        false
    }

    fn pick(&self, candidates: &[Load], _key: Option<u64>, chance: &mut Chance) -> usize {
        if candidates.len() < 2 {
            return 0;
        }
        if candidates.len() > WHOLE_MAX {
            let (one, other) = random::two_distinct(candidates, chance);
            let pair = [candidates[one], candidates[other]];
            let unknown = lowest_latency(pair.into_iter());
            return if cost(&pair[1], unknown) < cost(&pair[0], unknown) { other } else { one };
        }
        let unknown = lowest_latency(candidates.iter().copied());
        let (mut lowest, mut chosen, mut weights) = (f64::INFINITY, 0, 0.0);
        for (at, load) in candidates.iter().enumerate() {
            let cost = cost(load, unknown);
            // Ties, as in a pool without any measurement yet, fall by chance and weight.
            if cost < lowest {
                (lowest, chosen, weights) = (cost, at, load.sane_weight());
            } else if cost <= lowest {
                weights += load.sane_weight();
                if chance.unit() * weights < load.sane_weight() {
                    chosen = at;
                }
            }
        }
        chosen
    }
}

fn cost(load: &Load, unknown: f64) -> f64 {
    load.known_latency().unwrap_or(unknown) * (f64::from(load.in_flight) + 1.0) / load.sane_weight()
}
