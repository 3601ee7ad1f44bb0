//! The Huffman code of HPACK (RFC 7541, section 5.2 and appendix B), read only: what we send is kept short by the tables.

/// Bits of the code of each byte, and of the end of a string. The code is canonical: codes of a length follow each other
/// in the order of their symbols, so that the lengths say it all.
pub const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];
const LONGEST: usize = 30;
/// Codes up to this length are looked up in one step; they cover what text is made of.
const DIRECT: u32 = 8;

/// Codes of one length.
#[derive(Clone, Copy)]
struct Class {
    /// The first code that is longer, aligned to the left of 32 bits.
    limit: u64,
    /// The first code of this length, aligned to the right.
    first: u32,
    /// Where its symbol is in `SYMBOLS`.
    at: u16,
}

const SYMBOLS: [u16; 257] = symbols();
const CLASSES: [Class; LONGEST + 1] = classes();
/// Symbol and length by the first eight bits; length 0 when the code is longer.
const FIRST_BYTE: [(u8, u8); 256] = first_byte();

/// Symbols in the order of their codes.
const fn symbols() -> [u16; 257] {
    let mut sorted = [0; 257];
    let (mut count, mut length) = (0, 1);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                sorted[count] = symbol as u16;
                count += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    sorted
}

const fn classes() -> [Class; LONGEST + 1] {
    let mut classes = [Class { limit: 0, first: 0, at: 0 }; LONGEST + 1];
    let (mut code, mut at, mut length) = (0_u32, 0, 1);
    while length <= LONGEST {
        let mut count = 0;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                count += 1;
            }
            symbol += 1;
        }
        classes[length] = Class { limit: ((code + count) as u64) << (32 - length), first: code, at };
        at += count as u16;
        code = (code + count) << 1;
        length += 1;
    }
    classes
}

const fn first_byte() -> [(u8, u8); 256] {
    let mut table = [(0, 0); 256];
    let mut bits = 0;
    while bits < 256 {
        let mut length = 1;
        while length <= DIRECT as usize {
            let class = CLASSES[length];
            if ((bits as u64) << 24) < class.limit {
                let code = (bits >> (8 - length)) as u32;
                table[bits] = (SYMBOLS[class.at as usize + (code - class.first) as usize] as u8, length as u8);
                break;
            }
            length += 1;
        }
        bits += 1;
    }
    table
}

/// The string is not one that the code can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Appends the decoded string to `out`.
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    // No code is shorter than five bits.
    out.reserve(coded.len() * 8 / 5);
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut rest = coded.iter();
    loop {
        while count <= 32 {
            let Some(byte) = rest.next() else { break };
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        if count == 0 {
            return Ok(());
        }
        let (symbol, length) = FIRST_BYTE[(bits >> 56) as usize];
        if length > 0 && u32::from(length) <= count {
            out.push(symbol);
            bits <<= length;
            count -= u32::from(length);
            continue;
        }
        // The end is filled up with ones, fewer than a byte.
        if count < 8 && (bits >> (64 - count)) == (1 << count) - 1 {
            return Ok(());
        }
        // A short code that was found above is cut off.
        let (symbol, length) = if length == 0 { long(bits >> 32) } else { None }
            .filter(|(_, length)| *length <= count)
            .ok_or(Malformed)?;
        out.push(symbol);
        bits <<= length;
        count -= length;
    }
}

/// The symbol whose code is at the left of 32 bits, by trying one length after the other.
fn long(bits: u64) -> Option<(u8, u32)> {
    for (length, class) in CLASSES.iter().enumerate().skip(DIRECT as usize + 1) {
        if bits < class.limit {
            let code = (bits >> (32 - length)) as u32;
            let symbol = SYMBOLS[usize::from(class.at) + (code - class.first) as usize];
            // The end of a string never stands in it.
            return u8::try_from(symbol).ok().map(|symbol| (symbol, length as u32));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &[u8]) -> Vec<u8> {
        let (mut out, mut bits, mut count) = (Vec::new(), 0_u64, 0);
        let mut put = |code: u32, length: usize| {
            bits = bits << length | u64::from(code);
            count += length;
            while count >= 8 {
                count -= 8;
                out.push((bits >> count) as u8);
            }
        };
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let class = CLASSES[length];
            let place = SYMBOLS.iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
            put(class.first + (place - usize::from(class.at)) as u32, length);
        }
        let fill = (8 - text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum::<usize>() % 8) % 8;
        put((1 << fill) - 1, fill);
        out
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    #[test]
    fn the_standards_own_examples() {
        // RFC 7541, sections C.4.1 and C.6.1.
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&host).unwrap(), b"www.example.com");
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82,
            0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(decoded(&date).unwrap(), b"Mon, 21 Oct 2013 20:13:21 GMT");
        assert_eq!(decoded(b"").unwrap(), b"");
    }

    #[test]
    fn malformed() {
        // A whole byte of filling, filling that is not ones, and the code for the end.
        for bad in [&[0xff][..], &[0x1f, 0xff], &[0x00], &[0x18], &[0xff, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xfc]]
        {
            assert_eq!(decoded(bad), Err(Malformed), "{bad:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encode(&text)), Ok(text));
        }

        #[test]
        fn nothing_panics(coded in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decoded(&coded);
        }
    }
}
