//! The driver inside `cargo test`: known input, changed at random, for a few seconds a property.
//!
//! It knows nothing of coverage (`make fuzz` does), but it runs everywhere and at every build. `FUZZ_SECONDS` sets the time
//! for each property, `FUZZ_SEED` repeats a run.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{ALL, Property};

const SECONDS: u64 = 3;
const LENGTH_MAX: usize = 4096;

#[derive(Deserialize)]
struct Corpus {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    send: Send,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Send {
    Whole(String),
    Pieces(Vec<String>),
}

/// Known input and words of `name`: the corpus, what follows its heads, and what is kept beside the other fuzzer.
fn known(name: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let told: HashMap<String, Vec<String>> = toml::from_str(&read(&crates.join("fuzz/seeds.toml"))).unwrap();
    let all = |name: &str| told.get(name).into_iter().flatten().map(|text| latin(text)).collect::<Vec<_>>();
    let mut seeds = all(name);
    if !matches!(name, "requests" | "chunks") {
        assert!(!seeds.is_empty(), "no seeds for {name}");
        return (seeds, all("words"));
    }
    for entry in std::fs::read_dir(crates.join("../tests/servers/gateway/corpus")).unwrap() {
        let corpus: Corpus = toml::from_str(&read(&entry.unwrap().path())).unwrap();
        for case in corpus.case {
            let bytes = match case.send {
                Send::Whole(text) => latin(&text),
                Send::Pieces(pieces) => latin(&pieces.concat()),
            };
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                seeds.push(bytes[end + 4..].to_vec());
            }
            seeds.push(bytes);
        }
    }
    assert!(seeds.len() > 200, "the corpus is missing");
    (seeds, all("words"))
}

fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).expect("Latin-1")).take(LENGTH_MAX).collect()
}

struct Chance(Cell<u64>);

impl Chance {
    /// Below `end`, which is above zero.
    fn below(&self, end: usize) -> usize {
        let next = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(next);
        let z = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn of<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn change(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(1 + self.below(40))).min(bytes.len());
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            4 | 5 => drop(bytes.splice(at..at, self.of(words).iter().copied())),
            6 => drop(bytes.splice(at..end, self.of(words).iter().copied())),
            _ => {
                let other = self.of(seeds);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[self.below(other.len() + 1)..]);
            }
        }
        bytes.truncate(LENGTH_MAX);
    }
}

fn run(name: &str) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("FUZZ_SEED").unwrap_or_else(crate::request_id::random);
    let (_, property) = ALL.iter().find(|known| known.0 == name).unwrap();
    let (mut seeds, words) = known(name);
    for seed in &seeds {
        check(name, *property, seed);
    }
    let chance = Chance(Cell::new(seed));
    let deadline = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(SECONDS));
    let mut executions = 0_u64;
    while Instant::now() < deadline {
        for _ in 0..64 {
            let mut bytes = chance.of(&seeds).clone();
            for _ in 0..=chance.below(6) {
                chance.change(&mut bytes, &seeds, &words);
            }
            check(name, *property, &bytes);
            executions += 1;
            // Changes add up: some of what was made is where the next ones start.
            if chance.below(50) == 0 && seeds.len() < 4000 {
                seeds.push(bytes);
            }
        }
    }
    assert!(executions > 0);
    println!("{name}: {executions} executions, seed {seed}");
}

/// Runs the property; what it does not hold for is made as short as possible and told.
fn check(name: &str, property: Property, bytes: &[u8]) {
    let fails = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| property(bytes))).is_err();
    if !fails(bytes) {
        return;
    }
    let told = take_hook();
    set_hook(Box::new(|_| {}));
    let mut shortest = bytes.to_vec();
    let mut size = shortest.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < shortest.len() {
            let end = (at + size).min(shortest.len());
            let shorter = [&shortest[..at], &shortest[end..]].concat();
            if fails(&shorter) {
                shortest = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    set_hook(told);
    println!("{name} does not hold for b\"{}\"", shortest.escape_ascii());
    property(&shortest);
    unreachable!("it failed before");
}

macro_rules! tests {
    ($($property:ident)*) => { $(
        #[test]
        fn $property() {
            run(stringify!($property));
        }
    )* };
}

tests! { requests responses chunks proxy_headers values http2 hpack postgres_startup postgres_messages postgres_answers scram statements }
