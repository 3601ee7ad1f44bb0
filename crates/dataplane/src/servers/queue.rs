//! Requests that wait for a slot, first come first served, bounded in number; each waiter brings its own deadline.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::pool::Slot;
use super::pressure::{Patience, Pressure};
use super::server::Server;

#[derive(Debug, Default)]
pub struct Queue {
    line: Mutex<Line>,
    /// Its length, readable without the lock: zero is the common case on the hot path.
    length: AtomicUsize,
    next_ticket: AtomicUsize,
}

#[derive(Debug, Default)]
struct Line {
    waiters: VecDeque<Waiter>,
    pressure: Pressure,
}

/// What came of trying to join.
#[derive(Debug)]
pub enum Joined {
    At {
        ticket: usize,
        slot: oneshot::Receiver<Slot>,
    },
    Full,
    /// Its turn would come too late.
    TooLong,
}

#[derive(Debug)]
pub struct Waiter {
    ticket: usize,
    pub since_us: u64,
    pub key: Option<u64>,
    pub tried: Vec<Arc<Server>>,
    pub handover: oneshot::Sender<Slot>,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Joins the end, unless `most` wait already or `patience`, where given, does not last.
    pub fn join(
        &self,
        most: usize,
        patience: Option<&Patience>,
        since_us: u64,
        key: Option<u64>,
        tried: &[Arc<Server>],
    ) -> Joined {
        let mut line = self.lock();
        let ahead = line.waiters.len();
        if ahead >= most {
            return Joined::Full;
        }
        if patience.is_some_and(|patience| !line.pressure.admits(since_us, ahead, patience)) {
            return Joined::TooLong;
        }
        let (handover, slot) = oneshot::channel();
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        line.waiters.push_back(Waiter { ticket, since_us, key, tried: tried.to_vec(), handover });
        self.changed(&mut line);
        Joined::At { ticket, slot }
    }

    /// Leaves early: the deadline has passed or the client is gone.
    pub fn leave(&self, ticket: usize) {
        let mut line = self.lock();
        line.waiters.retain(|waiter| waiter.ticket != ticket);
        self.changed(&mut line);
    }

    /// Takes note of a new length.
    fn changed(&self, line: &mut Line) {
        if line.waiters.is_empty() {
            line.pressure = Pressure::default();
        }
        self.length.store(line.waiters.len(), Ordering::SeqCst);
    }

    /// Serves waiters from the front with what `find` finds, until it finds nothing. A slot whose waiter has just
    /// left goes to the next. Waiting for longer than `target_us` counts as late.
    pub fn serve(&self, now_us: u64, target_us: u64, mut find: impl FnMut(&Waiter) -> Option<Slot>) {
        let mut orphan = None;
        let mut line = self.lock();
        while let Some(waiter) = line.waiters.front() {
            if waiter.handover.is_closed() {
                line.waiters.pop_front();
                continue;
            }
            let Some(slot) = orphan.take().or_else(|| find(waiter)) else {
                break;
            };
            if let Some(waiter) = line.waiters.pop_front() {
                line.pressure.handed_over(now_us, now_us.saturating_sub(waiter.since_us), target_us);
                orphan = waiter.handover.send(slot).err();
            }
        }
        self.changed(&mut line);
        // Giving back a slot looks at the queue again, so the lock must be free by then.
        drop(line);
        drop(orphan);
    }

    /// When the first in line began to wait.
    pub fn oldest_us(&self) -> Option<u64> {
        if self.is_empty() { None } else { self.lock().waiters.front().map(|waiter| waiter.since_us) }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
