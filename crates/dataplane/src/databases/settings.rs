//! What a session has SET, so that any server connection can be brought to the same state.
//!
//! Settings are kept as statements that make them, by name. Two sets are equal when they make the same values in the same
//! way; that is all a pooled connection must know to see that nothing has to be done, which is the common case.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use super::audit::is_custom;
use super::idle_timeout;

/// Settings of one session. A session that sets more than this keeps its server connection instead.
pub const SETTINGS_MAX: usize = 100;

/// As many different sets of settings are remembered in any case before those that nobody has any more are swept out.
const SWEEP_MIN: usize = 1024;

/// Settings that say as whom the session acts, in the order in which they are made.
const WHO: [&str; 2] = ["session_authorization", "role"];

/// The role that a session acts as which has left every role, also the one that it began with.
pub const NO_ROLE: &str = "SET ROLE NONE";

fn is_who(name: &str) -> bool {
    WHO.contains(&name)
}

/// Statements by lower-case name.
type Statements = BTreeMap<Box<str>, Box<str>>;

#[derive(Debug, Clone)]
pub struct Settings {
    /// One object for all who have set the same, nearly always (`share`).
    statements: Arc<Statements>,
    mark: u64,
}

/// What somebody has in the whole process.
#[derive(Debug, Default)]
struct Shared {
    by_mark: HashMap<u64, Weak<Statements>>,
    sweep_at: usize,
}

impl Default for Settings {
    fn default() -> Self {
        static NONE: LazyLock<Arc<Statements>> = LazyLock::new(Arc::default);
        Self { statements: Arc::clone(&NONE), mark: 0 }
    }
}

impl Settings {
    /// Whether both make the same state. Marks are 64-bit hashes; maps are only compared when they agree.
    pub fn is_same(&self, other: &Self) -> bool {
        self.mark == other.mark
            && (Arc::ptr_eq(&self.statements, &other.statements) || self.statements == other.statements)
    }

    /// Takes over `other`, sharing its object.
    pub fn become_one_with(&mut self, other: &Self) {
        if self.mark != other.mark || !Arc::ptr_eq(&self.statements, &other.statements) {
            *self = other.clone();
        }
    }

    /// Tells versions of this value apart, for caches.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// `statement` is what sets it: as the client sent it, or `set_config` made here.
    pub fn set(&mut self, name: &str, statement: &str) {
        Arc::make_mut(&mut self.statements).insert(name.to_ascii_lowercase().into(), statement.into());
        self.changed();
    }

    pub fn reset(&mut self, name: &str) {
        Arc::make_mut(&mut self.statements).remove(name.to_ascii_lowercase().as_str());
        self.changed();
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// RESET ALL: all but who the session acts as goes back to `base`. A custom setting stays known, without a value.
    pub fn reset_all(&mut self, base: &Self) {
        let mut statements = (*base.statements).clone();
        for name in WHO {
            statements.remove(name);
            if let Some(statement) = self.statements.get(name) {
                statements.insert(name.into(), statement.clone());
            }
        }
        for name in self.custom_names() {
            statements.entry(name.into()).or_insert_with(|| emptied(name).into());
        }
        self.statements = Arc::new(statements);
        self.changed();
    }

    /// A custom setting was made for a while, or was reset: it is known from now on, and has the value that it has without one.
    pub fn empty(&mut self, name: &str) {
        self.set(name, &emptied(name));
    }

    /// Settings that a connection with these `others` lacks, or has otherwise.
    pub fn pending_on(&self, others: &Self) -> Vec<(Box<str>, Box<str>)> {
        let pending = self.statements.iter().filter(|(name, statement)| others.get(name) != Some(&***statement));
        pending.map(|(name, statement)| (name.clone(), statement.clone())).collect()
    }

    /// Whether it acts as another user than its login.
    pub fn act_as_another(&self) -> bool {
        WHO.iter().any(|name| self.get(name).is_some_and(|statement| statement != NO_ROLE))
    }

    /// Names of the custom settings among them.
    pub fn custom_names(&self) -> impl Iterator<Item = &str> {
        self.statements.keys().map(AsRef::as_ref).filter(|name| is_custom(name))
    }

    fn changed(&mut self) {
        if self.statements.is_empty() {
            return self.clear();
        }
        self.mark = BuildHasherDefault::<DefaultHasher>::default().hash_one(&*self.statements);
        self.share();
    }

    /// Takes the object of somebody who has set the same. Clients of one application do, and pooled connections that go from
    /// one to the other are then compared at a glance.
    fn share(&mut self) {
        static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(Mutex::default);
        let Shared { by_mark, sweep_at } = &mut *SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        match by_mark.get(&self.mark).and_then(Weak::upgrade) {
            Some(same) if same == self.statements => self.statements = same,
            // Others with this mark: they are compared in full.
            Some(_) => {}
            None => {
                if by_mark.len() >= (*sweep_at).max(SWEEP_MIN) {
                    by_mark.retain(|_, statements| statements.strong_count() > 0);
                    *sweep_at = by_mark.len() * 2;
                }
                by_mark.insert(self.mark, Arc::downgrade(&self.statements));
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.statements.get(name).map(AsRef::as_ref)
    }

    /// The SQL that brings a connection from the state `from` to this one, without `idle_timeout`.
    pub fn since(&self, from: &Self) -> String {
        let mut sql = String::new();
        let differs = |name: &str| from.get(name) != self.get(name);
        // Whoever the session has become may not be allowed to make or reset the other settings; so they are left first, and
        // taken on last. A new authorization resets the role.
        let is_other = !self.is_same(from);
        for name in WHO.iter().rev().filter(|name| is_other && from.get(name).is_some()) {
            sql.push_str(if *name == "role" { "RESET ROLE;" } else { "RESET SESSION AUTHORIZATION;" });
        }
        let gone = from.statements.keys().filter(|name| !self.statements.contains_key(*name) && !is_who(name));
        for name in gone.filter(|name| &***name != idle_timeout::NAME) {
            sql.push_str("RESET ");
            quote_name(&mut sql, name);
            sql.push(';');
        }
        let others =
            self.statements.iter().filter(|(name, _)| !is_who(name) && differs(name) && &***name != idle_timeout::NAME);
        let others = others.map(|(_, sql)| &**sql);
        let who = WHO.iter().filter(|_| is_other).filter_map(|name| self.get(name));
        for statement in others.chain(who) {
            sql.push_str(statement.trim_end().trim_end_matches(';'));
            // A comment at the statement's end must not swallow what follows.
            sql.push_str("\n;");
        }
        sql
    }
}

/// Statements that leave a custom setting as it is on a connection on which it was made and reset.
fn emptied(name: &str) -> String {
    let mut sql = format!("SELECT pg_catalog.set_config({}, '', false);RESET ", quoted(name));
    quote_name(&mut sql, name);
    sql
}

/// The statement for a setting whose value is known as the server reads it from a start-up packet.
pub fn statement_for(name: &str, value: &str) -> String {
    format!("SELECT pg_catalog.set_config({}, {}, false)", quoted(name), quoted(value))
}

/// A string literal that does not depend on `standard_conforming_strings`.
pub fn quoted(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", escaped.replace('\\', "\\\\")) } else { format!("'{escaped}'") }
}

/// Setting names may have dots (`myapp.user`), each part of which is an identifier; `time zone` and `role` are known to
/// RESET by the names of their settings.
fn quote_name(sql: &mut String, name: &str) {
    for (at, part) in name.split('.').enumerate() {
        if at > 0 {
            sql.push('.');
        }
        sql.push('"');
        sql.push_str(&part.replace('"', "\"\""));
        sql.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_resets_what_is_gone_and_sets_what_is_new() {
        let (mut from, mut to) = (Settings::default(), Settings::default());
        from.set("TimeZone", "SET TIME ZONE 'UTC'");
        from.set("work_mem", "SET work_mem = 1000");
        to.set("work_mem", "SET work_mem = 1000");
        to.set("search_path", "SET search_path TO a, b -- mine");
        assert_eq!(to.since(&from), "RESET \"timezone\";SET search_path TO a, b -- mine\n;");
        assert!(!to.is_same(&from));
        assert_eq!(to.since(&to.clone()), "");
    }

    #[test]
    fn the_role_is_left_first_and_taken_on_last() {
        let (mut from, mut to) = (Settings::default(), Settings::default());
        from.set("role", "SET ROLE a");
        from.set("statement_timeout", "SET statement_timeout = 1");
        to.set("role", "SET ROLE b");
        to.set("session_authorization", "SET SESSION AUTHORIZATION c");
        to.set("work_mem", "SET work_mem = 1000");
        assert_eq!(
            to.since(&from),
            "RESET ROLE;RESET \"statement_timeout\";SET work_mem = 1000\n;SET SESSION AUTHORIZATION c\n;SET ROLE b\n;"
        );
        from.set("work_mem", "SET work_mem = 1000");
        from.set("session_authorization", "SET SESSION AUTHORIZATION c");
        from.set("role", "SET ROLE b");
        // Who resets it has to be the login: the role may not be allowed to.
        assert_eq!(
            to.since(&from),
            "RESET ROLE;RESET SESSION AUTHORIZATION;RESET \"statement_timeout\";SET SESSION AUTHORIZATION c\n;SET ROLE b\n;"
        );
    }

    #[test]
    fn what_was_set_and_reset_again_is_as_before() {
        let mut settings = Settings::default();
        settings.set("a", "SET a = 1");
        settings.reset("A");
        assert!(settings.is_same(&Settings::default()));
        assert_eq!(settings.len(), 0);
    }

    #[test]
    fn who_has_set_the_same_shares_one_object() {
        let with = |value: &str| {
            let mut settings = Settings::default();
            settings.set("a", "SET a = 0");
            settings.set("a", value);
            settings
        };
        let (one, other, third) = (with("SET a = 1"), with("SET a = 1"), with("SET a = 2"));
        assert!(Arc::ptr_eq(&one.statements, &other.statements) && one.is_same(&other));
        assert!(!Arc::ptr_eq(&one.statements, &third.statements) && !one.is_same(&third));
        let mut changed = other;
        changed.set("b", "SET b = 1");
        assert_eq!((one.len(), changed.len()), (1, 2), "who goes on leaves the others as they are");
    }

    #[test]
    fn values_are_quoted_whatever_they_hold() {
        assert_eq!(statement_for("a.b", "it's"), "SELECT pg_catalog.set_config('a.b', 'it''s', false)");
        assert_eq!(quoted("\\'"), "E'\\\\'''");
    }
}
