//! HPACK read a second time, from RFC 7541 and slowly: Huffman codes bit by bit, integers without a limit of their own.
//!
//! Of what it checks it shares the two tables of the appendices, and nothing else.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::servers::http2::hpack::huffman::LENGTHS;
use crate::servers::http2::hpack::static_table::FIELDS;

pub type Field = (Vec<u8>, Vec<u8>);

/// A code, aligned to the right, and how many bits it has.
type Bits = (u32, u32);

/// The code of every symbol: those of one length follow each other, and a longer one continues where they ended.
fn codes() -> &'static [Bits; 257] {
    static CODES: OnceLock<[Bits; 257]> = OnceLock::new();
    CODES.get_or_init(|| {
        let (mut codes, mut next) = ([(0, 0); 257], 0);
        for length in 1..=30 {
            next <<= 1;
            for (symbol, code) in codes.iter_mut().enumerate().filter(|(at, _)| u32::from(LENGTHS[*at]) == length) {
                *code = (next, length);
                assert!(next < 1 << length, "no code is left for {symbol}");
                next += 1;
            }
        }
        // The longest code of all is that of the end, and is made of ones (section 5.2).
        assert_eq!(codes[256], ((1 << 30) - 1, 30));
        codes
    })
}

pub fn huffman(text: &[u8]) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    for byte in text {
        let (code, length) = codes()[usize::from(*byte)];
        bits.extend((0..length).rev().map(|place| code >> place & 1 == 1));
    }
    bits.resize(bits.len().next_multiple_of(8), true);
    bits.chunks(8).map(|eight| eight.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}

pub fn from_huffman(coded: &[u8]) -> Result<Vec<u8>, String> {
    static SYMBOLS: OnceLock<HashMap<Bits, usize>> = OnceLock::new();
    let symbols = SYMBOLS.get_or_init(|| codes().iter().enumerate().map(|(symbol, code)| (*code, symbol)).collect());
    let (mut text, mut code, mut length) = (Vec::new(), 0, 0);
    for place in 0..coded.len() * 8 {
        code = code << 1 | u32::from(coded[place / 8] >> (7 - place % 8) & 1);
        length += 1;
        match symbols.get(&(code, length)) {
            Some(256) => return Err("the end of a string in it".into()),
            Some(symbol) => {
                text.push(*symbol as u8);
                (code, length) = (0, 0);
            }
            None => {}
        }
    }
    if length < 8 && code == (1 << length) - 1 { Ok(text) } else { Err("wrong filling".into()) }
}

/// A decoder whose table may take `allowed` bytes at most.
pub struct Decoder {
    allowed: usize,
    size_max: usize,
    /// Newest first.
    table: Vec<Field>,
}

impl Decoder {
    pub fn new(allowed: usize) -> Self {
        Self { allowed, size_max: allowed, table: Vec::new() }
    }

    pub fn decode(&mut self, mut block: &[u8]) -> Result<Vec<Field>, String> {
        let mut fields = Vec::new();
        while let Some(first) = block.first() {
            match first {
                0x80.. => {
                    let index = integer(&mut block, 7)?;
                    fields.push(self.at(index)?);
                }
                0x20..0x40 => {
                    let size = integer(&mut block, 5)?;
                    if !fields.is_empty() {
                        return Err("a new size behind a field".into());
                    }
                    self.size_max = usize::try_from(size).ok().filter(|size| *size <= self.allowed).ok_or("size")?;
                    self.evict();
                }
                _ => {
                    let is_kept = first & 0x40 != 0;
                    let name = match integer(&mut block, if is_kept { 6 } else { 4 })? {
                        0 => string(&mut block)?,
                        index => self.at(index)?.0,
                    };
                    let field = (name, string(&mut block)?);
                    if is_kept {
                        self.table.insert(0, field.clone());
                        self.evict();
                    }
                    fields.push(field);
                }
            }
        }
        Ok(fields)
    }

    fn at(&self, index: u128) -> Result<Field, String> {
        let index = usize::try_from(index).map_err(|_| "an endless index")?;
        let known = FIELDS.iter().map(|(name, value)| (name.to_vec(), value.to_vec()));
        known.chain(self.table.iter().cloned()).nth(index.checked_sub(1).ok_or("index 0")?).ok_or("index".into())
    }

    fn evict(&mut self) {
        let size = |table: &[Field]| table.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>();
        while size(&self.table) > self.size_max {
            self.table.pop();
        }
    }
}

fn integer(block: &mut &[u8], prefix: u32) -> Result<u128, String> {
    let mut bytes = block.iter();
    let most = (1 << prefix) - 1;
    let mut value = u128::from(*bytes.next().ok_or("cut off")? & most);
    if value == u128::from(most) {
        for place in 0.. {
            let byte = bytes.next().ok_or("cut off")?;
            let part = u128::from(byte & 127).checked_shl(7 * place).filter(|_| place < 16).ok_or("endless integer")?;
            value += part;
            if byte & 128 == 0 {
                break;
            }
        }
    }
    *block = bytes.as_slice();
    Ok(value)
}

fn string(block: &mut &[u8]) -> Result<Vec<u8>, String> {
    let is_coded = block.first().ok_or("cut off")? & 128 != 0;
    let length = usize::try_from(integer(block, 7)?).map_err(|_| "endless string")?;
    let text = block.get(..length).ok_or("cut off")?;
    *block = &block[length..];
    if is_coded { from_huffman(text) } else { Ok(text.to_vec()) }
}
