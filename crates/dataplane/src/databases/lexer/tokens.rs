//! Where the tokens of PostgreSQL's lexer end (`scan.l` of PostgreSQL 18, `standard_conforming_strings` on).
//!
//! Every function takes the text and a place in it, and gives the place behind the token; None when the text has no such
//! end or PostgreSQL would refuse the token.

use memchr::{memchr, memchr2, memmem};

/// What a byte may begin, outside of literals and comments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Space,
    Word,
    Digit,
    /// A byte of an operator or punctuation that begins nothing longer of interest.
    Symbol,
    Minus,
    Slash,
    Dot,
    Comma,
    Semicolon,
    Open,
    Close,
    Apostrophe,
    Quote,
    Dollar,
    Other,
}

const fn class_of(byte: u8) -> Class {
    match byte {
        b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Class::Space,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Class::Word,
        b'0'..=b'9' => Class::Digit,
        b'-' => Class::Minus,
        b'/' => Class::Slash,
        b'.' => Class::Dot,
        b',' => Class::Comma,
        b';' => Class::Semicolon,
        b'(' | b'[' => Class::Open,
        b')' | b']' => Class::Close,
        b'\'' => Class::Apostrophe,
        b'"' => Class::Quote,
        b'$' => Class::Dollar,
        b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'*' | b'%' | b'<' | b'>' | b'='
        | b':' => Class::Symbol,
        _ => Class::Other,
    }
}

static CLASSES: [Class; 256] = {
    let mut table = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = class_of(byte as u8);
        byte += 1;
    }
    table
};

static CONTINUES_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(class_of(byte as u8), Class::Word | Class::Digit | Class::Dollar);
        byte += 1;
    }
    table
};

#[inline]
pub fn class(byte: u8) -> Class {
    CLASSES[byte as usize]
}

fn is(sql: &[u8], at: usize, wanted: Class) -> bool {
    sql.get(at).is_some_and(|byte| class(*byte) == wanted)
}

/// The end of a word that begins at `at`.
#[inline]
pub fn word(sql: &[u8], at: usize) -> usize {
    let rest = &sql[at..];
    at + rest.iter().position(|byte| !CONTINUES_WORD[*byte as usize]).unwrap_or(rest.len())
}

/// A number in any notation, at a digit or at a point with a digit behind it. A word right behind it is "trailing junk".
pub fn number(sql: &[u8], at: usize) -> Option<usize> {
    let of_radix = match (sql[at], sql.get(at + 1)) {
        (b'0', Some(b'x' | b'X')) => Some(digits(sql, at + 2, u8::is_ascii_hexdigit, true)),
        (b'0', Some(b'o' | b'O')) => Some(digits(sql, at + 2, |byte| matches!(byte, b'0'..=b'7'), true)),
        (b'0', Some(b'b' | b'B')) => Some(digits(sql, at + 2, |byte| matches!(byte, b'0' | b'1'), true)),
        _ => None,
    };
    if let Some(end) = of_radix {
        let end = end?;
        return (!sql.get(end).is_some_and(|byte| CONTINUES_WORD[*byte as usize])).then_some(end);
    }
    let mut end = digits(sql, at, u8::is_ascii_digit, false).unwrap_or(at);
    // `1..2` is a range of two integers.
    if is(sql, end, Class::Dot) && !is(sql, end + 1, Class::Dot) {
        end = digits(sql, end + 1, u8::is_ascii_digit, false).unwrap_or(end + 1);
    }
    if matches!(sql.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(sql.get(end + 1), Some(b'+' | b'-')));
        end = digits(sql, end + 1 + sign, u8::is_ascii_digit, false)?;
        // Without a sign, `1e5$` reads as a number with the word `e5$` behind it.
        if sign == 0 && is(sql, end, Class::Dollar) {
            return None;
        }
    }
    (!is(sql, end, Class::Word)).then_some(end)
}

/// At least one digit; single underscores may stand between digits, and before the first after a radix.
fn digits(sql: &[u8], at: usize, is_digit: impl Fn(&u8) -> bool, may_begin_with_underscore: bool) -> Option<usize> {
    let mut end = at;
    loop {
        let underscore = usize::from(sql.get(end) == Some(&b'_') && (end > at || may_begin_with_underscore));
        if !sql.get(end + underscore).is_some_and(&is_digit) {
            return (end > at).then_some(end);
        }
        end += underscore + 1;
    }
}

/// A string from its opening apostrophe, with the parts that continue it on later lines.
pub fn string(sql: &[u8], at: usize, has_escapes: bool) -> Option<usize> {
    let mut end = at + 1;
    loop {
        let rest = sql.get(end..)?;
        let found = if has_escapes { memchr2(b'\'', b'\\', rest) } else { memchr(b'\'', rest) }?;
        end += found + 1;
        if sql[end - 1] == b'\\' || sql.get(end) == Some(&b'\'') {
            end += 1;
        } else if let Some(continued) = continuation(sql, end) {
            end = continued + 1;
        } else {
            return Some(end);
        }
    }
}

/// The apostrophe that continues a string which was closed before `at`: only white space and `--` comments may stand
/// between the two, and a line must end there.
fn continuation(sql: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    let mut line_ended = false;
    loop {
        match sql.get(end)? {
            b'\n' | b'\r' => line_ended = true,
            b' ' | b'\t' | 0x0b | 0x0c => {}
            b'-' if sql.get(end + 1) == Some(&b'-') => {
                end += memchr2(b'\n', b'\r', &sql[end..])?;
                continue;
            }
            b'\'' => return line_ended.then_some(end),
            _ => return None,
        }
        end += 1;
    }
}

/// An identifier in quotation marks, from the opening one.
pub fn quoted_identifier(sql: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    loop {
        end += memchr(b'"', sql.get(end..)?)? + 1;
        if sql.get(end) != Some(&b'"') {
            return Some(end);
        }
        end += 1;
    }
}

/// A string in dollar quotes, from the opening `$` or `$tag$`.
pub fn dollar_quoted(sql: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    if is(sql, end, Class::Word) {
        while is(sql, end, Class::Word) || is(sql, end, Class::Digit) {
            end += 1;
        }
    }
    if sql.get(end) != Some(&b'$') {
        return None;
    }
    let delimiter = &sql[at..=end];
    let body = end + 1;
    Some(body + memmem::find(&sql[body..], delimiter)? + delimiter.len())
}

/// A parameter such as `$1`, from its dollar sign.
pub fn parameter(sql: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    while is(sql, end, Class::Digit) {
        end += 1;
    }
    (!is(sql, end, Class::Word)).then_some(end)
}

/// A comment to the end of its line.
pub fn line_comment(sql: &[u8], at: usize) -> usize {
    memchr2(b'\n', b'\r', &sql[at..]).map_or(sql.len(), |found| at + found)
}

/// A comment from its `/*`; such comments nest.
pub fn block_comment(sql: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 2;
    let mut depth = 1;
    while depth > 0 {
        end += memchr2(b'*', b'/', sql.get(end..)?)?;
        match (sql[end], sql.get(end + 1)?) {
            (b'*', b'/') => {
                depth -= 1;
                end += 2;
            }
            (b'/', b'*') => {
                depth += 1;
                end += 2;
            }
            _ => end += 1,
        }
    }
    Some(end)
}
