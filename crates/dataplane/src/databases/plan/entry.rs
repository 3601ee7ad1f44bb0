//! A distinct statement: its plan, what a replica has refused it for, and how often it was run.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Access, Plan};
use crate::clock::now_us;

/// Of longer texts only the beginning is kept, of longer keys a digest.
pub const KEPT_MAX: usize = 2 * 1024;
/// How long the first execution of a statement waits for its plan.
const PATIENCE: Duration = Duration::from_secs(2);
/// A plan that was made without the catalogue is made again after this, in microseconds.
const PROVISIONAL_US: u64 = 1_000_000;

/// Why a replica has refused a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Lesson {
    /// 25006.
    Writes = 1,
    /// 0A000: it reads an unlogged or temporary table.
    Unlogged = 2,
    /// Another error that the primary does not give.
    Standby = 3,
}

/// A distinct statement of one database, for one version of the database's catalogue.
#[derive(Debug)]
pub struct Entry {
    pub(super) id: u64,
    /// The first text that had this key; its beginning, where it is long.
    pub text: Box<str>,
    /// Hash of the whole of it.
    text_hash: u64,
    /// Version of the catalogue that the plan is for.
    pub(super) version: u64,
    plan: OnceLock<Plan>,
    /// When a provisional plan is out of date; zero for one that stays.
    expires_us: AtomicU64,
    /// The planner has it, or will get it. False where it had too much to do: then it is asked again.
    pub(super) is_queued: AtomicBool,
    /// Its plan was waited for in vain; later executions do not wait again.
    is_late: AtomicBool,
    ready: Notify,
    /// What a replica has refused it for: a `Lesson`, or zero.
    learnt: AtomicU8,
    pub executions: AtomicU64,
}

impl Entry {
    /// `text_hash` is of its bytes; `before` is the entry for an earlier version of the catalogue.
    pub(super) fn new(id: u64, version: u64, text: &str, text_hash: u64, before: Option<&Self>) -> Self {
        Self {
            id,
            text: beginning(text).into(),
            text_hash,
            version,
            plan: OnceLock::new(),
            expires_us: AtomicU64::new(0),
            is_queued: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
            ready: Notify::new(),
            learnt: AtomicU8::new(before.map_or(0, |before| before.learnt.load(Ordering::Relaxed))),
            executions: AtomicU64::new(before.map_or(0, |before| before.executions.load(Ordering::Relaxed))),
        }
    }

    /// The plan; that of an unknown statement as long as there is none. So nothing is ever taken for harmless because its plan is
    /// missing.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.get().or_else(|| Some(Plan::unplanned()))
    }

    /// Whether there is nothing to wait for: the plan is there, or was waited for in vain.
    pub fn is_settled(&self) -> bool {
        self.plan.get().is_some() || self.is_late.load(Ordering::Relaxed)
    }

    pub(super) fn is_of(&self, text: &[u8]) -> bool {
        self.text_hash == hash(text)
    }

    /// Whether the plan was made without the catalogue, some time ago.
    pub(super) fn has_expired(&self) -> bool {
        let expires_us = self.expires_us.load(Ordering::Relaxed);
        expires_us != 0 && now_us() >= expires_us
    }

    /// The planner's answer. A second one changes nothing.
    pub(super) fn give(&self, plan: Plan) {
        if plan.provisional {
            self.expires_us.store(now_us() + PROVISIONAL_US, Ordering::Relaxed);
        }
        if self.plan.set(plan).is_ok() {
            self.ready.notify_waiters();
        }
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
            _ if self.learnt.load(Ordering::Relaxed) == Lesson::Unlogged as u8 => {
                ("primary", "a replica refused it because it reads an unlogged table (0A000)")
            }
            _ if self.was_learnt() => ("primary", "a replica cannot do what it asks for, and the primary can"),
            Some(plan) if plan.access == Access::Read => ("replica", &plan.reason),
            Some(plan) => ("primary", &plan.reason),
            None => ("primary", ""),
        }
    }

    /// Waits for the plan, when the statement is new. One that comes too late is there for a later execution; it is not
    /// waited for again.
    pub async fn planned(&self) {
        let wait = async {
            loop {
                let ready = self.ready.notified();
                if self.is_settled() {
                    return;
                }
                ready.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            self.is_late.store(true, Ordering::Relaxed);
        }
    }
}

fn beginning(text: &str) -> &str {
    let end = (0..=KEPT_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

pub(super) fn hash(text: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}
