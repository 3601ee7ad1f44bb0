//! Random by weight: no state, no knowledge, and the yardstick for the other policies.

use super::{Chance, Load, Policy, Signal};

pub(super) struct Random;

impl Policy for Random {
    fn signal(&self) -> Signal {
        Signal::None
    }

    fn needs_key(&self) -> bool {
        false
    }

    fn pick(&self, candidates: &[Load], _key: Option<u64>, chance: &mut Chance) -> usize {
        weighted(candidates, None, chance)
    }
}

/// A position, likely in proportion to its weight, never `skipped`.
pub(super) fn weighted(candidates: &[Load], skipped: Option<usize>, chance: &mut Chance) -> usize {
    let others = || candidates.iter().enumerate().filter(|(at, _)| Some(*at) != skipped);
    let total: f64 = others().map(|(_, load)| load.sane_weight()).sum();
    let mut left = chance.unit() * total;
    let mut last = 0;
    for (at, load) in others() {
        left -= load.sane_weight();
        last = at;
        if left < 0.0 {
            break;
        }
    }
    // Rounding may leave a rest after the last one; it belongs to the last one.
    last
}

/// Two different positions, each likely in proportion to its weight; twice the same when there is only one.
pub(super) fn two_distinct(candidates: &[Load], chance: &mut Chance) -> (usize, usize) {
    let one = weighted(candidates, None, chance);
    let other = if candidates.len() > 1 { weighted(candidates, Some(one), chance) } else { one };
    (one, other)
}
