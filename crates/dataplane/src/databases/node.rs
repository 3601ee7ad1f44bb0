//! One PostgreSQL server as the gateway sees it: where it is, what it is at present, and the pools of connections to it.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backend::{Endpoint, Login};
use super::causal::Sample;
use super::monitor::Vitals;
use super::pool::{Limits, Pool};
use crate::metrics::Counter;

/// By user, then database: two maps, so that looking one up makes no key.
type Pools = HashMap<String, HashMap<String, Arc<Pool>>>;

/// Kept for as long as its name and address are in the snapshot.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub endpoint: Arc<Endpoint>,
    /// Stable over restarts of Trimaran, for the balancing policies.
    pub identity: u64,
    pub vitals: Arc<Vitals>,
    /// Borrowed connections, which is its load.
    pub in_use: AtomicU32,
    pub requests: Counter,
    /// Grows with every change of role: connections of an earlier epoch are not used again.
    epoch: AtomicU64,
    /// Connections of earlier epochs than this one are of no use, not even for what is under way on them.
    abandoned: AtomicU64,
    pools: Mutex<Pools>,
}

impl Node {
    pub fn new(name: &str, endpoint: Endpoint) -> Self {
        Self {
            name: name.to_owned(),
            endpoint: Arc::new(endpoint),
            identity: BuildHasherDefault::<DefaultHasher>::default().hash_one(name),
            vitals: Arc::default(),
            in_use: AtomicU32::new(0),
            requests: Counter::default(),
            epoch: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            pools: Mutex::default(),
        }
    }

    /// Its position by the newest answer, which stands for nothing (0, never) before the first.
    pub fn sample(&self) -> Sample {
        let sample = self.vitals.sample();
        sample.answer.map_or(Sample { begun_us: 0, position: 0 }, |answer| Sample {
            begun_us: sample.begun_us,
            position: answer.position,
        })
    }

    /// Its position as the primary; nothing before it has answered as one. What a node had replayed before its promotion
    /// need not hold everything that its predecessor had committed.
    pub fn sample_as_primary(&self) -> Sample {
        let sample = self.vitals.sample();
        match sample.answer {
            Some(answer) if !answer.in_recovery => Sample { begun_us: sample.begun_us, position: answer.position },
            _ => Sample { begun_us: 0, position: 0 },
        }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Its role has changed: what was connected before is not to be used for what comes.
    pub fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Nothing that is under way on it will be answered. The caller has begun a new epoch.
    pub fn abandon(&self) {
        self.abandoned.fetch_max(self.epoch(), Ordering::AcqRel);
    }

    /// Whether a connection of this epoch was abandoned.
    pub fn has_abandoned(&self, epoch: u64) -> bool {
        epoch < self.abandoned.load(Ordering::Acquire)
    }

    /// The pool of a login, made when it is first asked for. New connections are made with the newest login.
    pub fn pool(self: &Arc<Self>, login: &Arc<Login>) -> Arc<Pool> {
        let mut pools = self.lock();
        if let Some(pool) = pools.get(&login.user).and_then(|of_user| of_user.get(&login.database)) {
            pool.use_login(login);
            return Arc::clone(pool);
        }
        let pool = Arc::new(Pool::new(Arc::clone(self), Arc::clone(login)));
        pools.entry(login.user.clone()).or_default().insert(login.database.clone(), Arc::clone(&pool));
        pool
    }

    pub fn pools(&self) -> Vec<Arc<Pool>> {
        self.lock().values().flat_map(HashMap::values).cloned().collect()
    }

    /// Closes old connections, and forgets pools that nobody uses.
    pub fn tidy(&self, limits: &Limits) {
        for pool in self.pools() {
            pool.tidy(limits);
        }
        self.lock().retain(|_, of_user| {
            of_user.retain(|_, pool| Arc::strong_count(pool) > 1 || pool.usage().open > 0);
            !of_user.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
