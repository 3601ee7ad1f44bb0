//! The same key to the same server: rendezvous hashing by weight, with bounded load (Mirrokni et al., 2016).
//!
//! Every server has a score for a key, and the highest wins; when a server leaves, only its own keys move. A server that
//! already has its bounded share of all requests in flight is passed over for the key's next best, so one popular key
//! cannot drown a server.

use super::{Chance, Load, Policy, Signal};

pub(super) struct Hash {
    bound: f64,
}

impl Hash {
    /// A bound below 1 could refuse every server, so it counts as 1.
    pub(super) fn new(bound: f64) -> Self {
        Self { bound: bound.max(1.0) }
    }
}

impl Policy for Hash {
    fn signal(&self) -> Signal {
        Signal::None
    }

    fn needs_key(&self) -> bool {
        true
    }

    /// A request without a key gets a random one: by weight, and within the same bounds.
    fn pick(&self, candidates: &[Load], key: Option<u64>, chance: &mut Chance) -> usize {
        if candidates.len() < 2 {
            return 0;
        }
        let key = key.unwrap_or_else(|| mix(chance.unit().to_bits()));
        let requests = 1.0 + candidates.iter().map(|load| f64::from(load.in_flight)).sum::<f64>();
        let weights: f64 = candidates.iter().map(Load::sane_weight).sum();
        let has_room =
            |load: &Load| f64::from(load.in_flight) < (self.bound * requests * load.sane_weight() / weights).ceil();
        let (mut chosen, mut best) = (0, (false, f64::NEG_INFINITY));
        for (at, load) in candidates.iter().enumerate() {
            let rank = (has_room(load), score(key, load));
            if rank > best {
                (chosen, best) = (at, rank);
            }
        }
        chosen
    }
}

/// The weighted rendezvous score: with u even in 0 to 1, -weight / ln(u) is highest with a chance of weight / total.
fn score(key: u64, load: &Load) -> f64 {
    // 52 bits and a half: an f64 holds it exactly, so neither 0 nor 1 comes out.
    let even = ((mix(key ^ load.identity) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    -load.sane_weight() / even.ln()
}

/// A hash of some bytes that is the same in every process and release, and has no secret.
///
/// Who can choose keys can choose them for one server; the bound of the policy limits what that does.
pub fn hash_key(bytes: &[u8]) -> u64 {
    let mut hash = mix(bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word)).wrapping_add(hash.rotate_left(23));
    }
    mix(hash)
}

/// Spreads every bit over all (the finaliser of splitmix64).
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
