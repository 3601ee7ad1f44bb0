//! The data plane as a whole: listeners, threads, the current topology, and the way down and up for Python.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::access_log::AccessLog;
use crate::clock::{now_ms, now_us};
use crate::databases;
use crate::databases::group::Group;
use crate::databases::plan::{Question, Queue};
use crate::error::Error;
use crate::events::Events;
use crate::metrics::{Sharded, Traffic, quantiles};
use crate::net::listener::{Listener, Service};
use crate::servers::http::refusal::CAUSES;
use crate::servers::pool::Pool;
use crate::servers::probe;
use crate::servers::topology::Topology;
use crate::snapshot::Snapshot;
use crate::worker::{self, Mailbox, Worker};

/// What all threads share.
#[derive(Debug)]
pub struct Plane {
    topology: ArcSwap<Topology>,
    pub traffic: Sharded<Traffic>,
    pub access_log: AccessLog,
    pub events: Arc<Events>,
    /// Database groups, fixed at start. Their views change with the snapshots.
    pub databases: Vec<Arc<Group>>,
    /// Statements on their way to the planner.
    planning: Arc<Queue>,
    /// Open client connections.
    pub connections: AtomicUsize,
    /// Open connections by client, while there is a limit on them.
    pub clients: Mutex<HashMap<IpAddr, u32>>,
    /// Rings when a connection has ended, for an acceptor that waits because there were too many.
    pub connection_ended: Notify,
    stopping: AtomicBool,
}

impl Plane {
    pub fn topology(&self) -> Guard<Arc<Topology>> {
        self.topology.load()
    }

    /// Takes note of one more connection of a client. False: it has as many as it may.
    pub fn admit(&self, client: IpAddr, most: u32) -> bool {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let open = clients.entry(client).or_default();
        let admitted = *open < most;
        *open += u32::from(admitted);
        admitted
    }

    /// One connection less of a client that was admitted.
    pub fn dismiss(&self, client: IpAddr) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut open) = clients.entry(client) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The running data plane. Dropping it cuts everything off; `stop` ends it in peace.
#[derive(Debug)]
pub struct DataPlane {
    plane: Arc<Plane>,
    addresses: Vec<String>,
    threads: usize,
    /// The event loop of the first thread, which also does what is not traffic.
    handle: Handle,
    mailboxes: Vec<Mailbox>,
    /// Bound, and not open yet.
    waiting: Mutex<Vec<Listener>>,
    acceptors: Mutex<Vec<AbortHandle>>,
    joins: Mutex<Vec<JoinHandle<()>>>,
    changing: Mutex<()>,
}

impl DataPlane {
    /// Binds the listeners and starts the threads. Databases are open at once, HTTP from `accept` on. On an error nothing is
    /// left running.
    pub fn start(snapshot: &str) -> Result<Self, Error> {
        let snapshot = parse(snapshot)?;
        let threads = snapshot.threads.clamp(1, 256);
        let encrypted = snapshot.tls.iter().flat_map(|tls| &tls.listeners);
        let encrypted = encrypted.map(|text| Listener::bind(text, Service::Https));
        let plain = snapshot.listeners.iter().map(|text| Listener::bind(text, Service::Http));
        let databases = snapshot.databases.iter();
        let databases =
            databases.map(|group| Listener::bind(&group.listener, Service::Database(group.name.as_str().into())));
        let listeners: Vec<_> = plain.chain(encrypted).chain(databases).collect::<Result<_, _>>()?;
        if listeners.is_empty() {
            return Err(Error::Snapshot("listeners: none".into()));
        }
        let addresses = listeners.iter().map(|listener| listener.address().to_string()).collect();
        let events = Arc::new(Events::default());
        let access_log = AccessLog::open(&snapshot.access_log)?;
        let planning = Arc::new(Queue::default());
        let databases = snapshot.databases.iter();
        let databases = databases.map(|settings| Group::new(settings.clone(), threads, &planning).map(Arc::new));
        let databases = databases.collect::<Result<_, _>>()?;
        let topology = Topology::build(Snapshot { threads, ..snapshot }, None, &events)?;
        let plane = Arc::new(Plane {
            topology: ArcSwap::from_pointee(topology),
            traffic: Sharded::new(threads),
            access_log,
            events,
            databases,
            planning,
            connections: AtomicUsize::new(0),
            clients: Mutex::default(),
            connection_ended: Notify::new(),
            stopping: AtomicBool::new(false),
        });
        let mut workers = Vec::with_capacity(threads);
        for index in 0..threads {
            workers.push(Worker::start(index, Arc::clone(&plane))?);
        }
        let handle = workers[0].handle.clone();
        let mailboxes: Vec<Mailbox> = workers.iter().map(|worker| worker.mailbox.clone()).collect();
        let (databases, waiting): (Vec<_>, Vec<_>) =
            listeners.into_iter().partition(|listener| matches!(listener.service(), Service::Database(_)));
        handle.spawn(housekeeping(Arc::clone(&plane)));
        for group in &plane.databases {
            handle.spawn(databases::watch::keep(Arc::clone(group)));
        }
        let joins = workers.into_iter().map(|worker| worker.join).collect();
        let started = Self {
            plane,
            addresses,
            threads,
            handle,
            mailboxes,
            waiting: Mutex::new(waiting),
            acceptors: Mutex::default(),
            joins: Mutex::new(joins),
            changing: Mutex::default(),
        };
        started.open(databases)?;
        started.watch_servers();
        Ok(started)
    }

    /// Opens the HTTP listeners; a second call does nothing.
    pub fn accept(&self) -> Result<(), Error> {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.open(waiting)
    }

    fn open(&self, listeners: Vec<Listener>) -> Result<(), Error> {
        let mut acceptors = self.acceptors.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners {
            listener.listen()?;
            let accepting = worker::accept(listener, self.mailboxes.clone(), Arc::clone(&self.plane));
            acceptors.push(self.handle.spawn(accepting).abort_handle());
        }
        Ok(())
    }

    /// Replaces the snapshot as a whole; servers keep their counters. On an error nothing has changed.
    pub fn apply(&self, snapshot: &str) -> Result<(), Error> {
        let snapshot = parse(snapshot)?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut views = Vec::with_capacity(snapshot.databases.len());
        for settings in &snapshot.databases {
            let group = self.plane.databases.iter().find(|group| group.name == settings.name);
            let group = group.ok_or_else(|| Error::Snapshot(format!("databases: {:?} is new", settings.name)))?;
            views.push((group, group.prepare(settings.clone())?));
        }
        let next = {
            let current = self.plane.topology.load();
            Topology::build(Snapshot { threads: self.threads, ..snapshot }, Some(&current), &self.plane.events)?
        };
        self.plane.topology.store(Arc::new(next));
        for (group, view) in views {
            group.replace(view);
        }
        self.watch_servers();
        Ok(())
    }

    fn watch_servers(&self) {
        for pool in &self.plane.topology().pools {
            let view = pool.view();
            for member in view.members.iter().filter(|_| view.settings.active.is_some()) {
                if member.server.start_watching() {
                    self.handle.spawn(probe::watch(Arc::downgrade(pool), Arc::downgrade(&member.server)));
                }
            }
        }
    }

    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Counters and gauges as JSON; the shape is `trimaran.facts.Facts`.
    pub fn facts(&self) -> String {
        let plane = &self.plane;
        let sum = |read: fn(&Traffic) -> u64| plane.traffic.sum(read);
        let mut responses = Map::new();
        for class in 0..5 {
            responses.insert(format!("{}xx", class + 1), plane.traffic.sum(|t| t.responses[class].get()).into());
        }
        let mut refused = Map::new();
        for (at, cause) in CAUSES.iter().enumerate() {
            refused.insert((*cause).to_owned(), plane.traffic.sum(|t| t.refused[at].get()).into());
        }
        refused.insert("log_lines_dropped".to_owned(), plane.access_log.dropped().into());
        let pools: Vec<Value> = plane.topology().pools.iter().map(|pool| pool_facts(pool)).collect();
        json!({
            "at_ms": now_ms(),
            "connections": plane.connections.load(Ordering::Relaxed),
            "connections_total": sum(|t| t.connections_total.get()),
            "requests_total": sum(|t| t.requests.get()),
            "responses_total": responses,
            "refused_total": refused,
            "bytes_in_total": sum(|t| t.bytes_in.get()),
            "bytes_out_total": sum(|t| t.bytes_out.get()),
            "pools": pools,
            "databases": self.plane.databases.iter().map(|group| group.facts()).collect::<Vec<Value>>(),
        })
        .to_string()
    }

    /// What is known of the statements of a group, as JSON; the most executed come first. `None`: there is no such group.
    pub fn plans(&self, database: &str) -> Option<String> {
        let group = self.plane.databases.iter().find(|group| group.name == database)?;
        Some(Value::Array(group.plan_facts()).to_string())
    }

    /// Statements that wait for a plan, with the numbers to answer by; waits up to `wait` for the first.
    pub fn plans_wanted(&self, wait: Duration) -> Vec<Question> {
        self.plane.planning.wanted_within(wait)
    }

    /// Databases whose statements were looked up since the last call: group, database, and version of its catalogue.
    pub fn databases_in_use(&self) -> Vec<(String, String, u64)> {
        let all = self.plane.databases.iter().flat_map(|group| group.all_plans());
        let used = all.filter(|plans| plans.take_used());
        used.map(|plans| (plans.place.group.clone(), plans.place.database.clone(), plans.version())).collect()
    }

    /// The catalogue of a database was changed by somebody who did not go through the gateway.
    pub fn catalogue_changed(&self, group: &str, database: &str) {
        let groups = self.plane.databases.iter().filter(|known| known.name == group);
        for plans in groups.flat_map(|group| group.all_plans()).filter(|plans| plans.place.database == database) {
            plans.renew();
        }
    }

    /// Ends the waiting of `plans_wanted`, for good.
    pub fn stop_planning(&self) {
        self.plane.planning.end();
    }

    /// The plan of a statement, as JSON. The error says what is wrong with it.
    pub fn planned(&self, id: u64, plan: &str) -> Result<(), Error> {
        self.plane.planning.planned(id, plan).map_err(Error::Snapshot)
    }

    /// Events since the last call; waits up to `wait` for the first.
    pub fn events(&self, wait: Duration) -> Vec<String> {
        self.plane.events.take(wait)
    }

    /// Closes the listeners and idle connections; what is in progress goes on and ends with its response.
    pub fn stop_accepting(&self) {
        self.plane.stopping.store(true, Ordering::SeqCst);
        self.acceptors.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(AbortHandle::abort);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for mailbox in &self.mailboxes {
            mailbox.close_idle();
        }
    }

    /// Stops accepting, waits up to `grace` for what is in progress, ends the threads. True when nothing was cut off.
    pub fn stop(&self, grace: Duration) -> bool {
        self.stop_accepting();
        let deadline = Instant::now() + grace;
        let mut open = self.plane.connections.load(Ordering::SeqCst);
        while open > 0 && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
            open = self.plane.connections.load(Ordering::SeqCst);
        }
        self.end();
        open == 0
    }

    fn end(&self) {
        for mailbox in &self.mailboxes {
            mailbox.end();
        }
        for join in self.joins.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A thread that panicked has said so on standard error already.
            let _ = join.join();
        }
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.plane.stopping.store(true, Ordering::SeqCst);
        self.end();
    }
}

fn parse(snapshot: &str) -> Result<Snapshot, Error> {
    serde_json::from_str(snapshot).map_err(|error| Error::Snapshot(error.to_string()))
}

fn pool_facts(pool: &Pool) -> Value {
    let view = pool.view();
    let counters = &pool.counters;
    let latency: HashMap<&str, f64> = quantiles(counters.each().map(|c| &c.latency)).into_iter().collect();
    let oldest_ms = pool.queue.oldest_us().map_or(0, |since| now_us().saturating_sub(since) / 1000);
    let servers: Vec<Value> = view
        .members
        .iter()
        .map(|member| {
            let server = &member.server;
            let condition = server.condition().clone();
            json!({
                "name": server.name,
                "state": condition.state.as_str(),
                "reason": condition.reason,
                "in_flight": server.in_flight(),
                "streams": server.streams(),
                "in_flight_max": member.limit,
                "requests_total": server.requests.get(),
                "failures_total": server.failures.get(),
                "service_us_total": server.service_us.get(),
            })
        })
        .collect();
    json!({
        "name": pool.name,
        "queue_length": pool.queue.len(),
        "queue_oldest_ms": oldest_ms,
        "queue_max": view.settings.queue_max,
        "arrivals_total": counters.sum(|c| c.arrivals.get()),
        "completed_total": counters.sum(|c| c.completed.get()),
        "service_us_total": counters.sum(|c| c.service_us.get()),
        "queued_total": counters.sum(|c| c.queued.get()),
        "queue_wait_us_total": counters.sum(|c| c.queue_wait_us.get()),
        "rejected_total": counters.sum(|c| c.rejected.get()),
        "retries_total": counters.sum(|c| c.retries.get()),
        "latency_us": latency,
        "servers": servers,
    })
}

/// What is due by the clock: ejections that end, connections that went stale, latencies that are forgotten.
async fn housekeeping(plane: Arc<Plane>) {
    let mut beat = tokio::time::interval(Duration::from_millis(250));
    for count in 1_u64.. {
        beat.tick().await;
        let topology = Arc::clone(&plane.topology());
        for pool in &topology.pools {
            pool.judge();
            if count % 4 == 0 {
                pool.view().members.iter().for_each(|member| member.server.prune_idle());
            }
            if count % 60 == 0 {
                pool.counters.each().for_each(|counters| counters.latency.rotate());
            }
        }
    }
}
