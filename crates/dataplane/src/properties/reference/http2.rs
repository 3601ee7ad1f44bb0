//! What a client says in HTTP/2 (RFC 9113), read a second time, with all of it at hand and without any limit.

use std::collections::BTreeMap;

use super::hpack::{Decoder, Field};

/// A frame's kind, flags and stream, and its payload.
pub type Frame = (u8, u8, u32, Vec<u8>);

/// One stream of a client.
#[derive(Debug, Default)]
pub struct Told {
    pub fields: Vec<Field>,
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
    /// The header block that began it ended it too.
    pub is_bodiless: bool,
    pub has_ended: bool,
    /// By how much its window was widened.
    pub widened: u64,
}

#[derive(Debug)]
pub struct Client {
    pub streams: BTreeMap<u32, Told>,
    /// Its largest initial window.
    pub window: u64,
    /// By how much the connection's window was widened.
    pub widened: u64,
}

/// All whole frames, and what is left.
pub fn frames(mut bytes: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, s0, s1, s2, s3, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        frames.push((*kind, *flags, u32::from_be_bytes([s0 & 0x7f, *s1, *s2, *s3]), payload.to_vec()));
        bytes = rest;
    }
    (frames, bytes)
}

impl Client {
    pub fn read(bytes: &[u8]) -> Self {
        let mut client = Self { streams: BTreeMap::new(), window: 65_535, widened: 0 };
        let (mut decoder, mut block, mut begun_with) = (Decoder::new(4096), Vec::new(), 0);
        let (mut frames, rest) = frames(bytes);
        if let [_, _, _, 0, flags, s0, s1, s2, s3, data @ ..] = rest {
            // Data counts before its frame is complete; of padding nothing is known.
            if flags & 8 == 0 {
                frames.push((0, 0, u32::from_be_bytes([s0 & 0x7f, *s1, *s2, *s3]), data.to_vec()));
            }
        }
        for (kind, flags, stream, payload) in frames {
            let number = payload.iter().take(4).fold(0, |sum, byte| sum << 8 | u64::from(*byte)) & 0x7fff_ffff;
            match kind {
                0 => {
                    let told = client.streams.entry(stream).or_default();
                    // What comes behind its end is a mistake, which resets it.
                    if !told.has_ended {
                        told.body.extend_from_slice(unpadded(&payload, flags));
                        told.has_ended = flags & 1 != 0;
                    }
                }
                1 | 9 => {
                    if kind == 1 {
                        begun_with = flags;
                        let priority = if flags & 0x20 == 0 { 0 } else { 5 };
                        block = unpadded(&payload, flags).get(priority..).unwrap_or_default().to_vec();
                    } else {
                        block.extend_from_slice(&payload);
                    }
                    if flags & 4 == 0 {
                        continue;
                    }
                    let Ok(fields) = decoder.decode(&block) else { break };
                    let ends = begun_with & 1 != 0;
                    let told =
                        client.streams.entry(stream).or_insert_with(|| Told { is_bodiless: ends, ..Told::default() });
                    if told.fields.is_empty() {
                        told.fields = fields;
                    } else if !told.has_ended {
                        told.trailers = fields;
                    }
                    told.has_ended |= ends;
                }
                4 if flags & 1 == 0 => {
                    for one in payload.chunks_exact(6).filter(|one| one[..2] == [0, 4]) {
                        let value = one[2..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                        client.window = client.window.max(value);
                    }
                }
                8 if stream == 0 => client.widened += number,
                8 => client.streams.entry(stream).or_default().widened += number,
                _ => {}
            }
        }
        client
    }
}

fn unpadded(payload: &[u8], flags: u8) -> &[u8] {
    match payload {
        [padding, rest @ ..] if flags & 8 != 0 => {
            rest.get(..rest.len().saturating_sub(usize::from(*padding))).unwrap_or_default()
        }
        _ if flags & 8 != 0 => &[],
        _ => payload,
    }
}
