//! Statements of all databases on their way to the planner and back.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Plan;
use super::entry::{Entry, hash};

/// Statements that wait for the planner.
pub const WANTED_MAX: usize = 1_000;
/// Bytes of their texts.
pub const WANTED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A longer statement is not planned: it goes to the primary, as everything doubtful does.
pub const TEXT_MAX: usize = 16 * 1024 * 1024;

/// Which database a statement is for: of a group, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    pub group: String,
    pub database: String,
}

/// A statement that the planner is asked about.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    pub id: u64,
    pub text: String,
    pub place: Arc<Place>,
    /// Version of the catalogue that the plan has to be for, or newer.
    pub version: u64,
}

#[derive(Debug, Default)]
pub struct Queue {
    wanted: Mutex<Wanted>,
    asked: Condvar,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Wanted {
    waiting: VecDeque<(Arc<Entry>, String, Arc<Place>)>,
    /// Of the texts that wait.
    bytes: usize,
    /// Given to the planner, by id.
    given: HashMap<u64, Arc<Entry>>,
    /// The planner waits no more.
    ended: bool,
}

impl Queue {
    pub(super) fn make(&self, text: &[u8], version: u64, before: Option<&Entry>) -> Entry {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Entry::new(id, version, &String::from_utf8_lossy(text), hash(text), before)
    }

    /// Puts a statement before the planner. When too many wait already it is not queued; the caller asks again when the
    /// statement is met again.
    pub(super) fn want(&self, entry: &Arc<Entry>, text: &[u8], place: &Arc<Place>) {
        if text.len() > TEXT_MAX {
            return entry.give(Plan::doubtful("the statement is too long to be planned"));
        }
        let text = String::from_utf8_lossy(text);
        let mut wanted = self.lock();
        if wanted.waiting.len() >= WANTED_MAX || wanted.bytes + text.len() > WANTED_BYTES_MAX {
            return;
        }
        entry.is_queued.store(true, Ordering::Relaxed);
        wanted.bytes += text.len();
        wanted.waiting.push_back((Arc::clone(entry), text.into_owned(), Arc::clone(place)));
        self.asked.notify_one();
    }

    /// Statements without a plan, for the planner; waits up to `wait` for the first, and not at all after `end`.
    pub fn wanted_within(&self, wait: Duration) -> Vec<Question> {
        let wanted = self.lock();
        let is_idle = |wanted: &mut Wanted| wanted.waiting.is_empty() && !wanted.ended;
        let found = self.asked.wait_timeout_while(wanted, wait, is_idle);
        let (mut wanted, _) = found.unwrap_or_else(PoisonError::into_inner);
        let Wanted { waiting, bytes, given, .. } = &mut *wanted;
        *bytes = 0;
        let questions = waiting.drain(..).map(|(entry, text, place)| {
            let (id, version) = (entry.id, entry.version);
            given.insert(id, entry);
            Question { id, text, place, version }
        });
        questions.collect()
    }

    /// Ends every wait for statements.
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
        entry.give(parsed.unwrap_or_else(|error| Plan::doubtful(&format!("its plan is malformed: {error}"))));
        refused.map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        let wanted = self.lock();
        (wanted.waiting.len(), wanted.bytes)
    }
}
