//! The key under which the plan of a statement is kept.
//!
//! The key is the text with every literal replaced by one byte, comments dropped, white space folded, and words in lower
//! case, so that clients that write literals into their statements share a plan. It is made by PostgreSQL's lexical rules.
//!
//! The promise: of two texts with one key, both are the same to PostgreSQL's grammar but for the values of literals and
//! the lengths of lists; so they have the same plan, or one of them is none that PostgreSQL accepts. That is why a plan of
//! a text that does not parse ("doubtful" in the plan) must be kept for the whole text only.
//!
//! It holds for text in UTF-8 and `standard_conforming_strings` on: a session with another client encoding, or with the
//! setting off, has other borders of literals, and must not use keys.

mod lists;
mod tokens;

use memchr::memchr;

use lists::{Before, Lists};
use tokens::Class;

/// Stands for a literal; no byte of a key is one by itself, since PostgreSQL refuses control characters outside literals.
const LITERAL: u8 = 0x01;
/// Begins the key of a text that could not be read; no text has a NUL.
const WHOLE_TEXT: u8 = 0x00;

/// What became of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The key stands for all texts that read alike.
    Folded,
    /// The text is not valid UTF-8, or has tokens that do not end or that PostgreSQL refuses: the key is the whole text.
    Doubtful,
}

/// Put the key of `sql` into `into`, whose content is replaced. Allocates only when the buffer is too small.
pub fn key(sql: &[u8], into: &mut Vec<u8>) -> Key {
    into.clear();
    into.reserve(sql.len() + 1);
    if sql.len() < u32::MAX as usize && std::str::from_utf8(sql).is_ok() && memchr(0, sql).is_none() {
        match Lexer::new(sql, into, false).run() {
            Ok(()) => return Key::Folded,
            Err(Stop::LiteralsMatter) => {
                into.clear();
                if Lexer::new(sql, into, true).run().is_ok() {
                    return Key::Folded;
                }
            }
            Err(Stop::Unclear) => {}
        }
    }
    into.clear();
    into.push(WHOLE_TEXT);
    into.extend_from_slice(sql);
    Key::Doubtful
}

/// The key that stands for this very text.
pub fn whole(sql: &[u8]) -> Vec<u8> {
    [&[WHOLE_TEXT], sql].concat()
}

enum Stop {
    /// A literal may decide the plan, so all must be kept.
    LiteralsMatter,
    Unclear,
}

struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
    key: &'a mut Vec<u8>,
    keep_all_literals: bool,
    /// Whether this statement's literals are replaced.
    replaces: bool,
    /// No word of this statement was seen yet.
    at_first_word: bool,
    space: bool,
    lists: Lists,
    /// The last word, if it makes the bracket behind it a list, and where the key ended behind it.
    before: (Before, usize),
}

impl<'a> Lexer<'a> {
    fn new(sql: &'a [u8], key: &'a mut Vec<u8>, keep_all_literals: bool) -> Self {
        let lists = Lists::new();
        let before = (Before::Other, 0);
        let (at, replaces, at_first_word, space) = (0, false, true, false);
        Lexer { sql, at, key, keep_all_literals, replaces, at_first_word, space, lists, before }
    }

    fn run(mut self) -> Result<(), Stop> {
        while let Some(&byte) = self.sql.get(self.at) {
            let class = tokens::class(byte);
            match class {
                Class::Space => {
                    self.space = true;
                    self.at += 1;
                    continue;
                }
                Class::Slash if self.next() == Some(b'*') => {
                    self.comment()?;
                    continue;
                }
                Class::Minus if self.next() == Some(b'-') => {
                    self.at = tokens::line_comment(self.sql, self.at);
                    self.space = true;
                    continue;
                }
                _ => {}
            }
            if self.space {
                self.space = false;
                if self.key.last().is_some_and(|last| !is_apart(*last)) && !is_apart(byte) {
                    self.key.push(b' ');
                }
            }
            match class {
                Class::Word => self.word(byte)?,
                Class::Digit => self.literal(tokens::number(self.sql, self.at))?,
                Class::Dot => self.dot()?,
                Class::Apostrophe => self.literal(tokens::string(self.sql, self.at, false))?,
                Class::Quote => self.quoted(self.at)?,
                Class::Dollar => self.dollar()?,
                Class::Open => {
                    self.symbol(byte);
                    let before = self.before_bracket();
                    self.lists.open(self.key, before);
                }
                Class::Comma => {
                    self.lists.comma(self.key);
                    self.symbol(byte);
                }
                Class::Close => {
                    self.lists.before_close(self.key);
                    self.symbol(byte);
                    self.lists.after_close(self.key);
                }
                Class::Semicolon => {
                    self.symbol(byte);
                    self.at_first_word = true;
                    self.replaces = false;
                }
                Class::Symbol | Class::Minus | Class::Slash => self.symbol(byte),
                Class::Space | Class::Other => return Err(Stop::Unclear),
            }
        }
        let end = self.key.iter().rposition(|byte| !matches!(byte, b' ' | b';')).map_or(0, |last| last + 1);
        self.key.truncate(end);
        Ok(())
    }

    fn next(&self) -> Option<u8> {
        self.sql.get(self.at + 1).copied()
    }

    fn symbol(&mut self, byte: u8) {
        self.key.push(byte);
        self.at += 1;
    }

    fn copy_to(&mut self, end: usize) {
        self.key.extend_from_slice(&self.sql[self.at..end]);
        self.at = end;
    }

    fn literal(&mut self, end: Option<usize>) -> Result<(), Stop> {
        let end = end.ok_or(Stop::Unclear)?;
        if self.replaces {
            self.key.push(LITERAL);
            self.at = end;
        } else {
            self.copy_to(end);
        }
        Ok(())
    }

    /// Hints for the planner stay as they are; any other comment is white space.
    fn comment(&mut self) -> Result<(), Stop> {
        let end = tokens::block_comment(self.sql, self.at).ok_or(Stop::Unclear)?;
        if is_hint(&self.sql[self.at..end]) {
            if !self.key.is_empty() {
                self.key.push(b' ');
            }
            self.copy_to(end);
        }
        self.at = end;
        self.space = true;
        Ok(())
    }

    fn word(&mut self, first: u8) -> Result<(), Stop> {
        match (first | 0x20, self.next()) {
            (b'e', Some(b'\'')) => return self.literal(tokens::string(self.sql, self.at + 1, true)),
            (b'b' | b'x', Some(b'\'')) => return self.literal(tokens::string(self.sql, self.at + 1, false)),
            (b'u', Some(b'&')) => match self.sql.get(self.at + 2) {
                Some(b'\'') => return self.literal(tokens::string(self.sql, self.at + 2, false)),
                // The name depends on the escape character that a literal behind it may set.
                Some(b'"') => {
                    self.literals_matter()?;
                    return self.quoted(self.at + 2);
                }
                _ => {}
            },
            _ => {}
        }
        let end = tokens::word(self.sql, self.at);
        let start = self.key.len();
        self.key.extend_from_slice(&self.sql[self.at..end]);
        self.at = end;
        self.key[start..].make_ascii_lowercase();
        let word = &self.key[start..];
        if self.at_first_word {
            self.at_first_word = false;
            self.replaces = !self.keep_all_literals && has_replaceable_literals(word);
        }
        match word {
            b"in" => self.expect_list(Before::In, start),
            b"array" => self.expect_list(Before::Array, start),
            b"values" => self.expect_list(Before::Values, start),
            b"null" | b"true" | b"false" | b"default" if self.replaces && self.is_element(start) => {
                self.key.truncate(start);
                self.key.push(LITERAL);
            }
            b"set_config" | b"current_setting" => self.literals_matter()?,
            _ => {}
        }
        Ok(())
    }

    fn literals_matter(&self) -> Result<(), Stop> {
        if self.keep_all_literals { Ok(()) } else { Err(Stop::LiteralsMatter) }
    }

    /// Whether the word that begins at `start` in the key is the whole of an element of a list or row.
    fn is_element(&self, start: usize) -> bool {
        self.lists.holds_elements()
            && matches!(self.key[..start].last(), Some(b'(' | b'[' | b','))
            && matches!(self.after_gap(), Some(b')' | b']' | b','))
    }

    /// The next byte that is neither white space nor in a comment that is dropped.
    fn after_gap(&self) -> Option<u8> {
        let mut at = self.at;
        loop {
            let byte = *self.sql.get(at)?;
            match (tokens::class(byte), self.sql.get(at + 1)) {
                (Class::Space, _) => at += 1,
                (Class::Minus, Some(b'-')) => at = tokens::line_comment(self.sql, at),
                (Class::Slash, Some(b'*')) => {
                    let end = tokens::block_comment(self.sql, at)?;
                    if is_hint(&self.sql[at..end]) {
                        return Some(byte);
                    }
                    at = end;
                }
                _ => return Some(byte),
            }
        }
    }

    /// Remember that the word at the end of the key makes a bracket behind it a list. Behind a point it is only a name;
    /// and a statement that keeps its literals keeps its lists.
    fn expect_list(&mut self, word: Before, start: usize) {
        if self.replaces && self.key[..start].trim_ascii_end().last() != Some(&b'.') {
            self.before = (word, self.key.len());
        }
    }

    /// The word that the bracket at the end of the key stands behind.
    fn before_bracket(&self) -> Before {
        let (word, end) = self.before;
        if end > 0 && end == self.key.len() - 1 { word } else { Before::Other }
    }

    fn quoted(&mut self, opening: usize) -> Result<(), Stop> {
        let end = tokens::quoted_identifier(self.sql, opening).ok_or(Stop::Unclear)?;
        if matches!(&self.sql[opening..end], b"\"set_config\"" | b"\"current_setting\"") {
            self.literals_matter()?;
        }
        self.copy_to(end);
        Ok(())
    }

    fn dot(&mut self) -> Result<(), Stop> {
        match self.next() {
            Some(b'.') => self.copy_to(self.at + 2),
            Some(b'0'..=b'9') => self.literal(tokens::number(self.sql, self.at))?,
            _ => self.symbol(b'.'),
        }
        Ok(())
    }

    fn dollar(&mut self) -> Result<(), Stop> {
        if matches!(self.next(), Some(b'0'..=b'9')) {
            let end = tokens::parameter(self.sql, self.at).ok_or(Stop::Unclear)?;
            self.copy_to(end);
            return Ok(());
        }
        self.literal(tokens::dollar_quoted(self.sql, self.at))
    }
}

fn is_hint(comment: &[u8]) -> bool {
    comment[2..].trim_ascii_start().get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"trimaran:"))
}

/// Whether a byte is a token whatever stands beside it, so that white space there says nothing.
fn is_apart(byte: u8) -> bool {
    matches!(byte, b'(' | b')' | b'[' | b']' | b',' | b';')
}

/// Statements whose literals are data. In all others (SET, LISTEN, DO...) a literal may decide what happens.
fn has_replaceable_literals(first_word: &[u8]) -> bool {
    matches!(
        first_word,
        b"select"
            | b"insert"
            | b"update"
            | b"delete"
            | b"merge"
            | b"with"
            | b"values"
            | b"table"
            | b"explain"
            | b"execute"
    )
}

#[cfg(test)]
#[path = "lexer_tests.rs"]
mod tests;
