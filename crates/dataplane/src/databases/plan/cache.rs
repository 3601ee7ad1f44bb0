//! The plans of one database, bounded, and valid for one version of its catalogue.
//!
//! Two generations of a map: what is not used through a whole generation is forgotten, so the cache is bounded without
//! bookkeeping on the hot path.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::Plan;
use super::entry::{Entry, KEPT_MAX};
use super::queue::{Place, Queue};
use crate::databases::lexer;
use crate::databases::recent::{self, Generation};

/// Plans kept, half of it in each generation.
pub const PLANS_MAX: usize = 20_000;
/// Names of custom settings kept.
const CUSTOM_MAX: usize = 200;

type Map = HashMap<Box<[u8]>, Arc<Entry>, BuildHasherDefault<DefaultHasher>>;

#[derive(Debug, Default)]
struct Generations {
    young: Map,
    old: Map,
}

#[derive(Debug)]
pub struct Plans {
    /// Tells them from those of other databases.
    id: u64,
    pub place: Arc<Place>,
    known: RwLock<Generations>,
    /// Number of the young generation; it also grows with the version.
    generation: AtomicU64,
    /// Counts changes of the catalogue: functions, triggers, policies and the like. Plans of an earlier one are made again.
    version: AtomicU64,
    /// Units under way that may change the catalogue.
    defining: AtomicU32,
    /// Changes of the catalogues that everybody has made, as the last audit saw them; see `audit`.
    changes: AtomicU64,
    relation_changes: AtomicU64,
    /// Names of custom settings that were met.
    custom: Mutex<BTreeSet<Box<str>>>,
    /// Sessions ask what they have drawn from sequences (`currval`, `lastval`).
    asks_for_sequences: AtomicBool,
    /// Something was asked of it since Python looked last.
    is_used: AtomicBool,
    queue: Arc<Queue>,
}

impl Plans {
    pub fn new(place: Place, queue: Arc<Queue>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            place: Arc::new(place),
            known: RwLock::default(),
            generation: AtomicU64::new(0),
            version: AtomicU64::new(0),
            defining: AtomicU32::new(0),
            changes: AtomicU64::new(0),
            relation_changes: AtomicU64::new(0),
            custom: Mutex::default(),
            asks_for_sequences: AtomicBool::new(false),
            is_used: AtomicBool::new(false),
            queue,
        }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether the number of changes is another than it was.
    pub fn note_changes(&self, all: u64) -> bool {
        self.changes.swap(all, Ordering::AcqRel) != all
    }

    /// The same for the catalogues that results rest on.
    pub fn note_relation_changes(&self, all: u64) -> bool {
        self.relation_changes.swap(all, Ordering::AcqRel) != all
    }

    pub fn note_sequences_asked_for(&self) {
        self.asks_for_sequences.store(true, Ordering::Relaxed);
    }

    pub fn sequences_are_asked_for(&self) -> bool {
        self.asks_for_sequences.load(Ordering::Relaxed)
    }

    /// Remembers names of custom settings.
    pub fn note_custom(&self, names: &[Box<str>]) {
        if names.is_empty() {
            return;
        }
        let mut custom = self.custom.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            if custom.len() < CUSTOM_MAX && !custom.contains(name) {
                custom.insert(name.clone());
            }
        }
    }

    pub fn custom_names(&self) -> Vec<Box<str>> {
        self.custom.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The catalogue has changed: every plan is made again when its statement is met.
    pub fn renew(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The catalogue may be changed until this is dropped: what others run meanwhile is not known by its plan.
    pub fn begin_definition(self: &Arc<Self>) -> Definition {
        self.defining.fetch_add(1, Ordering::AcqRel);
        Definition { plans: Arc::clone(self), renews: true }
    }

    /// Whether plans that were looked up at `version` still describe what their statements do now.
    pub fn holds(&self, version: u64) -> bool {
        self.defining.load(Ordering::Acquire) == 0 && self.version() == version
    }

    /// Whether statements were looked up since the last call.
    pub fn take_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }

    /// The entry for a statement's key. A new one is put before the planner. Statements that were not understood do not share
    /// an entry, whatever their keys.
    pub fn entry(&self, key: &[u8], text: &[u8]) -> Arc<Entry> {
        let entry = self.of_key(key, text);
        if entry.is_settled() && entry.plan().is_some_and(|plan| plan.doubtful) && !entry.is_of(text) {
            return self.of_key(&lexer::whole(text), text);
        }
        entry
    }

    /// The entry that is valid now for a statement whose entry was `entry`.
    pub fn renewed(&self, entry: &Arc<Entry>, text: &[u8]) -> Arc<Entry> {
        if self.is_current(entry) {
            return Arc::clone(entry);
        }
        let mut key = Vec::new();
        lexer::key(text, &mut key);
        self.entry(&key, text)
    }

    fn is_current(&self, entry: &Entry) -> bool {
        entry.version == self.version() && !entry.has_expired()
    }

    fn of_key(&self, key: &[u8], text: &[u8]) -> Arc<Entry> {
        let generation = Generation { plans: self.id, number: self.generation.load(Ordering::Relaxed) };
        if let Some(entry) = recent::find(generation, key)
            && !entry.has_expired()
        {
            return entry;
        }
        let entry = self.of_all(key, text);
        if entry.is_queued.load(Ordering::Relaxed) || entry.is_settled() {
            recent::remember(generation, key, &entry);
        }
        entry
    }

    fn of_all(&self, key: &[u8], text: &[u8]) -> Arc<Entry> {
        self.is_used.store(true, Ordering::Relaxed);
        let digest;
        let key = if key.len() > KEPT_MAX {
            digest = digest_of(key);
            &digest[..]
        } else {
            key
        };
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = known.young.get(key).filter(|entry| self.is_current(entry)) {
                let entry = Arc::clone(entry);
                drop(known);
                return self.asked(entry, text);
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.young.get(key).filter(|entry| self.is_current(entry)) {
            return Arc::clone(entry);
        }
        let version = self.version();
        let before = known.young.remove(key).or_else(|| known.old.remove(key));
        let entry = match before {
            Some(entry) if self.is_current(&entry) => entry,
            before => Arc::new(self.queue.make(text, version, before.as_deref())),
        };
        if known.young.len() >= PLANS_MAX / 2 {
            known.old = std::mem::take(&mut known.young);
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        known.young.insert(key.into(), Arc::clone(&entry));
        drop(known);
        self.asked(entry, text)
    }

    /// Sees to it that the planner knows of it.
    fn asked(&self, entry: Arc<Entry>, text: &[u8]) -> Arc<Entry> {
        if !entry.is_queued.load(Ordering::Relaxed) && entry.plan().is_some_and(Plan::is_unplanned) {
            self.queue.want(&entry, text, &self.place);
        }
        entry
    }

    /// All statements in memory, the most executed first.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.young.values().chain(known.old.values()).cloned().collect();
        all.sort_by_key(|entry| Reverse(entry.executions.load(Ordering::Relaxed)));
        all
    }
}

/// A unit or transaction that may change the catalogue, until it is dropped.
#[derive(Debug)]
pub struct Definition {
    plans: Arc<Plans>,
    renews: bool,
}

impl Definition {
    /// It is over, and the catalogue is known to be as it was.
    pub fn nothing_changed(mut self) {
        self.renews = false;
    }
}

impl Drop for Definition {
    fn drop(&mut self) {
        if self.renews {
            self.plans.renew();
        }
        self.plans.defining.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Stands for a long key. No key begins with this byte by itself.
fn digest_of(key: &[u8]) -> Vec<u8> {
    let mut digest = vec![0x03];
    digest.extend_from_slice(ring::digest::digest(&ring::digest::SHA256, key).as_ref());
    digest
}
