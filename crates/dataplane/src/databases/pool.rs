//! Connections of one login to one node: a bounded number, shared by all sessions of that login, nearly first come first
//! served (`State::next_waiter`).

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::backend::{self, ConnectFailure, Login};
use super::connection::{CancelTarget, Connection};
use super::fitness::Fitness;
use super::node::Node;
use crate::clock::now_us;
use crate::metrics::shard;

/// Limits of a pool; `snapshot::Database` has them.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connections_max: usize,
    pub lifetime_us: u64,
    pub idle_us: u64,
    pub connect: Duration,
}

#[derive(Debug)]
pub struct Pool {
    pub node: Arc<Node>,
    login: ArcSwap<Login>,
    /// Rings when a session begins to wait for a connection.
    wanted: Notify,
    is_template: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The one used last is used next, so that those beyond the need grow old. Boxed, because they go from hand to hand
    /// with every transaction.
    #[allow(clippy::vec_box)]
    idle: Vec<Box<Connection>>,
    /// Connections that exist or are being made.
    open: usize,
    waiters: VecDeque<Waiter>,
    /// Connections made before the pool was last vacated are not used again.
    generation: u64,
    /// When the pool was last tidied, which is every second: near enough for ages, and no transaction looks at a clock.
    now_us: u64,
    /// The limit at that time: who waits in line gets no older connection either.
    lifetime_us: u64,
}

/// A place in the line.
#[derive(Debug)]
struct Waiter {
    sender: oneshot::Sender<Place>,
    /// The thread that waits.
    thread: usize,
    /// How often somebody behind it was served first.
    passed: u32,
}

/// Databases that others are copied from, which waits until they have no connections.
const TEMPLATES: [&str; 2] = ["template0", "template1"];

/// How often a waiter may be passed over.
const PASSED_MAX: u32 = 8;

impl State {
    fn is_too_old(&self, connection: &Connection) -> bool {
        self.now_us.saturating_sub(connection.target.born_us) >= self.lifetime_us
    }

    /// Who is served next: the first in line, unless one of this thread is near behind it. A connection that changes threads
    /// costs a wake-up and joins another event loop, as much as a transaction does.
    fn next_waiter(&mut self) -> Option<oneshot::Sender<Place>> {
        let here = shard();
        let at = match self.waiters.front_mut()? {
            first if first.thread == here || first.passed >= PASSED_MAX => 0,
            first => {
                first.passed += 1;
                self.waiters.iter().position(|waiter| waiter.thread == here).unwrap_or(0)
            }
        };
        self.waiters.remove(at).map(|waiter| waiter.sender)
    }
}

/// What a waiter is given.
#[derive(Debug)]
enum Place {
    Connection(Box<Connection>),
    /// The right to open one.
    Free,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Unavailable {
    /// All were in use for too long.
    Busy,
    Failed(ConnectFailure),
}

/// How a pool is used right now.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub open: usize,
    pub idle: usize,
    pub waiting: usize,
}

impl Pool {
    pub fn new(node: Arc<Node>, login: Arc<Login>) -> Self {
        let state = State { now_us: now_us(), lifetime_us: u64::MAX, ..State::default() };
        let is_template = TEMPLATES.contains(&login.database.as_str());
        Self { node, login: ArcSwap::new(login), wanted: Notify::new(), is_template, state: Mutex::new(state) }
    }

    pub fn login(&self) -> Arc<Login> {
        self.login.load_full()
    }

    /// New connections are made with this login: the secret may have changed.
    pub fn use_login(&self, login: &Arc<Login>) {
        if !Arc::ptr_eq(&self.login.load(), login) {
            self.login.store(Arc::clone(login));
        }
    }

    /// An idle connection that is at home with the calling thread, if there is one: the usual case, without a deadline.
    pub fn borrow_now(self: &Arc<Self>, fitness: &Fitness) -> Option<Guard> {
        let mut state = self.lock();
        let mut found =
            self.idle(&mut state, |connection| connection.is_at_home() && fitness.is_met_as_it_is_by(connection));
        if found.is_none() {
            found = self.idle(&mut state, |connection| connection.is_at_home() && fitness.is_met_by(connection));
        }
        drop(state);
        let connection = found?;
        Some(Claim { pool: Some(Arc::clone(self)) }.with(connection))
    }

    /// Borrows a connection: an idle one, else a new one within the limit, else the next that is given back.
    pub async fn borrow(
        self: &Arc<Self>,
        limits: &Limits,
        deadline: Instant,
        fitness: &Fitness,
    ) -> Result<Guard, Unavailable> {
        let place = match self.claim(limits, fitness) {
            Ok(place) => place,
            Err(mut turn) => turn.comes(deadline).await.ok_or(Unavailable::Busy)?,
        };
        let claim = Claim { pool: Some(Arc::clone(self)) };
        match place {
            Place::Connection(connection) if !fitness.is_met_by(&connection) => {
                drop(connection);
                self.open(claim, limits, deadline).await
            }
            Place::Connection(connection) => match connection.adopt() {
                Ok(connection) => Ok(claim.with(connection)),
                Err(_) => self.open(claim, limits, deadline).await,
            },
            Place::Free => self.open(claim, limits, deadline).await,
        }
    }

    /// A place now, or the way to wait for one.
    fn claim(&self, limits: &Limits, fitness: &Fitness) -> Result<Place, Turn<'_>> {
        let mut state = self.lock();
        let mut found = self.idle(&mut state, |connection| connection.is_at_home() && fitness.is_met_by(connection));
        if found.is_none() {
            found = self.idle(&mut state, |connection| fitness.is_met_by(connection));
        }
        if let Some(connection) = found {
            return Ok(Place::Connection(connection));
        }
        if state.open < limits.connections_max {
            state.open += 1;
            return Ok(Place::Free);
        }
        if !state.idle.is_empty() {
            // The one that was not used for longest, and is not fit, makes way.
            state.idle.remove(0);
            return Ok(Place::Free);
        }
        let (sender, receiver) = oneshot::channel();
        state.waiters.retain(|waiter| !waiter.sender.is_closed());
        state.waiters.push_back(Waiter { sender, thread: shard(), passed: 0 });
        self.wanted.notify_waiters();
        Err(Turn { pool: self, receiver })
    }

    /// The idle connection used last of those that are wanted. Those that are of no use any more are closed on the way.
    fn idle(&self, state: &mut State, wanted: impl Fn(&Connection) -> bool) -> Option<Box<Connection>> {
        let epoch = self.node.epoch();
        while let Some(at) = state.idle.iter().rposition(|connection| wanted(connection)) {
            let connection = state.idle.remove(at);
            if connection.epoch == epoch && connection.generation == state.generation && connection.is_quiet() {
                return Some(connection);
            }
            state.open -= 1;
        }
        None
    }

    async fn open(self: &Arc<Self>, claim: Claim, limits: &Limits, deadline: Instant) -> Result<Guard, Unavailable> {
        let limit = limits.connect.min(deadline.saturating_duration_since(Instant::now()));
        let epoch = self.node.epoch();
        let generation = self.lock().generation;
        let login = self.login();
        let connected = backend::connect(&self.node.endpoint, &login, &[], limit).await;
        let mut connection =
            Connection::new(connected.map_err(Unavailable::Failed)?, Arc::clone(&self.node), epoch, now_us());
        connection.generation = generation;
        Ok(claim.with(Box::new(connection)))
    }

    /// Closes idle connections now, and those in use when they are given back.
    pub fn vacate(&self) {
        let mut state = self.lock();
        state.generation += 1;
        let closed = std::mem::take(&mut state.idle);
        state.open -= closed.len();
    }

    fn give_back(&self, mut connection: Box<Connection>) {
        let mut state = self.lock();
        let is_fit = connection.epoch == self.node.epoch()
            && connection.generation == state.generation
            && !state.is_too_old(&connection)
            && !connection.target.is_cancelled.load(Ordering::Acquire)
            // One that is not handed on at once is asked before it is used again.
            && connection.inbound.is_none()
            && (state.waiters.is_empty() || connection.is_quiet());
        if !is_fit {
            drop(state);
            return self.lose();
        }
        connection.idle_since_us = state.now_us;
        let mut place = Place::Connection(connection);
        while let Some(waiter) = state.next_waiter() {
            match waiter.send(place) {
                Ok(()) => return,
                Err(returned) => place = returned,
            }
        }
        if let Place::Connection(connection) = place {
            state.idle.push(connection);
        }
    }

    /// A connection is gone; its place goes to the next in line.
    fn lose(&self) {
        let mut state = self.lock();
        while let Some(waiter) = state.next_waiter() {
            if waiter.send(Place::Free).is_ok() {
                return;
            }
        }
        state.open -= 1;
    }

    /// Closes idle connections that are too old, of an earlier epoch, or ended by the server.
    pub fn tidy(&self, limits: &Limits) {
        let (now, epoch) = (now_us(), self.node.epoch());
        let mut state = self.lock();
        (state.now_us, state.lifetime_us) = (now, limits.lifetime_us);
        // Who copies a template waits for its last connection for 5 s and fails.
        let idle_us = if self.is_template { 0 } else { limits.idle_us };
        let before = state.idle.len();
        let mut idle = std::mem::take(&mut state.idle);
        idle.retain(|connection| {
            connection.epoch == epoch
                && now.saturating_sub(connection.idle_since_us) < idle_us
                && !state.is_too_old(connection)
                && connection.is_quiet()
        });
        state.idle = idle;
        let closed = before - state.idle.len();
        state.open -= closed;
    }

    /// Connections that serve nobody now, each with since when, in microseconds.
    pub fn idle_connections(&self) -> Vec<(Arc<CancelTarget>, u64)> {
        let state = self.lock();
        state.idle.iter().map(|connection| (Arc::clone(&connection.target), connection.idle_since_us)).collect()
    }

    /// Ends when a session waits for a connection.
    pub async fn is_wanted(&self) {
        let wanted = self.wanted.notified();
        if self.usage().waiting == 0 {
            wanted.await;
        }
    }

    pub fn usage(&self) -> Usage {
        let state = self.lock();
        let waiting = state.waiters.iter().filter(|waiter| !waiter.sender.is_closed()).count();
        Usage { open: state.open, idle: state.idle.len(), waiting }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line. What comes after it was given up goes to the next.
struct Turn<'p> {
    pool: &'p Pool,
    receiver: oneshot::Receiver<Place>,
}

impl Turn<'_> {
    async fn comes(&mut self, deadline: Instant) -> Option<Place> {
        timeout_at(deadline, &mut self.receiver).await.ok().and_then(Result::ok)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        match self.receiver.try_recv() {
            Ok(Place::Connection(connection)) => self.pool.give_back(connection),
            Ok(Place::Free) => self.pool.lose(),
            Err(_) => {}
        }
    }
}

/// The right to one connection of a pool, given up when dropped.
struct Claim {
    pool: Option<Arc<Pool>>,
}

impl Claim {
    fn with(mut self, connection: Box<Connection>) -> Guard {
        let pool = self.pool.take();
        if let Some(pool) = &pool {
            pool.node.in_use.fetch_add(1, Ordering::Relaxed);
        }
        Guard { pool, connection: Some(connection) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.lose();
        }
    }
}

/// A borrowed connection. Dropped as it is, it is closed: only who knows that it is in a clean state gives it back.
#[derive(Debug)]
pub struct Guard {
    pool: Option<Arc<Pool>>,
    connection: Option<Box<Connection>>,
}

impl Guard {
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.pool.as_ref().map(|pool| &pool.node)
    }

    pub fn pool(&self) -> Option<&Arc<Pool>> {
        self.pool.as_ref()
    }

    pub fn connection(&mut self) -> Option<&mut Connection> {
        self.connection.as_deref_mut()
    }

    /// The server has broken it off; answers with the node. Others made before may be as dead without showing it yet, as
    /// when the whole server was killed: they serve nobody after this.
    pub fn broken_off(mut self) -> Option<Arc<Node>> {
        let node = self.node().cloned()?;
        if self.connection.take().is_some_and(|connection| connection.epoch == node.epoch()) {
            node.begin_epoch();
        }
        Some(node)
    }

    /// Outside a transaction, with nothing under way: the next session may have it.
    pub fn give_back(mut self) {
        if let (Some(pool), Some(connection)) = (self.pool.take(), self.connection.take()) {
            pool.node.in_use.fetch_sub(1, Ordering::Relaxed);
            pool.give_back(connection);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.node.in_use.fetch_sub(1, Ordering::Relaxed);
            pool.lose();
        }
    }
}
