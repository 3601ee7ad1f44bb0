//! What a session is told whose server has gone: exactly what is known of its unit and of its transaction.

use std::sync::Arc;

use super::client::Client;
use super::flow::{Over, fatal, reject, send, synchronised};
use super::group::Group;
use super::held::Held;
use super::plan::Effect;
use super::protocol::messages::to_client::{self, TransactionStatus};
use super::protocol::report::Report;
use super::protocol::tag::to_server as tag;
use super::route::Role;
use super::session::{FAILED, IDLE, IN_TRANSACTION, Session};
use super::settle::{self, Settled, Unanswered};
use super::survey::{Step, Survey};
use super::unit::{End, Unit};

/// The server of a session that keeps its connection has gone, between two units.
pub(super) async fn lost_while_idle(client: &mut Client, session: &mut Session) -> Result<(), Over> {
    session.guard = None;
    session.client.borrowed(None);
    if let Some(pin) = session.pins.first() {
        let report = Report::fatal("57P01", "the server that held the state of this session has gone")
            .with_detail(format!("The session was kept on one server: {pin}."));
        return fatal(client, report).await;
    }
    let (in_batch, was) = (session.in_batch, session.status);
    if was == IDLE {
        session.end_transaction();
    } else {
        session.lose_transaction();
    }
    if in_batch && !session.skipping {
        // The client waits for what follows: what it has got of the batch does not hold.
        session.skipping = true;
        let mut out = Vec::new();
        rolled_back().write_error(&mut out);
        return send(client, &out).await;
    }
    session.untold |= was == IN_TRANSACTION;
    Ok(())
}

/// What a session holds on its connection.
pub(super) fn held(session: &Session) -> Held {
    if !session.pins.is_empty() {
        Held::State
    } else if session.status != IDLE || session.in_batch {
        Held::Transaction
    } else {
        Held::Nothing
    }
}

/// Whether a unit is to hear that the transaction is lost, which the client does not know yet. One that rolls it back anyway
/// need not; to one that would commit it, "ROLLBACK" in the answer would be too quiet.
pub(super) fn has_to_hear(survey: &Survey<'_>) -> bool {
    let rolls_back = |entry: &Arc<super::plan::Entry>| {
        entry.plan().is_some_and(|plan| matches!(&plan.effects[..], [Effect::Rollback {}]) && plan.statements == 1)
    };
    let asks = survey.steps.iter().any(|step| !matches!(step, Step::Forward(tag::SYNC | tag::FLUSH, _)));
    asks && (survey.entries.is_empty() || !survey.entries.iter().all(rolls_back))
}

/// Where a unit was when its server went away.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) unit: Unit,
    pub(super) sent: bool,
    /// The client has no half of a message.
    pub(super) is_between: bool,
    /// It has something of the answer.
    pub(super) seen: bool,
    /// All of it but the end of the batch.
    pub(super) is_at_sync: bool,
    /// What a primary can be asked about.
    pub(super) unanswered: Option<Unanswered>,
}

/// A server went away under a unit that cannot be repeated: says exactly what is known of it.
pub(super) async fn server_lost(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    survey: &Survey<'_>,
    place: Place,
) -> Result<(), Over> {
    if !place.is_between {
        // No error can be put into the middle of a message.
        return Err(Over);
    }
    if !session.pins.is_empty() {
        return lost_while_idle(client, session).await;
    }
    if session.skipping {
        // The client knows that its batch has failed.
        if session.status == IDLE {
            session.end_transaction();
        } else {
            session.lose_transaction();
        }
        return synchronised(client, session).await;
    }
    let commits = survey.commits();
    // A COMMIT of what changes nothing leaves nobody in doubt.
    let changes_nothing = session.role == Role::Replica || survey.is_commit_alone() && session.changes_nothing();
    let in_transaction =
        session.status == IN_TRANSACTION && (!(commits && place.sent) || changes_nothing) || session.status == FAILED;
    if place.sent {
        session.note_lost(survey);
    }
    // What came before in the batch is committed with its end.
    let ends = commits || !matches!(place.unit.end, End::Flush { .. });
    let report = if in_transaction {
        group.counters.mine().transactions_lost.add(1);
        transaction_lost(session, commits)
    } else if session.in_batch && !(ends && place.sent) {
        group.counters.mine().transactions_lost.add(1);
        transaction_lost(session, true)
    } else if survey.is_harmless(session.role) && !(session.in_batch && session.may_have_written()) {
        session.end_transaction();
        Report::error("08006", "the server went away while it was answering").with_hint("it can be repeated")
    } else if let Some(settled) = settled(client, session, group, survey, &place).await? {
        match settled {
            Ok(answer) => return send(client, &answer).await,
            Err(report) => report,
        }
    } else {
        group.counters.mine().outcome_unknown.add(1);
        session.end_transaction();
        Report::error("08007", "the server went away before it could say whether this was committed")
            .with_hint("look whether it was before you repeat it")
    };
    reject(client, session, place.unit, &report).await
}

/// Asks the next primary what became of a write: the rest of its answer, or that nothing of it is there. `None`: in doubt.
async fn settled(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    survey: &Survey<'_>,
    place: &Place,
) -> Result<Option<Result<Vec<u8>, Report>>, Over> {
    let Some(unanswered) = &place.unanswered else { return Ok(None) };
    let mut answer = Vec::new();
    if place.is_at_sync {
        to_client::ready_for_query(&mut answer, TransactionStatus::Idle);
    } else if !place.seen && survey.is_commit_alone() {
        answer = survey.answer_to_commit();
    } else {
        return Ok(None);
    }
    match settle::settle(client, session, group, unanswered).await {
        Ok(Settled::Committed) => {
            group.counters.mine().settled_committed.add(1);
            session.take_commit(survey, group);
            Ok(Some(Ok(answer)))
        }
        Ok(Settled::Aborted) => {
            group.counters.mine().settled_aborted.add(1);
            session.end_transaction();
            Ok(Some(Err(rolled_back())))
        }
        Ok(Settled::InDoubt) => Ok(None),
        Err(_) => Err(Over),
    }
}

/// A transaction has gone down with its server. It stays failed until it is rolled back; a COMMIT ends it, as always.
pub(super) fn transaction_lost(session: &mut Session, commits: bool) -> Report {
    if commits {
        session.end_transaction();
    } else {
        session.lose_transaction();
    }
    rolled_back()
}

fn rolled_back() -> Report {
    Report::error("40001", "the transaction was rolled back, because its server went away")
        .with_hint("nothing of it was committed: it can be repeated")
}
