//! Where a unit goes, and why: decided once, from its plans and the state of its session. Pure.

use super::plan::{Access, Effect, Plan};

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
    /// A setting of the session makes it unsafe to read its statements as the planner did.
    pub unusual: bool,
    /// The batch goes on behind the unit, where nothing of it can be repeated elsewhere.
    pub goes_on: bool,
    /// Something of the unit is run, not only prepared or described.
    pub runs: bool,
}

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
    let mut stays_read_only = None;
    for (plan, learnt) in plans {
        let opens = stays_read_only.unwrap_or(begins(plan) == Some(Some(true)));
        stays_read_only = Some(opens && !ends(plan));
        count += plan.statements.max(1);
        may_write |= plan.may_write;
        let route = match plan.hint.as_deref() {
            Some("primary") => return primary("the statement asks for the primary"),
            Some("replica") => replica(ASKED),
            _ if learnt => return primary("a replica refused it before"),
            _ => match begins(plan) {
                Some(Some(true)) => replica("the transaction is read only"),
                Some(None) if situation.reads_only => replica("transactions of the session are read only"),
                Some(_) => return primary("a transaction that may write"),
                None if plan.access == Access::Read => replica("it reads only"),
                None => return primary("it may write, or change its session"),
            },
        };
        found = Some(route);
    }
    let asked = found.is_some_and(|route| route.reason == ASKED);
    if situation.goes_on && (situation.runs || may_write) && !asked && !stays_read_only.unwrap_or(false) {
        // Whatever comes behind it goes where it went, and a replica would refuse a write there.
        return primary("the batch goes on, and may write");
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

/// Whether it begins a transaction, and whether that says to be read only.
#[allow(clippy::option_option)] // Two questions, asked at once.
fn begins(plan: &Plan) -> Option<Option<bool>> {
    plan.effects.iter().find_map(|effect| match effect {
        Effect::Begin { read_only } => Some(*read_only),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Situation = Situation { split: true, reads_only: false, unusual: false, goes_on: false, runs: true };

    fn plan(access: Access, effects: Vec<Effect>, hint: Option<&str>) -> Plan {
        Plan { access, effects, hint: hint.map(str::to_owned), may_write: false, ..Plan::doubtful("test") }
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
        let begin = |read_only| plan(Access::Write, vec![Effect::Begin { read_only }], None);
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
        let begin = plan(Access::Write, vec![Effect::Begin { read_only: Some(true) }], None);
        assert_eq!(role(&[begin.clone(), known.clone()], goes_on), Role::Replica);
        let commit = plan(Access::Read, vec![Effect::Commit { chain: false }], None);
        assert_eq!(role(&[begin, commit, known], goes_on), Role::Primary);
    }

    #[test]
    fn hints_are_followed() {
        let (read, write) = (Access::Read, Access::Write);
        assert_eq!(role(&[plan(read, vec![], Some("primary"))], USUAL), Role::Primary);
        assert_eq!(role(&[plan(write, vec![], Some("replica"))], USUAL), Role::Replica);
    }
}
