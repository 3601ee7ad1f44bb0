use proptest::prelude::*;

use super::*;

const UP: Member = Member { draining: false, ready: true, active_up: Some(true), ejected_until_ms: 0 };
const DOWN: Member = Member { active_up: Some(false), ..UP };
const STARTING: Member = Member { ready: false, active_up: None, ..UP };
const DRAINING: Member = Member { draining: true, ..UP };

fn ejected(until_ms: u64) -> Member {
    Member { ejected_until_ms: until_ms, ..UP }
}

fn states(verdict: &Verdict) -> Vec<&'static str> {
    verdict.states.iter().map(|(state, _)| state.as_str()).collect()
}

#[test]
fn each_member_has_a_state_and_a_reason() {
    for (member, state, reason, usable) in [
        (UP, State::Up, "active checks pass", true),
        (Member { active_up: None, ..UP }, State::Up, "ready", true),
        (Member { ready: false, ..UP }, State::Up, "active checks pass", true),
        (STARTING, State::Starting, "not known to be ready", false),
        (DOWN, State::Down, "active checks fail", false),
        (Member { ready: false, ..DOWN }, State::Down, "active checks fail", false),
        (ejected(11), State::Ejected, "requests failed", false),
        (ejected(10), State::Up, "active checks pass", true),
        (DRAINING, State::Draining, "takes no new requests", false),
        (Member { draining: true, ..ejected(99) }, State::Draining, "takes no new requests", false),
        (Member { active_up: Some(false), ..ejected(99) }, State::Down, "active checks fail", false),
        (Member { ejected_until_ms: 99, ..STARTING }, State::Starting, "not known to be ready", false),
    ] {
        let verdict = decide(&[member, UP], 1.0, 0.0, 10);
        assert_eq!((verdict.states[0], verdict.usable[0]), ((state, reason), usable), "{member:?}");
        assert_eq!((verdict.states[1].0, verdict.usable[1], verdict.panic), (State::Up, true, false));
    }
}

#[test]
fn an_empty_pool_has_nothing_to_decide() {
    let verdict = decide(&[], 0.5, 0.5, 10);
    assert_eq!(verdict, Verdict { usable: vec![], states: vec![], panic: false, next_change_ms: None });
}

#[test]
fn the_ceiling_lets_those_back_first_whose_ejection_ends_soonest() {
    let verdict = decide(&[ejected(40), ejected(20), ejected(30), UP], 0.5, 0.0, 10);
    assert_eq!(states(&verdict), ["ejected", "up", "ejected", "up"]);
    assert_eq!(verdict.usable, [false, true, false, true]);
    assert_eq!(verdict.states[1].1, "requests failed, but too many servers of the pool are ejected");
}

#[test]
fn the_ceiling_in_numbers() {
    for (servers, share, expected) in [
        (1, 0.5, 0),
        (1, 1.0, 1),
        (2, 0.5, 1),
        (2, 0.1, 1),
        (3, 0.5, 1),
        (4, 0.5, 2),
        (10, 0.3, 3),
        (100, 0.29, 29),
        (4, 0.0, 0),
        (4, 1.0, 4),
        (4, f64::NAN, 0),
        (4, -1.0, 0),
    ] {
        let verdict = decide(&vec![ejected(20); servers], share, 0.0, 10);
        let found = states(&verdict).iter().filter(|state| **state == "ejected").count();
        assert_eq!(found, expected, "{share} of {servers}");
    }
}

#[test]
fn leaving_and_starting_servers_do_not_raise_the_ceiling() {
    let members = [ejected(20), ejected(30), DRAINING, DRAINING, STARTING, STARTING];
    assert_eq!(states(&decide(&members, 0.5, 0.0, 10))[..2], ["up", "ejected"]);
}

#[test]
fn panic_uses_all_but_the_leaving_and_the_starting() {
    let verdict = decide(&[DOWN, DOWN, DOWN, UP, DRAINING, STARTING], 0.5, 0.3, 10);
    assert!(verdict.panic);
    assert_eq!(verdict.usable, [true, true, true, true, false, false]);
    assert_eq!(states(&verdict), ["down", "down", "down", "up", "draining", "starting"]);
    assert_eq!(verdict.states[0].1, "active checks fail; used because too few servers are healthy");
}

#[test]
fn panic_begins_below_its_share() {
    for (up, down, share, expected) in
        [(1, 1, 0.5, false), (1, 2, 0.5, true), (0, 1, 0.3, true), (0, 3, 0.0, false), (3, 7, 0.3, false)]
    {
        let members: Vec<Member> = [vec![UP; up], vec![DOWN; down]].concat();
        assert_eq!(decide(&members, 0.5, share, 10).panic, expected, "{up} up, {down} down, {share}");
    }
}

#[test]
fn a_pool_that_is_only_starting_is_no_panic() {
    let verdict = decide(&[STARTING, STARTING], 0.5, 0.5, 10);
    assert_eq!((verdict.panic, verdict.usable), (false, vec![false, false]));
}

#[test]
fn panic_ignores_ejections_too() {
    let verdict = decide(&[ejected(20), DOWN, DOWN], 1.0, 0.3, 10);
    assert_eq!((verdict.panic, verdict.usable), (true, vec![true; 3]));
    assert_eq!(verdict.states[0], (State::Ejected, "requests failed; used because too few servers are healthy"));
}

#[test]
fn the_next_change_is_the_first_end_of_an_ejection() {
    assert_eq!(decide(&[ejected(40), ejected(20), ejected(5), UP], 0.5, 0.0, 10).next_change_ms, Some(20));
    assert_eq!(decide(&[ejected(10), UP], 0.5, 0.0, 10).next_change_ms, None);
}

prop_compose! {
    fn any_member()(draining: bool, ready: bool, active_up: Option<bool>, ejected_until_ms in 0_u64..40) -> Member {
        Member { draining, ready, active_up, ejected_until_ms }
    }
}

proptest! {
    #[test]
    fn a_decision_keeps_its_promises(
        members in prop::collection::vec(any_member(), 0..12), eject_share in 0.0..=1.0, panic_share in 0.0..=1.0, now_ms in 0_u64..40,
    ) {
        let verdict = decide(&members, eject_share, panic_share, now_ms);
        prop_assert_eq!(verdict.usable.len(), members.len());
        prop_assert_eq!(verdict.states.len(), members.len());
        let count = |state| verdict.states.iter().filter(|(found, _)| *found == state).count();
        let could_serve = count(State::Up) + count(State::Down) + count(State::Ejected);
        prop_assert!(count(State::Ejected) <= ((could_serve as f64 * eject_share + 1e-9) as usize).max(1));
        for (usable, (state, _)) in verdict.usable.iter().zip(&verdict.states) {
            match state {
                State::Starting | State::Draining => prop_assert!(!usable),
                State::Up => prop_assert!(usable),
                State::Down | State::Ejected => prop_assert_eq!(*usable, verdict.panic),
            }
        }
        // With a panic share, someone serves as long as anyone could.
        if panic_share > 0.0 && could_serve > 0 {
            prop_assert!(verdict.usable.contains(&true));
        }
    }
}
