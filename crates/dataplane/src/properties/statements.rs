//! Statements: where literals, comments and names end is what a second lexer says, and a key says no less than that.

use super::reference::sql::{Kind, Token, tokens};
use crate::databases::lexer::{self, Key, whole};
use crate::databases::settings::{Settings, quoted, statement_for};

const LITERAL: &[u8] = b"\x01";
const MORE: &[u8] = b"\x02";

/// Statements whose literals are data.
const REPLACED: [&[u8]; 10] =
    [b"select", b"insert", b"update", b"delete", b"merge", b"with", b"values", b"table", b"explain", b"execute"];

pub fn hold(data: &[u8]) {
    check_key(data);
    check_written(&String::from_utf8_lossy(data).replace('\0', ""));
}

fn key(sql: &[u8]) -> Option<Vec<u8>> {
    let mut key = b"from before".to_vec();
    match lexer::key(sql, &mut key) {
        Key::Folded => Some(key),
        Key::Doubtful => {
            assert_eq!(key, whole(sql));
            None
        }
    }
}

fn check_key(sql: &[u8]) {
    let is_control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let may_be_read = std::str::from_utf8(sql).is_ok() && !sql.iter().any(is_control);
    let read = tokens(sql);
    let Some(key) = key(sql) else {
        assert!(!may_be_read || read.is_err(), "refused, though it can be read");
        return;
    };
    let read = read.unwrap_or_else(|why| panic!("accepted in spite of {why}"));
    assert_eq!(read.iter().map(|token| token.text).collect::<Vec<_>>().concat(), sql);
    assert_ne!(key.first(), Some(&0), "the key of a whole text");
    let its_tokens = tokens(&key).unwrap_or_else(|why| panic!("a key with {why}"));
    let is_shortened = its_tokens.iter().any(|token| token.text == MORE);
    if !is_shortened {
        check_said(&read, &its_tokens);
        check_again(&its_tokens);
    }
    for number in 0..3 {
        let other = varied(&read, number);
        assert_eq!(self::key(&other).as_ref(), Some(&key), "another key: {}", other.escape_ascii());
    }
}

/// What counts of a text: no white space, and no semicolons at its end.
fn significant<'t>(tokens: &'t [Token<'t>]) -> Vec<&'t Token<'t>> {
    let mut rest: Vec<_> = tokens.iter().filter(|token| token.kind != Kind::Gap).collect();
    let end = rest.iter().rposition(|token| token.text != b";").map_or(0, |last| last + 1);
    rest.truncate(end);
    rest
}

/// The key says the same as the text, token by token, but for literals.
fn check_said(text: &[Token<'_>], key: &[Token<'_>]) {
    let (text, key) = (significant(text), significant(key));
    assert_eq!(text.len(), key.len(), "tokens were lost or made");
    for (said, kept) in text.iter().zip(&key) {
        let is_constant = said.kind == Kind::Literal
            || [&b"null"[..], b"true", b"false", b"default"].iter().any(|word| said.text.eq_ignore_ascii_case(word));
        match said.kind {
            _ if is_constant && kept.text == LITERAL => {}
            Kind::Word => assert_eq!((said.text.to_ascii_lowercase(), Kind::Word), (kept.text.to_vec(), kept.kind)),
            kind => assert_eq!((said.text, kind), (kept.text, kept.kind)),
        }
    }
}

/// A key, with some literal in every place, has itself for a key.
fn check_again(tokens: &[Token<'_>]) {
    let parts: Vec<&[u8]> =
        tokens.iter().map(|token| if token.text == LITERAL { b" 1 " } else { token.text }).collect();
    let text = parts.concat();
    let again = key(&text).unwrap_or_else(|| panic!("a key that cannot be read: {}", text.escape_ascii()));
    let again = self::tokens(&again).expect("it was a key");
    let texts = |tokens: &[Token<'_>]| significant(tokens).iter().map(|token| token.text.to_vec()).collect::<Vec<_>>();
    assert_eq!(texts(&again), texts(tokens), "the key of a key is another");
}

/// The same statement with other white space and comments, other literals, and words in other letters.
fn varied(text: &[Token<'_>], number: usize) -> Vec<u8> {
    let names = [&b"set_config"[..], b"current_setting"];
    let literals_matter = text.iter().any(|token| match token.kind {
        Kind::Word => names.iter().any(|name| token.text.eq_ignore_ascii_case(name)),
        Kind::Quoted => token.text[0] != b'"' || names.contains(&&token.text[1..token.text.len() - 1]),
        _ => false,
    });
    let (mut out, mut first_word): (Vec<u8>, Option<Vec<u8>>) = (Vec::new(), None);
    for (at, token) in text.iter().enumerate() {
        match token.kind {
            Kind::Gap if at > 0 && text[at - 1].kind == Kind::Gap => {}
            Kind::Gap => {
                let next = text[at..].iter().find(|token| token.kind != Kind::Gap);
                // With the end of a line between them, two strings are one.
                let joins = out.ends_with(b"'") && next.is_some_and(|next| next.text.starts_with(b"'"));
                let gaps: [&[u8]; 4] = [b" ", b" /* ' /* $$ */ \" */ ", b"\n", b" -- ' /*\r"];
                out.extend_from_slice(gaps[(at + number) % if joins { 2 } else { 4 }]);
            }
            Kind::Word => {
                first_word.get_or_insert_with(|| token.text.to_ascii_lowercase());
                let other = |(place, byte): (usize, &u8)| {
                    if (place + number) % 2 == 0 { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() }
                };
                out.extend(token.text.iter().enumerate().map(other));
            }
            Kind::Literal
                if !literals_matter && first_word.as_ref().is_some_and(|word| REPLACED.contains(&&word[..])) =>
            {
                out.extend(other_literal(token.text, number));
            }
            Kind::Mark if token.text == b";" => {
                first_word = None;
                out.push(b';');
            }
            _ => out.extend_from_slice(token.text),
        }
    }
    out
}

fn other_literal(text: &[u8], number: usize) -> Vec<u8> {
    let content: &[u8] = [&b"x"[..], b"", b"; -- /* \" $$ ''"][number];
    match text {
        [b'$', ..] => [b"$q$", content, b"$q$"].concat(),
        [b'0'..=b'9' | b'.', ..] => {
            // In the same form: what stands before and behind it must not become a part of it.
            let digits = [&b"1"[..], b"1_0", b"100"][number];
            let has = |byte: u8| text.contains(&byte);
            match text {
                [b'0', radix @ (b'x' | b'X' | b'o' | b'O' | b'b' | b'B'), ..] => [b"0", &[*radix][..], digits].concat(),
                [b'.', ..] => [b".", digits].concat(),
                [.., b'.'] => [digits, b"."].concat(),
                _ if has(b'e') || has(b'E') => [b"1.5e", digits].concat(),
                _ if has(b'.') => [b"1.", digits].concat(),
                _ => digits.to_vec(),
            }
        }
        _ => {
            let quote = text.iter().position(|byte| *byte == b'\'').expect("a string");
            [&text[..=quote], content, b"'"].concat()
        }
    }
}

/// What is written into statements here stays one literal, and one statement each.
fn check_written(value: &str) {
    let literal = quoted(value);
    let read = tokens(literal.as_bytes()).expect("what is written can be read");
    assert_eq!(read.iter().map(|token| token.kind).collect::<Vec<_>>(), [Kind::Literal]);
    let inside = literal.strip_prefix("E'").or(literal.strip_prefix('\'')).and_then(|rest| rest.strip_suffix('\''));
    let inside = inside.expect("apostrophes").replace("''", "'");
    let escapes = literal.starts_with('E');
    assert_eq!(if escapes { inside.replace("\\\\", "\\") } else { inside }, value);

    let (mut from, mut to) = (Settings::default(), Settings::default());
    for (at, name) in value.split([',', '\n']).enumerate() {
        let settings = if at % 2 == 0 { &mut from } else { &mut to };
        settings.set(name, &statement_for(&name.to_ascii_lowercase(), value));
    }
    let changes = to.since(&from);
    let ends = tokens(changes.as_bytes()).expect("statements").iter().filter(|token| token.text == b";").count();
    let lost = value
        .split([',', '\n'])
        .map(str::to_ascii_lowercase)
        .filter(|name| from.get(name).is_some() && to.get(name).is_none());
    let lost: std::collections::BTreeSet<_> = lost.collect();
    let who = |name: &&str| from.get(name).is_some() || to.get(name).is_some();
    if !["role", "session_authorization"].iter().any(who) {
        // Those of the same name have the same value.
        let made = to.len() - (from.len() - lost.len());
        assert_eq!(ends, lost.len() + made, "{changes}");
    }
    assert_eq!(to.since(&to.clone()), "");
}
