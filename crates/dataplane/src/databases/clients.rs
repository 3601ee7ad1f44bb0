//! The sessions of a group: who may cancel what, and what people see of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use tokio::time::sleep;

use super::auth::scram::random_bytes;
use super::connection::CancelTarget;
use super::group::Group;
use crate::request_id::random;

#[derive(Debug)]
pub struct ClientEntry {
    pub process: u32,
    pub secret: Vec<u8>,
    pub user: String,
    pub database: String,
    pub address: IpAddr,
    pub connected_us: u64,
    pub status: AtomicU8,
    pub requests: AtomicU64,
    /// Something that it has asked is not over: its answer, or what is done behind that.
    is_under_way: AtomicBool,
    /// Why it keeps its connection.
    kept_because: Mutex<Option<String>>,
    /// The connection that serves it now.
    serving: Mutex<Option<Arc<CancelTarget>>>,
}

impl ClientEntry {
    /// It has a connection now, or none.
    pub fn borrowed(&self, target: Option<Arc<CancelTarget>>) {
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Something is under way, or nothing is any more.
    pub fn set_under_way(&self, is_under_way: bool) {
        self.is_under_way.store(is_under_way, Ordering::Release);
    }

    /// Takes note of why it keeps its connection, when that has changed.
    pub fn keeps(&self, reason: Option<&String>) {
        let mut kept = self.kept_because.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref() != reason {
            *kept = reason.cloned();
        }
    }

    pub fn kept_because(&self) -> Option<String> {
        self.kept_because.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same for somebody who is about to cancel what it does: the connection serves nobody after this session, whom the
    /// request might still meet.
    pub fn cancelled(&self) -> Option<Arc<CancelTarget>> {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        serving.as_ref().inspect(|target| target.is_cancelled.store(true, Ordering::Release));
        serving.clone()
    }

    pub fn serving(&self) -> Option<Arc<CancelTarget>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long the console waits for what is nearly over.
const SETTLED_MS: u32 = 100;

/// What is known of a client when it comes in.
#[derive(Debug)]
pub struct Newcomer<'n> {
    pub user: &'n str,
    pub database: &'n str,
    pub address: IpAddr,
    /// Length of its cancellation key: 4, or 32 where the protocol has room for it.
    pub secret_length: usize,
    pub now_us: u64,
}

#[derive(Debug, Default)]
pub struct Clients {
    present: Mutex<HashMap<u32, Arc<ClientEntry>>>,
    count: AtomicUsize,
    /// Connections that have not shown yet whose they are.
    strangers: AtomicUsize,
}

/// Fewest connections that may be in their login at the same time.
const STRANGERS_MIN: usize = 100;

/// A connection in its login.
#[derive(Debug)]
pub struct Stranger<'c>(&'c AtomicUsize);

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client that is counted until this is dropped.
#[derive(Debug)]
pub struct Presence {
    group: Arc<Group>,
    process: u32,
}

impl Presence {
    pub fn new(group: &Arc<Group>, process: u32) -> Self {
        Self { group: Arc::clone(group), process }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.group.clients.leave(self.process);
    }
}

impl Clients {
    /// One more connection whose owner is not known yet, unless as many log in already as there may be clients.
    pub fn meet(&self, most: usize) -> Option<Stranger<'_>> {
        let stranger = Stranger(&self.strangers);
        let before = self.strangers.fetch_add(1, Ordering::Relaxed);
        (before < most.max(STRANGERS_MIN)).then_some(stranger)
    }

    /// One more client, unless there are `most` already.
    pub fn enter(&self, newcomer: &Newcomer<'_>, most: usize) -> Option<Arc<ClientEntry>> {
        let mut present = self.lock();
        if present.len() >= most {
            return None;
        }
        let process = std::iter::repeat_with(|| random() as u32 & 0x7fff_ffff)
            .find(|process| *process != 0 && !present.contains_key(process))?;
        let secret = random_bytes::<32>()[..newcomer.secret_length.min(32)].to_vec();
        let entry = Arc::new(ClientEntry {
            process,
            secret,
            user: newcomer.user.to_owned(),
            database: newcomer.database.to_owned(),
            address: newcomer.address,
            connected_us: newcomer.now_us,
            status: AtomicU8::new(b'I'),
            requests: AtomicU64::new(0),
            is_under_way: AtomicBool::new(false),
            kept_because: Mutex::default(),
            serving: Mutex::default(),
        });
        present.insert(process, Arc::clone(&entry));
        self.count.store(present.len(), Ordering::Relaxed);
        Some(entry)
    }

    fn leave(&self, process: u32) {
        let mut present = self.lock();
        present.remove(&process);
        self.count.store(present.len(), Ordering::Relaxed);
    }

    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The client that this key belongs to.
    pub fn find(&self, process: u32, secret: &[u8]) -> Option<Arc<ClientEntry>> {
        let entry = self.lock().get(&process).cloned()?;
        let same = entry.secret.len() == secret.len()
            && entry.secret.iter().zip(secret).fold(0, |different, (a, b)| different | (a ^ b)) == 0;
        same.then_some(entry)
    }

    /// Waits until what clients have been answered is shown here too: the end of a unit comes behind its answer. Longer units are
    /// not waited for.
    pub async fn settled(&self) {
        for _ in 0..SETTLED_MS {
            if !self.all().iter().any(|client| client.is_under_way.load(Ordering::Acquire)) {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    pub fn all(&self) -> Vec<Arc<ClientEntry>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<ClientEntry>>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
