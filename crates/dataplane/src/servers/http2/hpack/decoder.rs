//! Header blocks from clients.

use std::collections::VecDeque;

use super::static_table::FIELDS;
use super::{ENTRY_EXTRA, TABLE_BYTES, huffman, take_integer};

/// The block cannot be read, and with it nothing that follows on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

#[derive(Debug)]
pub struct Decoder {
    /// Newest first.
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    /// Where strings are put together that do not stand in the block as they are.
    name: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    /// Name and value.
    text: Box<[u8]>,
    name_length: usize,
}

impl Entry {
    fn size(&self) -> usize {
        self.text.len() + ENTRY_EXTRA
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES, name: Vec::new(), value: Vec::new() }
    }
}

impl Decoder {
    /// Reads a complete block and hands every field on. After an error the table is of no use any more.
    pub fn decode(&mut self, mut block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), Malformed> {
        let mut may_resize = true;
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let index = take_integer(&mut block, 7).ok_or(Malformed)?;
                let (name, value) = self.at(index)?;
                field(name, value);
            } else if first & 0x40 != 0 {
                self.literal(&mut block, 6)?;
                field(&self.name, &self.value);
                self.insert();
            } else if first & 0x20 != 0 {
                // Only at the start of a block (RFC 7541, section 4.2).
                let size = take_integer(&mut block, 5).filter(|size| may_resize && *size <= TABLE_BYTES);
                self.bytes_max = size.ok_or(Malformed)?;
                self.shrink(self.bytes_max);
                continue;
            } else {
                self.literal(&mut block, 4)?;
                field(&self.name, &self.value);
            }
            may_resize = false;
        }
        Ok(())
    }

    fn at(&self, index: usize) -> Result<(&[u8], &[u8]), Malformed> {
        match index {
            0 => Err(Malformed),
            1..=61 => Ok(FIELDS[index - 1]),
            _ => {
                let entry = self.entries.get(index - 62).ok_or(Malformed)?;
                Ok(entry.text.split_at(entry.name_length))
            }
        }
    }

    /// Takes a literal field off `block` into `name` and `value`.
    fn literal(&mut self, block: &mut &[u8], index_bits: u32) -> Result<(), Malformed> {
        let index = take_integer(block, index_bits).ok_or(Malformed)?;
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        if index == 0 {
            take_string(block, &mut name)?;
        } else {
            name.extend_from_slice(self.at(index)?.0);
        }
        self.name = name;
        self.value.clear();
        take_string(block, &mut self.value)
    }

    fn insert(&mut self) {
        let size = self.name.len() + self.value.len() + ENTRY_EXTRA;
        self.shrink(self.bytes_max.saturating_sub(size));
        // An entry that does not fit empties the table, which is no error (RFC 7541, section 4.4).
        if size <= self.bytes_max {
            let text = [&self.name[..], &self.value].concat().into_boxed_slice();
            self.entries.push_front(Entry { text, name_length: self.name.len() });
            self.bytes += size;
        }
    }

    fn shrink(&mut self, most: usize) {
        while self.bytes > most {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.bytes -= oldest.size();
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Decoder {
    /// What the table counts, what its entries count together, and what it may.
    pub fn table(&self) -> (usize, usize, usize) {
        (self.bytes, self.entries.iter().map(Entry::size).sum(), self.bytes_max)
    }
}

fn take_string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let is_coded = block.first().ok_or(Malformed)? & 0x80 != 0;
    let length = take_integer(block, 7).ok_or(Malformed)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    if is_coded {
        huffman::decode(text, out).map_err(|_| Malformed)
    } else {
        out.extend_from_slice(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut seen = Vec::new();
        decoder.decode(block, |name, value| {
            seen.push(format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
        })?;
        Ok(seen)
    }

    #[test]
    fn the_standards_own_requests() {
        // RFC 7541, section C.4.
        let mut decoder = Decoder::default();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let line = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
        assert_eq!(decode(&mut decoder, first).unwrap(), line);
        assert_eq!(decoder.bytes, 57);
        let seen = decode(&mut decoder, b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf").unwrap();
        assert_eq!(seen[3..], [":authority: www.example.com", "cache-control: no-cache"]);
        let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
        let seen = decode(&mut decoder, third).unwrap();
        assert_eq!(
            seen[1..],
            [":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"]
        );
        assert_eq!(decoder.bytes, 164);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut decoder = Decoder::default();
        for number in 0..200_u8 {
            let block = [&[0x40, 1, b'a', 30][..], &[number; 30]].concat();
            decode(&mut decoder, &block).unwrap();
        }
        assert_eq!(decoder.entries.len(), TABLE_BYTES / 63);
        // A size update to nothing empties it, and one above the setting is refused.
        decode(&mut decoder, b"\x20").unwrap();
        assert_eq!((decoder.entries.len(), decoder.bytes), (0, 0));
        assert_eq!(decode(&mut decoder, b"\x3f\xe2\x1f"), Err(Malformed));
        assert_eq!(decode(&mut decoder, b"\x82\x20"), Err(Malformed));
    }

    #[test]
    fn malformed() {
        for bad in [&b"\x80"[..], b"\xbe", b"\x40\x05xx", b"\x40", b"\x40\x01a", b"\xff\xff\xff\xff\xff\xff"] {
            assert_eq!(decode(&mut Decoder::default(), bad), Err(Malformed), "{bad:x?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8)) {
            let mut decoder = Decoder::default();
            for block in blocks {
                if decode(&mut decoder, &block).is_err() {
                    break;
                }
                prop_assert!(decoder.bytes <= TABLE_BYTES);
            }
        }
    }
}
