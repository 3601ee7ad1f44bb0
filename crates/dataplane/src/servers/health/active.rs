//! Active checks: what is asked, what counts as an answer, and how many answers turn a server up or down.

use serde::Deserialize;

/// How a pool's servers are checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActiveSettings {
    pub kind: Kind,
    /// Asked for by the http check.
    pub path: String,
    /// Statuses that pass the http check: ranges with both ends included.
    pub expect: Vec<(u16, u16)>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// Passed checks in a row that bring a server up again.
    pub rise: u32,
    /// Failed checks in a row that take a server down.
    pub fall: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A GET request must be answered with an expected status.
    Http,
    /// A connection must be accepted.
    Tcp,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeResult {
    Pass,
    /// With the reason, for a person. A refused connection is always a failure.
    Fail(String),
    /// No answer in time from a server that has requests in flight. It says nothing: a busy server must not be taken
    /// down for being busy, or its load would fall on the others and take them down in turn.
    Busy,
}

/// Counts checks in a row.
///
/// The first check of a server about which nothing is known decides at once; after that it takes `rise` or `fall` of them.
#[derive(Debug, Clone)]
pub struct RiseFall {
    verdict: Option<bool>,
    /// Checks in a row that contradict the verdict.
    against: u32,
    failure: String,
}

impl RiseFall {
    /// `initially_up` for a server known to be ready; else its first check decides.
    pub fn new(initially_up: bool) -> Self {
        Self { verdict: initially_up.then_some(true), against: 0, failure: String::new() }
    }

    /// Takes a result in; answers `Some` when the server is now up or down and was not before.
    pub fn observe(&mut self, result: ProbeResult, settings: &ActiveSettings) -> Option<bool> {
        let passed = match result {
            ProbeResult::Pass => true,
            ProbeResult::Fail(reason) => {
                self.failure = reason;
                false
            }
            ProbeResult::Busy => return None,
        };
        if self.verdict == Some(passed) {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        let needed = match self.verdict {
            None => 1,
            Some(_) if passed => settings.rise,
            Some(_) => settings.fall,
        };
        if self.against < needed {
            return None;
        }
        (self.verdict, self.against) = (Some(passed), 0);
        self.verdict
    }

    /// Up, down, or not known yet: what `state::Member::active_up` wants.
    pub fn verdict(&self) -> Option<bool> {
        self.verdict
    }

    /// Why the last failed check failed; empty when none did.
    pub fn failure(&self) -> &str {
        &self.failure
    }
}

/// The bytes of an http check. The connection is closed afterwards: a check also proves that connecting works.
///
/// Bytes that cannot stand in a request line are percent-encoded, so a path can never smuggle a second line.
pub fn probe_request(path: &str) -> Vec<u8> {
    let mut request = b"GET ".to_vec();
    if !path.starts_with('/') {
        request.push(b'/');
    }
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && byte != b'#' {
            request.push(byte);
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            request.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    request.extend(
        b" HTTP/1.1\r\nHost: localhost\r\nUser-Agent: trimaran-health\r\nAccept: */*\r\nConnection: close\r\n\r\n",
    );
    request
}

/// Judges the beginning of an answer by its status; informational answers (1xx) before it are skipped.
pub fn judge_response(head: &[u8], expect: &[(u16, u16)]) -> ProbeResult {
    let mut rest = head;
    loop {
        let Some(status) = status_of(rest) else {
            return ProbeResult::Fail(describe_garbage(rest));
        };
        if expect.iter().any(|(low, high)| (*low..=*high).contains(&status)) {
            return ProbeResult::Pass;
        }
        match rest.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(end) if (100..200).contains(&status) => rest = &rest[end + 4..],
            _ => {
                return ProbeResult::Fail(format!("answered {status}, expected {}", Ranges(expect)));
            }
        }
    }
}

/// The status of a line `HTTP/1.1 200 OK`, whose reason may be missing.
fn status_of(head: &[u8]) -> Option<u16> {
    let line = head.strip_prefix(b"HTTP/1.")?;
    let [minor, b' ', digits @ ..] = line else {
        return None;
    };
    let (code, after) = digits.split_at_checked(3)?;
    let complete = matches!(after.first(), Some(b' ' | b'\r' | b'\n'));
    if !complete || !minor.is_ascii_digit() || !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let status = code.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    (status >= 100).then_some(status)
}

fn describe_garbage(head: &[u8]) -> String {
    if head.is_empty() {
        return "closed the connection without an answer".to_owned();
    }
    let start: String = head
        .iter()
        .take(40)
        .take_while(|byte| !matches!(byte, b'\r' | b'\n'))
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
        .collect();
    format!("did not answer with HTTP/1.x: {start:?}")
}

/// Ranges as in the configuration: `200-399,404`.
struct Ranges<'a>(&'a [(u16, u16)]);

impl std::fmt::Display for Ranges<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (low, high)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if low == high { write!(out, "{comma}{low}")? } else { write!(out, "{comma}{low}-{high}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "active_tests.rs"]
mod tests;
