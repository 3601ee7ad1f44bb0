//! The console: the database `trimaran_console` of every group, with the SHOW commands that people know from PgBouncer.

use std::future::poll_fn;
use std::sync::atomic::Ordering;

use super::client::Client;
use super::connection::CancelTarget;
use super::flow::elapsed_ms;
use super::group::Group;
use super::protocol::fields;
use super::protocol::messages::to_client::{self, TransactionStatus};
use super::protocol::report::Report;
use super::unit::{End, Found, Search};
use crate::snapshot::DatabaseRole;

const REQUEST_MAX: usize = 64 * 1024;
const SHOWN: [(&str, &str); 8] = [
    ("SHOW POOLS", "connections of each login to each node, and who waits for one"),
    ("SHOW CLIENTS", "sessions: where they are, and why one keeps its connection"),
    ("SHOW SERVERS", "connections to the nodes, and whom each serves"),
    ("SHOW NODES", "the nodes: role, position, lag"),
    ("SHOW STATS", "counts since the start"),
    ("SHOW PLANS", "where statements go, and why"),
    ("SHOW VERSION", "of Trimaran"),
    ("SHOW HELP", "this list"),
];

type Table = (&'static [&'static str], Vec<Vec<String>>);

/// Answers the console's client until it leaves.
pub async fn serve(mut client: Client, group: &Group) {
    let mut search = Search::default();
    loop {
        let unit = match search.next(client.arrived(), REQUEST_MAX) {
            Ok(Found::Unit(unit)) => unit,
            Ok(Found::Stray(count)) => {
                client.consume(count);
                continue;
            }
            Ok(Found::Incomplete) => match poll_fn(|cx| client.poll_fill(cx, REQUEST_MAX + 1)).await {
                Ok(1..) => continue,
                _ => return,
            },
            Ok(Found::Unknown(_)) | Err(_) => return,
        };
        let mut out = Vec::new();
        match unit.end {
            End::Query => match fields::query(&client.arrived()[..unit.length]) {
                Ok(text) => {
                    group.clients.settled().await;
                    answer(&String::from_utf8_lossy(text), group, &mut out);
                }
                Err(_) => return,
            },
            End::Sync => Report::error("0A000", "the console speaks the simple protocol only").write_error(&mut out),
            End::Flush { .. } => {}
            End::Call | End::Terminate => return,
        }
        client.consume(unit.length);
        search = Search::default();
        if !matches!(unit.end, End::Flush { .. }) {
            to_client::ready_for_query(&mut out, TransactionStatus::Idle);
        }
        if client.write_all(&out).await.is_err() {
            return;
        }
    }
}

fn answer(text: &str, group: &Group, out: &mut Vec<u8>) {
    let words: Vec<String> =
        text.trim().trim_end_matches(';').split_whitespace().map(str::to_ascii_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (columns, rows): Table = match words[..] {
        [] => return to_client::empty_query_response(out),
        ["show", "pools"] => pools(group),
        ["show", "clients"] => clients(group),
        ["show", "servers"] => servers(group),
        ["show", "nodes"] => nodes(group),
        ["show", "stats"] => stats(group),
        ["show", "plans"] => plans(group),
        ["show", "help"] => (&["command", "what it shows"], help()),
        ["show", "version"] => (&["version"], vec![vec![format!("trimaran {}", env!("CARGO_PKG_VERSION"))]]),
        _ => {
            let known = SHOWN.map(|(command, _)| command).join(", ");
            return Report::error("42601", format!("unknown command; there are {known}")).write_error(out);
        }
    };
    to_client::row_description(out, columns);
    for row in &rows {
        let values: Vec<Option<&String>> = row.iter().map(Some).collect();
        to_client::data_row(out, &values);
    }
    to_client::command_complete(out, "SHOW");
}

fn help() -> Vec<Vec<String>> {
    SHOWN.iter().map(|(command, what)| vec![(*command).to_owned(), (*what).to_owned()]).collect()
}

/// One line for each login on each node.
fn pools(group: &Group) -> Table {
    let mut rows = Vec::new();
    for member in &group.view().members {
        for pool in member.node.pools() {
            let usage = pool.usage();
            let login = pool.login();
            rows.push(vec![
                login.database.clone(),
                login.user.clone(),
                member.node.name.clone(),
                (usage.open - usage.idle).to_string(),
                usage.idle.to_string(),
                usage.waiting.to_string(),
            ]);
        }
    }
    rows.sort();
    (&["database", "user", "node", "sv_active", "sv_idle", "cl_waiting"], rows)
}

fn clients(group: &Group) -> Table {
    let state = |status| match status {
        b'T' => "in transaction",
        b'E' => "in failed transaction",
        _ => "idle",
    };
    let mut rows: Vec<Vec<String>> = group
        .clients
        .all()
        .iter()
        .map(|client| {
            let serving = client.serving();
            vec![
                client.process.to_string(),
                client.user.clone(),
                client.database.clone(),
                client.address.to_string(),
                if serving.is_some() { state(client.status.load(Ordering::Relaxed)) } else { "idle" }.to_owned(),
                serving.map(|target| format!("{} pid {}", target.node.name, target.process)).unwrap_or_default(),
                client.requests.load(Ordering::Relaxed).to_string(),
                (elapsed_ms(client.connected_us) / 1000).to_string(),
                client.kept_because().unwrap_or_default(),
            ]
        })
        .collect();
    rows.sort();
    (&["pid", "user", "database", "addr", "state", "server", "requests", "connected_s", "kept_because"], rows)
}

/// One line for each connection to a node.
fn servers(group: &Group) -> Table {
    let seconds = |since_us| (elapsed_ms(since_us) / 1000).to_string();
    let mut rows = Vec::new();
    let mut row = |target: &CancelTarget, user: &str, database: &str, client: String, idle: String| {
        let state = if client.is_empty() { "idle" } else { "active" };
        let told = [&target.node.name, user, database, &target.process.to_string(), state, &client];
        rows.push(told.into_iter().map(ToOwned::to_owned).chain([seconds(target.born_us), idle]).collect::<Vec<_>>());
    };
    for member in &group.view().members {
        for pool in member.node.pools() {
            let login = pool.login();
            for (target, since_us) in pool.idle_connections() {
                row(&target, &login.user, &login.database, String::new(), seconds(since_us));
            }
        }
    }
    for client in group.clients.all() {
        if let Some(target) = client.serving() {
            row(&target, &client.user, &client.database, client.process.to_string(), String::new());
        }
    }
    rows.sort();
    (&["node", "user", "database", "pid", "state", "client_pid", "connected_s", "idle_s"], rows)
}

fn nodes(group: &Group) -> Table {
    let view = group.view();
    let newest = view.primary_sample().position;
    let rows = view.members.iter().map(|member| {
        let (node, vitals) = (&member.node, member.node.vitals.sample());
        let role = match member.role {
            DatabaseRole::Primary => "primary",
            DatabaseRole::Replica => "replica",
            DatabaseRole::Out => "out",
        };
        vec![
            node.name.clone(),
            node.endpoint.address.to_string(),
            role.to_owned(),
            if vitals.is_reachable() { "yes" } else { "no" }.to_owned(),
            super::causal::show_position(node.sample().position),
            newest.saturating_sub(node.sample().position).to_string(),
            group.lag_ms(node.sample().position).to_string(),
            node.in_use.load(Ordering::Relaxed).to_string(),
            node.requests.get().to_string(),
        ]
    });
    let columns = &["node", "addr", "role", "reachable", "position", "lag_bytes", "lag_ms", "in_use", "requests"];
    (columns, rows.collect())
}

fn stats(group: &Group) -> Table {
    let rows = group.counts().into_iter().map(|(name, value)| vec![name.to_owned(), value.to_string()]);
    (&["counter", "value"], rows.collect())
}

fn plans(group: &Group) -> Table {
    let rows = group.statements_known(1000).into_iter().map(|(_, entry)| {
        let (goes_to, reason) = entry.goes_to();
        let text = entry.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let executions = entry.executions.load(Ordering::Relaxed).to_string();
        vec![executions, goes_to.to_owned(), reason.to_owned(), text.chars().take(200).collect()]
    });
    (&["executions", "goes_to", "reason", "statement"], rows.collect())
}
