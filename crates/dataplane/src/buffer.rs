//! Reusable byte buffers. An idle connection holds none; a busy one borrows from its thread and gives back on drop.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Enough for nearly every head and small body in one read.
pub const SMALL: usize = 16 * 1024;
/// For bodies, where fewer reads and writes pay for the memory.
pub const LARGE: usize = 128 * 1024;
/// Buffers of each size that a thread keeps for reuse.
const KEPT_SMALL: usize = 256;
const KEPT_LARGE: usize = 64;
/// A response's head with a short body.
const DRAFT: usize = 4 * 1024;
const KEPT_DRAFTS: usize = 64;

thread_local! {
    static SMALL_POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static LARGE_POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static DRAFT_POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that are put together for one write soon after. Its memory is the thread's, and is used again.
#[derive(Debug)]
pub struct Draft(Vec<u8>);

impl Default for Draft {
    fn default() -> Self {
        let store = DRAFT_POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(DRAFT));
        Self(store)
    }
}

impl Deref for Draft {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let mut store = std::mem::take(&mut self.0);
        // A thread that is ending has no pool any more; the memory is then simply freed.
        let _ = DRAFT_POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT_DRAFTS && store.capacity() <= SMALL {
                store.clear();
                pool.push(store);
            }
        });
    }
}

/// A fixed store with a filled part in the middle: bytes are read in at the end and taken at the start.
#[derive(Debug)]
pub struct Buffer {
    store: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub fn small() -> Self {
        Self::of(SMALL)
    }

    pub fn large() -> Self {
        Self::of(LARGE)
    }

    fn of(size: usize) -> Self {
        let pool = if size == SMALL { &SMALL_POOL } else { &LARGE_POOL };
        let store = pool.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; size]);
        Self { store, start: 0, end: 0 }
    }

    pub fn filled(&self) -> &[u8] {
        &self.store[self.start..self.end]
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes `count` bytes from the start.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Room after the filled part, which moves to the front when there is none. Empty only when the buffer is full.
    pub fn room(&mut self) -> &mut [u8] {
        if self.end == self.store.len() && self.start > 0 {
            self.store.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.store[self.end..]
    }

    pub fn is_full(&self) -> bool {
        self.len() == self.store.len()
    }

    /// Bytes were written into `room`.
    pub fn advance(&mut self, count: usize) {
        debug_assert!(self.end + count <= self.store.len());
        self.end += count;
    }

    /// Appends as much of `bytes` as fits and says how much that was.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let room = self.room();
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.end += count;
        count
    }

    /// Doubles the store, up to `most` bytes. False when it is that large already.
    pub fn grow(&mut self, most: usize) -> bool {
        if self.store.len() >= most {
            return false;
        }
        let size = (self.store.len() * 2).min(most);
        self.store.resize(size, 0);
        true
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let (pool, kept) = match self.store.len() {
            SMALL => (&SMALL_POOL, KEPT_SMALL),
            LARGE => (&LARGE_POOL, KEPT_LARGE),
            _ => return,
        };
        let store = std::mem::take(&mut self.store);
        // A thread that is ending has no pool any more; the memory is then simply freed.
        let _ = pool.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < kept {
                pool.push(store);
            }
        });
    }
}
