//! The plans that a thread has used lately. Most statements find theirs here, without a lock that other threads take too.

use std::cell::RefCell;
use std::sync::Arc;

use super::plan::Entry;

/// Places of a thread, a power of two; a key has one.
const PLACES: usize = 256;
/// Longer keys are looked up where all are.
const KEY_MAX: usize = 1024;

/// Of which group's plans, and when. What was found in an earlier generation is looked up anew, so that the cache of all
/// threads knows what is still used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    pub plans: u64,
    pub number: u64,
}

struct Place {
    generation: Generation,
    key: Box<[u8]>,
    entry: Arc<Entry>,
}

thread_local! {
    static RECENT: RefCell<Vec<Option<Place>>> = const { RefCell::new(Vec::new()) };
}

/// What `remember` was told of `key` on this thread, unless another key has taken its place since.
pub fn find(generation: Generation, key: &[u8]) -> Option<Arc<Entry>> {
    if key.len() > KEY_MAX {
        return None;
    }
    RECENT.with_borrow(|places| {
        let place = places.get(place_of(key))?.as_ref()?;
        (place.generation == generation && *place.key == *key).then(|| Arc::clone(&place.entry))
    })
}

pub fn remember(generation: Generation, key: &[u8], entry: &Arc<Entry>) {
    if key.len() > KEY_MAX {
        return;
    }
    RECENT.with_borrow_mut(|places| {
        if places.is_empty() {
            places.resize_with(PLACES, || None);
        }
        places[place_of(key)] = Some(Place { generation, key: key.into(), entry: Arc::clone(entry) });
    });
}

/// Quick, and good enough to spread: whoever makes keys meet only has his own statements looked up with a lock.
fn place_of(key: &[u8]) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let mut words = key.chunks_exact(8);
    let hash = words.by_ref().filter_map(|word| word.try_into().ok()).map(u64::from_le_bytes).fold(FACTOR, mix);
    let last = words.remainder().iter().fold(key.len() as u64, |last, byte| last << 8 | u64::from(*byte));
    mix(hash, last) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::databases::plan::{Place, Plans, Queue};

    #[test]
    fn a_key_is_found_only_as_it_was_remembered() {
        let plans = Plans::new(Place { group: String::new(), database: String::new() }, Arc::new(Queue::default()));
        let entry = plans.entry(b"key", b"key");
        let generation = Generation { plans: u64::MAX, number: 1 };
        assert!(find(generation, b"key").is_none());
        remember(generation, b"key", &entry);
        assert!(find(generation, b"key").is_some_and(|found| Arc::ptr_eq(&found, &entry)));
        assert!(find(Generation { number: 2, ..generation }, b"key").is_none());
        assert!(find(Generation { plans: 0, ..generation }, b"key").is_none());
        assert!(find(generation, b"kez").is_none());
    }

    #[test]
    fn keys_are_spread_over_the_places() {
        let keys = (0..1000).map(|number| format!("select a from b where c{number} = \x01").into_bytes());
        let used: std::collections::HashSet<_> = keys.map(|key| place_of(&key)).collect();
        assert!(used.len() > PLACES * 9 / 10, "{}", used.len());
    }
}
