//! From a route to a connection: which node, and what is done while there is none.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::backend::ConnectFailure;
use super::causal::{Need, Sample};
use super::fitness::Fitness;
use super::group::{Group, View};
use super::node::Node;
use super::pool::{Guard, Limits, Unavailable};
use super::protocol::report::{Report, Severity};
use super::route::Role;
use super::session::Session;
use crate::clock::now_us;
use crate::snapshot::Causal;

/// Pause before a primary that cannot be reached is tried again, unless the topology changes first.
const AGAIN: Duration = Duration::from_millis(50);

/// How long a unit may look for a connection, over all its tries, from when it first has to wait: most never do, and never
/// look at the clock.
#[derive(Debug)]
pub struct Deadlines {
    begun: OnceLock<Instant>,
    checkout: Duration,
    hold: Duration,
}

impl Deadlines {
    pub fn of(view: &View) -> Self {
        Self {
            begun: OnceLock::new(),
            checkout: Duration::from_millis(view.settings.checkout_timeout_ms),
            hold: Duration::from_millis(view.settings.hold_timeout_ms),
        }
    }

    /// The same without waiting for a primary that is not there.
    pub fn without_hold(self) -> Self {
        Self { hold: Duration::ZERO, ..self }
    }

    fn begun(&self) -> Instant {
        *self.begun.get_or_init(Instant::now)
    }

    /// For a connection of a node that is there.
    fn checkout(&self) -> Instant {
        self.begun() + self.checkout
    }

    /// For a primary to be there.
    fn hold(&self) -> Instant {
        self.begun() + self.hold
    }
}

/// A connection for a unit with this route: of a replica that has replayed enough, else of the primary, which is waited for.
/// `fitness` says which connections will do. The error is for the client.
pub async fn borrow(
    group: &Group,
    session: &mut Session,
    role: Role,
    avoid: &mut Vec<Arc<Node>>,
    deadlines: &Deadlines,
    fitness: &Fitness,
) -> Result<(Guard, Role), Report> {
    if role == Role::Replica {
        while let Some(node) = replica(group, session, avoid).await {
            let pool = session.pool(&node);
            let borrowed = match pool.borrow_now(fitness) {
                Some(guard) => Ok(guard),
                None => pool.borrow(&group.view().limits, deadlines.checkout(), fitness).await,
            };
            match borrowed {
                Ok(guard) => {
                    group.counters.mine().replica_reads.add(1);
                    return Ok((guard, Role::Replica));
                }
                Err(_) => avoid.push(node),
            }
        }
    }
    primary(group, session, deadlines, fitness).await.map(|guard| (guard, Role::Primary))
}

async fn primary(
    group: &Group,
    session: &mut Session,
    deadlines: &Deadlines,
    fitness: &Fitness,
) -> Result<Guard, Report> {
    let at_once = group.view().primary().and_then(|node| session.pool(node).borrow_now(fitness));
    if let Some(mut guard) = at_once
        && guard.connection().is_some_and(|connection| !connection.is_standby())
    {
        return Ok(guard);
    }
    let mut held_since_us = None;
    loop {
        // Asked before the view is looked at, so that no change is missed.
        let changed = group.changed.notified();
        let view = group.view().clone();
        let why = match view.primary() {
            None => "there is no primary at present".to_owned(),
            Some(node) => {
                let Some(borrowed) = of_primary(group, node, session, &view.limits, deadlines, fitness).await else {
                    continue;
                };
                match borrowed {
                    Ok(mut guard) => {
                        if guard.connection().is_some_and(|connection| !connection.is_standby()) {
                            note_held(group, held_since_us);
                            return Ok(guard);
                        }
                        format!("{} is not the primary yet", node.name)
                    }
                    Err(Unavailable::Busy) => return Err(busy(&view)),
                    Err(Unavailable::Failed(failure)) => match failure {
                        ConnectFailure::Unreachable(_) | ConnectFailure::Timeout | ConnectFailure::NotReady(_) => {
                            format!("{} cannot be reached", node.name)
                        }
                        ConnectFailure::Refused(report) if is_stopping(&report) => format!("{} is stopping", node.name),
                        ConnectFailure::Refused(mut report) | ConnectFailure::Credentials(mut report) => {
                            report.severity = Severity::Error;
                            return Err(report);
                        }
                        other => return Err(Report::error("08006", format!("{}: {other}", node.name))),
                    },
                }
            }
        };
        held_since_us.get_or_insert_with(now_us);
        if Instant::now() >= deadlines.hold() {
            note_held(group, held_since_us);
            return Err(Report::error("57P03", format!("no server can take writes: {why}"))
                .with_hint("`trimaran db status` tells how the nodes are"));
        }
        // Either ends the wait.
        let _ = timeout_at(deadlines.hold().min(Instant::now() + AGAIN), changed).await;
    }
}

/// A connection of the primary; none when another node has become that meanwhile, which need not be slow as well.
async fn of_primary(
    group: &Group,
    node: &Arc<Node>,
    session: &mut Session,
    limits: &Limits,
    deadlines: &Deadlines,
    fitness: &Fitness,
) -> Option<Result<Guard, Unavailable>> {
    let pool = session.pool(node);
    let mut borrowing = pin!(pool.borrow(limits, deadlines.checkout().max(deadlines.hold()), fitness));
    loop {
        let mut changed = pin!(group.changed.notified());
        if !group.view().primary().is_some_and(|primary| Arc::ptr_eq(primary, node)) {
            return None;
        }
        let borrowed = poll_fn(|cx| match borrowing.as_mut().poll(cx) {
            Poll::Ready(borrowed) => Poll::Ready(Some(borrowed)),
            Poll::Pending => changed.as_mut().poll(cx).map(|()| None),
        });
        if let Some(borrowed) = borrowed.await {
            return Some(borrowed);
        }
    }
}

fn is_stopping(report: &Report) -> bool {
    matches!(report.code.as_str(), "57P01" | "57P02")
}

fn note_held(group: &Group, since_us: Option<u64>) {
    if let Some(since_us) = since_us {
        let counters = group.counters.mine();
        counters.held.add(1);
        counters.held_us.add(now_us() - since_us);
    }
}

fn busy(view: &View) -> Report {
    let (most, wait) = (view.limits.connections_max, view.settings.checkout_timeout_ms);
    Report::error("53300", format!("all {most} server connections were in use for {wait} ms"))
        .with_hint("raise connections_max of the database, or look for long transactions with SHOW CLIENTS")
}

/// A replica that has what the session must see, waiting for a moment if that is allowed.
async fn replica(group: &Group, session: &mut Session, avoid: &[Arc<Node>]) -> Option<Arc<Node>> {
    let view = group.view().clone();
    if !view.has_replicas() {
        return None;
    }
    let reads = &view.settings.reads;
    let arrived_us = if reads.causal == Causal::Linear { now_us() } else { 0 };
    let mut deadline = None;
    loop {
        let Some(primary) = view.primary() else { return without_primary(group, &view, session, avoid) };
        let sample = primary.sample_as_primary();
        let need = match reads.causal {
            Causal::Off => Need::Position(0),
            Causal::Session => session.horizon.need(sample),
            Causal::Linear if sample.begun_us <= arrived_us => Need::SampleSince(arrived_us),
            Causal::Linear => {
                // It is behind what the sample says in any case.
                session.horizon.need(sample);
                Need::Position(sample.position)
            }
        };
        let (waiting_for, found) = match need {
            Need::Position(position) => (None, view.replica(group, position, avoid).cloned()),
            Need::SampleSince(_) => (Some(primary), None),
        };
        if found.is_some() {
            return found;
        }
        // News from the nodes is what a wait waits for; asked for also when this read does not wait, for the next one.
        let replicas = view.members.iter().map(|member| &member.node).filter(|node| !Arc::ptr_eq(node, primary));
        let asked: Vec<_> = waiting_for.into_iter().chain(replicas).collect();
        let now = Instant::now();
        let deadline = *deadline.get_or_insert(now + Duration::from_millis(reads.wait_ms));
        if now >= deadline || timeout_at(deadline, news_of(&asked)).await.is_err() {
            for node in asked {
                node.vitals.ask();
            }
            group.counters.mine().not_yet_replayed.add(1);
            return None;
        }
    }
}

/// The same while there is no primary to ask: one that has what the session is known to need.
fn without_primary(group: &Group, view: &View, session: &mut Session, avoid: &[Arc<Node>]) -> Option<Arc<Node>> {
    let position = match view.settings.reads.causal {
        Causal::Off => 0,
        Causal::Session => match session.horizon.need(Sample { begun_us: 0, position: 0 }) {
            Need::Position(position) => position,
            Need::SampleSince(_) => return None,
        },
        // What has been committed last only a primary can tell.
        Causal::Linear => return None,
    };
    view.replica(group, position, avoid).cloned()
}

/// Asks each node how far it is, and ends with the first answer.
async fn news_of(nodes: &[&Arc<Node>]) {
    let mut news: Vec<_> = nodes.iter().map(|node| node.vitals.subscribe()).collect();
    for node in nodes {
        node.vitals.ask();
    }
    let mut waits: Vec<_> = news.iter_mut().map(|news| Box::pin(news.changed())).collect();
    poll_fn(|cx| {
        if waits.iter_mut().any(|wait| wait.as_mut().poll(cx).is_ready()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
