//! HPACK, the compression of header fields (RFC 7541). Without I/O.

mod decoder;
mod encoder;
pub(crate) mod huffman;
pub(crate) mod static_table;

pub use decoder::Decoder;
pub use encoder::{Encoder, put_status};

/// The dynamic table may take so many bytes on either side until settings say otherwise.
pub const TABLE_BYTES: usize = 4096;
/// What an entry counts beyond its bytes (RFC 7541, section 4.1).
pub const ENTRY_EXTRA: usize = 32;

/// Writes an integer whose first byte shares its upper bits with `kind` (RFC 7541, section 5.1).
fn put_integer(out: &mut Vec<u8>, kind: u8, prefix_bits: u32, value: usize) {
    let most = (1 << prefix_bits) - 1;
    if value < most {
        out.push(kind | value as u8);
        return;
    }
    out.push(kind | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads an integer from the front of `input`, and takes it off. `None`: it is cut off or too large for anything here.
fn take_integer(input: &mut &[u8], prefix_bits: u32) -> Option<usize> {
    let (first, mut rest) = input.split_first()?;
    let most = (1_usize << prefix_bits) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            // Four bytes are more than any length or index can need.
            if shift > 21 {
                return None;
            }
            value += usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                break;
            }
        }
    }
    *input = rest;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_standards_own_integers() {
        // RFC 7541, section C.1.
        for (prefix, value, bytes) in [(5, 10, &[10][..]), (5, 1337, &[31, 154, 10]), (8, 42, &[42])] {
            let mut out = Vec::new();
            put_integer(&mut out, 0, prefix, value);
            assert_eq!(out, bytes);
        }
        assert_eq!(take_integer(&mut &[31, 255, 255, 255, 255, 255, 1][..], 5), None);
        assert_eq!(take_integer(&mut &[31, 128][..], 5), None);
    }

    proptest! {
        #[test]
        fn integers_come_back(value in 0_usize..1 << 20, prefix in 1_u32..8) {
            let mut out = Vec::new();
            put_integer(&mut out, 0, prefix, value);
            out.push(7);
            let mut input = &out[..];
            prop_assert_eq!(take_integer(&mut input, prefix), Some(value));
            prop_assert_eq!(input, &[7][..]);
        }

        /// Whatever fields are sent, with whatever tables, the other side reads the same.
        #[test]
        fn fields_come_back(
            blocks in proptest::collection::vec(
                proptest::collection::vec(("[a-z-]{1,12}", "[ -~]{0,40}"), 0..12), 1..12
            ),
            table in 0_usize..6000,
        ) {
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            encoder.limit(table);
            for fields in blocks {
                let mut block = Vec::new();
                encoder.begin(&mut block);
                put_status(&mut block, 200);
                for (name, value) in &fields {
                    encoder.field(&mut block, name.to_ascii_uppercase().as_bytes(), value.as_bytes());
                }
                let mut seen = Vec::new();
                decoder.decode(&block, |name, value| seen.push((name.to_vec(), value.to_vec()))).unwrap();
                prop_assert_eq!(seen.remove(0), (b":status".to_vec(), b"200".to_vec()));
                let expected: Vec<_> =
                    fields.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect();
                prop_assert_eq!(seen, expected);
            }
        }
    }
}
