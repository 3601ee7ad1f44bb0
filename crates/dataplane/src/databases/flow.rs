//! One client from its opening to its end, one unit after the other. The journey of a unit is `carry`, step by step.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use super::admin;
use super::backend;
use super::borrow::{Deadlines, borrow};
use super::causal::show_position;
use super::client::Client;
use super::compose::Composed;
use super::exchange::{Broken, Exchange, Outcome, Refusal, Request};
use super::expect::Expectations;
use super::group::Group;
use super::open::{Opened, open};
use super::plan::{Effect, Lesson};
use super::protocol::messages::to_client::{self, TransactionStatus};
use super::protocol::report::Report;
use super::route::{self, Role};
use super::session::{FAILED, IDLE, IN_TRANSACTION, Session};
use super::survey::Survey;
use super::unit::{End, Found, Search, Unit};
use crate::clock::now_us;
use crate::net::stream::Stream;
use crate::plane::Plane;

/// Servers that one unit is tried on.
const TRIES_MAX: usize = 8;
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// The client's connection is over; what there was to say has been said.
struct Over;

/// Serves a connection until it ends.
pub async fn serve(stream: Stream, peer: std::net::IpAddr, group: Arc<Group>, plane: Arc<Plane>) {
    let Some(opened) = open(stream, peer, &group, &plane).await else { return };
    match opened {
        Opened::Session(mut client, mut session) => {
            // However it ends, it is over.
            let _ = converse(&mut client, &mut session, &group).await;
            group.clients.leave(session.number());
        }
        Opened::Console(client) => admin::serve(client, &group).await,
    }
}

async fn converse(client: &mut Client, session: &mut Session, group: &Group) -> Result<(), Over> {
    loop {
        let unit = next_unit(client, session, group).await?;
        if unit.end == End::Terminate {
            return Err(Over);
        }
        session.client.requests.fetch_add(1, Ordering::Relaxed);
        carry(client, session, group, unit).await?;
    }
}

/// Waits for a whole unit. Meanwhile a session that keeps its connection gets the server's news.
async fn next_unit(client: &mut Client, session: &mut Session, group: &Group) -> Result<Unit, Over> {
    let mut search = Search::default();
    let most = group.view().settings.request_max_bytes;
    loop {
        match search.next(client.arrived(), most) {
            Ok(Found::Unit(unit)) => return Ok(unit),
            Ok(Found::Stray(count)) => {
                client.consume(count);
                search = Search::default();
                continue;
            }
            Ok(Found::Incomplete) => {}
            Err(error) => return fatal(client, Report::fatal("08P01", error.to_string())).await,
        }
        let mut quiet = Expectations::default();
        let connection = session.guard.as_mut().and_then(super::pool::Guard::connection);
        let more = match connection {
            Some(connection) => {
                let mut news = Exchange::new(client, connection, &mut quiet, false, most);
                poll_fn(|cx| match news.poll_news(cx) {
                    Poll::Ready(broken) => Poll::Ready(Err(broken)),
                    Poll::Pending => news.client.poll_fill(cx, most + 1).map(Ok),
                })
                .await
            }
            None => poll_fn(|cx| client.poll_fill(cx, most + 1)).await.map_or(Ok(Ok(0)), |count| Ok(Ok(count))),
        };
        match more {
            Ok(Ok(1..)) => {}
            Ok(_) => return Err(Over),
            Err(Broken::ClientGone) => return Err(Over),
            Err(_) => lost_while_idle(client, session).await?,
        }
    }
}

/// The server of a session that keeps its connection has gone, between two units.
async fn lost_while_idle(client: &mut Client, session: &mut Session) -> Result<(), Over> {
    session.guard = None;
    session.client.borrowed(None);
    if let Some(pin) = session.pins.first() {
        let report = Report::fatal("57P01", "the server that held the state of this session has gone")
            .with_detail(format!("The session was kept on one server: {pin}."));
        return fatal(client, report).await;
    }
    session.lose_transaction();
    session.untold = true;
    Ok(())
}

/// One unit: survey and plan it, decide where it goes, borrow a connection, exchange, take note; anew when a server could
/// not serve it and nobody has seen a part of its answer.
async fn carry(client: &mut Client, session: &mut Session, group: &Group, unit: Unit) -> Result<(), Over> {
    let Some(taken) = client.take(unit.length) else { return Err(Over) };
    let bytes = &taken.filled()[..unit.length];
    if session.skipping && unit.end != End::Sync {
        return Ok(());
    }
    let mut survey = match Survey::of(bytes, unit, session, group) {
        _ if session.skipping => Survey::default(),
        Ok(survey) => survey,
        Err(error) => return fatal(client, Report::fatal("08P01", error.to_string())).await,
    };
    for entry in &survey.entries {
        entry.planned().await;
        entry.executions.fetch_add(1, Ordering::Relaxed);
    }
    survey.resolve(session);
    group.counters.mine().requests.add(1);
    if session.untold && !session.skipping {
        session.untold = false;
        if !survey.effects().any(|effect| matches!(effect, Effect::Rollback {})) {
            group.counters.mine().transactions_lost.add(1);
            let report = transaction_lost(session, survey.commits());
            return reject(client, session, unit, &report).await;
        }
    }
    if let Some(answer) = answered_here(session, &survey) {
        return send(client, &answer).await;
    }
    let view = group.view().clone();
    vacate(group, &survey);
    let deadlines = Deadlines::of(&view);
    let mut role = decide(session, &survey, view.settings.reads.split);
    let mut avoid = Vec::new();
    for _ in 0..TRIES_MAX {
        let fresh = session.guard.is_none();
        if fresh {
            let wanted = if session.lost { Role::Primary } else { role };
            match borrow(group, session, wanted, &mut avoid, deadlines).await {
                Ok((mut guard, role)) => {
                    session.client.borrowed(guard.connection().map(|connection| Arc::clone(&connection.target)));
                    guard.node().inspect(|node| node.requests.add(1));
                    (session.guard, session.role) = (Some(guard), role);
                }
                Err(report) => return reject(client, session, unit, &report).await,
            }
        }
        let careful = fresh && session.role == Role::Replica && session.status == IDLE && session.pins.is_empty();
        let (result, expect, seen, is_between) = one_try(client, session, group, &survey, unit, bytes, careful).await;
        match result {
            Ok(Outcome::Done) if expect.own_failed && !session.lost => {
                session.guard = None;
                return fatal(client, Report::fatal("22023", "a setting of the session is refused by a server")).await;
            }
            Ok(Outcome::Done) => {
                session.lost = false;
                vacate(group, &survey);
                if let Some(refusal) = expect.refusal.filter(|_| session.role == Role::Replica) {
                    // Too late to be repeated by us, and known the next time.
                    learn(refusal, &survey, &expect);
                }
                if session.role == Role::Primary && survey.may_write() {
                    // It counts as a write for what the session reads next; this shortens how long that is unknown.
                    view.primary().inspect(|primary| primary.vitals.ask());
                }
                let status = expect.status.filter(|_| !matches!(unit.end, End::Flush { .. }));
                session.settle(&survey, &expect, status, group);
                return Ok(());
            }
            Ok(Outcome::Refused(refusal)) => {
                take_back(session, &expect, refusal, &survey, group);
                role = Role::Primary;
            }
            Err(Broken::ClientGone) => {
                cancel_for(session, group);
                return Err(Over);
            }
            Err(broken) => {
                let sent = broken != Broken::ServerGone { sent: false };
                avoid.extend(session.guard.take().and_then(super::pool::Guard::broken_off));
                session.client.borrowed(None);
                let may_repeat = !seen && (!sent || survey.is_harmless(session.role));
                if may_repeat && session.status == IDLE && session.pins.is_empty() {
                    group.counters.mine().repeated.add(1);
                    continue;
                }
                let place = Place { unit, sent, is_between };
                return server_lost(client, session, group, &survey, place).await;
            }
        }
    }
    reject(client, session, unit, &Report::error("57P03", "no server could answer; it was tried on several")).await
}

/// One try on the connection that the session has.
async fn one_try(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    survey: &Survey<'_>,
    unit: Unit,
    bytes: &[u8],
    careful: bool,
) -> (Result<Outcome, Broken>, Expectations, bool, bool) {
    let mut expect = Expectations::default();
    let mut composed = Composed::default();
    let most = group.view().settings.request_max_bytes;
    let preface = preface(session, group, survey).await;
    let number = session.number();
    let Some(connection) = session.guard.as_mut().and_then(super::pool::Guard::connection) else {
        return (Err(Broken::ServerGone { sent: false }), expect, false, true);
    };
    for sql in &preface {
        composed.own_query(sql, &mut expect);
    }
    expect.tell = std::mem::take(&mut session.tell);
    if !session.lost {
        connection.settings = session.settings.clone();
    }
    if session.skipping {
        composed.ours.extend_from_slice(&bytes[bytes.len() - 5..]);
        expect.push(super::expect::Expect::Sync);
    } else {
        composed.unit(survey, number, unit.end == End::Flush { asked: false }, connection, &mut expect);
    }
    let rest = if composed.as_it_is && !session.skipping { bytes } else { &[] };
    let mut exchange = Exchange::new(client, connection, &mut expect, careful, most);
    let result = exchange.run(Request { ours: &composed.ours, unit: rest }).await;
    let (seen, is_between) = (exchange.was_seen(), exchange.is_between_messages());
    (result, expect, seen, is_between)
}

/// Queries of ours that must come first on this connection.
async fn preface(session: &mut Session, group: &Group, survey: &Survey<'_>) -> Vec<String> {
    let mut preface = Vec::new();
    let wants_position =
        survey.effects().any(|effect| matches!(effect, Effect::Show { name } if name == "trimaran.position"));
    let Some(connection) = session.guard.as_mut().and_then(super::pool::Guard::connection) else { return preface };
    if session.status != FAILED || session.lost {
        let difference = if connection.settings.is_same(&session.settings) {
            String::new()
        } else {
            session.settings.since(&connection.settings)
        };
        if !difference.is_empty() {
            preface.push(difference);
        }
    }
    if session.lost {
        // Puts the new connection where the old one was: in a transaction that can only be rolled back.
        preface.push("BEGIN".to_owned());
        preface.push("SELECT \"trimaran: this transaction was lost with its server\"".to_owned());
    } else if wants_position && session.status != FAILED {
        let position = super::position::of(session, group).await;
        preface.push(format!("SET trimaran.position TO '{}'", show_position(position)));
    }
    preface
}

/// Connections that nobody uses make way for a statement that needs their database for itself (and would wait for them for
/// 5 s and fail), or are out of date after it.
fn vacate(group: &Group, survey: &Survey<'_>) {
    for effect in survey.effects() {
        if let Effect::Vacate { database } = effect {
            group.vacate(database.as_deref());
        }
    }
}

/// The role that a unit is for.
fn decide(session: &Session, survey: &Survey<'_>, split: bool) -> Role {
    if session.guard.is_some() || session.status != IDLE || !session.pins.is_empty() {
        return session.role;
    }
    let plans = survey.entries.iter().filter_map(|entry| Some((entry.plan()?, entry.was_learnt())));
    route::decide(plans, session.situation(split)).role
}

/// The answer to what concerns only this session's names for statements: servers know them by others.
fn answered_here(session: &mut Session, survey: &Survey<'_>) -> Option<Vec<u8>> {
    survey.query.as_ref()?;
    let plan = survey.entries.first()?.plan()?;
    let [Effect::Deallocate { name }] = &plan.effects[..] else { return None };
    if plan.statements != 1 || session.status == FAILED {
        return None;
    }
    let command = if let Some(name) = name {
        session.statements.remove(name.as_bytes()).map(|_| "DEALLOCATE")?
    } else if session.pins.is_empty() {
        session.statements.clear();
        "DEALLOCATE ALL"
    } else {
        // Some may have been prepared in SQL.
        return None;
    };
    let mut answer = Vec::new();
    to_client::command_complete(&mut answer, command);
    to_client::ready_for_query(&mut answer, status_of(session));
    Some(answer)
}

/// A replica has refused a unit: its connection is given back, and what it says about the statement is remembered.
fn take_back(session: &mut Session, expect: &Expectations, refusal: Refusal, survey: &Survey<'_>, group: &Group) {
    session.client.borrowed(None);
    if let Some(mut guard) = session.guard.take()
        && expect.status == Some(IDLE)
        && expect.is_empty()
    {
        if let Some(connection) = guard.connection() {
            for id in expect.hoped.iter().filter(|id| !expect.prepared.contains(id)) {
                connection.prepared.remove(*id);
            }
            connection.unnamed = None;
        }
        guard.give_back();
    }
    match refusal {
        Refusal::Writes | Refusal::Unlogged => group.counters.mine().refused_writes.add(1),
        Refusal::Conflict => group.counters.mine().conflicts.add(1),
    }
    learn(refusal, survey, expect);
}

/// Remembers what a replica has said about a statement of a unit.
fn learn(refusal: Refusal, survey: &Survey<'_>, expect: &Expectations) {
    let lesson = match refusal {
        Refusal::Writes => Lesson::Writes,
        Refusal::Unlogged => Lesson::Unlogged,
        Refusal::Conflict => return,
    };
    if let Some(entry) = survey.at_fault(expect.executed) {
        entry.learn(lesson);
    }
}

/// Where a unit was when its server went away.
#[derive(Debug, Clone, Copy)]
struct Place {
    unit: Unit,
    sent: bool,
    /// The client has no half of a message.
    is_between: bool,
}

/// A server went away under a unit that cannot be repeated: says exactly what is known of it.
async fn server_lost(
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
    let commits = survey.commits();
    let report = if session.status == IN_TRANSACTION && !(commits && place.sent) || session.status == FAILED {
        group.counters.mine().transactions_lost.add(1);
        transaction_lost(session, commits)
    } else if survey.is_harmless(session.role) {
        session.end_transaction();
        Report::error("08006", "the server went away while it was answering").with_hint("it can be repeated")
    } else {
        group.counters.mine().outcome_unknown.add(1);
        session.end_transaction();
        Report::error("08007", "the server went away before it could say whether this was committed")
            .with_hint("look whether it was before you repeat it")
    };
    reject(client, session, place.unit, &report).await
}

/// A transaction has gone down with its server. It stays failed until it is rolled back; a COMMIT ends it, as always.
fn transaction_lost(session: &mut Session, commits: bool) -> Report {
    if commits {
        session.end_transaction();
    } else {
        session.lose_transaction();
    }
    Report::error("40001", "the transaction was rolled back, because its server went away")
        .with_hint("nothing of it was committed: it can be repeated")
}

/// Ends a unit with an error of ours.
async fn reject(client: &mut Client, session: &mut Session, unit: Unit, report: &Report) -> Result<(), Over> {
    let mut out = Vec::new();
    report.write_error(&mut out);
    if matches!(unit.end, End::Flush { .. }) {
        session.skipping = true;
    } else {
        session.skipping = false;
        to_client::ready_for_query(&mut out, status_of(session));
    }
    send(client, &out).await
}

fn status_of(session: &Session) -> TransactionStatus {
    match session.status {
        IN_TRANSACTION => TransactionStatus::InTransaction,
        FAILED => TransactionStatus::Failed,
        _ => TransactionStatus::Idle,
    }
}

/// The client has left in the middle of something: its server need not go on.
fn cancel_for(session: &mut Session, group: &Group) {
    if let Some(target) = session.client.serving() {
        group.counters.mine().cancels.add(1);
        tokio::spawn(async move {
            // Whether it was in time nobody needs to know.
            let _ = backend::cancel(&target.node.endpoint, target.process, &target.secret, CANCEL_LIMIT).await;
        });
    }
    session.guard = None;
}

async fn send(client: &mut Client, bytes: &[u8]) -> Result<(), Over> {
    client.write_all(bytes).await.map_err(|_| Over)
}

async fn fatal<T>(client: &mut Client, report: Report) -> Result<T, Over> {
    let mut out = Vec::new();
    report.write_error(&mut out);
    // It is over either way.
    let _ = send(client, &out).await;
    Err(Over)
}

/// Used by the console, which has no session.
pub(super) fn elapsed_ms(since_us: u64) -> u64 {
    now_us().saturating_sub(since_us) / 1000
}
