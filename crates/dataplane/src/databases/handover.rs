//! A connection between two sessions: it is brought to the settings of the session that gets it, and its server is asked what
//! unseen code has left behind before another gets it.

use super::audit::Findings;
use super::causal::show_position;
use super::client::Client;
use super::compose::Composed;
use super::exchange::{Broken, Exchange, Request};
use super::expect::Expectations;
use super::fitness::Fitness;
use super::flow::Over;
use super::group::Group;
use super::idle_timeout;
use super::lost::{held, lost_while_idle};
use super::plan::Effect;
use super::protocol::messages::to_client;
use super::protocol::report::Report;
use super::session::{FAILED, Session};
use super::settings::Settings;
use super::survey::Survey;

/// Brings the connection to the settings of the session. An exchange of its own: a unit must not run where they are refused
/// (with the rights of another role, for one).
pub(super) async fn sync_settings(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    survey: &Survey<'_>,
    most: usize,
    said: &mut Expectations,
) -> Result<(), Broken> {
    let (mut expect, mut composed) = (Expectations::default(), Composed::default());
    // A query of ours would commit what a batch has done so far.
    let may_run = (session.status != FAILED || session.lost) && !session.in_batch;
    let mut wants_position =
        survey.effects().filter(|effect| matches!(effect, Effect::Show { name } if name == "trimaran.position"));
    if wants_position.next().is_some() && may_run && !session.lost {
        let position = super::position::of(session, group).await;
        composed.own_query(&format!("SET trimaran.position TO '{}'", show_position(position)), &mut expect);
    }
    let has_drawn = session.may_have_written();
    let held = held(session);
    let Some(connection) = session.guard.as_mut().and_then(super::pool::Guard::connection) else { return Ok(()) };
    let is_mine = connection.past.served == session.client.process;
    let has_unknown = connection.past.has_unknown_settings && !is_mine;
    let is_same = connection.settings.is_same(&session.settings) && !has_unknown;
    let mut wanted = None;
    if !is_same && may_run {
        let target = wanted.insert(match &session.without_role {
            Some(target) => target.clone(),
            None => session.settings.clone(),
        });
        let mut difference = String::new();
        if has_unknown {
            difference.push_str("RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL;");
            connection.settings.clear();
        }
        difference.push_str(&target.since(&connection.settings));
        if !difference.is_empty() {
            composed.own_query(&difference, &mut expect);
        }
    }
    let changes_hands = connection.past.served != 0 && !is_mine;
    connection.past.has_drawn &= !changes_hands;
    let is_foreign = connection.past.sequences_are_foreign || changes_hands;
    // Asked for where sessions of the database ask for what they have drawn, and where they have not drawn anything yet.
    let forgets_sequences = is_foreign
        && may_run
        && (session.plans.sequences_are_asked_for() && changes_hands
            || survey.asks_for_sequences() && !has_drawn && !connection.past.has_drawn);
    if forgets_sequences {
        composed.own_query("DISCARD SEQUENCES", &mut expect);
    }
    if may_run
        && let Some(statement) = session.settings.get(idle_timeout::NAME)
        && idle_timeout::is_asked(survey)
    {
        composed.own_query(statement, &mut expect);
    }
    let tell = std::mem::take(&mut session.tell);
    if !expect.is_empty() {
        let gone = |broken| match broken {
            Broken::ClientGone | Broken::Fatal => broken,
            _ => Broken::ServerGone { sent: false },
        };
        let mut exchange = Exchange::new(client, connection, &mut expect, false, most);
        exchange.held = held;
        exchange.run(Request { ours: &composed.ours, unit: &[] }).await.map_err(gone)?;
        // A simple query has ended it.
        connection.unnamed = None;
        if expect.own_failed {
            *said = expect;
            return Err(Broken::Setting);
        }
    }
    if tell && may_run {
        // The client knows the server's own values since a RESET.
        let mut out = Vec::new();
        connection.parameters.iter().for_each(|(name, value)| to_client::parameter_status(&mut out, name, value));
        client.write_all(&out).await.map_err(|_| Broken::ClientGone)?;
    }
    if let Some(target) = &wanted {
        connection.past.has_unknown_settings = false;
        connection.note_settings(target);
    } else if is_same {
        // The same object makes the next comparison cheap.
        connection.settings.become_one_with(&session.settings);
    }
    connection.past.sequences_are_foreign = is_foreign && !forgets_sequences;
    connection.past.served = session.client.process;
    Ok(())
}

/// The settings of a session without the role that the first statement of a unit leaves or replaces: one that was dropped
/// meanwhile cannot be taken on. None where it leaves none.
pub(super) fn without_role(survey: &Survey<'_>, settings: &Settings) -> Option<Settings> {
    let mut target = settings.clone();
    match survey.effects().next() {
        Some(Effect::Reset { name: Some(name) } | Effect::Set { name, .. }) if name == "role" => target.reset("role"),
        Some(Effect::Reset { name: Some(name) } | Effect::Set { name, .. }) if name == "session_authorization" => {
            target.reset("role");
            target.reset("session_authorization");
        }
        Some(Effect::Discard { what }) if what == "all" => {
            target.reset("role");
            target.reset("session_authorization");
        }
        _ => return None,
    }
    Some(target)
}

/// Whether another connection may take the settings that this one has refused: one that has served nobody, or one without the
/// role that the unit leaves anyway.
pub(super) fn may_try_again(session: &mut Session, survey: &Survey<'_>, fitness: &mut Fitness) -> bool {
    if session.has_used_connection() {
        // What it has served before may be in the way.
        fitness.want_unused();
        return true;
    }
    let target = without_role(survey, &session.settings).filter(|_| session.without_role.is_none());
    session.tell |= target.is_some();
    session.without_role = target;
    session.without_role.is_some()
}

/// The error for a session whose settings its server connection does not take.
pub(super) fn refused_setting(expect: &Expectations) -> Report {
    let (code, message) = expect.own_error.clone().unwrap_or_default();
    let code = if code.is_empty() { "22023" } else { &code };
    Report::error(code, message)
        .with_detail("The session has made this setting before, and its present server connection refuses it.")
        .with_hint("reset the setting (RESET, SET ROLE NONE), and go on")
}

/// The end of a unit: the server is asked what unseen code has left behind, and the connection goes back to its pool, unless the
/// session has to keep it.
pub(super) async fn hand_over(client: &mut Client, session: &mut Session, group: &Group) -> Result<(), Over> {
    // A second try prepares the questions anew: unseen code may have taken back what was prepared.
    let mut tries = 2;
    while tries > 0 && session.has_to_be_audited(group) {
        tries -= 1;
        let mut expect = Expectations::default();
        let Some(questions) = session.audit(&mut expect) else { break };
        let audit = session.need.audit;
        let Some(connection) = session.guard.as_mut().and_then(super::pool::Guard::connection) else { break };
        let most = group.view().settings.request_max_bytes;
        let mut exchange = Exchange::new(client, connection, &mut expect, false, most);
        match exchange.run(Request { ours: &questions, unit: &[] }).await {
            Ok(_) => {}
            Err(Broken::ClientGone | Broken::Fatal) => return Err(Over),
            Err(_) => return lost_while_idle(client, session).await,
        }
        group.counters.mine().audits.add(1);
        match Findings::read(&expect.rows, audit).filter(|_| !expect.own_failed) {
            Some(findings) => {
                session.adopt(findings, group);
                break;
            }
            // Nobody knows in which state it is: it is closed instead of being given back.
            None if tries == 0 => connection.is_uncertain = true,
            None => connection.prepared.forget(),
        }
    }
    session.release();
    Ok(())
}
