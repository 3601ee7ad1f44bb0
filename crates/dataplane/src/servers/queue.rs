//! Requests that wait for a slot, first come first served, bounded in number; each waiter brings its own deadline.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::pool::Slot;
use super::server::Server;

#[derive(Debug, Default)]
pub struct Queue {
    waiters: Mutex<VecDeque<Waiter>>,
    /// Length of `waiters`, readable without the lock: zero is the common case on the hot path.
    length: AtomicUsize,
    next_ticket: AtomicUsize,
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

    /// Joins the end, or says that `most` wait already.
    pub fn join(
        &self,
        most: usize,
        since_us: u64,
        key: Option<u64>,
        tried: &[Arc<Server>],
    ) -> Option<(usize, oneshot::Receiver<Slot>)> {
        let (handover, slot) = oneshot::channel();
        let mut waiters = self.lock();
        if waiters.len() >= most {
            return None;
        }
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        waiters.push_back(Waiter { ticket, since_us, key, tried: tried.to_vec(), handover });
        self.length.store(waiters.len(), Ordering::SeqCst);
        Some((ticket, slot))
    }

    /// Leaves early: the deadline has passed or the client is gone.
    pub fn leave(&self, ticket: usize) {
        let mut waiters = self.lock();
        waiters.retain(|waiter| waiter.ticket != ticket);
        self.length.store(waiters.len(), Ordering::SeqCst);
    }

    /// Serves waiters from the front with what `find` finds, until it finds nothing. A slot whose waiter has just
    /// left goes to the next.
    pub fn serve(&self, mut find: impl FnMut(&Waiter) -> Option<Slot>) {
        let mut orphan = None;
        let mut waiters = self.lock();
        while let Some(waiter) = waiters.front() {
            if waiter.handover.is_closed() {
                waiters.pop_front();
                continue;
            }
            let Some(slot) = orphan.take().or_else(|| find(waiter)) else {
                break;
            };
            if let Some(waiter) = waiters.pop_front() {
                orphan = waiter.handover.send(slot).err();
            }
        }
        self.length.store(waiters.len(), Ordering::SeqCst);
        // Giving back a slot looks at the queue again, so the lock must be free by then.
        drop(waiters);
        drop(orphan);
    }

    /// When the first in line began to wait.
    pub fn oldest_us(&self) -> Option<u64> {
        if self.is_empty() { None } else { self.lock().front().map(|waiter| waiter.since_us) }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
