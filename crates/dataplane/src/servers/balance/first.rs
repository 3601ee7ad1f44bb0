//! Fill the first server to its limit, then the next: the others idle, so a scaler can take them away.

use super::{Chance, Load, Policy, Signal};

pub(super) struct First;

impl Policy for First {
    fn signal(&self) -> Signal {
        Signal::None
    }

    fn needs_key(&self) -> bool {
        false
    }

    /// Candidates are in member order and below their limit, so the first is the one to fill.
    fn pick(&self, _candidates: &[Load], _key: Option<u64>, _chance: &mut Chance) -> usize {
        0
    }
}
