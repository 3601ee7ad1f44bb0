//! Asks one node, again and again, what it is and how far it has come, on a connection of its own.
//!
//! What causal reads rest on: **the position of a sample that was begun at time T on a primary is at or after the end of
//! every commit that it had acknowledged before T.** It holds because the time is taken before the question is sent, and
//! the server's answer is its WAL insert position, which no later record can precede. On a replica the position is what
//! has been replayed: whatever was committed before it is visible there.

mod history;
mod question;
mod vitals;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

pub use self::history::History;
pub use self::vitals::{Answer, Sample, Vitals};
use super::backend::{Endpoint, Login, QueryFailure, Session, connect};
use super::rest::Rest;
use crate::clock::now_us;

/// Shortest time between two attempts at a node that does not answer, however many ask.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Longest time between them.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How often to ask, and how long to wait for an answer, which includes connecting where that is needed.
#[derive(Debug, Clone)]
pub struct Pace {
    pub interval: Duration,
    /// The same while `rest` is on and the node answers.
    pub rest_interval: Duration,
    pub rest: Arc<Rest>,
    pub limit: Duration,
}

/// Asks until the task is aborted. There must be one watch for each `Vitals`.
pub async fn watch(vitals: Arc<Vitals>, endpoint: Arc<Endpoint>, login: Arc<Login>, pace: Pace) {
    let mut node = Node { endpoint, login, limit: pace.limit, open: None };
    loop {
        match timeout(pace.limit, node.sample()).await {
            Ok(Ok((begun_us, answer))) => vitals.publish(begun_us, answer),
            Ok(Err(problem)) => vitals.publish_failure(problem),
            Err(_) => vitals.publish_failure("no answer in time".into()),
        }
        let failures = vitals.sample().failures;
        if failures > 0 {
            sleep(RETRY_MIN).await;
        }
        let interval = if failures == 0 && pace.rest.is_on() { pace.rest_interval } else { pace.interval };
        vitals.asked(pause(failures, interval)).await;
    }
}

/// How long to leave the node alone, unless somebody asks.
fn pause(failures: u32, interval: Duration) -> Duration {
    match failures {
        0 => interval,
        _ => interval.saturating_mul(1 << (failures - 1).min(10)).min(RETRY_MAX.max(interval)),
    }
}

struct Node {
    endpoint: Arc<Endpoint>,
    login: Arc<Login>,
    limit: Duration,
    open: Option<Open>,
}

/// A session on which the question is prepared.
struct Open {
    session: Session,
    wal: question::Wal,
}

impl Node {
    /// One answer, with the time before it was asked for. A connection that has broken since the last one, as by a
    /// restart, is replaced at once. Giving up half-way closes the connection.
    async fn sample(&mut self) -> Result<(u64, Answer), String> {
        if let Some(mut open) = self.open.take() {
            if let Ok(sampled) = open.ask(self.limit).await {
                self.open = Some(open);
                return Ok(sampled);
            }
        }
        let mut open = self.connect().await?;
        let sampled = open.ask(self.limit).await.map_err(|failure| failure.to_string())?;
        self.open = Some(open);
        Ok(sampled)
    }

    async fn connect(&self) -> Result<Open, String> {
        let limit = self.limit;
        let parameters = [("application_name", "trimaran monitor"), ("client_encoding", "UTF8")];
        let connected = connect(&self.endpoint, &self.login, &parameters, limit).await;
        let mut session = Session::new(connected.map_err(|failure| failure.to_string())?);
        let failed = |failure: QueryFailure| failure.to_string();
        let rows = session.query(question::SETTINGS, limit).await.map_err(failed)?;
        let wal = question::Wal::read(&rows)?;
        session.prepare(question::NAME, question::SQL, limit).await.map_err(failed)?;
        Ok(Open { session, wal })
    }
}

impl Open {
    async fn ask(&mut self, limit: Duration) -> Result<(u64, Answer), QueryFailure> {
        let begun_us = now_us();
        let rows = self.session.run(question::NAME, limit).await?;
        Ok((begun_us, self.wal.answer(&rows)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_failures_up_to_a_limit() {
        let pauses: Vec<_> =
            [0, 1, 2, 3, 4, 5, 60].map(|failures| pause(failures, Duration::from_millis(100)).as_millis()).into();
        assert_eq!(pauses, [100, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(pause(9, Duration::from_secs(5)), Duration::from_secs(5));
    }
}
