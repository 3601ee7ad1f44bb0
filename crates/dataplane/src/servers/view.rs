//! A pool as one snapshot describes it: members, policy and limits in one value that is swapped as a whole.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::balance::{Chance, Load, Policy, Signal, build, hash_key, slow_start};
use super::http::fields::{Known, cookie};
use super::server::Server;
use crate::request_id::random;
use crate::snapshot::{self, HashBy};

pub struct View {
    pub members: Vec<Member>,
    pub policy: Box<dyn Policy>,
    pub settings: snapshot::Pool,
}

#[derive(Debug)]
pub struct Member {
    pub server: Arc<Server>,
    pub weight: f64,
    pub limit: u32,
    pub draining: bool,
    pub ready: bool,
    pub streams_hold_slots: bool,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("members", &self.members).finish_non_exhaustive()
    }
}

/// A server and the slot taken on it.
#[derive(Debug)]
pub struct Pick {
    pub server: Arc<Server>,
    pub in_flight_before: u32,
    pub streams_hold_slots: bool,
    pub terms: Terms,
}

/// What holds for a request from its dispatch on, so that the view is not asked again and again.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub signal: Signal,
    pub response_timeout_ms: u64,
    pub idle_connections_max: usize,
}

thread_local! {
    static CANDIDATES: RefCell<Vec<Load>> = const { RefCell::new(Vec::new()) };
    static CHANCE: RefCell<Chance> = RefCell::new(Chance::seeded(random()));
}

impl View {
    pub fn new(settings: snapshot::Pool, members: Vec<Member>) -> Self {
        Self { policy: build(&settings.policy, members.len()), members, settings }
    }

    /// What the policy hashes for this request, when it wants a key. A request without the header or cookie is told
    /// apart by its client.
    pub fn key(&self, fields: &[httparse::Header<'_>], path: &[u8], client: IpAddr) -> Option<u64> {
        if !self.policy.needs_key() {
            return None;
        }
        let found = match &self.settings.hash_by {
            HashBy::Client => None,
            HashBy::Path => Some(path),
            HashBy::Header(name) => fields.iter().find(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value),
            HashBy::Cookie(name) => fields
                .iter()
                .filter(|field| Known::of(field.name.as_bytes()) == Known::Cookie)
                .find_map(|field| cookie(field.value, name)),
        };
        Some(found.map_or_else(
            || match client {
                IpAddr::V4(v4) => hash_key(&v4.octets()),
                IpAddr::V6(v6) => hash_key(&v6.octets()),
            },
            hash_key,
        ))
    }

    /// Lets the policy choose among usable servers with a free slot, and takes the slot. `tried` are left out while
    /// there are others. Never waits.
    pub fn pick(&self, key: Option<u64>, tried: &[Arc<Server>], now_us: u64) -> Option<Pick> {
        // Between the look and the taking another thread may have been faster; a few rounds settle that.
        for _ in 0..4 {
            let member = self.choose(key, tried, now_us)?;
            if let Some(in_flight_before) = member.server.take_slot(member.limit) {
                member.server.requests.add(1);
                return Some(Pick {
                    server: Arc::clone(&member.server),
                    in_flight_before,
                    streams_hold_slots: member.streams_hold_slots,
                    terms: Terms {
                        signal: self.policy.signal(),
                        response_timeout_ms: self.settings.response_timeout_ms,
                        idle_connections_max: self.settings.idle_connections_max,
                    },
                });
            }
        }
        None
    }

    fn choose(&self, key: Option<u64>, tried: &[Arc<Server>], now_us: u64) -> Option<&Member> {
        CANDIDATES.with_borrow_mut(|candidates| {
            candidates.clear();
            let untried = |member: &Member| !tried.iter().any(|server| Arc::ptr_eq(server, &member.server));
            self.gather(candidates, now_us, untried);
            if candidates.is_empty()
                && !tried.is_empty()
                && !self.members.iter().any(|m| m.server.is_usable() && untried(m))
            {
                self.gather(candidates, now_us, |_| true);
            }
            let at = match candidates.len() {
                0 => return None,
                1 => 0,
                _ => CHANCE.with_borrow_mut(|chance| self.policy.pick(candidates, key, chance)),
            };
            self.members.get(candidates[at].index)
        })
    }

    fn gather(&self, candidates: &mut Vec<Load>, now_us: u64, wanted: impl Fn(&Member) -> bool) {
        let signal = self.policy.signal();
        for (index, member) in self.members.iter().enumerate() {
            let server = &member.server;
            let in_flight = server.in_flight();
            if !server.is_usable() || in_flight >= member.limit || !wanted(member) {
                continue;
            }
            let mut weight = member.weight;
            if self.settings.slow_start_ms > 0 {
                let age_ms = (now_us / 1000).saturating_sub(server.usable_since_ms.load(Ordering::Relaxed));
                weight *= slow_start::factor(age_ms, self.settings.slow_start_ms);
            }
            let latency_us = server.latency_us(signal, now_us);
            candidates.push(Load {
                index,
                identity: server.identity,
                weight,
                in_flight,
                limit: member.limit,
                latency_us,
            });
        }
    }
}
