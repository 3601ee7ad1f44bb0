//! From a new connection to a session: who it is, which settings it brings, and what it is told of the server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::backend;
use super::borrow::{Deadlines, borrow};
use super::client::Client;
use super::clients::{Newcomer, Presence};
use super::compose::Composed;
use super::exchange::{Exchange, Request};
use super::expect::Expectations;
use super::fitness::Fitness;
use super::frontend::{Greeting, Identity, Opening, authenticate, greet};
use super::group::Group;
use super::idle_timeout;
use super::protocol::messages::to_client::{self, TransactionStatus};
use super::protocol::report::{Report, sqlstate};
use super::route::Role;
use super::session::Session;
use super::settings::{Settings, statement_for};
use super::start_options;
use super::user::User;
use crate::clock::now_us;
use crate::net::stream::Stream;
use crate::plane::Plane;

/// Names of the database that is the console. None is that of a role that we make: libpq takes the user for the database where
/// none is given.
const CONSOLE: [&str; 2] = ["trimaran_console", "pgbouncer"];
/// So many of its clients get in although the group has as many clients as it may: to look why.
const CONSOLE_PLACES: usize = 5;
/// Start-up parameters that are no settings.
const NOT_SETTINGS: [&str; 4] = ["user", "database", "replication", "options"];
/// Settings that hold for the transaction of the start alone, or cannot be taken back.
const OF_THE_START: [&str; 4] = ["seed", "transaction_deferrable", "transaction_isolation", "transaction_read_only"];
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One of each connection, and nearly always the larger.
pub enum Opened {
    Session(Client, Session),
    /// Counted as long as its presence lasts.
    Console(Client, Presence),
}

/// Opens a session. `None`: it came to nothing, or was a request to cancel something.
pub async fn open(stream: Stream, peer: IpAddr, group: &Arc<Group>, plane: &Plane) -> Option<Opened> {
    let view = group.view().clone();
    let Some(stranger) = group.clients.meet(view.settings.clients_max) else {
        group.counters.mine().refused_logins.add(1);
        return None;
    };
    let limit = Duration::from_millis(view.settings.login_timeout_ms);
    let tls = if view.settings.tls { plane.topology().tls.as_ref().map(|tls| tls.config()) } else { None };
    let counters = group.counters.mine();
    let mut opening = match greet(stream, tls, limit).await {
        Ok(Greeting::Startup(opening)) => opening,
        Ok(Greeting::Cancel(cancel)) => {
            if let Some(target) = group.clients.find(cancel.process, &cancel.secret).and_then(|entry| entry.cancelled())
            {
                counters.cancels.add(1);
                let node = &target.node;
                // Whether it was in time nobody is told, as with PostgreSQL.
                let _ = backend::cancel(&node.endpoint, target.process, &target.secret, CANCEL_LIMIT).await;
            }
            return None;
        }
        Err(_) => {
            counters.refused_logins.add(1);
            return None;
        }
    };
    let user = view.users.get(&opening.user);
    let credentials = user.map(|user| &user.credentials);
    let Opening { stream, user: name, end_point, .. } = &mut opening;
    let identity = authenticate(stream, name, credentials, end_point.as_deref(), limit).await;
    let (Ok(identity), Some(user)) = (identity, user) else {
        counters.refused_logins.add(1);
        return None;
    };
    drop(stranger);
    counters.logins.add(1);
    match admit(opening, identity, user, peer, group).await {
        Ok(opened) => Some(opened),
        Err((mut client, report)) => {
            let mut out = Vec::new();
            // It has shown who it is, which is another matter.
            to_client::authentication_ok(&mut out);
            report.write_error(&mut out);
            // It is over either way.
            let _ = client.write_all(&out).await;
            None
        }
    }
}

/// Lets a client in that has shown who it is.
async fn admit(
    opening: Opening,
    identity: Identity,
    user: &User,
    peer: IpAddr,
    group: &Arc<Group>,
) -> Result<Opened, (Client, Report)> {
    let Opening { stream, startup, user: name, database, .. } = opening;
    let mut client = Client::new(stream);
    let mut out = Vec::new();
    to_client::authentication_ok(&mut out);
    let newcomer = Newcomer {
        user: &name,
        database: &database,
        address: peer,
        secret_length: if startup.agreed_minor() >= 2 { 32 } else { 4 },
        now_us: now_us(),
    };
    if CONSOLE.contains(&database.as_str()) {
        if !user.is_operator() {
            return Err((client, Report::fatal("42501", "only operators may use the console")));
        }
        let most = group.view().settings.clients_max + CONSOLE_PLACES;
        let Some(entry) = group.clients.enter(&newcomer, most) else {
            return Err((client, Report::fatal("53300", format!("the gateway has {most} clients already"))));
        };
        let presence = Presence::new(group, entry.process);
        welcome(&mut out, &[("server_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())], 0, &[]);
        return if client.write_all(&out).await.is_ok() {
            Ok(Opened::Console(client, presence))
        } else {
            Err((client, Report::fatal("08006", "gone")))
        };
    }
    match startup.get("replication").map_or(Ok(false), asks_for_replication) {
        Ok(false) => {}
        Ok(true) => {
            let report = Report::fatal("0A000", "replication connections do not go through the gateway")
                .with_hint("connect to a node directly");
            return Err((client, report));
        }
        Err(report) => return Err((client, report)),
    }
    let base = match settings(&startup.parameters) {
        Ok(base) => base,
        Err(report) => return Err((client, report)),
    };
    let view = group.view().clone();
    let Some(entry) = group.clients.enter(&newcomer, view.settings.clients_max) else {
        let text = format!("the gateway has {} clients already", view.settings.clients_max);
        return Err((client, Report::fatal("53300", text).with_hint("raise clients_max of the database")));
    };
    let login = user.login(&database, identity);
    let presence = Presence::new(group, entry.process);
    let mut session = Session::new(entry, presence, login, base, group.plans_of(&database));
    let parameters = match parameters(&mut client, &mut session, group).await {
        Ok(parameters) => parameters,
        Err(mut report) => {
            report.severity = super::protocol::report::Severity::Fatal;
            return Err((client, report));
        }
    };
    welcome(&mut out, &parameters, session.client.process, &session.client.secret);
    if client.write_all(&out).await.is_err() {
        return Err((client, Report::fatal("08006", "gone")));
    }
    Ok(Opened::Session(client, session))
}

fn welcome(out: &mut Vec<u8>, parameters: &[(String, String)], process: u32, secret: &[u8]) {
    for (name, value) in parameters {
        to_client::parameter_status(out, name, value);
    }
    if !secret.is_empty() {
        to_client::backend_key_data(out, process, secret);
    }
    to_client::ready_for_query(out, TransactionStatus::Idle);
}

/// Settings of a start-up packet: parameters, and those in `options`.
fn settings(parameters: &[(String, String)]) -> Result<Settings, Report> {
    let mut settings = Settings::default();
    for (name, value) in parameters {
        if name == "options" {
            for (name, value) in start_options::settings_of(value)? {
                set(&mut settings, &name, &value);
            }
        } else if !NOT_SETTINGS.contains(&name.as_str()) {
            set(&mut settings, name, value);
        }
    }
    Ok(settings)
}

fn set(settings: &mut Settings, name: &str, value: &str) {
    if !OF_THE_START.contains(&name.to_ascii_lowercase().as_str()) {
        settings.set(name, &statement_for(name, value));
    }
}

/// Whether a value of `replication` asks for it: booleans as PostgreSQL reads them, or a word of its own.
fn asks_for_replication(value: &str) -> Result<bool, Report> {
    let value = value.to_ascii_lowercase();
    let is_one_of = |words: &[&str]| words.iter().any(|word| word.starts_with(&value));
    match value.as_str() {
        "database" | "1" | "on" => Ok(true),
        "0" | "of" | "off" => Ok(false),
        "" | "o" => Err(no_replication(&value)),
        _ if is_one_of(&["true", "yes"]) => Ok(true),
        _ if is_one_of(&["false", "no"]) => Ok(false),
        _ => Err(no_replication(&value)),
    }
}

fn no_replication(value: &str) -> Report {
    Report::fatal("22023", format!("invalid value for parameter \"replication\": \"{value}\""))
        .with_hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".")
}

/// What servers report of themselves to a client with these settings. The first one with such settings asks a server, which
/// also shows that they are accepted; later ones are told the same.
async fn parameters(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
) -> Result<Vec<(String, String)>, Report> {
    let mark = session.base.mark();
    if let Some(known) = group.parameters(&session.login, mark) {
        return Ok(known);
    }
    let view = group.view().clone();
    let at_once = Deadlines::of(&view).without_hold();
    let refused = match ask(client, session, group, Role::Primary, &at_once).await {
        Ok(parameters) => {
            group.remember_parameters(&session.login, mark, &parameters);
            return Ok(parameters);
        }
        Err(report) if report.code != sqlstate::CANNOT_CONNECT_NOW => return Err(report),
        Err(report) => report,
    };
    let refused = match without_primary(client, session, group, &at_once).await {
        // The next one asks again: a primary tells more.
        Some(Ok(parameters)) => return Ok(parameters),
        Some(Err(report)) => report,
        None => refused,
    };
    match ask(client, session, group, Role::Primary, &Deadlines::of(&view)).await {
        Ok(parameters) => {
            group.remember_parameters(&session.login, mark, &parameters);
            Ok(parameters)
        }
        Err(report) if report.code == sqlstate::CANNOT_CONNECT_NOW => Err(refused),
        Err(report) => Err(report),
    }
}

/// The same of a replica, for as long as there is no primary. What it refuses may be right: it may lack what was made last.
async fn without_primary(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    deadlines: &Deadlines,
) -> Option<Result<Vec<(String, String)>, Report>> {
    if !group.view().has_replicas() {
        return None;
    }
    match ask(client, session, group, Role::Replica, deadlines).await {
        Ok(mut parameters) => {
            // What the gateway leads to is no standby, although the server that was asked is.
            parameters.iter_mut().filter(|(name, _)| name == "in_hot_standby").for_each(|(_, it)| "off".clone_into(it));
            Some(Ok(parameters))
        }
        Err(report) if report.code == sqlstate::CANNOT_CONNECT_NOW => None,
        Err(report) => Some(Err(report)),
    }
}

/// Asks one server.
async fn ask(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    role: Role,
    deadlines: &Deadlines,
) -> Result<Vec<(String, String)>, Report> {
    let (mut guard, _) = borrow(group, session, role, &mut Vec::new(), deadlines, &Fitness::default()).await?;
    let Some(connection) = guard.connection() else { return Err(Report::fatal("08006", "no connection")) };
    let mut difference = session.base.since(&connection.settings);
    let timeout = session.base.get(idle_timeout::NAME);
    difference.extend(timeout.map(|statement| format!("{statement};")));
    if !difference.is_empty() {
        let (mut expect, mut composed) = (Expectations::default(), Composed::default());
        composed.own_query(&difference, &mut expect);
        let mut exchange = Exchange::new(client, connection, &mut expect, false, 0);
        let done = exchange.run(Request { ours: &composed.ours, unit: &[] }).await;
        if done.is_err() {
            return Err(Report::fatal(sqlstate::CANNOT_CONNECT_NOW, "the server went away during the login"));
        }
        if expect.own_failed {
            let (code, message) = expect.own_error.take().unwrap_or_default();
            return Err(Report::fatal(&code, message));
        }
        connection.note_settings(&session.base);
        connection.unnamed = None;
    }
    let parameters = connection.parameters.clone();
    if timeout.is_none() {
        guard.give_back();
    }
    Ok(parameters)
}
