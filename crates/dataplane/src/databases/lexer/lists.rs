//! Lists whose length says nothing about a statement: `IN (1, 2, 3)`, `ARRAY[1, 2, 3]`, `VALUES (1, 'a'), (2, 'b')`.
//!
//! An element, or a row of VALUES, that reads like the one before it is taken back, and a mark says that there were more.
//! The mark keeps a list of one apart from longer ones, so that texts with one key differ in no way the grammar can see:
//! it takes such lists by "one more of the same".

/// Stands behind an element or row that was repeated.
const MORE: u8 = 0x02;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// The elements of IN or ARRAY.
    List,
    /// One row of VALUES.
    Row,
}

/// What a bracket holds; the places are those in the key.
#[derive(Clone, Copy)]
struct Bracket {
    kind: Kind,
    /// Where the bracket itself stands.
    open: u32,
    /// Where the element of a list begins that is being read.
    element: u32,
    /// The last element of a list, or the last row of a VALUES in this bracket; empty: none.
    last: (u32, u32),
    /// Behind the last one, and its mark if it has one.
    tail: u32,
}

impl Bracket {
    const OUTSIDE: Bracket = Bracket { kind: Kind::Plain, open: 0, element: 0, last: (0, 0), tail: 0 };
}

/// Deeper brackets are not looked at.
const DEEPEST: usize = 12;

/// The word right before a bracket, where it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Before {
    In,
    Array,
    Values,
    Other,
}

pub struct Lists {
    brackets: [Bracket; DEEPEST],
    depth: usize,
}

impl Lists {
    pub fn new() -> Lists {
        Lists { brackets: [Bracket::OUTSIDE; DEEPEST], depth: 0 }
    }

    fn inner(&mut self) -> Option<&mut Bracket> {
        self.brackets.get_mut(self.depth)
    }

    /// Whether the place is directly in a list or a row, where a word that is a constant is one more literal.
    pub fn holds_elements(&self) -> bool {
        self.brackets.get(self.depth).is_some_and(|bracket| bracket.kind != Kind::Plain)
    }

    /// A bracket was opened; it is the key's last byte.
    pub fn open(&mut self, key: &[u8], before: Before) {
        let open = key.len() - 1;
        let kind = match (before, key[open]) {
            (Before::In, b'(') | (Before::Array, b'[') => Kind::List,
            (Before::Values, b'(') => Kind::Row,
            (_, b'(') if self.inner().is_some_and(|outer| follows_row(outer, &key[..open])) => Kind::Row,
            _ => Kind::Plain,
        };
        if before == Before::Values {
            if let Some(outer) = self.inner() {
                outer.last = (0, 0);
            }
        }
        self.depth += 1;
        if let Some(bracket) = self.inner() {
            *bracket = Bracket { kind, open: open as u32, element: key.len() as u32, ..Bracket::OUTSIDE };
        }
    }

    /// The key is complete up to a comma, which is not yet in it.
    pub fn comma(&mut self, key: &mut Vec<u8>) {
        if let Some(bracket) = self.inner() {
            if bracket.kind == Kind::List {
                let begin = bracket.element;
                take_back(bracket, key, begin);
                // Behind the comma that follows.
                bracket.element = key.len() as u32 + 1;
            }
        }
    }

    /// The key is complete up to a closing bracket, which is not yet in it.
    pub fn before_close(&mut self, key: &mut Vec<u8>) {
        self.comma(key);
    }

    /// The closing bracket is the key's last byte.
    pub fn after_close(&mut self, key: &mut Vec<u8>) {
        let closed = self.brackets.get(self.depth).copied().unwrap_or(Bracket::OUTSIDE);
        self.depth = self.depth.saturating_sub(1);
        if closed.kind == Kind::Row {
            if let Some(outer) = self.inner() {
                take_back(outer, key, closed.open);
            }
        }
    }
}

/// Whether only a comma stands between the last row and the end of the key.
fn follows_row(outer: &Bracket, key: &[u8]) -> bool {
    outer.kind != Kind::List && outer.last.1 > 0 && key.get(outer.tail as usize..) == Some(b",")
}

/// Take the element or row from `begin` to the end of the key back if it reads like the one before.
fn take_back(bracket: &mut Bracket, key: &mut Vec<u8>, begin: u32) {
    let now = key.get(begin as usize..).unwrap_or_default();
    let (from, to) = (bracket.last.0 as usize, bracket.last.1 as usize);
    if to > from && key.get(from..to) == Some(now) {
        let is_marked = bracket.tail as usize > to;
        key.truncate(bracket.tail as usize);
        if !is_marked {
            key.push(MORE);
        }
    } else {
        bracket.last = (begin, begin + now.len() as u32);
    }
    bracket.tail = key.len() as u32;
}
