//! What is known of a node: written by its monitor, read by every thread, waited for by whoever needs news.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// How soon to ask again for a position that is not reached yet, at first and at most.
const AGAIN_MIN: Duration = Duration::from_millis(1);
const AGAIN_MAX: Duration = Duration::from_millis(10);

/// What a node says of itself. Positions are bytes of WAL since the beginning of the cluster's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is a replica.
    pub in_recovery: bool,
    /// On a primary: the end of what has been written. On a replica: the end of what has been replayed.
    pub position: u64,
    /// On a replica: the end of what has been received. 0 when nothing ever was.
    pub received: u64,
    /// Grows by one with each promotion.
    pub timeline: u32,
    /// How far a replica is behind what it has received, as it sees it itself; `None` while it receives from nobody or has
    /// replayed no transaction yet. `History` sees more.
    pub lag_ms: Option<u64>,
}

impl Answer {
    /// Whether the node has come to `position` of `timeline`: see `Vitals::reached`.
    pub fn has_reached(&self, position: u64, timeline: u32) -> bool {
        self.position >= position && self.timeline >= timeline
    }
}

/// The last answer, and what has become of asking since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// `None` until the node has answered for the first time. Kept while it does not answer.
    pub answer: Option<Answer>,
    /// When that answer was asked for, in microseconds of `clock::now_us`.
    pub begun_us: u64,
    /// Attempts in a row that brought no answer.
    pub failures: u32,
    /// Why the last one did not; empty after an answer.
    pub problem: String,
}

impl Sample {
    /// Whether the last attempt brought an answer.
    pub fn is_reachable(&self) -> bool {
        self.answer.is_some() && self.failures == 0
    }
}

/// One node's samples. A sample is swapped as a whole, so its parts always belong together.
#[derive(Debug)]
pub struct Vitals {
    sample: ArcSwap<Sample>,
    /// Attempts so far; wakes those who wait for the next.
    attempts: watch::Sender<u64>,
    wanted: Notify,
}

impl Default for Vitals {
    fn default() -> Self {
        let nothing = Sample { answer: None, begun_us: 0, failures: 0, problem: String::new() };
        Self { sample: ArcSwap::from_pointee(nothing), attempts: watch::Sender::new(0), wanted: Notify::new() }
    }
}

impl Vitals {
    /// The last sample, without waiting.
    pub fn sample(&self) -> Guard<Arc<Sample>> {
        self.sample.load()
    }

    /// Wants a sample that is begun from now on. All who ask before it is begun share it.
    pub fn ask(&self) {
        // The permit is kept while a sample is under way, so one that was begun too early is followed by another.
        self.wanted.notify_one();
    }

    /// Wakes after each attempt to get a sample, successful or not.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.attempts.subscribe()
    }

    /// An answer that was asked for after `moment_us`. `None` when the attempt to get one failed.
    ///
    /// Not in the same microsecond: within it nobody can tell which came first.
    pub async fn begun_after(&self, moment_us: u64) -> Option<Answer> {
        let mut attempts = self.attempts.subscribe();
        loop {
            {
                let sample = self.sample.load();
                if sample.answer.is_some() && sample.begun_us > moment_us {
                    return sample.answer;
                }
            }
            let failures = self.sample.load().failures;
            self.ask();
            // The sender lives as long as `self`.
            attempts.changed().await.ok()?;
            if self.sample.load().failures > failures {
                return None;
            }
        }
    }

    /// Waits until the node has come to `position` of `timeline`, asking it more and more slowly. False when it does not
    /// answer; deadlines are the caller's.
    ///
    /// A later timeline will do: it has branched off behind the position, or else what was written there is lost, and no
    /// node has it. An earlier one will not: a node that went on after the branch has other bytes at the same position.
    pub async fn reached(&self, position: u64, timeline: u32) -> bool {
        let mut attempts = self.attempts.subscribe();
        let mut again = AGAIN_MIN;
        loop {
            attempts.borrow_and_update();
            {
                let sample = self.sample.load();
                match sample.answer {
                    Some(answer) if sample.failures == 0 && answer.has_reached(position, timeline) => return true,
                    _ if sample.failures > 0 => return false,
                    _ => {}
                }
            }
            // Somebody else's question may bring the news sooner.
            let _ = timeout(again, attempts.changed()).await;
            again = (again * 2).min(AGAIN_MAX);
            self.ask();
        }
    }

    pub(super) fn publish(&self, begun_us: u64, answer: Answer) {
        self.replace(Sample { answer: Some(answer), begun_us, failures: 0, problem: String::new() });
    }

    pub(super) fn publish_failure(&self, problem: String) {
        let last = self.sample.load();
        let failures = last.failures.saturating_add(1);
        self.replace(Sample { answer: last.answer, begun_us: last.begun_us, failures, problem });
    }

    fn replace(&self, sample: Sample) {
        self.sample.store(Arc::new(sample));
        self.attempts.send_modify(|count| *count += 1);
    }

    /// Waits until somebody asks, at most for `pause`.
    pub(super) async fn asked(&self, pause: Duration) {
        let _ = timeout(pause, self.wanted.notified()).await;
    }
}

#[cfg(test)]
mod tests;
