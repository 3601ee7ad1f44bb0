//! Prepared statements: one object for each distinct text and parameter types of a group, whatever sessions call it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::plan::Entry;

/// What the names of prepared statements on servers begin with; clients keep the names that they gave.
pub const NAME: &str = "_trimaran_";
/// The end of the name that is taken already when a client gives a name twice.
pub const TAKEN: &str = "taken";

#[derive(Debug)]
pub struct Statement {
    pub id: u64,
    pub text: Arc<[u8]>,
    /// Count and type numbers, as they stand in the Parse message.
    pub types: Arc<[u8]>,
    pub entry: Arc<Entry>,
    name: OnceLock<Box<str>>,
    /// Hash of the login for which a server has taken it last; zero where none has.
    proven: AtomicU64,
}

impl Statement {
    /// A server has prepared it for this login (its hash).
    pub fn prove(&self, whose: u64) {
        if self.proven.load(Ordering::Relaxed) != whose {
            self.proven.store(whose, Ordering::Relaxed);
        }
    }

    /// Whether one did: then others will.
    pub fn is_proven(&self, whose: u64) -> bool {
        self.proven.load(Ordering::Relaxed) == whose
    }

    /// What it is called on servers. Made when it is first asked for: unnamed statements never need it.
    pub fn name(&self) -> &str {
        self.name.get_or_init(|| format!("{NAME}{}", self.id).into())
    }
}

/// What decides, beside its text, what a statement means. A server connection keeps what a statement meant when it was
/// prepared there, so sessions to which it means something else must not share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Meaning {
    /// The database that it is for (`Plans::id`).
    pub plans: u64,
    /// How many definitions (CREATE, ALTER, DROP) had gone through the gateway.
    pub definitions: u64,
    /// Of the settings that say what names and literals mean. 64-bit hash; zero where the session has set none.
    pub names: u64,
    /// The session that keeps its connection, where temporary objects may hide others.
    pub owner: Option<u32>,
}

type Key = (Box<[u8]>, Box<[u8]>, Meaning);

#[derive(Debug, Default)]
pub struct Statements {
    known: Mutex<Known>,
    next_id: AtomicU64,
    definitions: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    statements: HashMap<Key, Weak<Statement>, BuildHasherDefault<DefaultHasher>>,
    /// Size at which those that nobody has any more are swept out.
    sweep_at: usize,
}

impl Statements {
    /// Something has been defined anew: what is prepared from now on is prepared for itself.
    pub fn note_definition(&self) {
        self.definitions.fetch_add(1, Ordering::Relaxed);
    }

    pub fn definitions(&self) -> u64 {
        self.definitions.load(Ordering::Relaxed)
    }

    /// The statement of this text and these types, where they mean the same.
    pub fn intern(&self, text: &[u8], types: &[u8], meaning: Meaning, entry: &Arc<Entry>) -> Arc<Statement> {
        let key: Key = (text.into(), types.into(), meaning);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = known.statements.get(&key).and_then(Weak::upgrade) {
            return statement;
        }
        if known.statements.len() >= known.sweep_at.max(1024) {
            known.statements.retain(|_, statement| statement.strong_count() > 0);
            known.sweep_at = known.statements.len() * 2;
        }
        let statement = Arc::new(self.make(text, types, entry));
        known.statements.insert(key, Arc::downgrade(&statement));
        statement
    }

    /// A statement without a name, which is nobody else's.
    pub fn make(&self, text: &[u8], types: &[u8], entry: &Arc<Entry>) -> Statement {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Self::unproven(id, text.into(), types.into(), Arc::clone(entry))
    }

    /// The same for the text and types of another. It is another statement all the same: what a connection holds under the
    /// old one may mean something else by now.
    pub fn make_again(&self, other: &Statement) -> Statement {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Self::unproven(id, Arc::clone(&other.text), Arc::clone(&other.types), Arc::clone(&other.entry))
    }

    const fn unproven(id: u64, text: Arc<[u8]>, types: Arc<[u8]>, entry: Arc<Entry>) -> Statement {
        Statement { id, text, types, entry, name: OnceLock::new(), proven: AtomicU64::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::databases::plan::{Place, Plans, Queue};

    #[test]
    fn one_statement_for_each_text_types_and_meaning_while_somebody_has_it() {
        const USUAL: Meaning = Meaning { plans: 0, definitions: 0, names: 0, owner: None };
        let (statements, plans) = (
            Statements::default(),
            Plans::new(Place { group: String::new(), database: String::new() }, Arc::new(Queue::default())),
        );
        let entry = plans.entry(b"k", b"k");
        let first = statements.intern(b"select $1", b"\0\0", USUAL, &entry);
        assert!(Arc::ptr_eq(&first, &statements.intern(b"select $1", b"\0\0", USUAL, &entry)));
        assert_ne!(first.id, statements.intern(b"select $1", b"\0\x01\0\0\0\x17", USUAL, &entry).id);
        let later = Meaning { definitions: 1, ..USUAL };
        assert_ne!(first.id, statements.intern(b"select $1", b"\0\0", later, &entry).id);
        let id = first.id;
        drop(first);
        assert_ne!(statements.intern(b"select $1", b"\0\0", USUAL, &entry).id, id);
        for number in 0..10_000 {
            statements.intern(format!("select {number}").as_bytes(), b"\0\0", USUAL, &entry);
        }
        assert!(statements.known.lock().unwrap().statements.len() <= 2048);
    }
}
