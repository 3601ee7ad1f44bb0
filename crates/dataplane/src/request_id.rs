//! An id for each request, for logs on both sides of the gateway.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Longest id that is taken over from a trusted proxy.
const LENGTH_MAX: usize = 64;

/// 32 hexadecimal digits of our own, or what a trusted proxy sent.
#[derive(Debug, Clone)]
pub struct RequestId {
    text: [u8; LENGTH_MAX],
    length: u8,
}

thread_local! {
    /// State of a SplitMix64 generator, seeded by the operating system through `RandomState`. Ids are unique, not secret.
    static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish());
}

/// The next number of this thread's generator.
pub fn random() -> u64 {
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mut z = next;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

impl RequestId {
    pub fn fresh() -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; LENGTH_MAX];
        for half in 0..2 {
            let number = random();
            for at in 0..16 {
                text[half * 16 + at] = DIGITS[(number >> (60 - 4 * at) & 15) as usize];
            }
        }
        Self { text, length: 32 }
    }

    /// An id that came with the request, when it is short and plain.
    pub fn accept(value: &[u8]) -> Option<Self> {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=');
        if value.is_empty() || value.len() > LENGTH_MAX || !value.iter().all(plain) {
            return None;
        }
        let mut text = [0; LENGTH_MAX];
        text[..value.len()].copy_from_slice(value);
        Some(Self { text, length: value.len() as u8 })
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.length)]).unwrap_or("")
    }
}
