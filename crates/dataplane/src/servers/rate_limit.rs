//! How many requests a client may send: a token bucket for each, in bounded memory.
//!
//! A bucket is one number, the time at which it will be full again (the generic cell rate algorithm). So a bucket that is
//! full is the same as none, and forgetting it costs nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::snapshot::{LimitBy, RateLimit};

/// Powers of two: of buckets that one limit remembers, a quarter of a million at most.
const SHARDS: usize = 256;
const BUCKETS_PER_SHARD: usize = 1024;

/// One limit with what it remembers of its clients.
#[derive(Debug)]
pub struct Limit {
    settings: RateLimit,
    /// Without a slash at the end.
    prefix: Vec<u8>,
    /// A secret, so that nobody can aim at another's bucket.
    secret: RandomState,
    shards: Box<[Mutex<HashMap<u64, u64>>]>,
}

impl Limit {
    /// The limits of a snapshot; those that were there before go on with what they know.
    pub fn build(settings: &[RateLimit], previous: &[Arc<Self>]) -> Vec<Arc<Self>> {
        let known = |wanted: &RateLimit| previous.iter().find(|limit| limit.settings == *wanted).map(Arc::clone);
        settings.iter().map(|wanted| known(wanted).unwrap_or_else(|| Arc::new(Self::new(wanted.clone())))).collect()
    }

    fn new(settings: RateLimit) -> Self {
        let prefix = settings.path.trim_end_matches('/').as_bytes().to_vec();
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { settings, prefix, secret: RandomState::new(), shards }
    }

    /// Takes a token for a request. Without one left: the seconds until there is one again.
    pub fn take(&self, path: &[u8], fields: &[httparse::Header<'_>], client: IpAddr, now_us: u64) -> Option<u32> {
        if !covers(&self.prefix, path) {
            return None;
        }
        let key = self.key(fields, client);
        let mut shard = self.shards[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let full_at_us = shard.get(&key).copied().unwrap_or(0);
        let next = match spend(full_at_us, now_us, self.settings.requests_per_s, self.settings.burst) {
            Ok(next) => next,
            Err(wait_us) => return Some(u32::try_from(wait_us.div_ceil(1_000_000)).unwrap_or(u32::MAX)),
        };
        if shard.len() >= BUCKETS_PER_SHARD && !shard.contains_key(&key) {
            shard.retain(|_, full_at_us| *full_at_us > now_us);
            if shard.len() >= BUCKETS_PER_SHARD {
                // More clients at once than can be told apart: better to let one through than to grow or to shut out.
                return None;
            }
        }
        shard.insert(key, next);
        None
    }

    /// Who is limited: by the field, where there is one, else by the address.
    fn key(&self, fields: &[httparse::Header<'_>], client: IpAddr) -> u64 {
        if let LimitBy::Header(name) = &self.settings.by {
            if let Some(field) = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)) {
                return self.secret.hash_one(field.value);
            }
        }
        self.secret.hash_one(household(client))
    }
}

/// Whether `path` is `prefix` or below it, however its letters are written.
pub fn covers(prefix: &[u8], path: &[u8]) -> bool {
    let path = decoded(path);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Whoever has one IPv6 address has 2^64 of them.
pub fn household(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// A bucket after one token more was taken, or the microseconds until one can be.
fn spend(full_at_us: u64, now_us: u64, per_s: f64, burst: u32) -> Result<u64, u64> {
    let token_us = (1e6 / per_s).ceil() as u64;
    let next = full_at_us.max(now_us).saturating_add(token_us);
    let latest = now_us.saturating_add(token_us.saturating_mul(u64::from(burst)));
    if next <= latest { Ok(next) } else { Err(next - latest) }
}

/// A path as apps see it: a limit on /login must not be passed by asking for /%6cogin.
fn decoded(path: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', path).is_none() {
        return path.into();
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    out.into()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(path: &str, by: LimitBy, burst: u32) -> Limit {
        Limit::new(RateLimit { path: path.into(), by, requests_per_s: 10.0, burst })
    }

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
    const START_US: u64 = 1_000_000_000;

    #[test]
    fn a_burst_then_the_rate() {
        let limit = limit("/", LimitBy::Client, 3);
        let taken: Vec<_> = (0..5).map(|_| limit.take(b"/", &[], CLIENT, START_US)).collect();
        assert_eq!(taken, [None, None, None, Some(1), Some(1)]);
        let later: Vec<_> = (1..=4).map(|n| limit.take(b"/", &[], CLIENT, START_US + n * 50_000)).collect();
        assert_eq!(later, [Some(1), None, Some(1), None], "one token comes every 100 ms");
    }

    #[test]
    fn only_below_its_path() {
        let limit = limit("/login/", LimitBy::Client, 1);
        assert_eq!(limit.take(b"/login", &[], CLIENT, START_US), None);
        for (path, refused) in [
            (&b"/login"[..], true),
            (b"/login/", true),
            (b"/login/x", true),
            (b"/%6cogin", true),
            (b"/%6Cogin%2fx", true),
            (b"/logins", false),
            (b"/", false),
            (b"/x/login", false),
            (b"/%6", false),
        ] {
            assert_eq!(limit.take(path, &[], CLIENT, START_US).is_some(), refused, "{}", path.escape_ascii());
        }
    }

    #[test]
    fn clients_are_told_apart() {
        let by_key = limit("/", LimitBy::Header("x-key".into()), 1);
        let key = |value| [httparse::Header { name: "X-Key", value }];
        assert_eq!(by_key.take(b"/", &key(b"a"), CLIENT, START_US), None);
        assert_eq!(by_key.take(b"/", &key(b"b"), CLIENT, START_US), None);
        assert!(by_key.take(b"/", &key(b"a"), "192.0.2.1".parse().unwrap(), START_US).is_some());
        assert_eq!(by_key.take(b"/", &[], CLIENT, START_US), None);
        assert!(by_key.take(b"/", &[], CLIENT, START_US).is_some(), "without the field it is the address");

        let by_client = limit("/", LimitBy::Client, 1);
        for (address, refused) in
            [("2001:db8:1:2::1", false), ("2001:db8:1:2:ffff::9", true), ("2001:db8:1:3::1", false)]
        {
            assert_eq!(by_client.take(b"/", &[], address.parse().unwrap(), START_US).is_some(), refused, "{address}");
        }
    }

    #[test]
    fn memory_is_bounded_and_what_is_full_again_is_forgotten() {
        let limit = limit("/", LimitBy::Client, 1);
        let count = |limit: &Limit| limit.shards.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>();
        for number in 0..400_000_u32 {
            limit.take(b"/", &[], IpAddr::V4(number.into()), START_US);
        }
        assert_eq!(count(&limit), SHARDS * BUCKETS_PER_SHARD);
        for number in 500_000..600_000_u32 {
            limit.take(b"/", &[], IpAddr::V4(number.into()), START_US + 10_000_000);
        }
        assert!(count(&limit) <= 100_000 + SHARDS);
    }

    #[test]
    fn settings_that_stay_keep_their_buckets() {
        let settings = [RateLimit { path: "/".into(), by: LimitBy::Client, requests_per_s: 1.0, burst: 1 }];
        let first = Limit::build(&settings, &[]);
        assert_eq!(first[0].take(b"/", &[], CLIENT, START_US), None);
        let second = Limit::build(&settings, &first);
        assert!(second[0].take(b"/", &[], CLIENT, START_US).is_some());
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            gaps_us in prop::collection::vec(0_u64..2_000_000, 1..200),
            per_s in 0.1_f64..1000.0,
            burst in 1_u32..50,
        ) {
            let (mut full_at_us, mut now_us, mut passed) = (0, START_US, 0_u32);
            for gap_us in gaps_us {
                now_us += gap_us;
                match spend(full_at_us, now_us, per_s, burst) {
                    Ok(next) => {
                        full_at_us = next;
                        passed += 1;
                    }
                    Err(wait_us) => prop_assert!(spend(full_at_us, now_us + wait_us, per_s, burst).is_ok()),
                }
                let allowed = f64::from(burst) + (now_us - START_US) as f64 / 1e6 * per_s;
                prop_assert!(f64::from(passed) <= allowed + 1e-6);
            }
        }

        #[test]
        fn any_path_is_decoded(path: Vec<u8>) {
            prop_assert!(decoded(&path).len() <= path.len());
        }
    }
}
