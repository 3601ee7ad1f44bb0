//! The less loaded of two random servers: nearly as even as looking at all, and free of herds between gateways.
//!
//! The two are different: drawing with replacement would compare a server with itself, in a pool of two half the time.

use super::{Chance, Load, Policy, Signal, random};

pub(super) struct PowerOfTwo;

impl Policy for PowerOfTwo {
    fn signal(&self) -> Signal {
        Signal::None
    }

    fn needs_key(&self) -> bool {
        false
    }

    /// A tie goes to the one drawn first, so idle servers share by weight.
    fn pick(&self, candidates: &[Load], _key: Option<u64>, chance: &mut Chance) -> usize {
        if candidates.len() < 2 {
            return 0;
        }
        let (one, other) = random::two_distinct(candidates, chance);
        if candidates[other].relative_load() < candidates[one].relative_load() { other } else { one }
    }
}
