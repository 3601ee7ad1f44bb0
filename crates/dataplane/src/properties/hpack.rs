//! HPACK: what is read is what a second decoder reads, within the table's limits; and what we write is read as it was meant.

use super::reference::hpack::{self as reference, Field};
use crate::servers::http2::hpack::{Decoder, Encoder, TABLE_BYTES, huffman, put_status};

pub fn hold(data: &[u8]) {
    check_huffman(data);
    let (mut ours, mut theirs) = (Decoder::default(), reference::Decoder::new(TABLE_BYTES));
    let (mut encoder, mut client, mut strict) =
        (Encoder::default(), Decoder::default(), reference::Decoder::new(TABLE_BYTES));
    let mut rest = data;
    // Header blocks, each with its length before it.
    while let [length, behind @ ..] = rest {
        let (block, later) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = later;
        let read = decode(&mut ours, block);
        let reference = theirs.decode(block);
        let fields = match (read, reference) {
            (Some(fields), Ok(theirs)) => {
                assert_eq!(fields, theirs);
                fields
            }
            (Some(_), Err(why)) => panic!("accepted in spite of {why}"),
            // Integers that are longer than any use of them are refused; and nothing of the connection is used any more.
            (None, _) => return,
        };
        check_table(ours.table());
        // What a server says goes the other way, through tables that the client may change in between.
        if length % 3 == 0 {
            encoder.limit(usize::from(*length) * 32);
        }
        let mut out = Vec::new();
        encoder.begin(&mut out);
        put_status(&mut out, 100 + u16::from(*length));
        for (name, value) in &fields {
            encoder.field(&mut out, name, value);
        }
        check_table(encoder.table());
        let status = (b":status".to_vec(), (100 + u16::from(*length)).to_string().into_bytes());
        let lower = fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let sent: Vec<Field> = std::iter::once(status).chain(lower).collect();
        assert_eq!(decode(&mut client, &out).as_ref(), Some(&sent));
        assert_eq!(strict.decode(&out), Ok(sent));
    }
}

fn check_huffman(data: &[u8]) {
    let mut text = Vec::new();
    let decoded = huffman::decode(data, &mut text).map(|()| text);
    assert_eq!(decoded.as_ref().ok(), reference::from_huffman(data).as_ref().ok());
    if let Ok(text) = decoded {
        assert_eq!(reference::huffman(&text), data, "one text, two codes");
    }
    let mut again = Vec::new();
    assert_eq!(huffman::decode(&reference::huffman(data), &mut again), Ok(()));
    assert_eq!(again, data);
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let read = decoder.decode(block, |name, value| fields.push((name.to_vec(), value.to_vec())));
    read.is_ok().then_some(fields)
}

fn check_table((counted, entries, most): (usize, usize, usize)) {
    assert_eq!(counted, entries, "the table does not know its size");
    assert!(counted <= most && most <= TABLE_BYTES, "the table is too large");
}
