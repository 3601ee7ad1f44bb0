//! What a session's settings make of the text of its statements: of names, of literals, and of where a statement may go.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use super::settings::Settings;

/// Settings that say what a statement's names mean. PostgreSQL looks again when they have changed since it was prepared.
const NAMES: [&str; 3] = ["role", "search_path", "session_authorization"];
/// Settings that say what its literals mean. PostgreSQL reads them when a statement is prepared, and not again.
const LITERALS: [&str; 11] = [
    "array_nulls",
    "backslash_quote",
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "lc_monetary",
    "standard_conforming_strings",
    "timezone",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmloption",
];

/// What a version of a session's settings makes of that.
#[derive(Debug, Default)]
pub struct Reading {
    mark: Option<u64>,
    /// Hash of the settings for literals; zero where the session has set none.
    literals: u64,
    /// The same of those and of the settings for names.
    pub names: u64,
    /// Settings of the transaction alone are among them.
    pub is_local: bool,
}

impl Reading {
    pub fn of(settings: &Settings, is_local: bool) -> Self {
        let add = |sum, name: &&str| settings.get(name).map_or(sum, |statement| hash((sum, name, statement)));
        let literals = LITERALS.iter().fold(0, add);
        Self { mark: Some(settings.mark()), literals, names: NAMES.iter().fold(literals, add), is_local }
    }

    /// Whether it is of this version of the settings.
    pub fn holds(&self, settings: &Settings, is_local: bool) -> bool {
        self.mark == Some(settings.mark()) && self.is_local == is_local
    }

    pub fn is_same_for_literals(&self, other: &Self) -> bool {
        (self.literals, self.is_local) == (other.literals, other.is_local)
    }
}

pub fn changes_literals(name: &str) -> bool {
    LITERALS.contains(&name)
}

pub fn hash(value: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

/// The value at the end of a statement that sets one thing.
pub fn last_word(statement: &str) -> Option<String> {
    let mut words = statement.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    let last = words.next_back()?;
    // `set_config('name', 'value', false)` ends with its third argument.
    let is_call = statement.trim_end().trim_end_matches(';').ends_with(')');
    Some(if is_call { words.next_back()? } else { last }.to_ascii_lowercase())
}

/// Whether each byte below 128 is a character by itself in the encoding that the statement sets. Where it is not, a letter's
/// second byte may look like a backslash, and nobody but the server can say where a literal ends.
pub fn reads_like_ascii(statement: &str) -> bool {
    let statement = statement.to_ascii_lowercase();
    !["big5", "gbk", "uhc", "gb18030", "johab", "sjis", "shift", "win932", "win936", "win949", "win950", "mskanji"]
        .iter()
        .any(|name| statement.contains(name))
}

/// Whether a statement that sets `default_transaction_isolation` may say so.
pub fn says_serializable(statement: &str) -> bool {
    statement.to_ascii_lowercase().contains("serializable")
}

/// Whether a statement that sets `default_transaction_read_only` surely turns it on; it may be SET SESSION CHARACTERISTICS.
pub fn says_read_only(statement: &str) -> bool {
    let words: Vec<_> = statement.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let is = |at: usize, word: &str| words.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word));
    if is(2, "characteristics") {
        return (0..words.len()).any(|at| is(at, "read") && is(at + 1, "only"));
    }
    last_word(statement).is_some_and(|value| is_true(&value))
}

pub fn is_true(value: &str) -> bool {
    matches!(value, "on" | "true" | "yes" | "1" | "t" | "y" | "tr" | "tru" | "ye")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_in_which_text_cannot_be_read_as_ascii() {
        for name in ["utf8", "sql_ascii", "latin1", "euc_jp"] {
            assert!(reads_like_ascii(name), "{name}");
        }
        for name in ["SJIS", "shift_jis_2004", "gbk", "big5"] {
            assert!(!reads_like_ascii(name), "{name}");
        }
    }

    #[test]
    fn values_at_the_end_of_statements() {
        for (statement, value) in [
            ("SET default_transaction_read_only = on;", "on"),
            ("set default_transaction_read_only to 'TRUE'", "true"),
            ("SELECT pg_catalog.set_config('default_transaction_read_only', '1', false)", "1"),
        ] {
            assert_eq!(last_word(statement).as_deref(), Some(value));
            assert!(is_true(value));
        }
    }
}
