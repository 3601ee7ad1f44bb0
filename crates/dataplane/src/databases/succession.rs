//! Which primary has followed which, and which of the transactions of one the next has: what makes the answer of
//! `pg_xact_status` on the next one mean something.
//!
//! A transaction id that a primary gave out and its replica never heard of is given out anew by that replica when it is
//! promoted, to another transaction. What the new one says of an id is true only for ids that it knew before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::node::Node;
use crate::snapshot::{self, Promotion};

/// The time of one node as the primary.
#[derive(Debug, Clone)]
struct Reign {
    node: Arc<Node>,
    /// Epochs of the connections that were made in it; the end is not among them.
    first: u64,
    end: Option<u64>,
    timeline: u32,
}

/// The present reign, and what links it to the one before.
#[derive(Debug, Default)]
struct State {
    now: Option<Reign>,
    former: Option<(Reign, Promotion)>,
}

#[derive(Debug, Default)]
pub struct Line {
    state: Mutex<State>,
}

/// Where a transaction had its id from.
#[derive(Debug, Clone)]
pub struct Origin {
    pub node: Arc<Node>,
    /// Of the connection.
    pub epoch: u64,
}

impl Line {
    /// A snapshot is about to be in force, in which this node is the primary.
    pub fn note(&self, primary: Option<&Arc<Node>>, settings: &snapshot::Database) {
        let State { now, former } = &mut *self.lock();
        let Some(primary) = primary else {
            if let Some(reign) = now {
                reign.end.get_or_insert_with(|| reign.node.epoch());
            }
            return;
        };
        match now {
            Some(reign) if reign.end.is_none() && Arc::ptr_eq(&reign.node, primary) => {
                reign.timeline = reign.timeline.max(settings.timeline);
            }
            _ => {
                let next =
                    Reign { node: Arc::clone(primary), first: primary.epoch(), end: None, timeline: settings.timeline };
                *former = now.replace(next).zip(settings.promotion).filter(|(before, promotion)| {
                    !Arc::ptr_eq(&before.node, primary)
                        && before.timeline > 0
                        && before.timeline == promotion.former_timeline
                });
                if let Some((before, _)) = former {
                    before.end.get_or_insert_with(|| before.node.epoch());
                }
            }
        }
    }

    /// What a primary (`asked`) knows of the transactions of `origin`: only of its direct predecessor's anything is known.
    pub fn promotion_after(&self, origin: &Origin, asked: &Origin) -> Option<Promotion> {
        let state = self.lock();
        let (now, (former, promotion)) = (state.now.as_ref()?, state.former.as_ref()?);
        let is_of = |reign: &Reign, of: &Origin| {
            Arc::ptr_eq(&reign.node, &of.node) && of.epoch >= reign.first && reign.end.is_none_or(|end| of.epoch < end)
        };
        (is_of(former, origin) && is_of(now, asked)).then_some(*promotion)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::databases::backend::{Encryption, Endpoint};
    use crate::net::address::Address;

    fn node(name: &str) -> Arc<Node> {
        let address = Address::parse("127.0.0.1:1").unwrap();
        Arc::new(Node::new(name, Endpoint { address, encryption: Encryption::new("disable", None, "").unwrap() }))
    }

    fn settings(timeline: u32, former_timeline: Option<u32>) -> snapshot::Database {
        let promotion = former_timeline
            .map(|former| serde_json::json!({"former_timeline": former, "seen_xid": 100, "next_xid": 110}));
        serde_json::from_value(serde_json::json!({
            "name": "main", "listener": "127.0.0.1:0", "tls": false, "users": [], "nodes": [],
            "monitor": {"user": "", "password": "", "database": "", "interval_ms": 100, "rest_ms": 1_000},
            "clients_max": 1, "connections_max": 1, "checkout_timeout_ms": 1, "hold_timeout_ms": 1,
            "connect_timeout_ms": 1, "login_timeout_ms": 1, "server_lifetime_ms": 1, "server_idle_ms": 1,
            "request_max_bytes": 1, "timeline": timeline, "promotion": promotion,
            "reads": {"split": true, "policy": {"name": "least_requests"}, "causal": "off", "wait_ms": 0,
                      "lag_max_bytes": 0, "lag_max_ms": 0},
        }))
        .unwrap()
    }

    fn origin(node: &Arc<Node>) -> Origin {
        Origin { node: Arc::clone(node), epoch: node.epoch() }
    }

    #[test]
    fn only_the_direct_successor_knows() {
        let (a, b, c) = (node("a"), node("b"), node("c"));
        let line = Line::default();
        line.note(Some(&a), &settings(1, None));
        let of_a = origin(&a);
        assert_eq!(line.promotion_after(&of_a, &of_a), None);
        a.begin_epoch();
        line.note(None, &settings(0, None));
        line.note(Some(&b), &settings(2, Some(1)));
        assert_eq!(line.promotion_after(&of_a, &origin(&b)).map(|known| known.seen_xid), Some(100));
        assert_eq!(line.promotion_after(&origin(&a), &origin(&b)), None, "a connection that was made later");
        b.begin_epoch();
        line.note(Some(&c), &settings(3, Some(2)));
        assert_eq!(line.promotion_after(&of_a, &origin(&c)), None);
    }

    #[test]
    fn a_promotion_that_was_not_seen_or_a_primary_that_came_back_breaks_the_line() {
        let (a, b) = (node("a"), node("b"));
        let line = Line::default();
        line.note(Some(&a), &settings(1, None));
        let of_a = origin(&a);
        // In between it was the primary of another timeline.
        line.note(Some(&b), &settings(3, Some(2)));
        assert_eq!(line.promotion_after(&of_a, &origin(&b)), None);
        let line = Line::default();
        line.note(Some(&a), &settings(1, None));
        a.begin_epoch();
        line.note(None, &settings(0, None));
        a.begin_epoch();
        line.note(Some(&a), &settings(1, None));
        a.begin_epoch();
        line.note(Some(&b), &settings(2, Some(1)));
        assert_eq!(line.promotion_after(&of_a, &origin(&b)), None, "it may have given out the same ids twice");
    }
}
