//! One server as the gateway sees it: its counters, its health, and its idle connections.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::balance::Signal;
use super::balance::latency::{LatencyAtInFlight, PeakEwma};
use super::health::passive::Passive;
use super::health::state::State;
use super::http::upstream::Upstream;
use super::retry::Failure;
use crate::metrics::{Counter, shard};
use crate::net::address::Address;

/// How fast an old latency is forgotten.
const DECAY_US: u64 = 10_000_000;

/// A server keeps this value, and with it its counters, for as long as its name and address are in the snapshot.
pub struct Server {
    pub name: String,
    pub address: Address,
    /// Stable over restarts of Trimaran, for the hash policy.
    pub identity: u64,
    in_flight: AtomicU32,
    streams: AtomicU32,
    usable: AtomicBool,
    watched: AtomicBool,
    /// When it last became usable, for slow start.
    pub usable_since_ms: AtomicU64,
    pub requests: Counter,
    pub failures: Counter,
    pub service_us: Counter,
    pub passive: Passive,
    peak_ewma: PeakEwma,
    at_in_flight: LatencyAtInFlight,
    condition: Mutex<Condition>,
    /// One list per data-plane thread: a connection belongs to the event loop that made it.
    idle: Box<[Mutex<Vec<Upstream>>]>,
}

/// What is known about a server's health, and since when it is shown.
#[derive(Debug, Clone)]
pub struct Condition {
    /// What active checks say, once they have said something.
    pub active_up: Option<bool>,
    pub active_reason: String,
    pub state: State,
    pub reason: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("name", &self.name).field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    pub fn new(name: &str, address: Address, threads: usize) -> Self {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        Self {
            name: name.to_owned(),
            address,
            identity: hasher.hash_one(name),
            in_flight: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            usable: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            usable_since_ms: AtomicU64::new(0),
            requests: Counter::default(),
            failures: Counter::default(),
            service_us: Counter::default(),
            passive: Passive::new(),
            peak_ewma: PeakEwma::new(DECAY_US),
            at_in_flight: LatencyAtInFlight::new(),
            condition: Mutex::new(Condition {
                active_up: None,
                active_reason: String::new(),
                state: State::Starting,
                reason: String::new(),
            }),
            idle: (0..threads.max(1)).map(|_| Mutex::default()).collect(),
        }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub fn streams(&self) -> u32 {
        self.streams.load(Ordering::Relaxed)
    }

    pub fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    pub fn set_usable(&self, usable: bool, now_ms: u64) {
        if self.usable.swap(usable, Ordering::Relaxed) != usable && usable {
            self.usable_since_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// True for the first caller, who is to check this server actively from now on.
    pub fn start_watching(&self) -> bool {
        !self.watched.swap(true, Ordering::Relaxed)
    }

    pub fn stop_watching(&self) {
        self.watched.store(false, Ordering::Relaxed);
    }

    pub fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot when one is free below `limit`, and says how many were taken before.
    pub fn take_slot(&self, limit: u32) -> Option<u32> {
        let take = |taken| (taken < limit).then_some(taken + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).ok()
    }

    pub fn give_slot(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// A request turned out to be a stream: it goes on without a slot.
    pub fn slot_to_stream(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.give_slot();
    }

    pub fn end_stream(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// The latency that a policy asks for, in microseconds; zero while unknown.
    pub fn latency_us(&self, signal: Signal, now_us: u64) -> f64 {
        match signal {
            Signal::None => 0.0,
            Signal::PeakEwma => self.peak_ewma.read(now_us),
            Signal::AtInFlight => self.at_in_flight.read(self.in_flight(), now_us),
        }
    }

    /// Time from dispatch to the head of the response.
    pub fn record_latency(&self, signal: Signal, now_us: u64, latency_us: u64, in_flight_at_arrival: u32) {
        match signal {
            Signal::None => {}
            Signal::PeakEwma => self.peak_ewma.record(now_us, latency_us),
            Signal::AtInFlight => self.at_in_flight.record(in_flight_at_arrival, latency_us, now_us),
        }
    }

    pub fn record_failure(&self, signal: Signal, now_us: u64, failure: Failure) {
        self.failures.add(1);
        if failure == Failure::Connect || matches!(failure, Failure::Reset { .. }) {
            // What it was told before is void: its process may be another one now.
            self.close_idle();
        }
        match signal {
            Signal::None => {}
            Signal::PeakEwma => self.peak_ewma.record_failure(now_us),
            Signal::AtInFlight => self.at_in_flight.record_failure(now_us),
        }
    }

    /// An idle connection of the calling thread, most recently used first.
    pub fn take_idle(&self) -> Option<Upstream> {
        self.idle_of_thread().pop()
    }

    /// Keeps a connection for the next request, up to `most` per thread.
    pub fn keep_idle(&self, connection: Upstream, most: usize) {
        let mut idle = self.idle_of_thread();
        if idle.len() < most {
            idle.push(connection);
        }
    }

    /// Drops the idle connections of all threads.
    pub fn close_idle(&self) {
        for list in &self.idle {
            list.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Drops idle connections whose other end has closed, and those that are older than anyone will use.
    pub fn prune_idle(&self) {
        for list in &self.idle {
            list.lock().unwrap_or_else(PoisonError::into_inner).retain(|connection| !connection.is_stale());
        }
    }

    fn idle_of_thread(&self) -> MutexGuard<'_, Vec<Upstream>> {
        self.idle[shard() % self.idle.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
