//! What is done for a group in the background: a monitor for each node, and old connections closed.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::group::{Group, View};
use super::monitor::{self, Pace};
use super::rest::Weariness;
use crate::clock::now_us;

const TIDY: Duration = Duration::from_secs(1);

/// Runs for as long as the plane does.
pub async fn keep(group: Arc<Group>) {
    let mut watched: HashMap<usize, AbortHandle> = HashMap::new();
    let mut weariness = Weariness::default();
    loop {
        let view = group.view().clone();
        let pace = Pace {
            interval: Duration::from_millis(view.settings.monitor.interval_ms.max(10)),
            rest_interval: Duration::from_millis(view.settings.monitor.rest_ms.max(10)),
            rest: Arc::clone(&group.rest),
            limit: Duration::from_millis(view.settings.connect_timeout_ms),
        };
        let mut left = std::mem::take(&mut watched);
        for member in &view.members {
            let key = Arc::as_ptr(&member.node) as usize;
            let task = left.remove(&key).unwrap_or_else(|| {
                let (vitals, node) = (Arc::clone(&member.node.vitals), Arc::clone(&member.node));
                let (endpoint, login) = (Arc::clone(&node.endpoint), Arc::clone(&view.monitor));
                tokio::spawn(monitor::watch(vitals, endpoint, login, pace.clone())).abort_handle()
            });
            watched.insert(key, task);
            member.node.tidy(&view.limits);
        }
        left.values().for_each(AbortHandle::abort);
        group.cut_lost();
        if weariness.is_due(group.requests(), view.is_busy(), now_us()) {
            group.rest.begin();
        }
        // Either is a reason to look again.
        let _ = timeout(TIDY, noting(&group, &view)).await;
    }
}

/// Takes note of every position of the primary, until the group changes.
async fn noting(group: &Group, view: &View) {
    let changed = group.changed.notified();
    let following = async {
        let Some(primary) = view.primary() else { return std::future::pending().await };
        let mut attempts = primary.vitals.subscribe();
        loop {
            group.note_position(primary.sample());
            if view.has_laggards() {
                group.wake();
            }
            if attempts.changed().await.is_err() {
                return;
            }
        }
    };
    let (mut changed, mut following) = (pin!(changed), pin!(following));
    poll_fn(|cx| if changed.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { following.as_mut().poll(cx) })
        .await;
}
