//! Counters that only grow, one set per thread, summed when somebody asks.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::servers::http::refusal::CAUSES;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Tells the calling thread which set of counters is its own.
pub fn use_shard(index: usize) {
    SHARD.set(index);
}

pub fn shard() -> usize {
    SHARD.get()
}

/// One value per thread, far enough apart that threads do not share cache lines.
#[derive(Debug)]
pub struct Sharded<T> {
    shards: Box<[Shard<T>]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard<T>(T);

impl<T: Default> Sharded<T> {
    pub fn new(threads: usize) -> Self {
        Self { shards: (0..threads.max(1)).map(|_| Shard::default()).collect() }
    }

    /// The calling thread's own value.
    pub fn mine(&self) -> &T {
        &self.shards[shard() % self.shards.len()].0
    }

    pub fn sum(&self, value: impl Fn(&T) -> u64) -> u64 {
        self.shards.iter().map(|shard| value(&shard.0)).sum()
    }

    pub fn each(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().map(|shard| &shard.0)
    }
}

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the gateway counts on the client side.
#[derive(Debug, Default)]
pub struct Traffic {
    pub connections_total: Counter,
    pub requests: Counter,
    /// By class, 1xx to 5xx.
    pub responses: [Counter; 5],
    /// By `CAUSES`.
    pub refused: [Counter; CAUSES.len()],
    pub bytes_in: Counter,
    pub bytes_out: Counter,
}

impl Traffic {
    pub fn answered(&self, status: u16) {
        if let Some(class) = self.responses.get(usize::from(status / 100).wrapping_sub(1)) {
            class.add(1);
        }
    }
}

/// What a pool counts.
#[derive(Debug, Default)]
pub struct PoolCounters {
    pub arrivals: Counter,
    pub completed: Counter,
    pub service_us: Counter,
    pub queued: Counter,
    pub queue_wait_us: Counter,
    pub rejected: Counter,
    pub retries: Counter,
    pub latency: Latency,
}

/// Sub-buckets per power of two: quantiles are right within one part in eight.
const STEPS: usize = 8;
/// Up to 2^32 microseconds, more than an hour.
const BUCKETS: usize = 32 * STEPS;
const WINDOWS: usize = 4;

/// Times of the last minute or so: a window of a quarter of that is filled while three older ones are kept.
#[derive(Debug)]
pub struct Latency {
    windows: [Box<[AtomicU32]>; WINDOWS],
    current: AtomicUsize,
}

impl Default for Latency {
    fn default() -> Self {
        let window = || (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        Self { windows: [window(), window(), window(), window()], current: AtomicUsize::new(0) }
    }
}

impl Latency {
    pub fn record(&self, us: u64) {
        let window = &self.windows[self.current.load(Ordering::Relaxed) % WINDOWS];
        window[bucket(us)].fetch_add(1, Ordering::Relaxed);
    }

    /// Begins a new window in place of the oldest. Called every quarter of a minute.
    pub fn rotate(&self) {
        let next = (self.current.load(Ordering::Relaxed) + 1) % WINDOWS;
        for count in &self.windows[next] {
            count.store(0, Ordering::Relaxed);
        }
        self.current.store(next, Ordering::Relaxed);
    }

    fn add_to(&self, counts: &mut [u64; BUCKETS]) {
        for window in &self.windows {
            for (count, cell) in counts.iter_mut().zip(window) {
                *count += u64::from(cell.load(Ordering::Relaxed));
            }
        }
    }
}

fn bucket(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let power = us.ilog2() as usize;
    let step = (us >> (power - 3)) as usize & (STEPS - 1);
    ((power - 2) * STEPS + step).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> f64 {
    if bucket < STEPS {
        return bucket as f64;
    }
    let width = (1_u64 << (bucket / STEPS + 2 - 3)) as f64;
    (STEPS + bucket % STEPS) as f64 * width + width / 2.0
}

/// Quantiles p50, p90, p99 and p999 in microseconds; zeros while there is nothing to count.
pub fn quantiles<'l>(latencies: impl Iterator<Item = &'l Latency>) -> [(&'static str, f64); 4] {
    let mut counts = [0; BUCKETS];
    latencies.for_each(|latency| latency.add_to(&mut counts));
    let total: u64 = counts.iter().sum();
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)].map(|(name, share)| {
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = counts.iter().position(|count| {
            seen += count;
            seen >= wanted && seen > 0
        });
        (name, found.map_or(0.0, middle))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_close_to_their_values() {
        let mut last = 0;
        for us in (0..200).chain((200..5_000_000).step_by(997)) {
            let at = bucket(us);
            assert!(at >= last && at < BUCKETS, "{us}");
            last = at;
            assert!((middle(at) - us as f64).abs() <= us as f64 / 8.0 + 1.0, "{us}: {}", middle(at));
        }
    }

    #[test]
    fn quantiles_of_known_times_and_their_forgetting() {
        let latency = Latency::default();
        (1..=1000).for_each(|ms| latency.record(ms * 1000));
        let [p50, _, p99, _] = quantiles([&latency].into_iter());
        assert!((p50.1 - 500_000.0).abs() < 63_000.0 && (p99.1 - 990_000.0).abs() < 125_000.0, "{p50:?} {p99:?}");
        (0..WINDOWS).for_each(|_| latency.rotate());
        assert_eq!(quantiles([&latency].into_iter())[0].1, 0.0);
    }
}
