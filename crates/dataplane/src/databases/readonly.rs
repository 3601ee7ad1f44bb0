//! A READ ONLY transaction on a replica: what it has done so far, so that the primary can take it over while it has read
//! nothing, and what is to be done with a unit that a replica is not the right one for.

use std::sync::Arc;

use super::borrow::{Deadlines, borrow};
use super::client::Client;
use super::compose::Composed;
use super::exchange::{Broken, Exchange, Request};
use super::expect::Expectations;
use super::fitness::Fitness;
use super::flow::Over;
use super::group::Group;
use super::handover::sync_settings;
use super::plan::{Effect, Entry, Standby};
use super::pool::Guard;
use super::protocol::report::Report;
use super::reading::reads_like_ascii;
use super::route::Role;
use super::session::{FAILED, IDLE, IN_TRANSACTION, Session};
use super::settings::SETTINGS_MAX;
use super::survey::Survey;
use super::unit::{End, Unit};

/// Primaries that a transaction is taken to, one after the other.
const TRIES_MAX: usize = 3;
/// Statements of a transaction's beginning that are kept, and their bytes.
const KEPT_MAX: usize = 100;
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// Functions for large objects that do no more than read (`lo_open`, `lo_close`, `loread`, `lo_lseek`, `lo_tell` and their
/// forms for 64 bits), by the object identifiers that PostgreSQL has given them for good.
const READING_CALLS: [u32; 7] = [952, 953, 954, 956, 958, 3170, 3171];

pub(super) const HINT: &str =
    "Begin the transaction without READ ONLY, or with the comment /* trimaran: primary */ in front of BEGIN.";
pub(super) const DETAIL: &str = "The READ ONLY transaction has read on a replica, and cannot go on elsewhere.";

/// What a transaction on a replica has done.
#[derive(Debug, Default)]
pub struct Beginning {
    /// Statements that do the same on another server: BEGIN, SET, SAVEPOINT. Those that also hold for a transaction that is
    /// chained to it are marked.
    statements: Vec<(Box<[u8]>, bool)>,
    bytes: usize,
    has_read: bool,
}

impl Beginning {
    /// Takes note of a unit that has succeeded.
    pub fn note(&mut self, survey: &Survey<'_>) {
        let Some(texts) = survey.texts().filter(|texts| texts.len() == survey.runs.len()) else {
            self.has_read = true;
            return;
        };
        for (entry, text) in survey.runs.iter().zip(texts) {
            let Some(plan) = entry.plan() else {
                self.has_read = true;
                continue;
            };
            if plan.standby == Standby::Replay {
                self.keep(text, plan.effects.iter().all(is_mode));
            } else if let [.., Effect::Commit { .. } | Effect::Rollback {}] = &plan.effects[..] {
                // Another is chained to it.
                self.statements.retain(|(_, is_mode)| *is_mode);
                self.has_read = self.statements.is_empty();
            } else {
                self.has_read = true;
            }
        }
    }

    /// A unit has failed: it may have read.
    pub fn note_failure(&mut self) {
        self.has_read = true;
    }

    fn keep(&mut self, text: &[u8], is_mode: bool) {
        self.bytes += text.len();
        if self.statements.len() >= KEPT_MAX || self.bytes > KEPT_BYTES_MAX {
            // It can be taken over no more.
            (self.statements, self.has_read) = (Vec::new(), true);
        } else {
            self.statements.push((text.into(), is_mode));
        }
    }
}

fn is_mode(effect: &Effect) -> bool {
    match effect {
        Effect::Begin { .. } => true,
        Effect::Set { name, .. } => name.starts_with("transaction_"),
        _ => false,
    }
}

/// What is done with a unit of a session that has a transaction on a replica.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The replica gets it.
    Stay,
    /// The transaction goes on on the primary.
    Move,
    /// It is too late for that, and no replica may do it.
    Refuse(Report),
}

pub fn judge(session: &Session, survey: &Survey<'_>, unit: Unit) -> Verdict {
    let Some(beginning) = session.beginning().filter(|_| session.role == Role::Replica && !session.in_batch) else {
        return Verdict::Stay;
    };
    let worst = survey.runs.iter().map(|entry| (standby_of(session, entry), Some(entry))).max_by_key(|(is, _)| *is);
    let (is, entry) = match worst {
        Some(worst) => worst,
        None if unit.end == End::Call && !survey.call().is_some_and(|call| READING_CALLS.contains(&call)) => {
            (Standby::Never, None)
        }
        None => return Verdict::Stay,
    };
    let plan = entry.and_then(|entry| entry.plan());
    let first = survey.runs.first().and_then(|entry| entry.plan()).and_then(|plan| plan.effects.first());
    // What comes behind the transaction's end may be anything.
    let ends = match first {
        Some(Effect::Rollback {}) => matches!(session.status, IN_TRANSACTION | FAILED),
        Some(Effect::Commit { .. }) => session.status == IN_TRANSACTION,
        _ => false,
    };
    let may_move = session.status == IN_TRANSACTION && !beginning.has_read || ends && !beginning.statements.is_empty();
    match is {
        Standby::Move | Standby::Never if may_move => Verdict::Move,
        Standby::Never if session.status == IN_TRANSACTION => {
            let why = plan.map_or("it calls a function by its number", |plan| &plan.reason);
            let report = Report::error("25006", format!("a replica cannot do this for a transaction: {why}"));
            Verdict::Refuse(report.with_detail(DETAIL).with_hint(HINT))
        }
        _ => Verdict::Stay,
    }
}

/// Whether a unit may go elsewhere when the replica that the session has refuses it. `fresh`: it was borrowed for this unit.
pub fn may_be_repeated(session: &Session, fresh: bool) -> bool {
    let is_beginning = session.status == IN_TRANSACTION && session.beginning().is_some_and(|it| !it.has_read);
    session.role == Role::Replica
        && session.pins.is_empty()
        && (fresh && session.status == IDLE || is_beginning && !session.in_batch)
}

fn standby_of(session: &Session, entry: &Entry) -> Standby {
    let Some(plan) = entry.plan() else { return Standby::Move };
    // A session is never to be kept on a replica.
    let keeps = plan.effects.iter().any(|effect| match effect {
        Effect::Set { name, sql, .. } => {
            session.settings.len() >= SETTINGS_MAX
                || name == "client_encoding" && !sql.as_deref().is_some_and(reads_like_ascii)
        }
        _ => false,
    });
    if keeps || !plan.pins.is_empty() {
        return Standby::Never;
    }
    let may_write = |effect: &Effect| matches!(effect, Effect::Begin { read_only: None | Some(false), .. });
    let is_doubtful = entry.was_learnt()
        || plan.may_write
        || plan.hint.as_deref() == Some("primary")
        || plan.effects.iter().any(may_write);
    match plan.hint.as_deref() {
        Some("replica") => Standby::Serve,
        _ if is_doubtful => plan.standby.max(Standby::Move),
        _ => plan.standby,
    }
}

/// Takes the transaction of the session from its replica to the primary, where it goes on. What is answered is for the client:
/// the transaction is lost then.
pub(super) async fn go_to_primary(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    survey: &Survey<'_>,
    deadlines: &Deadlines,
    is_skipping: bool,
) -> Result<Option<Report>, Over> {
    let moved = move_to_primary(client, session, group, survey, deadlines, is_skipping).await;
    moved.map(Result::err).map_err(|_| Over)
}

async fn move_to_primary(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    survey: &Survey<'_>,
    deadlines: &Deadlines,
    is_skipping: bool,
) -> Result<Result<(), Report>, Broken> {
    leave(client, session, is_skipping).await?;
    let within = session.go_back();
    let fitness = Fitness::of(survey, &session.settings);
    let mut why = Report::error("57P03", "no server could take the transaction over");
    for _ in 0..TRIES_MAX {
        match borrow(group, session, Role::Primary, &mut Vec::new(), deadlines, &fitness).await {
            Ok((mut guard, role)) => {
                session.client.borrowed(guard.connection().map(|connection| Arc::clone(&connection.target)));
                guard.node().inspect(|node| node.requests.add(1));
                (session.guard, session.role) = (Some(guard), role);
            }
            Err(report) => {
                why = report;
                break;
            }
        }
        match begin_again(client, session, group, survey).await {
            Ok(()) => {
                if let Some(connection) = session.guard.as_mut().and_then(Guard::connection) {
                    connection.settings.become_one_with(&within);
                }
                session.go_on(within);
                return Ok(Ok(()));
            }
            Err(Failure::Broken(Broken::ClientGone)) => return Err(Broken::ClientGone),
            Err(Failure::Broken(Broken::ServerGone { .. })) => {
                session.guard.take().and_then(Guard::broken_off);
            }
            Err(Failure::Broken(broken)) => {
                why = Report::error("08006", format!("the primary did not take the transaction over: {broken:?}"));
                break;
            }
            Err(Failure::Refused(said)) => {
                why = Report::error(
                    "25000",
                    format!("the primary does not begin the transaction as a replica did: {said}"),
                );
                break;
            }
        }
        session.client.borrowed(None);
    }
    session.client.borrowed(None);
    session.guard = None;
    session.lose_transaction();
    Ok(Err(why.with_hint(HINT)))
}

/// Ends the transaction on the replica. Its connection is of use to others unless the server waits for a Sync.
async fn leave(client: &mut Client, session: &mut Session, is_skipping: bool) -> Result<(), Broken> {
    session.client.borrowed(None);
    let Some(mut guard) = session.guard.take() else { return Ok(()) };
    // What has to be asked of it is not worth it here.
    let is_clean = !is_skipping && session.is_clean();
    let number = session.number();
    let Some(connection) = guard.connection().filter(|connection| is_clean && !connection.is_uncertain) else {
        return Ok(());
    };
    let (mut expect, mut composed) = (Expectations::default(), Composed::default());
    composed.own_query("ROLLBACK", &mut expect);
    connection.unnamed = None;
    match Exchange::new(client, connection, &mut expect, false, 0).run(ours(&composed)).await {
        Ok(_) if expect.status == Some(IDLE) && !expect.own_failed => {
            connection.settings.become_one_with(session.settings_before());
            connection.past.served = number;
            guard.give_back();
            Ok(())
        }
        Err(Broken::ClientGone) => Err(Broken::ClientGone),
        _ => Ok(()),
    }
}

/// Why a connection is not where the transaction was.
enum Failure {
    Broken(Broken),
    /// With these words.
    Refused(String),
}

/// Does on the session's new connection what the transaction has done on the replica.
async fn begin_again(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    survey: &Survey<'_>,
) -> Result<(), Failure> {
    let most = group.view().settings.request_max_bytes;
    let mut said = Expectations::default();
    if let Err(broken) = sync_settings(client, session, group, survey, most, &mut said).await {
        return Err(match (broken, said.own_error) {
            (Broken::Setting, Some(said)) => Failure::Refused(said.1),
            _ => Failure::Broken(broken),
        });
    }
    let (mut expect, mut composed) = (Expectations::default(), Composed::default());
    for (text, _) in session.beginning().iter().flat_map(|beginning| &beginning.statements) {
        composed.own_statement(text, &mut expect);
    }
    let gone = Failure::Broken(Broken::ServerGone { sent: false });
    let connection = session.guard.as_mut().and_then(Guard::connection).ok_or(gone)?;
    connection.unnamed = None;
    let mut exchange = Exchange::new(client, connection, &mut expect, false, most);
    exchange.run(ours(&composed)).await.map_err(Failure::Broken)?;
    if expect.own_failed || expect.status != Some(IN_TRANSACTION) {
        return Err(Failure::Refused(
            expect.own_error.map_or_else(|| "no transaction has begun".to_owned(), |(_, said)| said),
        ));
    }
    Ok(())
}

fn ours(composed: &Composed) -> Request<'_> {
    Request { ours: &composed.ours, unit: &[] }
}
