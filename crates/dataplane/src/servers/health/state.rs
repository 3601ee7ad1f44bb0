//! Which servers of a pool are used: one pure decision over all of them, with a reason for each.

/// Where a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Not known to be ready yet.
    Starting,
    Up,
    /// Active checks fail.
    Down,
    /// Requests failed; out for a while.
    Ejected,
    /// Leaving: finishes what it has.
    Draining,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
        }
    }
}

/// What is known about one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Member {
    pub draining: bool,
    /// Known to be ready without a check: an own process that said so, or a pool whose checks are off.
    pub ready: bool,
    /// `active::RiseFall::verdict`; `None` while there is none or checks are off.
    pub active_up: Option<bool>,
    /// `passive::Passive::until_ms`; 0 when it was never ejected.
    pub ejected_until_ms: u64,
}

/// The decision, in the order of the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub usable: Vec<bool>,
    pub states: Vec<(State, &'static str)>,
    /// So few are healthy that health is ignored.
    pub panic: bool,
    /// The end of the next ejection: when to decide again if nothing else happens.
    pub next_change_ms: Option<u64>,
}

/// Decides over a pool.
///
/// * At most `eject_share_max` of the servers that could serve (neither draining nor starting) are ejected at a time; from
///   two servers on at least one may be, unless the share is zero. Over the ceiling, those whose ejection ends
///   soonest are let back first, so the worst records stay out.
/// * When fewer than `panic_share` of them are usable, health is ignored and all of them are used: a little service from
///   doubtful servers beats none, and beats the whole load on the last one.
pub fn decide(members: &[Member], eject_share_max: f64, panic_share: f64, now_ms: u64) -> Verdict {
    let mut states: Vec<(State, &'static str)> = members.iter().map(|member| judge(member, now_ms)).collect();
    let next_change_ms = members.iter().map(|member| member.ejected_until_ms).filter(|until| *until > now_ms).min();
    let could_serve = states.iter().filter(|(state, _)| could_serve(*state)).count();

    let mut ejected: Vec<usize> = (0..members.len()).filter(|at| states[*at].0 == State::Ejected).collect();
    ejected.sort_by_key(|at| members[*at].ejected_until_ms);
    let over = ejected.len().saturating_sub(ceiling(could_serve, eject_share_max));
    for at in &ejected[..over] {
        states[*at] = (State::Up, "requests failed, but too many servers of the pool are ejected");
    }

    let mut usable: Vec<bool> = states.iter().map(|(state, _)| *state == State::Up).collect();
    let healthy = usable.iter().filter(|usable| **usable).count();
    let panic = (healthy as f64) < panic_share * could_serve as f64;
    if panic {
        for (usable, (state, reason)) in usable.iter_mut().zip(&mut states) {
            *usable = could_serve_in_panic(*state, reason);
        }
    }
    Verdict { usable, states, panic, next_change_ms }
}

/// One member, without regard to the others.
fn judge(member: &Member, now_ms: u64) -> (State, &'static str) {
    match member.active_up {
        _ if member.draining => (State::Draining, "takes no new requests"),
        Some(false) => (State::Down, "active checks fail"),
        None if !member.ready => (State::Starting, "not known to be ready"),
        _ if member.ejected_until_ms > now_ms => (State::Ejected, "requests failed"),
        Some(true) => (State::Up, "active checks pass"),
        None => (State::Up, "ready"),
    }
}

fn could_serve(state: State) -> bool {
    !matches!(state, State::Draining | State::Starting)
}

/// Whether panic uses a server; the reason of one that it would not have used says so.
fn could_serve_in_panic(state: State, reason: &mut &'static str) -> bool {
    match state {
        State::Down => *reason = "active checks fail; used because too few servers are healthy",
        State::Ejected => *reason = "requests failed; used because too few servers are healthy",
        State::Up | State::Starting | State::Draining => {}
    }
    could_serve(state)
}

/// How many servers may be ejected at a time.
fn ceiling(could_serve: usize, share_max: f64) -> usize {
    // The hair's breadth makes 0.29 of 100 come out as 29.
    let most = (could_serve as f64 * share_max + 1e-9).floor() as usize;
    if could_serve >= 2 && share_max > 0.0 { most.max(1) } else { most }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
