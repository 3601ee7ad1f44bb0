//! One client from its opening to its end, one unit after the other. The journey of a unit is `carry`, step by step.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::sleep;

use super::admin;
use super::backend;
use super::borrow::{Deadlines, borrow};
use super::client::Client;
use super::compose::Composed;
use super::exchange::{Broken, Exchange, Outcome, Request};
use super::expect::{Expect, Expectations};
use super::fitness::Fitness;
use super::group::Group;
use super::handover::{hand_over, may_try_again, refused_setting, sync_settings};
use super::idle_timeout;
use super::lessons::{note_answer, note_refusal, take_back};
use super::lost::{Place, has_to_hear, held, lost_while_idle, server_lost, transaction_lost};
use super::names::Names;
use super::node::Node;
use super::open::{Opened, open};
use super::plan::Effect;
use super::protocol::ProtocolError;
use super::protocol::messages::to_client::{self, TransactionStatus};
use super::protocol::report::Report;
use super::readonly::{self, Verdict, go_to_primary};
use super::route::{self, Role, Situation};
use super::session::{FAILED, IDLE, IN_TRANSACTION, Session};
use super::settle::{self, Unanswered};
use super::succession::Origin;
use super::survey::Survey;
use super::unit::{End, Found, Search, Unit, longest};
use crate::clock::now_us;
use crate::net::stream::Stream;
use crate::plane::Plane;
use crate::snapshot::SettleCommits;

/// How often plans are waited for anew because the catalogue has changed; then the statement is run as one that is not known.
const PLANNING_TRIES_MAX: usize = 3;
/// Servers that one unit is tried on.
const TRIES_MAX: usize = 8;
const CANCEL_LIMIT: Duration = Duration::from_secs(5);
/// A client that is silent for so long after whole messages, without a Sync, waits for what they give.
const PAUSE: Duration = Duration::from_millis(100);

/// The client's connection is over; what there was to say has been said.
pub(super) struct Over;

/// Serves a connection until it ends.
pub async fn serve(stream: Stream, peer: std::net::IpAddr, group: Arc<Group>, plane: Arc<Plane>) {
    let Some(opened) = open(stream, peer, &group, &plane).await else { return };
    match opened {
        Opened::Session(mut client, mut session) => {
            // However it ends, it is over.
            let _ = converse(&mut client, &mut session, &group).await;
        }
        Opened::Console(client, _presence) => admin::serve(client, &group).await,
    }
}

async fn converse(client: &mut Client, session: &mut Session, group: &Group) -> Result<(), Over> {
    loop {
        let unit = next_unit(client, session, group).await?;
        if unit.end == End::Terminate {
            return Err(Over);
        }
        session.client.requests.fetch_add(1, Ordering::Relaxed);
        session.client.set_under_way(true);
        carry(client, session, group, unit).await?;
        session.client.set_under_way(false);
    }
}

/// Why a client is not waited for any longer.
enum Paused {
    /// It is silent in the middle of a batch.
    Batch,
    /// Its session may not be idle for so long.
    Idle,
    /// Another session waits for the connection that it could do without.
    Wanted,
}

/// Waits for a whole unit. Meanwhile a session that keeps its connection gets the server's news.
async fn next_unit(client: &mut Client, session: &mut Session, group: &Group) -> Result<Unit, Over> {
    let mut search = Search::default();
    let most = group.view().settings.request_max_bytes;
    let idle_limit = session.idle_limit();
    let mut idle = None;
    loop {
        match search.next(client.arrived(), most) {
            Ok(Found::Unit(unit)) => return Ok(unit),
            Ok(Found::Stray(count)) => {
                client.consume(count);
                search = Search::default();
                continue;
            }
            Ok(Found::Incomplete) => {}
            Ok(Found::Unknown(kind)) => {
                let report = Report::fatal("08P01", format!("invalid frontend message type {kind}"));
                return fatal(client, report).await;
            }
            Err(error) => return fatal(client, Report::fatal("08P01", error.to_string())).await,
        }
        let mut quiet = Expectations::default();
        if session.skipping && session.guard.is_some() {
            // A COPY may have failed before the server came to the Sync that was sent with it.
            quiet.push(Expect::Sync);
        }
        let so_far = search.so_far(client.arrived());
        let mut pause = so_far.map(|_| Box::pin(sleep(PAUSE)));
        let mut paused = |cx: &mut Context<'_>| pause.as_mut().is_some_and(|pause| pause.as_mut().poll(cx).is_ready());
        if let Some(limit) = idle_limit {
            idle.get_or_insert_with(|| Box::pin(sleep(limit)));
        }
        let pool = session.yields_to();
        let mut wanted = pool.as_ref().map(|pool| Box::pin(pool.is_wanted()));
        let mut paused = |cx: &mut Context<'_>| {
            if wanted.as_mut().is_some_and(|wanted| wanted.as_mut().poll(cx).is_ready()) {
                return Some(Paused::Wanted);
            }
            let is_idle = idle.as_mut().is_some_and(|idle| idle.as_mut().poll(cx).is_ready());
            if is_idle { Some(Paused::Idle) } else { paused(cx).then_some(Paused::Batch) }
        };
        let held = held(session);
        let connection = session.guard.as_mut().and_then(super::pool::Guard::connection);
        let more = match connection {
            Some(connection) => {
                let mut news = Exchange::new(client, connection, &mut quiet, false, most);
                news.held = held;
                poll_fn(|cx| match news.poll_news(cx) {
                    Poll::Ready(broken) => Poll::Ready(Err(broken)),
                    // A client that does not take the news to the end of a message is not listened to.
                    Poll::Pending if !news.is_at_rest() => Poll::Pending,
                    Poll::Pending => match news.client.poll_fill(cx, longest(most)) {
                        Poll::Pending => paused(cx).map_or(Poll::Pending, |why| Poll::Ready(Ok(Err(why)))),
                        filled => filled.map(|count| Ok(Ok(count))),
                    },
                })
                .await
            }
            None => {
                poll_fn(|cx| match client.poll_fill(cx, longest(most)) {
                    Poll::Pending => paused(cx).map_or(Poll::Pending, |why| Poll::Ready(Ok(Err(why)))),
                    filled => filled.map(|count| Ok(Ok(count))),
                })
                .await
            }
        };
        if let Some(status) = quiet.status {
            (session.skipping, session.in_batch) = (false, false);
            session.set_status(status);
        }
        match more {
            Ok(Ok(Ok(1..))) => {}
            Ok(Ok(_)) => return Err(Over),
            Ok(Err(Paused::Wanted)) => session.yield_connection(),
            Ok(Err(Paused::Batch)) => return so_far.ok_or(Over),
            Ok(Err(Paused::Idle)) => return fatal(client, idle_timeout::report()).await,
            Err(Broken::ClientGone | Broken::Fatal) => return Err(Over),
            Err(_) if quiet.timed_out => return fatal(client, idle_timeout::report()).await,
            Err(_) => lost_while_idle(client, session).await?,
        }
    }
}

/// Surveys a unit, or the part of it up to the Execute of a COPY, to which what follows may be data. Waits for the plans of
/// statements that are new, and surveys it once more then: what names stand for depends on what is run before (DEALLOCATE).
async fn surveyed<'u>(
    bytes: &'u [u8],
    unit: Unit,
    session: &Session,
    group: &Group,
) -> Result<(Survey<'u>, Unit), ProtocolError> {
    if session.skipping {
        return Ok((Survey::default(), unit));
    }
    let mut unit = unit;
    let mut survey = Survey::of(bytes, unit, session, group)?;
    // While plans are waited for the catalogue may change, and with it the plans that hold.
    let mut tries = PLANNING_TRIES_MAX;
    while tries > 0 && survey.entries.iter().any(|entry| !entry.is_settled()) {
        tries -= 1;
        for entry in &survey.entries {
            if !entry.is_settled() {
                entry.planned().await;
            }
        }
        survey = Survey::of(bytes, unit, session, group)?;
    }
    if let Some(length) = survey.copy_at {
        unit = Unit { length, end: End::Flush { asked: false } };
        survey = Survey::of(&bytes[..length], unit, session, group)?;
    }
    survey.resolve();
    for entry in &survey.runs {
        entry.executions.fetch_add(1, Ordering::Relaxed);
    }
    Ok((survey, unit))
}

/// One unit: survey and plan it, decide where it goes, borrow a connection, exchange, take note; anew when a server could
/// not serve it and nobody has seen a part of its answer.
async fn carry(client: &mut Client, session: &mut Session, group: &Group, unit: Unit) -> Result<(), Over> {
    let Some(taken) = client.take(unit.length) else { return Err(Over) };
    let bytes = &taken.filled()[..unit.length];
    if session.skipping && unit.end != End::Sync {
        return Ok(());
    }
    if session.skipping && session.guard.is_none() {
        // There is nobody who would have to be asked.
        return synchronised(client, session).await;
    }
    session.renew_names(group);
    let (mut survey, unit) = match surveyed(bytes, unit, session, group).await {
        Ok((survey, rest)) => {
            client.give_back(&bytes[rest.length..unit.length]);
            (survey, rest)
        }
        Err(error) => return fatal(client, Report::fatal("08P01", error.to_string())).await,
    };
    let bytes = &bytes[..unit.length];
    group.counters.mine().requests.add(1);
    group.wake();
    if needs_no_server(client, session, group, unit, &survey).await? {
        return Ok(());
    }
    let view = group.view().clone();
    vacate(group, &survey);
    let deadlines = Deadlines::of(&view);
    let mut role = decide(session, &survey, unit, view.settings.reads.split);
    if is_rejected_by_place(client, session, group, unit, &mut survey, &deadlines).await? {
        return Ok(());
    }
    let mut fitness = Fitness::of(&survey, &session.settings);
    session.begin_unit(&survey);
    let mut avoid = Vec::new();
    // A replica has refused the statement that comes when so many have succeeded, maybe for a reason of its own.
    let mut doubted = None;
    for _ in 0..TRIES_MAX {
        let fresh = session.guard.is_none();
        if fresh {
            let wanted = if session.lost { Role::Primary } else { role };
            if let Err(report) = connect(session, group, wanted, &mut avoid, &deadlines, &fitness).await {
                return reject(client, session, unit, &report).await;
            }
        }
        let careful = readonly::may_be_repeated(session, fresh);
        let (result, expect, seen, is_between) = one_try(client, session, group, &survey, unit, bytes, careful).await;
        match result {
            Err(Broken::Setting) => {
                // It may be one that the replica does not know yet, like a new role.
                role = Role::Primary;
                let again = careful || fresh && may_try_again(session, &survey, &mut fitness);
                if fresh {
                    session.drop_connection();
                }
                if !again {
                    return reject(client, session, unit, &refused_setting(&expect)).await;
                }
            }
            Ok(Outcome::Done) => {
                session.lost = false;
                vacate(group, &survey);
                note_answer(session, &survey, &expect, doubted, group);
                // Also without a Sync of its own when COPY has ignored it.
                let is_open = matches!(unit.end, End::Flush { .. }) || expect.skipping || expect.synced_in_copy;
                let is_open = is_open && !expect.is_synced;
                let status = expect.status.filter(|_| !is_open);
                session.without_role = None;
                session.settle(&survey, &expect, status, group);
                return hand_over(client, session, group).await;
            }
            Ok(Outcome::Refused(refusal)) => {
                doubted = note_refusal(session, &expect, refusal, &survey, group);
                role = Role::Primary;
                if session.status == IDLE {
                    take_back(session, &expect, &survey);
                    continue;
                }
                let is_open = expect.skipping || !expect.is_empty();
                if let Some(report) = go_to_primary(client, session, group, &survey, &deadlines, is_open).await? {
                    return reject(client, session, unit, &report).await;
                }
            }
            Err(Broken::ClientGone) => {
                cancel_for(session, group);
                return Err(Over);
            }
            Err(Broken::Fatal) => return Err(Over),
            Err(broken) => {
                let sent = broken != Broken::ServerGone { sent: false };
                let unanswered = unanswered(session, &expect);
                avoid.extend(session.guard.take().and_then(super::pool::Guard::broken_off));
                session.client.borrowed(None);
                let may_repeat = !seen && (!sent || survey.is_harmless(session.role));
                if may_repeat && session.status == IDLE && session.pins.is_empty() && !session.in_batch {
                    group.counters.mine().repeated.add(1);
                    continue;
                }
                let place = Place { unit, sent, is_between, seen, is_at_sync: expect.is_at_sync(), unanswered };
                return server_lost(client, session, group, &survey, place).await;
            }
        }
    }
    reject(client, session, unit, &Report::error("57P03", "no server could answer; it was tried on several")).await
}

/// Whether a unit was answered here.
async fn needs_no_server(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    unit: Unit,
    survey: &Survey<'_>,
) -> Result<bool, Over> {
    if session.untold && has_to_hear(survey) {
        group.counters.mine().transactions_lost.add(1);
        let report = transaction_lost(session, survey.commits());
        session.untold = false;
        reject(client, session, unit, &report).await?;
        return Ok(true);
    }
    let answer = if unit.end == End::Sync { session.names_alone(survey) } else { answered_here(session, survey) };
    let Some(answer) = answer else { return Ok(false) };
    send(client, &answer).await?;
    Ok(true)
}

/// Where the session has a READ ONLY transaction on a replica that is not to have the unit: moves the transaction, or has the
/// unit fail. Whether the client was told that neither was possible.
async fn is_rejected_by_place(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    unit: Unit,
    survey: &mut Survey<'_>,
    deadlines: &Deadlines,
) -> Result<bool, Over> {
    match readonly::judge(session, survey, unit) {
        Verdict::Stay => {}
        Verdict::Refuse(report) => *survey = Survey::failing(&report, unit.end),
        Verdict::Move => {
            if let Some(report) = go_to_primary(client, session, group, survey, deadlines, false).await? {
                reject(client, session, unit, &report).await?;
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Borrows a connection for the session.
async fn connect(
    session: &mut Session,
    group: &Group,
    wanted: Role,
    avoid: &mut Vec<Arc<Node>>,
    deadlines: &Deadlines,
    fitness: &Fitness,
) -> Result<(), Report> {
    let (mut guard, role) = borrow(group, session, wanted, avoid, deadlines, fitness).await?;
    session.client.borrowed(guard.connection().map(|connection| Arc::clone(&connection.target)));
    guard.node().inspect(|node| node.requests.add(1));
    (session.guard, session.role) = (Some(guard), role);
    Ok(())
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
    if let Err(broken) = sync_settings(client, session, group, survey, most, &mut expect).await {
        return (Err(broken), expect, false, true);
    }
    let (number, held) = (session.number(), held(session));
    let is_failed = session.status == FAILED;
    let ask = is_to_be_settled(session, survey, unit, group);
    let Some(connection) = session.guard.as_mut().and_then(super::pool::Guard::connection) else {
        return (Err(Broken::ServerGone { sent: false }), expect, false, true);
    };
    if session.lost {
        // Puts the new connection where the old one was: in a transaction that can only be rolled back.
        connection.unnamed = None;
        composed.own_query("BEGIN", &mut expect);
        composed.own_query("SELECT \"trimaran: this transaction was lost with its server\"", &mut expect);
    }
    if session.skipping {
        composed.ours.extend_from_slice(&bytes[bytes.len() - 5..]);
        expect.push(Expect::Sync);
    } else {
        if ask == Some(Ask::Before) {
            composed.ask(settle::XID, connection, &mut expect);
        }
        composed.is_failed = is_failed;
        let within = (ask == Some(Ask::Within)).then_some(settle::XID);
        composed.unit(survey, number, unit.end == End::Flush { asked: false }, within, connection, &mut expect);
    }
    let rest = if composed.as_it_is && !session.skipping { bytes } else { &[] };
    let names = Names { survey, statements: &session.statements };
    let restore = |report: &[u8], answered: usize| names.restore(report, answered);
    let mut exchange = Exchange::new(client, connection, &mut expect, careful, most);
    exchange.held = held;
    exchange.names = Some(&restore);
    // What only may be the replica's own reason is not asked of a primary that is not there.
    exchange.doubts = group.view().primary().is_some();
    exchange.holds = survey.has_several();
    exchange.advises = session.role == Role::Replica && session.status == IN_TRANSACTION;
    let mut result = exchange.run(Request { ours: &composed.ours, unit: rest }).await;
    if matches!(result, Err(Broken::ServerGone { .. })) && exchange.expect.told.is_some() {
        result = exchange.hand_over().await.and(result);
    }
    let (seen, is_between) = (exchange.was_seen(), exchange.is_between_messages());
    (result, expect, seen, is_between)
}

/// When the id of the transaction is asked for, that a unit commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// Ahead of the COMMIT, as a query of its own.
    Before,
    /// Within the batch, whose end commits.
    Within,
}

/// Whether a unit's transaction is to be known, should its server not live to answer.
fn is_to_be_settled(session: &Session, survey: &Survey<'_>, unit: Unit, group: &Group) -> Option<Ask> {
    if session.role != Role::Primary || session.in_batch || session.skipping || !session.pins.is_empty() {
        return None;
    }
    let settings = group.view().settings.settle_commits;
    match (session.status, unit.end) {
        _ if settings == SettleCommits::Off => None,
        (IN_TRANSACTION, End::Sync | End::Query) if session.may_have_written() => {
            survey.is_commit_alone().then_some(Ask::Before)
        }
        (IDLE, End::Sync) if settings == SettleCommits::All => survey.is_plain_write().then_some(Ask::Within),
        _ => None,
    }
}

/// The transaction that a unit was to commit, where its id was learnt before the server went.
fn unanswered(session: &mut Session, expect: &Expectations) -> Option<Unanswered> {
    let xid = expect.told.as_ref()?.parse().ok()?;
    let connection = session.guard.as_mut()?.connection()?;
    let origin = Origin { node: Arc::clone(&connection.target.node), epoch: connection.epoch };
    Some(Unanswered { xid, origin })
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
fn decide(session: &mut Session, survey: &Survey<'_>, unit: Unit, split: bool) -> Role {
    if session.guard.is_some() || session.status != IDLE || !session.pins.is_empty() {
        return session.role;
    }
    let goes_on = matches!(unit.end, End::Flush { .. });
    let situation = Situation { goes_on, runs: survey.executes || survey.binds, ..session.situation(split) };
    let plans = survey.entries.iter().filter_map(|entry| Some((entry.plan()?, entry.was_learnt())));
    route::decide(plans, situation).role
}

/// The answer to what concerns only this session's names for statements: servers know them by others.
fn answered_here(session: &mut Session, survey: &Survey<'_>) -> Option<Vec<u8>> {
    let plan = survey.entries.first().filter(|_| survey.is_query)?.plan()?;
    let [Effect::Deallocate { name }] = &plan.effects[..] else { return None };
    if plan.statements != 1 || session.status == FAILED || session.in_batch || session.lost {
        return None;
    }
    let command = if let Some(name) = name {
        session.statements.remove(name.as_bytes()).map(|_| "DEALLOCATE")?
    } else if session.pins.is_empty() {
        session.statements.clear();
        session.names_in_sql.clear();
        "DEALLOCATE ALL"
    } else {
        // Some may have been prepared in SQL.
        return None;
    };
    session.unnamed = None;
    session.portals.drop_unnamed();
    let mut answer = Vec::new();
    to_client::command_complete(&mut answer, command);
    to_client::ready_for_query(&mut answer, status_of(session));
    Some(answer)
}

/// Ends a unit with an error of ours.
pub(super) async fn reject(
    client: &mut Client,
    session: &mut Session,
    unit: Unit,
    report: &Report,
) -> Result<(), Over> {
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

/// Answers the Sync of a batch that has failed.
pub(super) async fn synchronised(client: &mut Client, session: &mut Session) -> Result<(), Over> {
    session.skipping = false;
    let mut out = Vec::new();
    to_client::ready_for_query(&mut out, status_of(session));
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
    if let Some(target) = session.client.cancelled() {
        group.counters.mine().cancels.add(1);
        tokio::spawn(async move {
            // Whether it was in time nobody needs to know.
            let _ = backend::cancel(&target.node.endpoint, target.process, &target.secret, CANCEL_LIMIT).await;
        });
    }
    session.guard = None;
}

pub(super) async fn send(client: &mut Client, bytes: &[u8]) -> Result<(), Over> {
    client.write_all(bytes).await.map_err(|_| Over)
}

pub(super) async fn fatal<T>(client: &mut Client, report: Report) -> Result<T, Over> {
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
