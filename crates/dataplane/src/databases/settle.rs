//! What became of a write whose server went before it had answered: the next primary is asked for its transaction.
//!
//! "Aborted" is true whenever a primary says it, whoever had the id: had the transaction been committed and had its record
//! arrived, no other could have got its id. "Committed" is believed only of ids that the new primary knew before its
//! promotion (`succession`). Everything else stays in doubt.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::borrow::{Deadlines, borrow};
use super::client::Client;
use super::compose::Composed;
use super::connection::Connection;
use super::exchange::{Broken, Exchange, Request};
use super::expect::Expectations;
use super::fitness::Fitness;
use super::group::Group;
use super::route::Role;
use super::session::Session;
use super::succession::Origin;

/// Answers with nothing while the transaction has written nothing. No id is given out for being asked.
pub const XID: &str = "SELECT pg_catalog.pg_current_xact_id_if_assigned()";
/// The commit behind it is on as many disks as every other that was acknowledged: it waits as they do, and those before it
/// come first.
const AS_DURABLE_AS_ANY: &str = "SET LOCAL synchronous_commit = on; \
    SELECT pg_catalog.pg_logical_emit_message(true, 'trimaran', ''::text)";
/// The connection has the settings of whoever had it last.
const UNDISTURBED: &str = "SET LOCAL statement_timeout = 0; SET LOCAL search_path = pg_catalog; ";
/// A transaction whose connection was lost may still be under way on a server that lives, or be a prepared one.
const UNDER_WAY: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(20);

/// A transaction that may or may not be committed.
#[derive(Debug, Clone)]
pub struct Unanswered {
    pub xid: u64,
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Committed,
    Aborted,
    InDoubt,
}

/// Finds it out, waiting for a primary as every write does. The error is `Broken::ClientGone` only.
pub async fn settle(
    client: &mut Client,
    session: &mut Session,
    group: &Group,
    unanswered: &Unanswered,
) -> Result<Settled, Broken> {
    let deadlines = Deadlines::of(&group.view());
    let until = Instant::now() + UNDER_WAY;
    let lost_until = Instant::now() + Duration::from_millis(group.view().settings.hold_timeout_ms);
    loop {
        let Ok((mut guard, _)) =
            borrow(group, session, Role::Primary, &mut Vec::new(), &deadlines, &Fitness::default()).await
        else {
            return Ok(Settled::InDoubt);
        };
        let Some(connection) = guard.connection() else { return Ok(Settled::InDoubt) };
        let status = match ask(client, connection, &status_of(unanswered.xid)).await {
            Ok(status) => status,
            Err(Broken::ClientGone) => return Err(Broken::ClientGone),
            Err(_) if Instant::now() < lost_until => {
                guard.broken_off();
                continue;
            }
            Err(_) => return Ok(Settled::InDoubt),
        };
        let asked = Origin { node: connection.target.node.clone(), epoch: connection.epoch };
        let promotion = group.line.promotion_after(&unanswered.origin, &asked);
        let settled = match (status.as_deref(), promotion) {
            (Some("aborted" | "unknown here"), _) => Settled::Aborted,
            (Some("committed"), Some(promotion)) if unanswered.xid >= promotion.next_xid => Settled::Aborted,
            (Some("committed"), Some(promotion)) if unanswered.xid < promotion.seen_xid => {
                match ask(client, connection, AS_DURABLE_AS_ANY).await {
                    Ok(Some(_)) => Settled::Committed,
                    Ok(None) => Settled::InDoubt,
                    Err(Broken::ClientGone) => return Err(Broken::ClientGone),
                    Err(_) => return Ok(Settled::InDoubt),
                }
            }
            (Some("in progress"), _) if Instant::now() < until => {
                guard.give_back();
                sleep(AGAIN).await;
                continue;
            }
            _ => Settled::InDoubt,
        };
        guard.give_back();
        return Ok(settled);
    }
}

/// An id that is still to be given out would be an error of `pg_xact_status`. `age` counts from the next one.
fn status_of(xid: u64) -> String {
    format!(
        "SELECT CASE WHEN {xid} >= ended + ((3 + pg_catalog.age('3'::pg_catalog.xid)::bigint - ended) & 4294967295) \
         THEN 'unknown here' ELSE pg_catalog.pg_xact_status('{xid}'::pg_catalog.xid8) END \
         FROM (SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint AS ended OFFSET 0) AS now"
    )
}

async fn ask(client: &mut Client, connection: &mut Connection, sql: &str) -> Result<Option<String>, Broken> {
    let (mut expect, mut composed) = (Expectations::default(), Composed::default());
    composed.ask(&format!("{UNDISTURBED}{sql}"), connection, &mut expect);
    Exchange::new(client, connection, &mut expect, false, 0).run(Request { ours: &composed.ours, unit: &[] }).await?;
    // One that refuses the question answers nothing; its connection is as good as before.
    Ok(if expect.own_failed { None } else { expect.told })
}
