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
    /// The batch goes on behind the unit: what is bound in it may be run there, where it cannot be repeated elsewhere.
    pub goes_on: bool,
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
    for (plan, learnt) in plans {
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
    if may_write && (count > 1 || situation.goes_on) && found.is_some_and(|route| route.reason != ASKED) {
        // A replica could refuse it only after answers to what came before were passed on.
        return primary("one of several messages may write");
    }
    found.unwrap_or(primary("nothing says where"))
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

    const USUAL: Situation = Situation { split: true, reads_only: false, unusual: false, goes_on: false };

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
        assert_eq!(role(std::slice::from_ref(&unknown), Situation { goes_on: true, ..USUAL }), Role::Primary);
        assert_eq!(role(std::slice::from_ref(&known), Situation { goes_on: true, ..USUAL }), Role::Replica);
        assert_eq!(role(&[known, Plan { hint: Some("replica".into()), ..unknown }], USUAL), Role::Replica);
    }

    #[test]
    fn hints_are_followed() {
        let (read, write) = (Access::Read, Access::Write);
        assert_eq!(role(&[plan(read, vec![], Some("primary"))], USUAL), Role::Primary);
        assert_eq!(role(&[plan(write, vec![], Some("replica"))], USUAL), Role::Replica);
    }
}
