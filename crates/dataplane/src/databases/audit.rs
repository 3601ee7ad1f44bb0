//! What a server is asked about a session, when code that no statement shows has run on its connection: a function, a trigger,
//! a DO block. The answer says what the session has now and must keep, and what the connection has to lose before it serves
//! another.
//!
//! Custom settings (`app.tenant`) are in no list that PostgreSQL shows, so they are asked for by name: the names that the
//! catalogue and the statement's own text have. Nothing here depends on the session's `search_path`.

use std::collections::BTreeSet;

use super::connection::Connection;
use super::expect::{Expect, Expectations};
use super::plan::{Audit, Plan};
use super::protocol::messages::to_server;
use super::settings::quoted;
use super::statement::NAME;

/// Numbers of our own statements on a connection; those of clients count from zero.
const STATE: u64 = u64::MAX - 1;
const SETTINGS: u64 = u64::MAX - 2;
/// Names of custom settings that are asked for at once.
const NAMES_MAX: usize = 200;
/// Longest name of a custom setting, in bytes.
const NAME_MAX: usize = 256;

/// What a session keeps its connection for, as far as a server can be asked.
pub const ADVISORY_LOCK: &str = "advisory lock";
pub const TEMPORARY: &str = "temporary table";
pub const HELD_CURSOR: &str = "WITH HOLD cursor";
pub const LISTEN: &str = "LISTEN";
pub const PREPARED: &str = "PREPARE";
const ASKED: [&str; 5] = [ADVISORY_LOCK, TEMPORARY, HELD_CURSOR, LISTEN, PREPARED];
/// A setting that was made in a way that its statement does not show.
const SETTING: &str = "setting made by a function";

/// Counts of changed rows, as this session knows them: its own that are not reported yet, and those of everybody.
macro_rules! changes {
    ($kind:literal, $oids:literal) => {
        concat!(
            "(SELECT pg_catalog.sum(pg_catalog.pg_stat_get_",
            $kind,
            "tuples_inserted(o) OPERATOR(pg_catalog.+) ",
            "pg_catalog.pg_stat_get_",
            $kind,
            "tuples_updated(o) OPERATOR(pg_catalog.+) ",
            "pg_catalog.pg_stat_get_",
            $kind,
            "tuples_deleted(o)) FROM pg_catalog.unnest('{",
            $oids,
            "}'::pg_catalog.oid[]) o)"
        )
    };
}

/// Whether the session has used temporary objects, has some now, and the other things of `ASKED`; how many statements are
/// prepared by the protocol, and whether one prepared in SQL has a name of ours; changes of the catalogues that plans rest on
/// (`pg_proc`, `pg_trigger`, `pg_rewrite`, `pg_policy`, `pg_attrdef`, `pg_constraint`, `pg_operator`, `pg_cast`, `pg_inherits`,
/// `pg_event_trigger`), and of those that results rest on (`pg_class`, `pg_attribute`, `pg_type`).
const ASK_STATE: &str = concat!(
    "SELECT pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid, \
     EXISTS (SELECT FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 2615::pg_catalog.oid \
     AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()), \
     EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'::pg_catalog.text \
     AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()), \
     EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable), \
     EXISTS (SELECT FROM pg_catalog.pg_listening_channels()), \
     p.by_sql, p.by_protocol, p.ours, ",
    changes!("xact_", "1255,2620,2618,3256,2604,2606,2617,2605,2611,3466"),
    ", ",
    changes!("", "1255,2620,2618,3256,2604,2606,2617,2605,2611,3466"),
    ", ",
    changes!("xact_", "1259,1249,1247"),
    ", ",
    changes!("", "1259,1249,1247"),
    " FROM (SELECT pg_catalog.count(*) FILTER (WHERE NOT from_sql) AS by_protocol, \
     pg_catalog.count(*) FILTER (WHERE from_sql) AS by_sql, \
     pg_catalog.count(*) FILTER (WHERE from_sql AND pg_catalog.starts_with(name, '_trimaran_')) AS ours \
     FROM pg_catalog.pg_prepared_statements) p"
);

/// Every setting that the session has made, its value, and whether its login may make it; of custom ones those named in `$1`;
/// and who it is. `$2` is the login.
const ASK_SETTINGS: &str = "SELECT name, setting, context OPERATOR(pg_catalog.=) 'user'::pg_catalog.text \
     OR pg_catalog.has_parameter_privilege($2::pg_catalog.text::pg_catalog.name, name, 'SET'::pg_catalog.text) \
     FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session'::pg_catalog.text \
     UNION ALL SELECT n, pg_catalog.current_setting(n, true), true FROM pg_catalog.unnest($1::pg_catalog.text[]) n \
     WHERE pg_catalog.current_setting(n, true) IS NOT NULL \
     UNION ALL SELECT 'role', pg_catalog.current_setting('role'), true \
     UNION ALL SELECT 'session_authorization', SESSION_USER::pg_catalog.text, true";

/// What has to be asked when a session's transaction is over.
#[derive(Debug, Default)]
pub struct Need {
    pub audit: Audit,
    /// Custom settings to ask for.
    custom: BTreeSet<Box<str>>,
    /// Custom settings may have been made under names that are not in `custom`.
    pub unknown: bool,
    /// Something may have been defined unseen.
    pub defines: bool,
}

impl Need {
    pub fn is_none(&self) -> bool {
        self.audit == Audit::None
    }

    pub fn at_least(&mut self, audit: Audit) {
        self.audit = self.audit.max(audit);
    }

    /// A statement with this plan was run, as a part of `messages`. Settings of one that has `failed` went with it.
    pub fn add(&mut self, plan: &Plan, messages: &[u8], failed: bool) {
        self.at_least(plan.audit);
        if plan.pins.iter().any(|pin| is_asked(pin)) {
            self.at_least(Audit::State);
        }
        self.defines |= plan.may_define;
        if plan.audit != Audit::Settings && !plan.pins.iter().any(|pin| pin == SETTING) {
            return;
        }
        self.audit = Audit::Settings;
        plan.custom.iter().for_each(|name| self.ask_for(name));
        if plan.unknown_settings || plan.doubtful || !plan.pins.is_empty() {
            let before = self.custom.len();
            self.ask_for_names_in(messages);
            self.unknown |= !failed && plan.unknown_settings && self.custom.len() == before;
        }
    }

    /// A function was called, or something else was run, of which nothing is known but the client's messages.
    pub fn add_unknown(&mut self, messages: &[u8]) {
        self.audit = Audit::Settings;
        self.defines = true;
        let before = self.custom.len();
        self.ask_for_names_in(messages);
        self.unknown |= self.custom.len() == before;
    }

    pub fn ask_for(&mut self, name: &str) {
        if self.custom.len() < NAMES_MAX && name.len() <= NAME_MAX {
            self.custom.insert(name.to_ascii_lowercase().into());
        }
    }

    /// Everything in the messages that may be the name of a custom setting.
    fn ask_for_names_in(&mut self, messages: &[u8]) {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.' | 0x80..);
        for word in messages.split(|byte| !is_part(byte)) {
            // The byte before a value is the end of its length, and may look like a letter.
            for word in [word, word.get(1..).unwrap_or_default()] {
                if let Ok(word) = std::str::from_utf8(word)
                    && is_custom(word)
                {
                    self.ask_for(word);
                }
            }
        }
    }
}

/// Whether a setting of this name is a custom one, as far as its name tells.
pub fn is_custom(name: &str) -> bool {
    let mut parts = name.split('.');
    let is_name = |part: &str| part.starts_with(|first: char| !first.is_ascii_digit() && first != '$');
    name.contains('.') && parts.all(is_name)
}

/// Whether a server can be asked if a session still has to keep its connection for this reason.
pub fn is_asked(pin: &str) -> bool {
    ASKED.contains(&pin) || pin == SETTING
}

/// One setting of a session, as its server says.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    pub value: String,
    /// The session's login may make it on another connection.
    pub may_be_made: bool,
}

/// What the server has answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Temporary objects were used, which some settings do not like.
    pub has_used_temporary: bool,
    /// What the session has to keep its connection for.
    pub pins: Vec<&'static str>,
    /// Statements that were prepared by the protocol, and are there.
    pub prepared: usize,
    /// A statement was prepared in SQL under a name that is ours.
    pub is_misled: bool,
    /// Changes of the catalogues that plans rest on: of this session and not reported yet, and of everybody.
    pub changes: (u64, u64),
    /// The same of the catalogues that results rest on.
    pub relation_changes: (u64, u64),
    /// None where it was not asked.
    pub settings: Option<Vec<Found>>,
}

impl Findings {
    /// Reads the rows of the answer. `None`: it is not what was asked for.
    pub fn read(rows: &[Vec<Option<String>>], audit: Audit) -> Option<Self> {
        let (state, settings) = rows.split_first()?;
        let column = |at: usize| state.get(at).map(|value| value.as_deref().unwrap_or("0"));
        let is = |at| column(at).map(|value| value == "t");
        let number = |at| column(at)?.parse::<u64>().ok();
        let has = [(2, ADVISORY_LOCK), (1, TEMPORARY), (3, HELD_CURSOR), (4, LISTEN)];
        let mut pins = Vec::new();
        for (at, pin) in has {
            if is(at)? {
                pins.push(pin);
            }
        }
        if number(5)? > 0 {
            pins.push(PREPARED);
        }
        let found = |row: &Vec<Option<String>>| match &row[..] {
            [Some(name), value, Some(may)] => Some(Found {
                name: name.to_ascii_lowercase(),
                value: value.clone().unwrap_or_default(),
                may_be_made: may == "t",
            }),
            _ => None,
        };
        let settings = match audit {
            Audit::Settings => Some(settings.iter().map(found).collect::<Option<Vec<_>>>()?),
            _ => None,
        };
        Some(Self {
            has_used_temporary: is(0)?,
            pins,
            prepared: usize::try_from(number(6)?).ok()?,
            is_misled: number(7)? > 0,
            changes: (number(8)?, number(9)?),
            relation_changes: (number(10)?, number(11)?),
            settings,
        })
    }
}

/// Writes the questions of a session of this login.
pub fn ask(need: &Need, login: &str, connection: &mut Connection, expect: &mut Expectations) -> Vec<u8> {
    let mut out = Vec::new();
    // All that is prepared is there before it is counted.
    prepare(STATE, ASK_STATE, connection, expect, &mut out);
    if need.audit == Audit::Settings {
        prepare(SETTINGS, ASK_SETTINGS, connection, expect, &mut out);
    }
    bind(STATE, &[], &mut out);
    if need.audit == Audit::Settings {
        let names = array_of(need.custom.iter().map(AsRef::as_ref));
        bind(SETTINGS, &[Some(names.as_bytes()), Some(login.as_bytes())], &mut out);
    }
    to_server::sync(&mut out);
    expect.push(Expect::Audit);
    out
}

fn prepare(id: u64, sql: &str, connection: &mut Connection, expect: &mut Expectations, out: &mut Vec<u8>) {
    if connection.prepared.has(id) {
        return;
    }
    let name = format!("{NAME}{id}");
    if connection.prepared.leftovers {
        to_server::close_statement(out, name.as_bytes());
    }
    to_server::parse(out, name.as_bytes(), sql.as_bytes(), &[]);
    if let Some(oldest) = connection.prepared.add(id) {
        to_server::close_statement(out, format!("{NAME}{oldest}").as_bytes());
    }
    expect.hoped.push(id);
}

fn bind(id: u64, values: &[Option<&[u8]>], out: &mut Vec<u8>) {
    to_server::bind(out, b"", format!("{NAME}{id}").as_bytes(), values);
    to_server::execute(out, b"", 0);
}

/// An array of text as PostgreSQL reads it.
fn array_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let quoted = names.into_iter().map(|name| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}

/// The statement that makes a setting as it was found.
pub fn statement_of(found: &Found) -> String {
    match found.name.as_str() {
        "role" => format!("SET ROLE {}", identifier(&found.value)),
        "session_authorization" => format!("SET SESSION AUTHORIZATION {}", identifier(&found.value)),
        name => format!("SELECT pg_catalog.set_config({}, {}, false)", quoted(name), quoted(&found.value)),
    }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
