use super::*;

const SETTINGS: PassiveSettings = PassiveSettings { failures: 3, base_ms: 1_000, max_ms: 60_000 };

/// Fails until it is ejected; the length of the ejection.
fn eject(server: &Passive, now_ms: u64) -> u64 {
    for _ in 0..SETTINGS.failures {
        if server.failure(&SETTINGS, now_ms) {
            return server.until_ms() - now_ms;
        }
    }
    panic!("not ejected at {now_ms}");
}

#[test]
fn settings_are_read_and_unknown_keys_refused() {
    let text = r#"{"failures": 3, "base_ms": 1000, "max_ms": 60000}"#;
    assert_eq!(serde_json::from_str::<PassiveSettings>(text).unwrap(), SETTINGS);
    assert!(serde_json::from_str::<PassiveSettings>(r#"{"failures": 3, "base_ms": 1, "max_ms": 1, "x": 1}"#).is_err());
}

#[test]
fn failures_in_a_row_eject_and_a_success_between_them_saves() {
    let server = Passive::new();
    assert!(!server.failure(&SETTINGS, 0));
    assert!(!server.failure(&SETTINGS, 1));
    server.success();
    assert!(!server.failure(&SETTINGS, 2));
    assert!(!server.failure(&SETTINGS, 3));
    assert_eq!(server.until_ms(), 0);
    assert!(server.failure(&SETTINGS, 4));
    assert_eq!(server.until_ms(), 1_004);
}

#[test]
fn zero_switches_ejection_off() {
    let server = Passive::new();
    let off = PassiveSettings { failures: 0, ..SETTINGS };
    assert!((0..100).all(|now_ms| !server.failure(&off, now_ms)));
    assert_eq!(server.until_ms(), 0);
}

#[test]
fn many_failures_at_once_are_one_ejection() {
    let server = Passive::new();
    eject(&server, 0);
    assert!((0..1_000).all(|now_ms| !server.failure(&SETTINGS, now_ms)));
    assert_eq!(server.until_ms(), 1_000);
}

#[test]
fn a_server_on_probation_is_ejected_by_one_failure_for_twice_the_time() {
    let server = Passive::new();
    let (mut now_ms, mut times) = (0, Vec::new());
    eject(&server, now_ms);
    for _ in 0..8 {
        now_ms = server.until_ms();
        assert!(server.failure(&SETTINGS, now_ms));
        times.push((server.until_ms() - now_ms) / 1_000);
    }
    assert_eq!(times, [2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn a_success_ends_probation_but_not_the_record() {
    let server = Passive::new();
    eject(&server, 0);
    server.success();
    assert!(!server.failure(&SETTINGS, 1_500));
    assert!(!server.failure(&SETTINGS, 1_500));
    assert!(server.failure(&SETTINGS, 1_500));
    assert_eq!(server.until_ms(), 3_500);
}

#[test]
fn healthy_time_undoes_doublings_one_by_one() {
    // Ejected for 1, 2 and 4 s; the next would be 8 s. Undoing the three takes 16, 8 and 4 healthy seconds.
    for (healthy_ms, next_ms) in
        [(15_999, 8_000), (16_000, 4_000), (24_000, 2_000), (28_000, 1_000), (u64::MAX / 2, 1_000)]
    {
        let server = Passive::new();
        eject(&server, 0);
        eject(&server, 1_000);
        assert_eq!(eject(&server, 3_000), 4_000);
        server.success();
        assert_eq!(eject(&server, 7_000 + healthy_ms), next_ms, "after {healthy_ms}");
    }
}

#[test]
fn idle_time_is_no_health() {
    let server = Passive::new();
    eject(&server, 0);
    assert!(server.failure(&SETTINGS, 1_000_000));
    assert_eq!(server.until_ms(), 1_002_000);
}

#[test]
fn extreme_settings_do_no_harm() {
    let endless = PassiveSettings { failures: 1, base_ms: u64::MAX, max_ms: u64::MAX };
    let server = Passive::new();
    assert!(server.failure(&endless, 5));
    assert_eq!(server.until_ms(), u64::MAX);
    let contradiction = PassiveSettings { failures: 1, base_ms: 1_000, max_ms: 10 };
    let server = Passive::new();
    let mut now_ms = 0;
    for _ in 0..200 {
        assert!(server.failure(&contradiction, now_ms));
        assert_eq!(server.until_ms(), now_ms + 1_000);
        now_ms = server.until_ms();
    }
}

#[test]
fn a_new_process_has_a_clean_record() {
    let server = Passive::new();
    eject(&server, 0);
    eject(&server, 1_000);
    server.forget();
    assert_eq!(server.until_ms(), 0);
    assert_eq!(eject(&server, 3_000), 1_000);
}

#[test]
fn threads_eject_once() {
    let server = Passive::new();
    let ejections: usize = std::thread::scope(|scope| {
        let fail = || (0..1_000).filter(|_| server.failure(&SETTINGS, 10)).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(fail)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(ejections, 1);
    assert_eq!(server.until_ms(), 1_010);
}
