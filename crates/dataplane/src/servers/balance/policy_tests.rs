//! What every policy promises, and how each spreads requests. Chance is seeded, so every number here repeats.

use proptest::prelude::*;

use super::{Chance, Load, Policy, PolicySettings, Signal, build, hash_key};

fn load(index: usize, weight: f64, in_flight: u32) -> Load {
    Load {
        index,
        identity: hash_key(format!("app-{index}").as_bytes()),
        weight,
        in_flight,
        limit: 100,
        latency_us: 0.0,
    }
}

fn loads(in_flight: &[u32]) -> Vec<Load> {
    in_flight.iter().enumerate().map(|(index, in_flight)| load(index, 1.0, *in_flight)).collect()
}

fn weighted(weights: &[f64]) -> Vec<Load> {
    weights.iter().enumerate().map(|(index, weight)| load(index, *weight, 0)).collect()
}

fn with_latencies(mut loads: Vec<Load>, latencies_us: &[f64]) -> Vec<Load> {
    for (load, latency_us) in loads.iter_mut().zip(latencies_us) {
        load.latency_us = *latency_us;
    }
    loads
}

fn all_settings() -> Vec<PolicySettings> {
    vec![
        PolicySettings::Random {},
        PolicySettings::RoundRobin {},
        PolicySettings::LeastRequests {},
        PolicySettings::PowerOfTwo {},
        PolicySettings::PeakEwma { decay_ms: 10_000 },
        PolicySettings::Prequal { quantile: 0.84 },
        PolicySettings::Hash { bound: 1.25 },
        PolicySettings::First {},
    ]
}

/// How often each candidate is picked when the loads never change.
fn counts(policy: &dyn Policy, candidates: &[Load], picks: usize) -> Vec<usize> {
    let mut chance = Chance::seeded(42);
    let mut counts = vec![0; candidates.len()];
    for number in 0..picks {
        let key = policy.needs_key().then(|| hash_key(&number.to_le_bytes()));
        counts[policy.pick(candidates, key, &mut chance)] += 1;
    }
    counts
}

/// Counts as percent of their sum.
fn percent(counts: &[usize]) -> Vec<usize> {
    let total: usize = counts.iter().sum();
    counts.iter().map(|count| (count * 100 + total / 2) / total).collect()
}

fn near(found: &[usize], expected: &[usize]) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1)
}

// Settings

#[test]
fn settings_are_read_by_name() {
    for (text, expected) in [
        (r#"{"name": "random"}"#, PolicySettings::Random {}),
        (r#"{"name": "round_robin"}"#, PolicySettings::RoundRobin {}),
        (r#"{"name": "least_requests"}"#, PolicySettings::LeastRequests {}),
        (r#"{"name": "power_of_two"}"#, PolicySettings::PowerOfTwo {}),
        (r#"{"name": "peak_ewma"}"#, PolicySettings::PeakEwma { decay_ms: 10_000 }),
        (r#"{"name": "peak_ewma", "decay_ms": 500}"#, PolicySettings::PeakEwma { decay_ms: 500 }),
        (r#"{"name": "prequal"}"#, PolicySettings::Prequal { quantile: 0.5_f64.powf(0.25) }),
        (r#"{"name": "hash", "bound": 1.5}"#, PolicySettings::Hash { bound: 1.5 }),
        (r#"{"name": "first"}"#, PolicySettings::First {}),
    ] {
        assert_eq!(serde_json::from_str::<PolicySettings>(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn unknown_names_and_keys_are_refused() {
    for text in [r#"{"name": "fastest"}"#, r#"{"name": "random", "bound": 1}"#, r#"{"name": "hash"}"#, "{}"] {
        assert!(serde_json::from_str::<PolicySettings>(text).is_err(), "{text}");
    }
}

#[test]
fn each_policy_says_what_it_needs() {
    for settings in all_settings() {
        let policy = build(&settings, 4);
        let (signal, key) = match settings {
            PolicySettings::PeakEwma { .. } => (Signal::PeakEwma, false),
            PolicySettings::Prequal { .. } => (Signal::AtInFlight, false),
            PolicySettings::Hash { .. } => (Signal::None, true),
            _ => (Signal::None, false),
        };
        assert_eq!((policy.signal(), policy.needs_key()), (signal, key), "{settings:?}");
    }
    assert_eq!(PolicySettings::PeakEwma { decay_ms: 500 }.decay_us(), 500_000);
    assert_eq!(PolicySettings::First {}.decay_us(), 10_000_000);
}

// Spread

#[test]
fn idle_servers_share_by_weight() {
    for settings in all_settings() {
        let expected: &[usize] = match settings {
            PolicySettings::First {} => &[100, 0, 0],
            // Two weighted draws without replacement, then a tie for the first: by weight.
            // Expected wait prefers the heaviest while all are idle; in-flight counts even that out under load.
            PolicySettings::PeakEwma { .. } => &[100, 0, 0],
            _ => &[50, 33, 17],
        };
        let found = percent(&counts(&*build(&settings, 3), &weighted(&[3.0, 2.0, 1.0]), 60_000));
        assert!(near(&found, expected), "{settings:?}: {found:?}");
    }
}

#[test]
fn idle_equal_servers_share_evenly() {
    for settings in all_settings() {
        if settings == (PolicySettings::First {}) {
            continue;
        }
        let found = percent(&counts(&*build(&settings, 4), &loads(&[0; 4]), 40_000));
        assert!(near(&found, &[25; 4]), "{settings:?}: {found:?}");
    }
}

#[test]
fn round_robin_is_smooth() {
    let policy = build(&PolicySettings::RoundRobin {}, 3);
    let candidates = weighted(&[5.0, 1.0, 1.0]);
    let mut chance = Chance::seeded(1);
    let turns: String = (0..14).map(|_| ["a", "b", "c"][policy.pick(&candidates, None, &mut chance)]).collect();
    assert_eq!(turns, "aabacaaaabacaa");
}

#[test]
fn round_robin_goes_on_when_servers_come_and_go() {
    let policy = build(&PolicySettings::RoundRobin {}, 3);
    let mut chance = Chance::seeded(1);
    let four = loads(&[0; 4]);
    let three = vec![four[0], four[2], four[3]];
    let mut counts = [0_usize; 4];
    for number in 0..4_000 {
        let candidates = if number % 1_000 < 500 { &four } else { &three };
        counts[candidates[policy.pick(candidates, None, &mut chance)].index] += 1;
    }
    // The absent server gets a quarter of the half in which it takes part.
    assert!(
        near(&counts, &[1_167, 500, 1_167, 1_166])
            || counts.iter().zip([1_167, 500, 1_167, 1_166]).all(|(a, b)| a.abs_diff(b) <= 8),
        "{counts:?}"
    );
}

#[test]
fn round_robin_follows_names_when_places_change() {
    let policy = build(&PolicySettings::RoundRobin {}, 3);
    let mut chance = Chance::seeded(1);
    let forward = weighted(&[2.0, 1.0, 1.0]);
    let backward: Vec<Load> = forward.iter().rev().copied().collect();
    let mut counts = [0_usize; 3];
    for number in 0..4_000 {
        let candidates = if number % 2 == 0 { &forward } else { &backward };
        counts[candidates[policy.pick(candidates, None, &mut chance)].index] += 1;
    }
    assert_eq!(counts, [2_000, 1_000, 1_000]);
}

#[test]
fn round_robin_forgets_a_debt_from_heavier_days() {
    let policy = build(&PolicySettings::RoundRobin {}, 2);
    let mut chance = Chance::seeded(1);
    for _ in 0..3 {
        policy.pick(&weighted(&[1_000.0, 900.0]), None, &mut chance);
    }
    let light = weighted(&[1.0, 1.0]);
    let mut counts = [0_usize; 2];
    for _ in 0..20 {
        counts[policy.pick(&light, None, &mut chance)] += 1;
    }
    assert!(counts.iter().all(|count| *count >= 8), "{counts:?}");
}

#[test]
fn round_robin_stays_fair_after_thousands_of_departed_servers() {
    let policy = build(&PolicySettings::RoundRobin {}, 2);
    let mut chance = Chance::seeded(1);
    for generation in 0..5_000 {
        let pair = [load(0, 1.0, 0), load(generation + 1, 1.0, 0)];
        policy.pick(&pair, None, &mut chance);
    }
    let found = counts(&*policy, &[load(0, 1.0, 0), load(9_999, 1.0, 0)], 1_000);
    assert!(found.iter().all(|count| count.abs_diff(500) <= 2), "{found:?}");
}

#[test]
fn least_requests_takes_the_least_loaded_by_weight() {
    let policy = build(&PolicySettings::LeastRequests {}, 3);
    let mut chance = Chance::seeded(1);
    assert_eq!(policy.pick(&loads(&[3, 1, 2]), None, &mut chance), 1);
    // 4 of weight 4 is less than 2 of weight 1.
    assert_eq!(policy.pick(&[load(0, 1.0, 2), load(1, 4.0, 4)], None, &mut chance), 1);
}

#[test]
fn least_requests_rotates_exactly_among_ties() {
    let found = counts(&*build(&PolicySettings::LeastRequests {}, 4), &loads(&[1, 0, 0, 1]), 1_000);
    assert_eq!(found, [0, 500, 500, 0]);
}

#[test]
fn power_of_two_always_sees_both_of_a_pair() {
    let found = counts(&*build(&PolicySettings::PowerOfTwo {}, 2), &loads(&[5, 4]), 1_000);
    assert_eq!(found, [0, 1_000]);
}

#[test]
fn power_of_two_never_takes_the_most_loaded_and_mostly_the_least() {
    // The least loaded of four is in half of all pairs, the next in a third of them without it, and so on.
    let found = percent(&counts(&*build(&PolicySettings::PowerOfTwo {}, 4), &loads(&[3, 2, 1, 0]), 60_000));
    assert!(near(&found, &[0, 17, 33, 50]), "{found:?}");
}

#[test]
fn peak_ewma_weighs_latency_by_load() {
    let policy = build(&PolicySettings::PeakEwma { decay_ms: 10_000 }, 2);
    let mut chance = Chance::seeded(1);
    let mut pick =
        |in_flight: [u32; 2]| policy.pick(&with_latencies(loads(&in_flight), &[10_000.0, 30_000.0]), None, &mut chance);
    assert_eq!(pick([0, 0]), 0);
    assert_eq!(pick([1, 0]), 0);
    // 10 ms x 4 is more than 30 ms x 1.
    assert_eq!(pick([3, 0]), 1);
}

#[test]
fn a_server_without_latency_is_tried_but_not_flooded() {
    for settings in [PolicySettings::PeakEwma { decay_ms: 10_000 }, PolicySettings::Prequal { quantile: 0.84 }] {
        let policy = build(&settings, 3);
        let mut chance = Chance::seeded(1);
        let mut in_flight = [2_u32, 2, 0];
        for _ in 0..30 {
            let picked = policy.pick(&with_latencies(loads(&in_flight), &[5_000.0, 5_000.0, 0.0]), None, &mut chance);
            in_flight[picked] += 1;
        }
        assert!(in_flight.iter().max().unwrap() - in_flight.iter().min().unwrap() <= 1, "{settings:?}: {in_flight:?}");
    }
}

#[test]
fn peak_ewma_compares_two_in_a_large_pool() {
    let mut candidates = loads(&[0; 40]);
    for candidate in &mut candidates {
        candidate.latency_us = if candidate.index < 20 { 1_000.0 } else { 9_000.0 };
    }
    let found = counts(&*build(&PolicySettings::PeakEwma { decay_ms: 10_000 }, 40), &candidates, 40_000);
    let fast: usize = found[..20].iter().sum();
    // A slow one wins only against another slow one: 20 x 19 of 40 x 39 pairs.
    assert!(fast.abs_diff(30_256) < 400, "{fast}");
}

#[test]
fn prequal_prefers_the_fastest_cold_server() {
    let policy = build(&PolicySettings::Prequal { quantile: 0.84 }, 4);
    let mut chance = Chance::seeded(1);
    let mut pick = |in_flight: [u32; 4]| {
        policy.pick(&with_latencies(loads(&in_flight), &[40_000.0, 10_000.0, 20_000.0, 31_000.0]), None, &mut chance)
    };
    assert_eq!(pick([1, 1, 1, 1]), 1);
    // The fastest alone is ahead of the others, so it is hot.
    assert_eq!(pick([1, 2, 1, 1]), 2);
    // Being a little behind does not matter to a cold server: latency decides.
    assert_eq!(pick([0, 1, 1, 3]), 1);
}

#[test]
fn prequal_with_quantile_zero_looks_at_load_only() {
    let policy = build(&PolicySettings::Prequal { quantile: 0.0 }, 3);
    let candidates = with_latencies(loads(&[1, 0, 1]), &[1_000.0, 90_000.0, 1_000.0]);
    assert_eq!(counts(&*policy, &candidates, 100), [0, 100, 0]);
}

#[test]
fn prequal_takes_latencies_within_a_half_as_equal() {
    let policy = build(&PolicySettings::Prequal { quantile: 1.0 }, 3);
    let candidates = with_latencies(loads(&[2, 1, 0]), &[10_000.0, 14_900.0, 15_100.0]);
    assert_eq!(counts(&*policy, &candidates, 100), [0, 100, 0]);
}

#[test]
fn prequal_samples_a_large_pool() {
    let mut candidates = loads(&[1; 64]);
    for candidate in &mut candidates {
        candidate.latency_us = 10_000.0 * 2.0_f64.powf(candidate.index as f64);
    }
    let found = counts(&*build(&PolicySettings::Prequal { quantile: 0.84 }, 64), &candidates, 40_000);
    // The best of 64 is among a random 16 in a quarter of the picks, the second in a quarter of the rest.
    assert!(found[0].abs_diff(10_000) < 300 && found[1].abs_diff(7_619) < 300, "{found:?}");
}

// Hash

#[test]
fn a_key_keeps_its_server_and_only_the_keys_of_a_lost_server_move() {
    let policy = build(&PolicySettings::Hash { bound: 1.25 }, 5);
    let mut chance = Chance::seeded(1);
    let five = loads(&[0; 5]);
    let four: Vec<Load> = five.iter().filter(|load| load.index != 2).copied().collect();
    let mut moved = 0;
    for number in 0..10_000_u32 {
        let key = Some(hash_key(&number.to_le_bytes()));
        let before = five[policy.pick(&five, key, &mut chance)].index;
        let after = four[policy.pick(&four, key, &mut chance)].index;
        if before == 2 {
            moved += 1;
        } else {
            assert_eq!(before, after);
        }
    }
    assert!((1_850..2_150).contains(&moved), "{moved}");
}

#[test]
fn a_heavier_server_takes_keys_and_gives_none_to_others() {
    let policy = build(&PolicySettings::Hash { bound: 1.25 }, 3);
    let mut chance = Chance::seeded(1);
    for number in 0..10_000_u32 {
        let key = Some(hash_key(&number.to_le_bytes()));
        let before = policy.pick(&weighted(&[1.0, 1.0, 1.0]), key, &mut chance);
        let after = policy.pick(&weighted(&[1.0, 2.0, 1.0]), key, &mut chance);
        assert!(before == after || after == 1);
    }
}

#[test]
fn one_popular_key_spreads_within_the_bound() {
    for (bound, most) in [(1.25, 13), (2.0, 20), (f64::INFINITY, 40)] {
        let policy = build(&PolicySettings::Hash { bound }, 4);
        let mut chance = Chance::seeded(1);
        let mut in_flight = [0_u32; 4];
        for _ in 0..40 {
            in_flight[policy.pick(&loads(&in_flight), Some(7), &mut chance)] += 1;
        }
        assert_eq!(in_flight.iter().max(), Some(&most), "{bound}: {in_flight:?}");
    }
}

#[test]
fn a_bound_below_one_still_finds_a_server() {
    for bound in [0.0, -3.0, f64::NAN] {
        let policy = build(&PolicySettings::Hash { bound }, 4);
        let mut in_flight = [0_u32; 4];
        for _ in 0..40 {
            in_flight[policy.pick(&loads(&in_flight), Some(7), &mut Chance::seeded(1))] += 1;
        }
        assert_eq!(in_flight, [10; 4], "{bound}");
    }
}

#[test]
fn requests_without_a_key_are_spread() {
    let policy = build(&PolicySettings::Hash { bound: 1.25 }, 4);
    let mut chance = Chance::seeded(1);
    let mut counts = [0_usize; 4];
    for _ in 0..40_000 {
        counts[policy.pick(&loads(&[0; 4]), None, &mut chance)] += 1;
    }
    assert!(near(&percent(&counts), &[25; 4]), "{counts:?}");
}

#[test]
fn key_hashes_never_change() {
    for (bytes, expected) in HASHES {
        assert_eq!(hash_key(bytes), *expected, "{bytes:?}: {:#018x}", hash_key(bytes));
    }
    assert_ne!(hash_key(b"a\0"), hash_key(b"a"));
}

const HASHES: &[(&[u8], u64)] =
    &[(b"", 0xa706_dd2f_4d19_7e6f), (b"app-1", 0x51dc_4001_7ebb_400e), (b"2001:db8::1", 0x2952_30e9_0a27_d4c9)];

// Anything goes in, a position comes out

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), Just(f64::NAN), Just(0.0), Just(f64::INFINITY), 0.01..100.0]
}

fn any_loads() -> impl Strategy<Value = Vec<Load>> {
    let any_load = (any::<usize>(), any::<u64>(), any_number(), any::<u32>(), any::<u32>(), any_number()).prop_map(
        |(index, identity, weight, in_flight, limit, latency_us)| Load {
            index,
            identity,
            weight,
            in_flight,
            limit,
            latency_us,
        },
    );
    prop::collection::vec(any_load, 1..80)
}

proptest! {
    #[test]
    fn every_pick_is_in_range(candidates in any_loads(), key in any::<Option<u64>>(), seed in any::<u64>(), setting in any_number()) {
        let mut chance = Chance::seeded(seed);
        let weird = [PolicySettings::Prequal { quantile: setting }, PolicySettings::Hash { bound: setting }];
        for settings in all_settings().iter().chain(&weird) {
            let policy = build(settings, candidates.len());
            for _ in 0..5 {
                prop_assert!(policy.pick(&candidates, key, &mut chance) < candidates.len(), "{:?}", settings);
            }
            prop_assert_eq!(policy.pick(&[], key, &mut chance), 0);
            prop_assert_eq!(policy.pick(&candidates[..1], key, &mut chance), 0);
        }
    }

    #[test]
    fn round_robin_is_exact_over_a_period(weights in prop::collection::vec(1_u32..20, 1..12)) {
        let policy = build(&PolicySettings::RoundRobin {}, weights.len());
        let candidates = weighted(&weights.iter().map(|weight| f64::from(*weight)).collect::<Vec<_>>());
        let period: u32 = weights.iter().sum();
        let mut chance = Chance::seeded(1);
        for _ in 0..3 {
            let mut counts = vec![0; weights.len()];
            for _ in 0..period {
                counts[policy.pick(&candidates, None, &mut chance)] += 1;
            }
            prop_assert_eq!(&counts, &weights);
        }
    }

    #[test]
    fn the_bound_holds_for_any_keys(keys in prop::collection::vec(any::<u64>(), 1..200), bound in 1.0..3.0_f64, servers in 2_usize..9) {
        let policy = build(&PolicySettings::Hash { bound }, servers);
        let mut in_flight = vec![0_u32; servers];
        for (placed, key) in keys.iter().enumerate() {
            let picked = policy.pick(&loads(&in_flight), Some(*key), &mut Chance::seeded(1));
            in_flight[picked] += 1;
            let most = (bound * (placed + 1) as f64 / servers as f64).ceil();
            prop_assert!(f64::from(in_flight[picked]) <= most);
        }
    }
}
