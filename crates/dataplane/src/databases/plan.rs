//! Plans: what the planner (Python) says of a statement, once per distinct statement, and the cache of them.
//!
//! The cache is two generations of a map: what is not used through a whole generation is forgotten, so it is bounded
//! without bookkeeping on the hot path.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::lexer;
use super::recent::{self, Generation};

/// Plans kept, half of it in each generation.
const PLANS_MAX: usize = 20_000;
/// Statements that wait for the planner.
const WANTED_MAX: usize = 1_000;
/// Bytes of their texts.
const WANTED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A longer statement is not planned: it goes to the primary, as everything doubtful does.
const TEXT_MAX: usize = 16 * 1024 * 1024;
/// Of longer texts only the beginning is kept, of longer keys a digest.
const KEPT_MAX: usize = 2 * 1024;
/// Statements shown to people.
const SHOWN_MAX: usize = 1_000;
/// How long the first execution of a statement waits for its plan.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether a statement may go to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Read,
    Write,
}

/// What a statement does to its session. Kinds that the gateway has no use for are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    Begin {
        read_only: Option<bool>,
    },
    Commit {
        /// Another transaction begins at once.
        #[serde(default)]
        chain: bool,
    },
    Rollback {},
    Set {
        name: String,
        scope: Scope,
        to_default: bool,
        /// The text of the value, where it is a single constant.
        value: Option<String>,
        /// What makes the same setting on another connection, where that can be told.
        sql: Option<String>,
    },
    Reset {
        name: Option<String>,
    },
    Discard {
        what: String,
    },
    Deallocate {
        name: Option<String>,
    },
    Show {
        name: String,
    },
    PrepareTransaction {},
    Savepoint {
        name: String,
    },
    Release {
        name: String,
    },
    RollbackTo {
        name: String,
    },
    /// Results of other statements may have other columns from now on.
    Define {},
    /// Concerns connections to a database (all: none is named) that nobody uses: they stand in its way, or are out of date
    /// after it.
    Vacate {
        database: Option<String>,
    },
    #[serde(other)]
    Other,
}

impl Effect {
    /// Whether all prepared statements of the server connection are gone after it.
    pub fn forgets_statements(&self) -> bool {
        match self {
            Self::Deallocate { name } => name.is_none(),
            Self::Discard { what } => what == "all",
            _ => false,
        }
    }

    /// Whether it changes settings that outlive the transaction.
    pub fn changes_settings(&self) -> bool {
        match self {
            Self::Set { scope, .. } => *scope == Scope::Session,
            Self::Reset { .. } => true,
            Self::Discard { what } => what == "all",
            _ => false,
        }
    }

    /// Whether others may see something of it.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Other | Self::Define {} | Self::Vacate { .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Session,
    Local,
}

/// The planner's answer; `trimaran.databases.planner.Plan`. It may know more than the gateway reads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Plan {
    pub access: Access,
    pub effects: Vec<Effect>,
    /// Why the session must keep its server connection from now on.
    pub pins: Vec<String>,
    /// Such reasons that end with it.
    pub unpins: Vec<String>,
    pub statements: u32,
    pub reason: String,
    /// `primary` or `replica`, as a comment of the client says.
    pub hint: Option<String>,
    /// It was not understood: the plan holds for this very text only.
    pub doubtful: bool,
    /// It calls a function that may be the user's, and do anything where that is possible.
    #[serde(default)]
    pub may_write: bool,
}

impl Plan {
    /// Whether it does nothing to its session.
    pub fn leaves_the_session(&self) -> bool {
        self.effects.is_empty() && self.pins.is_empty() && self.unpins.is_empty()
    }

    /// For what cannot be planned: the primary takes it, and nothing is assumed of what it does.
    pub fn doubtful(reason: &str) -> Self {
        Self {
            access: Access::Write,
            effects: Vec::new(),
            pins: vec![reason.to_owned()],
            unpins: Vec::new(),
            statements: 1,
            reason: reason.to_owned(),
            hint: None,
            doubtful: true,
            may_write: true,
        }
    }
}

/// Why a replica has refused a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Lesson {
    /// 25006.
    Writes = 1,
    /// 0A000: it reads an unlogged or temporary table.
    Unlogged = 2,
}

/// A distinct statement.
#[derive(Debug)]
pub struct Entry {
    id: u64,
    /// The first text that had this key; its beginning, where it is long.
    pub text: Box<str>,
    /// Hash of the whole of it.
    text_hash: u64,
    plan: OnceLock<Plan>,
    /// What holds until the plan comes, when it was waited for in vain.
    meanwhile: OnceLock<Plan>,
    ready: Notify,
    /// What a replica has refused it for: a `Lesson`, or zero.
    learnt: AtomicU8,
    pub executions: AtomicU64,
}

impl Entry {
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.get().or_else(|| self.meanwhile.get())
    }

    /// A replica has refused it: from now on it goes to the primary.
    pub fn learn(&self, lesson: Lesson) {
        self.learnt.store(lesson as u8, Ordering::Relaxed);
    }

    pub fn was_learnt(&self) -> bool {
        self.learnt.load(Ordering::Relaxed) != 0
    }

    /// Whether it has turned out to write.
    pub fn writes(&self) -> bool {
        self.learnt.load(Ordering::Relaxed) == Lesson::Writes as u8
    }

    /// Whether it may be a COPY, to which other messages are data. Errs on the side of yes.
    pub fn may_copy(&self) -> bool {
        self.text.len() + 4 > KEPT_MAX || self.text.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"copy"))
    }

    /// Where it goes, and why, for people.
    pub fn goes_to(&self) -> (&'static str, &str) {
        match self.plan() {
            _ if self.writes() => ("primary", "a replica refused it because it writes (25006)"),
            _ if self.was_learnt() => ("primary", "a replica refused it because it reads an unlogged table (0A000)"),
            Some(plan) if plan.access == Access::Read => ("replica", &plan.reason),
            Some(plan) => ("primary", &plan.reason),
            None => ("primary", "not planned yet"),
        }
    }

    /// The plan, waiting for the planner when it is new. One that comes too late is there for the next execution; it is
    /// not waited for again.
    pub async fn planned(&self) -> &Plan {
        if let Some(plan) = self.plan.get() {
            return plan;
        }
        let wait = async {
            loop {
                let ready = self.ready.notified();
                if let Some(plan) = self.plan() {
                    return plan;
                }
                ready.await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(plan) => plan,
            Err(_) => self.meanwhile.get_or_init(|| Plan::doubtful("it was not planned in time")),
        }
    }
}

type Map = HashMap<Box<[u8]>, Arc<Entry>, BuildHasherDefault<DefaultHasher>>;

#[derive(Debug, Default)]
struct Generations {
    young: Map,
    old: Map,
}

/// The plans of one group.
#[derive(Debug)]
pub struct Plans {
    /// Tells them from those of other groups.
    id: u64,
    known: RwLock<Generations>,
    /// Number of the young generation.
    generation: AtomicU64,
    queue: Arc<Queue>,
}

impl Plans {
    pub fn new(queue: Arc<Queue>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, known: RwLock::default(), generation: AtomicU64::new(0), queue }
    }

    /// The entry for a statement's key. A new one is put before the planner; when too many wait already, it is doubtful.
    /// Statements that were not understood do not share an entry, whatever their keys.
    pub fn entry(&self, key: &[u8], text: &[u8]) -> Arc<Entry> {
        let entry = self.of_key(key, text);
        if entry.plan().is_some_and(|plan| plan.doubtful) && entry.text_hash != hash(text) {
            return self.of_key(&lexer::whole(text), text);
        }
        entry
    }

    fn of_key(&self, key: &[u8], text: &[u8]) -> Arc<Entry> {
        let generation = Generation { plans: self.id, number: self.generation.load(Ordering::Relaxed) };
        if let Some(entry) = recent::find(generation, key) {
            return entry;
        }
        let entry = self.of_all(key, text);
        recent::remember(generation, key, &entry);
        entry
    }

    fn of_all(&self, key: &[u8], text: &[u8]) -> Arc<Entry> {
        let digest;
        let key = if key.len() > KEPT_MAX {
            digest = digest_of(key);
            &digest[..]
        } else {
            key
        };
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = known.young.get(key) {
                return Arc::clone(entry);
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.young.get(key) {
            return Arc::clone(entry);
        }
        let (hash, text) = (hash(text), String::from_utf8_lossy(text));
        let (entry, is_new) = match known.old.remove(key) {
            Some(entry) => (entry, false),
            None => (Arc::new(self.queue.make(&text, hash)), true),
        };
        if known.young.len() >= PLANS_MAX / 2 {
            known.old = std::mem::take(&mut known.young);
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        known.young.insert(key.into(), Arc::clone(&entry));
        drop(known);
        if is_new {
            self.queue.want(&entry, &text);
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

    /// The same for Python: `trimaran db plans`.
    pub fn facts(&self) -> Vec<Value> {
        let told = |entry: &Arc<Entry>| {
            let (role, reason) = entry.goes_to();
            json!({
                "statement": &*entry.text,
                "executions": entry.executions.load(Ordering::Relaxed),
                "goes_to": role,
                "learnt": entry.was_learnt(),
                "reason": reason,
            })
        };
        self.all().iter().take(SHOWN_MAX).map(told).collect()
    }
}

/// Statements of all groups on their way to the planner and back.
#[derive(Debug, Default)]
pub struct Queue {
    wanted: Mutex<Wanted>,
    asked: Condvar,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Wanted {
    waiting: VecDeque<(Arc<Entry>, String)>,
    /// Of the texts that wait.
    bytes: usize,
    /// Given to the planner, by id.
    given: HashMap<u64, Arc<Entry>>,
    /// The planner waits no more.
    ended: bool,
}

impl Queue {
    /// `text_hash` is of its bytes.
    fn make(&self, text: &str, text_hash: u64) -> Entry {
        Entry {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            text: beginning(text).into(),
            text_hash,
            plan: OnceLock::new(),
            meanwhile: OnceLock::new(),
            ready: Notify::new(),
            learnt: AtomicU8::new(0),
            executions: AtomicU64::new(0),
        }
    }

    fn want(&self, entry: &Arc<Entry>, text: &str) {
        let mut wanted = self.lock();
        let is_full = wanted.waiting.len() >= WANTED_MAX || wanted.bytes + text.len() > WANTED_BYTES_MAX;
        if is_full || text.len() > TEXT_MAX {
            // Whoever asks for it gets it at once; it is kept as it is until it is forgotten.
            let _ = entry.plan.set(Plan::doubtful("the planner has too much to do, or the statement is too long"));
            return;
        }
        wanted.bytes += text.len();
        wanted.waiting.push_back((Arc::clone(entry), text.to_owned()));
        self.asked.notify_one();
    }

    /// Statements without a plan, for the planner; waits up to `wait` for the first, and not at all after `end`.
    pub fn wanted_within(&self, wait: Duration) -> Vec<(u64, String)> {
        let wanted = self.lock();
        let is_idle = |wanted: &mut Wanted| wanted.waiting.is_empty() && !wanted.ended;
        let found = self.asked.wait_timeout_while(wanted, wait, is_idle);
        let (mut wanted, _) = found.unwrap_or_else(PoisonError::into_inner);
        let Wanted { waiting, bytes, given, .. } = &mut *wanted;
        *bytes = 0;
        waiting
            .drain(..)
            .map(|(entry, text)| {
                let id = entry.id;
                given.insert(id, entry);
                (id, text)
            })
            .collect()
    }

    /// Whoever waits for statements is to wait no more.
    pub fn end(&self) {
        self.lock().ended = true;
        self.asked.notify_all();
    }

    /// The planner's answer, as JSON. The error says what is wrong with it.
    pub fn planned(&self, id: u64, plan: &str) -> Result<(), String> {
        let Some(entry) = self.lock().given.remove(&id) else {
            return Ok(());
        };
        let parsed = serde_json::from_str::<Plan>(plan);
        let refused = parsed.as_ref().err().map(ToString::to_string);
        // Set already when it is not the first.
        let _ =
            entry.plan.set(parsed.unwrap_or_else(|error| Plan::doubtful(&format!("its plan is malformed: {error}"))));
        entry.ready.notify_waiters();
        refused.map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn beginning(text: &str) -> &str {
    let end = (0..=KEPT_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

fn hash(text: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}

/// Stands for a long key. No key begins with this byte by itself.
fn digest_of(key: &[u8]) -> Vec<u8> {
    let mut digest = vec![0x03];
    digest.extend_from_slice(ring::digest::digest(&ring::digest::SHA256, key).as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = r#"{"access": "read", "effects": [{"kind": "show", "name": "x"}, {"kind": "copy", "name": "s"}],
        "pins": [], "unpins": [], "statements": 1, "reason": "reads only", "tables": [], "hint": null,
        "doubtful": false}"#;

    fn plans() -> (Plans, Arc<Queue>) {
        let queue = Arc::new(Queue::default());
        (Plans::new(Arc::clone(&queue)), queue)
    }

    #[test]
    fn a_statement_is_planned_once() {
        let (plans, queue) = plans();
        let entry = plans.entry(b"select ?", b"select 1");
        assert!(Arc::ptr_eq(&entry, &plans.entry(b"select ?", b"select 2")));
        assert_eq!(queue.wanted_within(Duration::ZERO), [(0, "select 1".to_owned())]);
        assert!(queue.wanted_within(Duration::ZERO).is_empty());
        queue.planned(0, READ).unwrap();
        let plan = entry.plan().unwrap();
        assert_eq!(plan.access, Access::Read);
        assert_eq!(plan.effects, [Effect::Show { name: "x".into() }, Effect::Other]);
    }

    #[test]
    fn the_planner_is_woken_at_the_end() {
        let queue = Arc::new(Queue::default());
        let planner = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.wanted_within(Duration::MAX)
        });
        queue.end();
        assert!(planner.join().unwrap().is_empty());
        assert!(queue.wanted_within(Duration::MAX).is_empty());
    }

    #[test]
    fn what_cannot_be_understood_goes_to_the_primary() {
        let (plans, queue) = plans();
        let entry = plans.entry(b"x", b"x");
        queue.wanted_within(Duration::ZERO);
        assert!(queue.planned(0, "{}").is_err());
        assert_eq!(entry.plan().unwrap().access, Access::Write);
        assert!(Arc::ptr_eq(&entry, &plans.entry(b"x", b"x")));
        assert!(!Arc::ptr_eq(&entry, &plans.entry(b"x", b"y")), "it holds for its own text only");
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let (plans, queue) = plans();
        let kept = plans.entry(b"kept", b"kept");
        for number in 0..3 * PLANS_MAX {
            plans.entry(number.to_string().as_bytes(), b"other");
            if number % 1000 == 0 {
                plans.entry(b"kept", b"kept");
            }
        }
        assert!(plans.all().len() <= PLANS_MAX);
        assert!(Arc::ptr_eq(&kept, &plans.entry(b"kept", b"kept")));
        assert!(queue.lock().waiting.len() <= WANTED_MAX);
    }

    #[test]
    fn long_texts_are_planned_whole_and_not_kept() {
        let (plans, queue) = plans();
        let long = format!("select '{}'", "ä".repeat(100_000));
        let entry = plans.entry(&lexer::whole(long.as_bytes()), long.as_bytes());
        assert!(entry.text.len() <= KEPT_MAX && long.starts_with(&*entry.text));
        assert_eq!(queue.wanted_within(Duration::ZERO), [(0, long.clone())]);
        assert!(Arc::ptr_eq(&entry, &plans.entry(&lexer::whole(long.as_bytes()), long.as_bytes())));
        for number in 0..20 {
            let text = format!("{number} {}", "x".repeat(TEXT_MAX / 2));
            plans.entry(&lexer::whole(text.as_bytes()), text.as_bytes());
        }
        assert!(queue.lock().bytes <= WANTED_BYTES_MAX);
    }
}
