//! Things worth telling Python, in order, bounded: the oldest are lost when nobody listens.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

const KEPT_MAX: usize = 1024;

#[derive(Debug, Default)]
pub struct Events {
    waiting: Mutex<VecDeque<String>>,
    arrived: Condvar,
}

impl Events {
    pub fn health(&self, pool: &str, server: &str, state: &str, reason: &str) {
        self.push(&json!({"kind": "health", "pool": pool, "server": server, "state": state, "reason": reason}));
    }

    pub fn queue(&self, pool: &str, length: usize, oldest_ms: u64) {
        self.push(&json!({"kind": "queue", "pool": pool, "length": length, "oldest_ms": oldest_ms}));
    }

    pub fn retry_budget(&self, pool: &str) {
        self.push(&json!({"kind": "retry_budget", "pool": pool}));
    }

    fn push(&self, event: &serde_json::Value) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == KEPT_MAX {
            waiting.pop_front();
        }
        waiting.push_back(event.to_string());
        self.arrived.notify_one();
    }

    /// Everything since the last call; waits up to `wait` for the first.
    pub fn take(&self, wait: Duration) -> Vec<String> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut waiting, _) = self
            .arrived
            .wait_timeout_while(waiting, wait, |waiting| waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        waiting.drain(..).collect()
    }
}
