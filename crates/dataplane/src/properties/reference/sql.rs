//! SQL's tokens read a second time, from PostgreSQL's documentation (section 4.1) and `scan.l`: one byte after the other.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Word,
    /// `"..."`, and `U&"..."`.
    Quoted,
    /// Strings of all kinds, and numbers.
    Literal,
    Parameter,
    /// One byte of an operator or of punctuation.
    Mark,
    /// White space and comments.
    Gap,
    /// A comment that speaks to the planner.
    Hint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'t> {
    pub kind: Kind,
    pub text: &'t [u8],
}

/// All tokens, which together are the text. Control characters are marks, so that keys can be read too.
pub fn tokens(sql: &[u8]) -> Result<Vec<Token<'_>>, &'static str> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < sql.len() {
        let (kind, length) = first(&sql[at..])?;
        tokens.push(Token { kind, text: &sql[at..at + length] });
        at += length;
    }
    Ok(tokens)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn count(text: &[u8], is: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| is(**byte)).count()
}

fn first(text: &[u8]) -> Result<(Kind, usize), &'static str> {
    let second = text.get(1).copied().unwrap_or(0);
    match text[0] {
        byte if is_space(byte) => Ok((Kind::Gap, count(text, is_space))),
        b'-' if second == b'-' => Ok((Kind::Gap, line(text))),
        b'/' if second == b'*' => {
            let length = comment(text)?;
            let inside = text[2..length].trim_ascii_start().to_ascii_lowercase();
            Ok((if inside.starts_with(b"trimaran:") { Kind::Hint } else { Kind::Gap }, length))
        }
        b'\'' => Ok((Kind::Literal, string(text, false)?)),
        b'"' => Ok((Kind::Quoted, quoted(text)?)),
        b'e' | b'E' if second == b'\'' => Ok((Kind::Literal, 1 + string(&text[1..], true)?)),
        b'b' | b'B' | b'x' | b'X' if second == b'\'' => Ok((Kind::Literal, 1 + string(&text[1..], false)?)),
        b'u' | b'U' if second == b'&' && text.get(2) == Some(&b'\'') => {
            Ok((Kind::Literal, 2 + string(&text[2..], false)?))
        }
        b'u' | b'U' if second == b'&' && text.get(2) == Some(&b'"') => Ok((Kind::Quoted, 2 + quoted(&text[2..])?)),
        byte if begins_word(byte) => Ok((Kind::Word, count(text, continues_word))),
        byte if byte.is_ascii_digit() || byte == b'.' && second.is_ascii_digit() => Ok((Kind::Literal, number(text)?)),
        // Between two integers; a point behind it belongs to what follows.
        b'.' if second == b'.' => Ok((Kind::Mark, 2)),
        b'$' if second.is_ascii_digit() => {
            let length = 1 + count(&text[1..], |byte| byte.is_ascii_digit());
            let is_junk = text.get(length).is_some_and(|byte| begins_word(*byte));
            if is_junk { Err("junk behind a parameter") } else { Ok((Kind::Parameter, length)) }
        }
        b'$' => Ok((Kind::Literal, dollar(text)?)),
        b'{' | b'}' | b'\\' | 0x7f | 0 => Err("a character that SQL does not have"),
        _ => Ok((Kind::Mark, 1)),
    }
}

fn line(text: &[u8]) -> usize {
    count(text, |byte| !matches!(byte, b'\n' | b'\r'))
}

fn comment(text: &[u8]) -> Result<usize, &'static str> {
    let (mut at, mut depth) = (0, 0);
    loop {
        match text.get(at..at + 2).ok_or("a comment without an end")? {
            b"/*" => (at, depth) = (at + 2, depth + 1),
            b"*/" => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

/// From its apostrophe, with what continues it on a later line.
fn string(text: &[u8], has_escapes: bool) -> Result<usize, &'static str> {
    let mut at = 1;
    loop {
        match (text.get(at).ok_or("a string without an end")?, text.get(at + 1)) {
            (b'\\', _) if has_escapes => at += 2,
            (b'\'', Some(b'\'')) => at += 2,
            (b'\'', _) => {
                let gap = continuation(&text[at + 1..]);
                if gap == 0 {
                    return Ok(at + 1);
                }
                at += 1 + gap + 1;
            }
            _ => at += 1,
        }
    }
}

/// The length of white space with the end of a line in it, and of `--` comments, before another apostrophe; or zero.
fn continuation(text: &[u8]) -> usize {
    let (mut at, mut has_ended) = (0, false);
    while let Some(byte) = text.get(at) {
        if is_space(*byte) {
            has_ended |= matches!(byte, b'\n' | b'\r');
            at += 1;
        } else if text[at..].starts_with(b"--") {
            at += line(&text[at..]);
        } else {
            return if *byte == b'\'' && has_ended { at } else { 0 };
        }
    }
    0
}

fn quoted(text: &[u8]) -> Result<usize, &'static str> {
    let mut at = 1;
    loop {
        match (text.get(at).ok_or("a name without an end")?, text.get(at + 1)) {
            (b'"', Some(b'"')) => at += 2,
            (b'"', _) => return Ok(at + 1),
            _ => at += 1,
        }
    }
}

fn dollar(text: &[u8]) -> Result<usize, &'static str> {
    let tag = count(&text[1..], |byte| begins_word(byte) || byte.is_ascii_digit());
    let delimiter = text.get(..tag + 2).filter(|it| it.ends_with(b"$")).ok_or("a dollar sign")?;
    let body = &text[delimiter.len()..];
    let end = body.windows(delimiter.len()).position(|there| there == delimiter).ok_or("a string without an end")?;
    Ok(2 * delimiter.len() + end)
}

/// A number of which the lexer says that nothing that belongs to a word may follow.
fn number(text: &[u8]) -> Result<usize, &'static str> {
    let digits = |text: &[u8], is: fn(u8) -> bool| {
        let mut at = count(text, is);
        while at > 0 && text.get(at) == Some(&b'_') && text.get(at + 1).is_some_and(|byte| is(*byte)) {
            at += 1 + count(&text[at + 1..], is);
        }
        at
    };
    let is_decimal: fn(u8) -> bool = |byte| byte.is_ascii_digit();
    let of_radix: Option<fn(u8) -> bool> = match text {
        [b'0', b'x' | b'X', ..] => Some(|byte| byte.is_ascii_hexdigit()),
        [b'0', b'o' | b'O', ..] => Some(|byte| (b'0'..b'8').contains(&byte)),
        [b'0', b'b' | b'B', ..] => Some(|byte| byte == b'0' || byte == b'1'),
        _ => None,
    };
    let mut at = match of_radix {
        Some(is) => {
            let underscore = usize::from(text.get(2) == Some(&b'_'));
            match digits(&text[2 + underscore..], is) {
                0 => return Err("a radix without digits"),
                more => 2 + underscore + more,
            }
        }
        None => digits(text, is_decimal),
    };
    let mut has_exponent = false;
    if of_radix.is_none() {
        if text.get(at) == Some(&b'.') && text.get(at + 1) != Some(&b'.') {
            at += 1;
            at += digits(&text[at..], is_decimal);
        }
        if matches!(text.get(at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
            match text.get(at + 1 + sign..).map_or(0, |rest| digits(rest, is_decimal)) {
                0 => return Err("junk behind a number"),
                more => at += 1 + sign + more,
            }
            has_exponent = sign == 0;
        }
    }
    let is_junk = |byte: &u8| begins_word(*byte) || (of_radix.is_some() || has_exponent) && continues_word(*byte);
    if text.get(at).is_some_and(is_junk) { Err("junk behind a number") } else { Ok(at) }
}
