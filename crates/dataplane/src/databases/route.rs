//! Where a unit goes, and why: decided once, from its plans and the state of its session. Pure.

use super::plan::{Access, Effect, Plan, Standby};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub role: Role,
    pub reason: &'static str,
}

/// What of a session matters here.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// Reads are spread over replicas at all.
    pub split: bool,
    /// `default_transaction_read_only` of the session.
    pub reads_only: bool,
    /// `default_transaction_isolation` of the session is what no standby runs.
    pub serializable: bool,
    /// A setting of the session makes it unsafe to read its statements as the planner did.
    pub unusual: bool,
    /// The batch goes on behind the unit, where nothing of it can be repeated elsewhere.
    pub goes_on: bool,
    /// Something of the unit is run, not only prepared or described.
    pub runs: bool,
}

const SERIALIZABLE: &str = "serializable";
const ASKED: &str = "the statement asks for a replica";

/// Where a unit goes whose session holds no connection. `plans` are those of its statements, with what was learnt.
pub fn decide<'p>(plans: impl Iterator<Item = (&'p Plan, bool)>, situation: Situation) -> Route {
    const fn primary(reason: &'static str) -> Route {
        Route { role: Role::Primary, reason }
    }
    const fn replica(reason: &'static str) -> Route {
        Route { role: Role::Replica, reason }
    }
    if !situation.split {
        return primary("there is no read/write split");
    }
    if situation.unusual {
        return primary("settings of the session change how SQL is read");
    }
    let (mut found, mut count, mut may_write) = (None, 0, false);
    // The unit itself has begun a transaction that reads only, and not ended it.
    let mut is_read_only = false;
    for (plan, learnt) in plans {
        count += plan.statements.max(1);
        may_write |= plan.may_write;
        let begins = begins(plan);
        let route = match plan.hint.as_deref() {
            Some("primary") => return primary("the statement asks for the primary"),
            _ if !plan.pins.is_empty() => return primary("the session keeps its connection after it"),
            Some("replica") => replica(ASKED),
            _ if learnt => return primary("a replica refused it before"),
            _ if is_read_only && is_served(plan) => replica("the transaction is read only"),
            _ => match begins {
                Some(mode)
                    if situation.serializable && mode.isolation.is_none() || mode.isolation == Some(SERIALIZABLE) =>
                {
                    return primary("a serializable transaction");
                }
                Some(_) if plan.statements != 1 && !is_served(plan) => {
                    return primary("the transaction does what a replica does not serve");
                }
                Some(Modes { read_only: Some(true), .. }) => replica("the transaction is read only"),
                Some(Modes { read_only: None, .. }) if situation.reads_only => {
                    replica("transactions of the session are read only")
                }
                Some(_) => return primary("a transaction that may write"),
                None if situation.serializable => return primary("transactions of the session are serializable"),
                None if plan.access == Access::Read => replica("it reads only"),
                None => return primary("it may write, or change its session"),
            },
        };
        is_read_only = (is_read_only || begins.is_some()) && !ends(plan);
        found = Some(route);
    }
    let asked = found.is_some_and(|route| route.reason == ASKED);
    if situation.goes_on && (situation.runs || may_write) && !asked {
        // Whatever comes behind it goes where it went, and a replica may refuse it there.
        return primary("the batch goes on, and may be for the primary");
    }
    if may_write && count > 1 && !asked {
        // A replica could refuse it only after answers to what came before were passed on.
        return primary("one of several statements may write");
    }
    found.unwrap_or(primary("nothing says where"))
}

fn ends(plan: &Plan) -> bool {
    plan.effects.iter().any(|effect| matches!(effect, Effect::Commit { .. } | Effect::Rollback {}))
}

/// Whether a replica serves all of it in a transaction that reads only.
fn is_served(plan: &Plan) -> bool {
    let may_write = |effect: &Effect| matches!(effect, Effect::Begin { read_only: None | Some(false), .. });
    plan.standby <= Standby::Serve && !plan.may_write && !plan.effects.iter().any(may_write)
}

/// What a statement that begins a transaction says of it.
#[derive(Clone, Copy)]
struct Modes<'p> {
    read_only: Option<bool>,
    isolation: Option<&'p str>,
}

fn begins(plan: &Plan) -> Option<Modes<'_>> {
    plan.effects.iter().find_map(|effect| match effect {
        Effect::Begin { read_only, isolation } => {
            Some(Modes { read_only: *read_only, isolation: isolation.as_deref() })
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Situation =
        Situation { split: true, reads_only: false, serializable: false, unusual: false, goes_on: false, runs: true };

    fn plan(access: Access, effects: Vec<Effect>, hint: Option<&str>) -> Plan {
        let standby = if access == Access::Read { Standby::Serve } else { Standby::Never };
        let hint = hint.map(str::to_owned);
        Plan { access, effects, hint, may_write: false, pins: vec![], standby, ..Plan::doubtful("test") }
    }

    fn begin(read_only: Option<bool>, isolation: Option<&str>) -> Plan {
        let effect = Effect::Begin { read_only, isolation: isolation.map(str::to_owned) };
        Plan { standby: Standby::Replay, ..plan(Access::Write, vec![effect], None) }
    }

    fn role(plans: &[Plan], situation: Situation) -> Role {
        decide(plans.iter().map(|plan| (plan, false)), situation).role
    }

    #[test]
    fn only_what_surely_reads_goes_to_a_replica() {
        let read = plan(Access::Read, vec![], None);
        let write = plan(Access::Write, vec![], None);
        assert_eq!(role(std::slice::from_ref(&read), USUAL), Role::Replica);
        assert_eq!(role(&[read.clone(), write.clone()], USUAL), Role::Primary);
        assert_eq!(role(&[read.clone(), read.clone()], USUAL), Role::Replica);
        assert_eq!(role(&[], USUAL), Role::Primary);
        assert_eq!(role(std::slice::from_ref(&read), Situation { split: false, ..USUAL }), Role::Primary);
        assert_eq!(role(std::slice::from_ref(&read), Situation { unusual: true, ..USUAL }), Role::Primary);
        assert_eq!(decide([(&read, true)].into_iter(), USUAL).role, Role::Primary);
    }

    #[test]
    fn transactions_go_where_they_say() {
        let begin = |read_only| begin(read_only, None);
        let reads_only = Situation { reads_only: true, ..USUAL };
        assert_eq!(role(&[begin(None)], USUAL), Role::Primary);
        assert_eq!(role(&[begin(Some(true))], USUAL), Role::Replica);
        assert_eq!(role(&[begin(None)], reads_only), Role::Replica);
        assert_eq!(role(&[begin(Some(false))], reads_only), Role::Primary);
    }

    #[test]
    fn of_several_none_may_be_refused() {
        let known = plan(Access::Read, vec![], None);
        let unknown = Plan { may_write: true, ..known.clone() };
        assert_eq!(role(std::slice::from_ref(&unknown), USUAL), Role::Replica);
        assert_eq!(role(&[known.clone(), known.clone()], USUAL), Role::Replica);
        assert_eq!(role(&[known.clone(), unknown.clone()], USUAL), Role::Primary);
        assert_eq!(role(&[Plan { statements: 2, ..unknown.clone() }], USUAL), Role::Primary);
        assert_eq!(role(&[known, Plan { hint: Some("replica".into()), ..unknown }], USUAL), Role::Replica);
    }

    #[test]
    fn what_goes_on_may_write_later() {
        let known = plan(Access::Read, vec![], None);
        let unknown = Plan { may_write: true, ..known.clone() };
        let goes_on = Situation { goes_on: true, ..USUAL };
        let only_prepares = Situation { runs: false, ..goes_on };
        assert_eq!(role(std::slice::from_ref(&known), goes_on), Role::Primary);
        assert_eq!(role(std::slice::from_ref(&known), only_prepares), Role::Replica);
        assert_eq!(role(std::slice::from_ref(&unknown), only_prepares), Role::Primary);
        assert_eq!(role(&[Plan { hint: Some("replica".into()), ..known.clone() }], goes_on), Role::Replica);
        assert_eq!(role(&[begin(Some(true), None), known.clone()], goes_on), Role::Primary);
        assert_eq!(role(&[begin(Some(true), None), known], USUAL), Role::Replica);
    }

    #[test]
    fn serializable_transactions_are_for_the_primary() {
        let serializable = Situation { serializable: true, ..USUAL };
        let read = plan(Access::Read, vec![], None);
        assert_eq!(role(&[begin(Some(true), Some("serializable"))], USUAL), Role::Primary);
        assert_eq!(role(&[begin(Some(true), Some("repeatable read"))], USUAL), Role::Replica);
        assert_eq!(role(std::slice::from_ref(&read), serializable), Role::Primary);
        assert_eq!(role(&[begin(Some(true), None)], serializable), Role::Primary);
        assert_eq!(role(&[begin(Some(true), Some("read committed")), read], serializable), Role::Replica);
    }

    #[test]
    fn of_a_unit_that_begins_a_transaction_every_part_decides() {
        let read = plan(Access::Read, vec![], None);
        let set = Plan { standby: Standby::Replay, ..plan(Access::Write, vec![], None) };
        let commit =
            Plan { standby: Standby::Serve, ..plan(Access::Write, vec![Effect::Commit { chain: false }], None) };
        let notify = plan(Access::Write, vec![], None);
        let begin = begin(Some(true), None);
        let of = |parts: &[&Plan]| role(&parts.iter().map(|&part| part.clone()).collect::<Vec<_>>(), USUAL);
        assert_eq!(of(&[&begin, &set, &read, &commit]), Role::Replica);
        assert_eq!(of(&[&begin, &set, &notify]), Role::Primary);
        assert_eq!(of(&[&begin, &commit, &set]), Role::Primary);
        let text = |standby| Plan { statements: 3, standby, ..begin.clone() };
        assert_eq!(of(&[&text(Standby::Serve)]), Role::Replica);
        assert_eq!(of(&[&text(Standby::Move)]), Role::Primary);
        assert_eq!(of(&[&text(Standby::Never)]), Role::Primary);
    }

    #[test]
    fn no_session_is_kept_on_a_replica() {
        let keeps = |hint| Plan { pins: vec!["advisory lock".into()], ..plan(Access::Read, vec![], hint) };
        assert_eq!(role(&[keeps(None)], USUAL), Role::Primary);
        assert_eq!(role(&[keeps(Some("replica"))], USUAL), Role::Primary);
    }

    #[test]
    fn hints_are_followed() {
        let (read, write) = (Access::Read, Access::Write);
        assert_eq!(role(&[plan(read, vec![], Some("primary"))], USUAL), Role::Primary);
        assert_eq!(role(&[plan(write, vec![], Some("replica"))], USUAL), Role::Replica);
    }
}
