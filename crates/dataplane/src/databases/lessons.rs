//! What is learnt of the answers and the refusals of replicas: about a statement, a session, a connection.

use super::expect::Expectations;
use super::group::Group;
use super::plan::{Audit, Lesson};
use super::refusal::Refusal;
use super::route::Role;
use super::session::{IDLE, Session};
use super::survey::Survey;

/// A replica has refused a unit: its connection is given back.
pub fn take_back(session: &mut Session, expect: &Expectations, survey: &Survey<'_>) {
    session.client.borrowed(None);
    // Unseen code may have left something with it.
    let is_clean = survey.runs.iter().all(|entry| entry.plan().is_some_and(|plan| plan.audit == Audit::None));
    if let Some(mut guard) = session.guard.take()
        && is_clean
        && expect.status == Some(IDLE)
        && expect.is_empty()
        && !expect.skipping
    {
        if let Some(connection) = guard.connection() {
            connection.past.served = session.number();
        }
        guard.give_back();
    }
}

/// Remembers what the refusal of a unit says about it, about its session and about the connection. Answers with how many
/// statements have succeeded, where the reason may have been another.
pub fn note_refusal(
    session: &mut Session,
    expect: &Expectations,
    refusal: Refusal,
    survey: &Survey<'_>,
    group: &Group,
) -> Option<usize> {
    if let Some(connection) = session.guard.as_mut().and_then(super::pool::Guard::connection) {
        for id in expect.hoped.iter().filter(|id| !expect.prepared.contains(id)) {
            connection.prepared.remove(*id);
        }
        connection.unnamed = None;
    }
    match refusal {
        Refusal::Writes | Refusal::Unlogged | Refusal::Standby => group.counters.mine().refused_writes.add(1),
        Refusal::Serializable => session.note_serializable(),
        Refusal::Conflict => group.counters.mine().conflicts.add(1),
        Refusal::Doubtful | Refusal::Stale => {}
    }
    learn(refusal, survey, expect);
    (refusal == Refusal::Doubtful).then_some(expect.executed)
}

/// Takes note of what the answer to a unit says beside its effects. `doubted`: a replica has refused the statement that comes
/// when so many have succeeded.
pub fn note_answer(
    session: &Session,
    survey: &Survey<'_>,
    expect: &Expectations,
    doubted: Option<usize>,
    group: &Group,
) {
    if session.role == Role::Replica {
        // Too late to be repeated by us, and known the next time.
        expect.refusal.inspect(|refusal| learn(*refusal, survey, expect));
        return;
    }
    if let Some(executed) = doubted.filter(|_| !expect.failed) {
        // The primary has done it: the reason was the replica's own.
        group.counters.mine().refused_writes.add(1);
        survey.at_fault(executed).inspect(|entry| entry.learn(Lesson::Standby));
    }
    if survey.may_write() {
        // It counts as a write for what the session reads next; this shortens how long that is unknown.
        group.view().primary().inspect(|primary| primary.vitals.ask());
    }
}

/// Remembers what a replica has said about a statement of a unit.
fn learn(refusal: Refusal, survey: &Survey<'_>, expect: &Expectations) {
    let lesson = match refusal {
        Refusal::Writes => Lesson::Writes,
        Refusal::Unlogged => Lesson::Unlogged,
        Refusal::Standby => Lesson::Standby,
        Refusal::Serializable | Refusal::Conflict | Refusal::Doubtful | Refusal::Stale => return,
    };
    if let Some(entry) = survey.at_fault(expect.executed) {
        entry.learn(lesson);
    }
}
