//! Header blocks to clients. A field that comes again is one byte or two, by the dynamic table; others are sent as they
//! are.

use std::collections::VecDeque;

use super::static_table::index_of_name;
use super::{ENTRY_EXTRA, TABLE_BYTES, put_integer};

/// Fields of which is remembered that they were sent once.
const SIGHTINGS: usize = 64;
/// Longer names and values are not worth a place in the table.
const NAME_MAX: usize = 64;
const VALUE_MAX: usize = 512;

#[derive(Debug)]
pub struct Encoder {
    /// Newest first, and the hash of each.
    entries: VecDeque<Entry>,
    hashes: VecDeque<u64>,
    bytes: usize,
    bytes_max: usize,
    /// A change of the table's size that the client has to be told.
    resized: bool,
    /// Hashes of fields that were sent. Only what comes a second time goes into the table, or every new value of a
    /// changing field would push out what is of use.
    sightings: [u64; SIGHTINGS],
}

#[derive(Debug)]
struct Entry {
    /// Name and value.
    text: Box<[u8]>,
    name_length: usize,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            hashes: VecDeque::new(),
            bytes: 0,
            bytes_max: TABLE_BYTES,
            resized: false,
            sightings: [0; SIGHTINGS],
        }
    }
}

impl Encoder {
    /// The client's table may take so many bytes.
    pub fn limit(&mut self, bytes: usize) {
        let bytes = bytes.min(TABLE_BYTES);
        if bytes != self.bytes_max {
            self.bytes_max = bytes;
            self.resized = true;
            self.shrink(bytes);
        }
    }

    /// Starts a block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if self.resized {
            self.resized = false;
            // When the limit went down and up again in between, the client may have less than we think: empty it first.
            put_integer(out, 0x20, 5, 0);
            self.shrink(0);
            put_integer(out, 0x20, 5, self.bytes_max);
        }
    }

    /// A field, whose name may be in capitals.
    pub fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        if name.len() > NAME_MAX || value.len() > VALUE_MAX {
            put_literal(out, 0, 4, None, &name.to_ascii_lowercase(), value);
            return;
        }
        let mut small = [0; NAME_MAX];
        let small = &mut small[..name.len()];
        small.copy_from_slice(name);
        small.make_ascii_lowercase();
        let name = &*small;
        match name {
            // What might be a secret is kept out of every table on the way (RFC 7541, section 7.1.3).
            b"set-cookie" => return put_literal(out, 0x10, 4, index_of_name(name), name, value),
            b"content-length" | b"location" | b"etag" | b"age" | b"x-request-id" => {
                return put_literal(out, 0, 4, index_of_name(name), name, value);
            }
            _ => {}
        }
        let hash = hash(name, value);
        let is_it = |entry: &Entry| entry.text.split_at(entry.name_length) == (name, value);
        let found = self.hashes.iter().position(|other| *other == hash);
        if let Some(at) = found.filter(|at| is_it(&self.entries[*at])) {
            put_integer(out, 0x80, 7, 62 + at);
            return;
        }
        let sighting = &mut self.sightings[hash as usize % SIGHTINGS];
        let size = name.len() + value.len() + ENTRY_EXTRA;
        if *sighting != hash || size > self.bytes_max {
            *sighting = hash;
            put_literal(out, 0, 4, index_of_name(name), name, value);
            return;
        }
        put_literal(out, 0x40, 6, index_of_name(name), name, value);
        self.shrink(self.bytes_max - size);
        let text = [name, value].concat().into_boxed_slice();
        self.entries.push_front(Entry { text, name_length: name.len() });
        self.hashes.push_front(hash);
        self.bytes += size;
    }

    fn shrink(&mut self, most: usize) {
        while self.bytes > most {
            self.hashes.pop_back();
            let Some(oldest) = self.entries.pop_back() else { break };
            self.bytes -= oldest.text.len() + ENTRY_EXTRA;
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Encoder {
    /// What the table counts, what its entries count together, and what it may.
    pub fn table(&self) -> (usize, usize, usize) {
        assert_eq!(self.entries.len(), self.hashes.len());
        (self.bytes, self.entries.iter().map(|entry| entry.text.len() + ENTRY_EXTRA).sum(), self.bytes_max)
    }
}

/// The status of a response, three digits.
pub fn put_status(out: &mut Vec<u8>, status: u16) {
    match status {
        200 => out.push(0x88),
        204 => out.push(0x89),
        206 => out.push(0x8a),
        304 => out.push(0x8b),
        400 => out.push(0x8c),
        404 => out.push(0x8d),
        500 => out.push(0x8e),
        _ => {
            let digit = |place: u16| b'0' + (status / place % 10) as u8;
            out.extend_from_slice(&[0x08, 3, digit(100), digit(10), digit(1)]);
        }
    }
}

fn put_literal(out: &mut Vec<u8>, kind: u8, bits: u32, name_index: Option<usize>, name: &[u8], value: &[u8]) {
    put_integer(out, kind, bits, name_index.unwrap_or(0));
    if name_index.is_none() {
        put_integer(out, 0, 7, name.len());
        out.extend_from_slice(name);
    }
    put_integer(out, 0, 7, value.len());
    out.extend_from_slice(value);
}

/// Mixes eight bytes at a time; equality is checked by the bytes themselves.
fn hash(name: &[u8], value: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = name.len() as u64;
    for part in [name, value] {
        for chunk in part.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR).rotate_left(29);
        }
    }
    // Zero stands for a field never seen.
    hash | 1 << 63
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encoder: &mut Encoder, name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.field(&mut out, name, value);
        out
    }

    #[test]
    fn what_comes_again_gets_short() {
        let mut encoder = Encoder::default();
        assert_eq!(encoded(&mut encoder, b"Server", b"x"), b"\x0f\x27\x01x");
        assert_eq!(encoded(&mut encoder, b"server", b"x"), b"\x76\x01x");
        assert_eq!(encoded(&mut encoder, b"SERVER", b"x"), b"\xbe");
        assert_eq!(encoded(&mut encoder, b"server", b"y"), b"\x0f\x27\x01y");
    }

    #[test]
    fn secrets_and_changing_values_stay_out() {
        let mut encoder = Encoder::default();
        for _ in 0..3 {
            assert_eq!(encoded(&mut encoder, b"Set-Cookie", b"a=1")[0] & 0xf0, 0x10);
            assert_eq!(encoded(&mut encoder, b"content-length", b"7")[0] & 0xf0, 0);
        }
        assert!(encoder.entries.is_empty());
    }

    #[test]
    fn a_smaller_table_is_announced() {
        let mut encoder = Encoder::default();
        encoder.limit(0);
        assert_eq!(encoded(&mut encoder, b"a", b"1"), b"\x20\x20\0\x01a\x011");
        assert_eq!(encoded(&mut encoder, b"a", b"1"), b"\0\x01a\x011");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut encoder = Encoder::default();
        for number in 0..500 {
            for _ in 0..2 {
                encoded(&mut encoder, b"x-number", number.to_string().as_bytes());
            }
        }
        assert!(encoder.bytes <= TABLE_BYTES && encoder.entries.len() == encoder.hashes.len());
    }
}
