use super::*;

fn settings(rise: u32, fall: u32) -> ActiveSettings {
    ActiveSettings {
        kind: Kind::Http,
        path: "/healthz".to_owned(),
        expect: vec![(200, 399)],
        interval_ms: 1_000,
        timeout_ms: 500,
        rise,
        fall,
    }
}

fn fail() -> ProbeResult {
    ProbeResult::Fail("connection refused".to_owned())
}

#[test]
fn settings_are_read_and_unknown_keys_refused() {
    let text = r#"{"kind": "http", "path": "/healthz", "expect": [[200, 399]], "interval_ms": 1000, "timeout_ms": 500, "rise": 2, "fall": 3}"#;
    assert_eq!(serde_json::from_str::<ActiveSettings>(text).unwrap(), settings(2, 3));
    assert!(serde_json::from_str::<ActiveSettings>(&text.replace("rise", "rises")).is_err());
    assert!(serde_json::from_str::<ActiveSettings>(&text.replace("\"http\"", "\"udp\"")).is_err());
}

#[test]
fn the_first_check_of_an_unknown_server_decides() {
    let settings = settings(2, 3);
    let mut server = RiseFall::new(false);
    assert_eq!(server.verdict(), None);
    assert_eq!(server.observe(ProbeResult::Busy, &settings), None);
    assert_eq!(server.verdict(), None);
    assert_eq!(server.observe(ProbeResult::Pass, &settings), Some(true));
    let mut server = RiseFall::new(false);
    assert_eq!(server.observe(fail(), &settings), Some(false));
    assert_eq!(server.failure(), "connection refused");
}

#[test]
fn it_takes_fall_failures_in_a_row_to_go_down_and_rise_passes_to_come_back() {
    let settings = settings(2, 3);
    let mut server = RiseFall::new(true);
    assert_eq!(server.verdict(), Some(true));
    for result in [fail(), fail(), ProbeResult::Pass, fail(), fail()] {
        assert_eq!(server.observe(result, &settings), None);
    }
    assert_eq!(server.observe(fail(), &settings), Some(false));
    for result in [fail(), ProbeResult::Pass, fail(), ProbeResult::Pass] {
        assert_eq!(server.observe(result, &settings), None);
    }
    assert_eq!(server.observe(ProbeResult::Pass, &settings), Some(true));
}

#[test]
fn busy_neither_counts_nor_interrupts() {
    let settings = settings(2, 2);
    let mut server = RiseFall::new(true);
    for _ in 0..100 {
        assert_eq!(server.observe(ProbeResult::Busy, &settings), None);
    }
    assert_eq!(server.verdict(), Some(true));
    assert_eq!(server.observe(fail(), &settings), None);
    assert_eq!(server.observe(ProbeResult::Busy, &settings), None);
    assert_eq!(server.observe(fail(), &settings), Some(false));
}

#[test]
fn thresholds_of_zero_count_as_one() {
    let settings = settings(0, 0);
    let mut server = RiseFall::new(true);
    assert_eq!(server.observe(fail(), &settings), Some(false));
    assert_eq!(server.observe(ProbeResult::Pass, &settings), Some(true));
}

#[test]
fn a_probe_is_one_complete_request() {
    let text = String::from_utf8(probe_request("/healthz?deep=1")).unwrap();
    assert!(text.starts_with("GET /healthz?deep=1 HTTP/1.1\r\nHost: localhost\r\n"), "{text}");
    assert!(text.ends_with("\r\nConnection: close\r\n\r\n"), "{text}");
}

#[test]
fn a_path_cannot_break_out_of_the_request_line() {
    for (path, expected) in [
        ("", "/"),
        ("healthz", "/healthz"),
        ("/a b", "/a%20b"),
        ("/a\r\nX: y", "/a%0D%0AX:%20y"),
        ("/\u{e4}#top", "/%C3%A4%23top"),
        ("/%20", "/%20"),
    ] {
        let request = probe_request(path);
        let line = request.split(|byte| *byte == b'\r').next().unwrap();
        assert_eq!(line, format!("GET {expected} HTTP/1.1").as_bytes(), "{path:?}");
    }
}

#[test]
fn answers_are_judged_by_status() {
    let ranges = [(200, 299), (404, 404)];
    let passes: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 204\r\n",
        b"HTTP/1.1 404 Not Found\r\n",
        b"HTTP/1.1 299 \r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ];
    for head in passes {
        assert_eq!(judge_response(head, &ranges), ProbeResult::Pass, "{}", String::from_utf8_lossy(head));
    }
    let fails: [(&[u8], &str); 8] = [
        (b"HTTP/1.1 503 Service Unavailable\r\n", "answered 503, expected 200-299,404"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "closed the connection without an answer"),
        (b"HTTP/1.1 103 Early Hints\r\n", "answered 103, expected 200-299,404"),
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 20", "did not answer with HTTP/1.x: \"HTTP/1.1 20\""),
        (b"HTTP/1.1 2000 OK\r\n", "did not answer with HTTP/1.x: \"HTTP/1.1 2000 OK\""),
        (b"HTTP/1.1 099 x\r\n", "did not answer with HTTP/1.x: \"HTTP/1.1 099 x\""),
        (b"SSH-2.0-\x01\xff\r\n", "did not answer with HTTP/1.x: \"SSH-2.0-..\""),
    ];
    for (head, reason) in fails {
        assert_eq!(judge_response(head, &ranges), ProbeResult::Fail(reason.to_owned()));
    }
    assert!(matches!(judge_response(b"HTTP/1.1 200 OK\r\n", &[]), ProbeResult::Fail(_)));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_judged(head: Vec<u8>, expect: Vec<(u16, u16)>) {
        let _ = judge_response(&head, &expect);
    }

    #[test]
    fn any_path_makes_one_request_line(path: String) {
        let request = probe_request(&path);
        let line = request.split(|byte| *byte == b'\n').next().unwrap();
        proptest::prop_assert!(line.ends_with(b" HTTP/1.1\r"));
        proptest::prop_assert_eq!(line.iter().filter(|byte| **byte == b' ').count(), 2);
    }
}
