//! In turn, by weight, and smooth: weights 5, 1, 1 give a a b a c a a, not five times a in a row.
//!
//! Each server has a balance. A pick credits every candidate with its weight, takes the highest balance, and debits it
//! with the sum of the weights. Balances belong to identities, so servers may come, go and change place.

use std::sync::{Mutex, PoisonError};

use super::{Chance, Load, Policy, Signal};

pub(super) struct RoundRobin {
    rotation: Rotation,
}

impl RoundRobin {
    pub(super) fn new(members: usize) -> Self {
        Self { rotation: Rotation::new(members) }
    }
}

impl Policy for RoundRobin {
    fn signal(&self) -> Signal {
        Signal::None
    }

    fn needs_key(&self) -> bool {
        false
    }

    fn pick(&self, candidates: &[Load], _key: Option<u64>, _chance: &mut Chance) -> usize {
        if candidates.len() < 2 {
            return 0;
        }
        self.rotation.next(candidates, |_| true)
    }
}

/// Whose turn it is. Also settles ties of other policies.
pub(super) struct Rotation {
    turns: Mutex<Turns>,
}

struct Turns {
    accounts: Vec<Account>,
    picks: u64,
}

struct Account {
    identity: u64,
    balance: f64,
    /// The pick in which it last took part.
    seen: u64,
}

/// Departed servers remembered beside twice the present ones.
const DEPARTED_MAX: usize = 64;

impl Rotation {
    pub(super) fn new(members: usize) -> Self {
        Self { turns: Mutex::new(Turns { accounts: Vec::with_capacity(members.min(1024)), picks: 0 }) }
    }

    /// The position whose turn it is among those that take part; 0 when none does.
    pub(super) fn next(&self, candidates: &[Load], takes_part: impl Fn(&Load) -> bool) -> usize {
        let present = || candidates.iter().enumerate().filter(|(_, load)| takes_part(load));
        let total: f64 = present().map(|(_, load)| load.sane_weight()).sum();
        // A panic cannot leave the balances worse than unfair.
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.picks += 1;
        let mut near = 0;
        let mut best: Option<(usize, usize, f64)> = None;
        for (at, load) in present() {
            let slot = turns.slot(load.identity, near, candidates.len());
            near = slot + 1;
            let picks = turns.picks;
            let account = &mut turns.accounts[slot];
            account.seen = picks;
            // Constant weights never meet these bounds. They pay off debts from the time of heavier weights at once.
            account.balance = account.balance.clamp(-total, 2.0 * total) + load.sane_weight();
            if best.is_none_or(|(_, _, highest)| account.balance > highest) {
                best = Some((at, slot, account.balance));
            }
        }
        let Some((at, slot, _)) = best else { return 0 };
        turns.accounts[slot].balance -= total;
        at
    }
}

impl Turns {
    /// Where the account of an identity is; opens one for a newcomer. `near` is where to look first: candidates come in
    /// member order, and so do accounts, so a whole pick walks the accounts once.
    fn slot(&mut self, identity: u64, near: usize, present: usize) -> usize {
        let known = |account: &Account| account.identity == identity;
        let start = near.min(self.accounts.len());
        if let Some(ahead) = self.accounts[start..].iter().position(known) {
            return start + ahead;
        }
        if let Some(behind) = self.accounts[..start].iter().position(known) {
            return behind;
        }
        let account = Account { identity, balance: 0.0, seen: self.picks };
        if self.accounts.len() < 2 * present + DEPARTED_MAX {
            self.accounts.push(account);
            return self.accounts.len() - 1;
        }
        // Full: the account that was idle longest is given away. One that took part in this pick is never the oldest,
        // because there are more accounts than candidates.
        let oldest = (0..self.accounts.len()).min_by_key(|slot| self.accounts[*slot].seen).unwrap_or(0);
        self.accounts[oldest] = account;
        oldest
    }
}
