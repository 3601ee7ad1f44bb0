//! Fewest requests in flight per unit of weight, among all servers. Idle-first, and exact because the gateway counts.
//!
//! Ties are shared by smooth weighted round robin: at low load every server is idle, and always taking the first of them
//! would leave the others cold.

use super::round_robin::Rotation;
use super::{Chance, Load, Policy, Signal};

pub(super) struct LeastRequests {
    ties: Rotation,
}

impl LeastRequests {
    pub(super) fn new(members: usize) -> Self {
        Self { ties: Rotation::new(members) }
    }
}

impl Policy for LeastRequests {
    fn signal(&self) -> Signal {
        Signal::None
    }

    fn needs_key(&self) -> bool {
        false
    }

    fn pick(&self, candidates: &[Load], _key: Option<u64>, _chance: &mut Chance) -> usize {
        let (mut least, mut at_least, mut ties) = (f64::INFINITY, 0, 0);
        for (at, load) in candidates.iter().enumerate() {
            let relative = load.relative_load();
            if relative < least {
                (least, at_least, ties) = (relative, at, 1);
            } else if relative <= least {
                ties += 1;
            }
        }
        if ties < 2 {
            return at_least;
        }
        self.ties.next(candidates, |load| load.relative_load() <= least)
    }
}
