//! A pool for as long as its name is in the snapshot: its queue, its counters, and the view that is current.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use super::health::state;
use super::http::refusal::Refusal;
use super::pressure::Patience;
use super::queue::{Joined, Queue};
use super::retry::{Budget, Failure};
use super::server::Server;
use super::view::{Pick, Terms, View};
use crate::clock::{now_ms, now_us};
use crate::events::Events;
use crate::metrics::{PoolCounters, Sharded};
use crate::snapshot;

#[derive(Debug)]
pub struct Pool {
    pub name: String,
    view: ArcSwap<View>,
    pub queue: Queue,
    pub counters: Sharded<PoolCounters>,
    budget: Budget,
    events: Arc<Events>,
    /// Judging happens one at a time, so that states change in one order.
    judging: Mutex<()>,
    budget_event_due: AtomicBool,
}

/// Room for one request on one server, given back when dropped.
#[derive(Debug)]
pub struct Slot {
    pool: Arc<Pool>,
    pub server: Arc<Server>,
    pub since_us: u64,
    /// When its service ended, if that was before it is dropped.
    until_us: Option<u64>,
    in_flight_before: u32,
    streams_hold_slots: bool,
    pub terms: Terms,
    is_stream: bool,
    answered: AtomicBool,
}

impl Pool {
    pub fn new(view: View, threads: usize, events: Arc<Events>) -> Self {
        Self {
            name: view.settings.name.clone(),
            view: ArcSwap::from_pointee(view),
            queue: Queue::default(),
            counters: Sharded::new(threads),
            budget: Budget::default(),
            events,
            judging: Mutex::default(),
            budget_event_due: AtomicBool::new(true),
        }
    }

    pub fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// A slot for a request, when a usable server has room and nobody waits. `tried` are servers on which this
    /// request has failed already.
    pub fn try_slot(self: &Arc<Self>, key: Option<u64>, tried: &[Arc<Server>], now_us: u64) -> Option<Slot> {
        if self.queue.is_empty() { self.pick(key, tried, now_us) } else { None }
    }

    /// A slot by queueing, within the queue's limits.
    pub async fn wait_for_slot(self: &Arc<Self>, key: Option<u64>, tried: &[Arc<Server>]) -> Result<Slot, Refusal> {
        let (queue_max, timeout_ms, patience) = {
            let view = self.view();
            let settings = &view.settings;
            (settings.queue_max, settings.queue_timeout_ms, patience(&view))
        };
        let since_us = now_us();
        let (ticket, slot) = match self.queue.join(queue_max, patience.as_ref(), since_us, key, tried) {
            Joined::At { ticket, slot } => (ticket, slot),
            Joined::Full | Joined::TooLong if patience.is_none() => return Err(self.rejects(Refusal::NoServer)),
            Joined::Full => return Err(self.rejects(Refusal::QueueFull)),
            Joined::TooLong => return Err(self.rejects(Refusal::Overloaded)),
        };
        let place = Place { pool: self, ticket };
        self.counters.mine().queued.add(1);
        if self.queue.len() == 1 {
            self.events.queue(&self.name, 1, 0);
        }
        // A slot given back between the first look and the joining was seen by nobody.
        self.serve_queue();
        let slot = tokio::time::timeout(Duration::from_millis(timeout_ms), slot).await;
        drop(place);
        self.counters.mine().queue_wait_us.add(now_us() - since_us);
        if let Ok(Ok(slot)) = slot {
            return Ok(slot);
        }
        Err(self.rejects(if self.has_usable() { Refusal::QueueTimeout } else { Refusal::NoServer }))
    }

    fn rejects(&self, refusal: Refusal) -> Refusal {
        self.counters.mine().rejected.add(1);
        refusal
    }

    fn pick(self: &Arc<Self>, key: Option<u64>, tried: &[Arc<Server>], since_us: u64) -> Option<Slot> {
        let Pick { server, in_flight_before, streams_hold_slots, terms } = self.view().pick(key, tried, since_us)?;
        let pool = Arc::clone(self);
        Some(Slot {
            pool,
            server,
            since_us,
            until_us: None,
            in_flight_before,
            streams_hold_slots,
            terms,
            is_stream: false,
            answered: AtomicBool::new(false),
        })
    }

    /// Gives free slots to those who wait.
    pub fn serve_queue(self: &Arc<Self>) {
        if !self.queue.is_empty() {
            let target_us = self.settings(|settings| settings.queue_target_ms) * 1_000;
            let now_us = now_us();
            self.queue.serve(now_us, target_us, |waiter| self.pick(waiter.key, &waiter.tried, now_us));
        }
    }

    fn has_usable(&self) -> bool {
        self.view().members.iter().any(|member| member.server.is_usable())
    }

    /// Takes over a new view. Servers that left keep serving what they have.
    pub fn replace(self: &Arc<Self>, view: View) {
        for member in view.members.iter().filter(|member| member.draining) {
            member.server.close_idle();
        }
        self.view.store(Arc::new(view));
        self.judge();
    }

    /// Decides anew which servers may be used, tells what changed, and lets those who wait profit.
    pub fn judge(self: &Arc<Self>) {
        let judging = self.judging.lock();
        let view = self.view();
        let now = now_ms();
        let members: Vec<state::Member> = view
            .members
            .iter()
            .map(|member| {
                let condition = member.server.condition();
                state::Member {
                    draining: member.draining,
                    ready: member.ready || view.settings.active.is_none(),
                    active_up: condition.active_up,
                    ejected_until_ms: member.server.passive.until_ms(),
                }
            })
            .collect();
        let verdict = state::decide(&members, view.settings.eject_share_max, view.settings.panic_share, now);
        for ((member, usable), (state, reason)) in view.members.iter().zip(verdict.usable).zip(verdict.states) {
            member.server.set_usable(usable, now);
            let mut condition = member.server.condition();
            let reason = match state {
                state::State::Down if !usable && !condition.active_reason.is_empty() => condition.active_reason.clone(),
                _ => reason.to_owned(),
            };
            if condition.state != state {
                self.events.health(&self.name, &member.server.name, state.as_str(), &reason);
            }
            condition.state = state;
            condition.reason = reason;
        }
        drop(view);
        drop(judging);
        self.serve_queue();
    }

    /// Whether the pool can bear one more retry.
    pub fn may_retry(&self) -> bool {
        let requests = self.counters.sum(|counters| counters.arrivals.get());
        let granted = self.budget.take(now_ms(), requests, self.view().settings.retry_share_max);
        if granted {
            self.counters.mine().retries.add(1);
            self.budget_event_due.store(true, Ordering::Relaxed);
        } else if self.budget_event_due.swap(false, Ordering::Relaxed) {
            self.events.retry_budget(&self.name);
        }
        granted
    }

    /// A retry that is no extra load, because the server was never reached.
    pub fn count_free_retry(&self) {
        self.counters.mine().retries.add(1);
    }

    pub fn settings<T>(&self, read: impl FnOnce(&snapshot::Pool) -> T) -> T {
        read(&self.view().settings)
    }
}

/// How long requests may wait. `None` while no server is usable: nothing can be foretold then, and a deployment or a
/// restart must lose nobody.
fn patience(view: &View) -> Option<Patience> {
    let usable = view.members.iter().filter(|member| member.server.is_usable() && !member.draining);
    let slots: usize = usable.map(|member| member.limit as usize).sum();
    (slots > 0).then(|| Patience {
        timeout_us: view.settings.queue_timeout_ms * 1_000,
        target_us: view.settings.queue_target_ms * 1_000,
        slots,
    })
}

/// A place in the queue, left when dropped: a request that is given up does not stay in line.
struct Place<'p> {
    pool: &'p Pool,
    ticket: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pool.queue.leave(self.ticket);
    }
}

impl Slot {
    /// The head of a response has arrived.
    pub fn answered(&self, now_us: u64) {
        self.server.record_latency(self.terms.signal, now_us, now_us - self.since_us, self.in_flight_before);
        self.server.passive.success();
        self.answered.store(true, Ordering::Relaxed);
    }

    /// The attempt failed by the server's fault.
    pub fn failed(&self, failure: Failure) {
        let view = self.pool.view();
        self.server.record_failure(view.policy.signal(), now_us(), failure);
        if self.server.passive.failure(&view.settings.passive, now_ms()) {
            drop(view);
            self.pool.judge();
        }
    }

    /// The response goes on for as long as client and server like: it holds no slot from now on, unless the server
    /// spends a thread on it.
    pub fn becomes_stream(&mut self) {
        if !self.streams_hold_slots && !self.is_stream {
            self.is_stream = true;
            self.count_service();
            self.server.slot_to_stream();
            self.pool.serve_queue();
        }
    }

    /// Whether the server works on for a client that has left, so that its slot is still in use.
    pub fn outlives_client(&self) -> bool {
        self.streams_hold_slots
    }

    /// The server is done, just before the slot is dropped.
    pub fn ends_at(&mut self, now_us: u64) {
        self.until_us = Some(now_us);
    }

    fn count_service(&self) {
        let service_us = self.until_us.unwrap_or_else(now_us) - self.since_us;
        self.server.service_us.add(service_us);
        let counters = self.pool.counters.mine();
        if self.answered.load(Ordering::Relaxed) {
            counters.service_us.add(service_us);
            counters.completed.add(1);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_stream {
            self.server.end_stream();
        } else {
            self.count_service();
            self.server.give_slot();
            self.pool.serve_queue();
        }
    }
}

#[cfg(test)]
impl Pool {
    /// A pool without servers, for tests of what leads to it.
    pub fn empty(name: &str) -> Arc<Self> {
        let settings = serde_json::json!({
            "name": name, "policy": {"name": "random"}, "hash_by": "client", "slow_start_ms": 0, "queue_max": 0,
            "queue_timeout_ms": 1, "connect_timeout_ms": 1, "response_timeout_ms": 1, "idle_connections_max": 0,
            "retries_max": 0, "retry_share_max": 0.0, "active": null,
            "passive": {"failures": 0, "base_ms": 1, "max_ms": 1}, "eject_share_max": 0.5, "panic_share": 0.0,
            "servers": [],
        });
        let settings = serde_json::from_value(settings).expect("a valid pool");
        Arc::new(Self::new(View::new(settings, Vec::new()), 1, Arc::default()))
    }
}
