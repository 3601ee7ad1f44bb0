use super::*;

const SECOND: u64 = 1_000_000;

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= expected.abs() * 1e-6, "found {found}, expected {expected}");
}

#[test]
fn nothing_recorded_is_nothing_known() {
    close(PeakEwma::new(10 * SECOND).read(5), 0.0);
    close(LatencyAtInFlight::new().read(3, 5), 0.0);
}

#[test]
fn a_peak_counts_at_once_and_fades_with_later_answers() {
    let tracker = PeakEwma::new(10 * SECOND);
    tracker.record(SECOND, 10_000);
    tracker.record(2 * SECOND, 90_000);
    close(tracker.read(2 * SECOND), 90_000.0);
    tracker.record(12 * SECOND, 10_000);
    close(tracker.read(12 * SECOND), 10_000.0 + 80_000.0 / std::f64::consts::E);
}

#[test]
fn an_estimate_without_answers_decays_until_it_says_nothing() {
    let tracker = PeakEwma::new(10 * SECOND);
    tracker.record(SECOND, 80_000);
    close(tracker.read(11 * SECOND), 80_000.0 / std::f64::consts::E);
    close(tracker.read(60 * SECOND), 0.0);
    tracker.record(60 * SECOND, 5_000);
    assert!((5_000.0..6_000.0).contains(&tracker.read(60 * SECOND)));
}

#[test]
fn a_clock_that_steps_back_a_little_does_no_harm() {
    let tracker = PeakEwma::new(10 * SECOND);
    tracker.record(5 * SECOND, 10_000);
    tracker.record(4 * SECOND, 5_000);
    close(tracker.read(4 * SECOND), 10_000.0);
    let tracker = LatencyAtInFlight::new();
    tracker.record(1, 10_000, 5 * SECOND);
    close(tracker.read(1, 4 * SECOND), 10_000.0);
}

#[test]
fn failing_fast_does_not_look_fast() {
    let (good, bad) = (PeakEwma::new(10 * SECOND), PeakEwma::new(10 * SECOND));
    for number in 1..50 {
        good.record(number * 10_000, 20_000);
        bad.record(number * 10_000, 1_000);
        bad.record_failure(number * 10_000);
    }
    // Every second request fails: twenty times faster is not enough to win by far.
    assert!(bad.read(500_000) > 10_000.0, "{}", bad.read(500_000));
    for number in 50..100 {
        bad.record_failure(number * 10_000);
    }
    assert!(bad.read(SECOND) > good.read(SECOND));
}

#[test]
fn a_server_that_only_fails_looks_bad_until_time_heals() {
    let peak = PeakEwma::new(10 * SECOND);
    let prequal = LatencyAtInFlight::new();
    for number in 0..20 {
        peak.record_failure(number * 1_000);
        prequal.record_failure(number * 1_000);
    }
    assert!(peak.read(SECOND) > 20.0 * ASSUMED_US);
    assert!(prequal.read(0, SECOND) > 20.0 * ASSUMED_US);
    close(peak.read(60 * SECOND), 0.0);
    close(prequal.read(0, 60 * SECOND), 0.0);
}

#[test]
fn successes_heal_faster_than_time() {
    let tracker = LatencyAtInFlight::new();
    tracker.record(0, 10_000, SECOND);
    tracker.record_failure(SECOND);
    close(tracker.read(0, SECOND), 10_000.0 * (1.0 + 30.0 / 8.0));
    for _ in 0..20 {
        tracker.record(0, 10_000, SECOND);
    }
    close(tracker.read(0, SECOND), 10_000.0);
}

#[test]
fn the_median_ignores_a_stray() {
    let tracker = LatencyAtInFlight::new();
    for latency in [10_000, 11_000, 900_000, 12_000, 10_500] {
        tracker.record(2, latency, SECOND);
    }
    close(tracker.read(2, SECOND), 11_000.0);
}

#[test]
fn the_nearest_number_in_flight_answers() {
    let tracker = LatencyAtInFlight::new();
    tracker.record(0, 10_000, SECOND);
    tracker.record(3, 30_000, SECOND);
    tracker.record(20, 100_000, SECOND);
    for (in_flight, expected) in
        [(0, 10_000.0), (1, 10_000.0), (2, 30_000.0), (3, 30_000.0), (16, 100_000.0), (u32::MAX, 100_000.0)]
    {
        close(tracker.read(in_flight, SECOND), expected);
    }
    // At equal distance the busier one.
    let tracker = LatencyAtInFlight::new();
    tracker.record(1, 10_000, SECOND);
    tracker.record(3, 30_000, SECOND);
    close(tracker.read(2, SECOND), 30_000.0);
}

#[test]
fn only_recent_answers_count() {
    let tracker = LatencyAtInFlight::new();
    tracker.record(0, 90_000, SECOND);
    tracker.record(5, 20_000, 9 * SECOND);
    close(tracker.read(0, 10 * SECOND), 90_000.0);
    close(tracker.read(0, 13 * SECOND), 20_000.0);
    close(tracker.read(0, 30 * SECOND), 0.0);
    // The old sample is not part of the new median either.
    tracker.record(0, 5_000, 30 * SECOND);
    close(tracker.read(0, 30 * SECOND), 5_000.0);
}

#[test]
fn only_the_last_answers_count() {
    let tracker = LatencyAtInFlight::new();
    for latency in [90_000; 8].into_iter().chain([10_000; 8]) {
        tracker.record(0, latency, SECOND);
    }
    close(tracker.read(0, SECOND), 10_000.0);
}

#[test]
fn groups_are_in_order_and_complete() {
    let groups: Vec<usize> =
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 24, 127, 128, 191, 192, u32::MAX].map(group_of).into();
    assert_eq!(groups, [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 8, 9, 13, 14, 14, 15, 15]);
    assert!((0..300).is_sorted_by_key(group_of));
}

#[test]
fn extreme_values_stay_finite() {
    let peak = PeakEwma::new(0);
    peak.record(u64::MAX, u64::MAX);
    peak.record_failure(0);
    assert!(peak.read(u64::MAX).is_finite() && peak.read(0).is_finite());
    let prequal = LatencyAtInFlight::new();
    prequal.record(u32::MAX, u64::MAX, u64::MAX);
    prequal.record(0, 0, 0);
    close(prequal.read(u32::MAX, u64::MAX), f64::from(u32::MAX));
}

#[test]
fn threads_share_a_tracker() {
    let (peak, prequal) = (PeakEwma::new(SECOND), LatencyAtInFlight::new());
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (peak, prequal) = (&peak, &prequal);
            scope.spawn(move || {
                for number in 0..5_000_u64 {
                    peak.record(number, 1_000 + thread);
                    prequal.record((number % 7) as u32, 1_000 + thread, number);
                    if number % 16 == thread {
                        peak.record_failure(number);
                        prequal.record_failure(number);
                    }
                }
            });
        }
    });
    for in_flight in 0..7 {
        // A failure or two may not be healed yet.
        assert!((1_000.0..40_000.0).contains(&prequal.read(in_flight, 5_000)));
    }
    assert!((1_000.0..40_000.0).contains(&peak.read(5_000)));
}
