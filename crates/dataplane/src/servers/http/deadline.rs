//! One timer per connection that is almost never touched.
//!
//! Deadlines of a busy connection move into the future several times a request, and nearly all of them are never
//! reached. So only the wish is stored; the timer itself stays armed for an earlier time, and when it rings early it
//! is wound to what is wished by then.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A new connection's first ring, before any deadline is wished.
const FIRST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Deadline {
    sleep: Pin<Box<Sleep>>,
    wished: Instant,
    /// Whom the timer wakes as it is wound now.
    wakes: Option<Waker>,
}

impl Default for Deadline {
    fn default() -> Self {
        let soon = Instant::now() + FIRST;
        Self { sleep: Box::pin(sleep_until(soon)), wished: soon, wakes: None }
    }
}

impl Deadline {
    /// From now on the deadline is `after_ms` from `now`.
    pub fn set(&mut self, now: Instant, after_ms: u64) {
        self.wished = now + Duration::from_millis(after_ms);
        if self.wished < self.sleep.deadline() {
            self.wind();
        }
    }

    fn wind(&mut self) {
        self.sleep.as_mut().reset(self.wished);
        self.wakes = None;
    }

    /// Ready when the deadline has passed; otherwise the task is woken then.
    pub fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.sleep.is_elapsed() && self.wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= self.wished {
                return Poll::Ready(());
            }
            self.wind();
        }
        self.wakes = Some(cx.waker().clone());
        Poll::Pending
    }
}
