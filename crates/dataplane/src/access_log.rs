//! The access log: lines are made by the threads that serve and written by one thread of its own.
//!
//! The way between is bounded. When the disk cannot keep up, lines are dropped and counted; requests never wait.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock::civil;
use crate::error::Error;
use crate::servers::http::fields::Known;
use crate::snapshot::{AccessLog as Settings, AccessLogFormat};

/// Lines that may wait for the disk.
const WAITING_MAX: usize = 16_384;

/// What the log wants from a request head, copied before the head's buffer is used again.
#[derive(Debug)]
pub struct LogFields {
    method: String,
    target: String,
    host: String,
    client: IpAddr,
    protocol: &'static str,
    user_agent: String,
    referer: String,
}

/// How the request ended.
#[derive(Debug)]
pub struct Outcome<'o> {
    pub status: u16,
    pub bytes_out: u64,
    pub total_us: u64,
    /// Time in the queue.
    pub queued_us: u64,
    pub pool: &'o str,
    /// Empty when no server took part.
    pub server: &'o str,
    pub retries: u32,
    pub id: &'o str,
}

impl LogFields {
    pub fn of(
        method: &str,
        target: &str,
        host: &[u8],
        client: IpAddr,
        protocol: &'static str,
        fields: &[httparse::Header<'_>],
    ) -> Box<Self> {
        let text = |known| {
            let found = fields.iter().find(|field| Known::of(field.name.as_bytes()) == known);
            found.map_or_else(String::new, |field| String::from_utf8_lossy(field.value).into_owned())
        };
        Box::new(Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: String::from_utf8_lossy(host).into_owned(),
            client,
            protocol,
            user_agent: text(Known::UserAgent),
            referer: text(Known::Referer),
        })
    }
}

/// Takes lines from any thread. Without a file it is off.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessLogFormat,
    lines: Option<SyncSender<Vec<u8>>>,
    dropped: AtomicU64,
}

impl AccessLog {
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        if settings.format == AccessLogFormat::Off {
            return Ok(Self { format: settings.format, lines: None, dropped: AtomicU64::new(0) });
        }
        let failed = |source| Error::AccessLog { path: settings.path.clone(), source };
        let sink = if settings.path == "-" {
            Sink::Stdout(io::stdout())
        } else {
            Sink::File(OpenOptions::new().create(true).append(true).open(&settings.path).map_err(failed)?)
        };
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("access-log".into());
        thread.spawn(move || write_lines(&receiver, sink)).map_err(Error::Runtime)?;
        Ok(Self { format: settings.format, lines: Some(sender), dropped: AtomicU64::new(0) })
    }

    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Lines lost because the disk was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub fn record(&self, request: &LogFields, outcome: &Outcome<'_>) {
        let Some(lines) = &self.lines else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = match self.format {
            AccessLogFormat::Json => json_line(request, outcome, now),
            _ => combined_line(request, outcome, now),
        };
        if lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

enum Sink {
    Stdout(io::Stdout),
    File(File),
}

/// Writes what has gathered in one go. Ends when the log and with it the last sender is dropped.
fn write_lines(lines: &Receiver<Vec<u8>>, mut sink: Sink) {
    while let Ok(mut batch) = lines.recv() {
        while batch.len() < 256 * 1024 {
            let Ok(line) = lines.try_recv() else { break };
            batch.extend_from_slice(&line);
        }
        // A full disk loses log lines, never requests.
        let _ = match &mut sink {
            Sink::Stdout(out) => out.write_all(&batch).and_then(|()| out.flush()),
            Sink::File(file) => file.write_all(&batch),
        };
    }
}

fn json_line(request: &LogFields, outcome: &Outcome<'_>, now: std::time::Duration) -> Vec<u8> {
    let line = serde_json::json!({
        "time": iso_time(now),
        "client": request.client.to_string(),
        "method": request.method,
        "target": request.target,
        "protocol": request.protocol,
        "host": request.host,
        "status": outcome.status,
        "bytes": outcome.bytes_out,
        "duration_ms": outcome.total_us as f64 / 1000.0,
        "queued_ms": outcome.queued_us as f64 / 1000.0,
        "pool": outcome.pool,
        "server": outcome.server,
        "retries": outcome.retries,
        "request_id": outcome.id,
        "user_agent": request.user_agent,
        "referer": request.referer,
    });
    let mut line = line.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn iso_time(now: std::time::Duration) -> String {
    let (seconds, millis) = (now.as_secs(), now.subsec_millis());
    let (year, month, day) = civil(seconds / 86_400);
    let second = seconds % 86_400;
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{millis:03}Z")
}

/// The Combined Log Format of Apache and nginx.
fn combined_line(request: &LogFields, outcome: &Outcome<'_>, now: std::time::Duration) -> Vec<u8> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = now.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let second = seconds % 86_400;
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    let month = MONTHS[month as usize - 1];
    let dash = |text: &str| {
        if text.is_empty() { "-".to_owned() } else { quoted(text) }
    };
    format!(
        "{} - - [{day:02}/{month}/{year}:{h:02}:{m:02}:{s:02} +0000] \"{} {} {}\" {} {} \"{}\" \"{}\"\n",
        request.client,
        quoted(&request.method),
        quoted(&request.target),
        request.protocol,
        outcome.status,
        outcome.bytes_out,
        dash(&request.referer),
        dash(&request.user_agent),
    )
    .into_bytes()
}

/// Quotes, backslashes and control characters must not end a field or forge a line.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> LogFields {
        LogFields {
            method: "GET".into(),
            target: "/a\"b\n".into(),
            host: "example.com".into(),
            client: "203.0.113.7".parse().unwrap(),
            protocol: "HTTP/1.1",
            user_agent: String::new(),
            referer: "x\\y".into(),
        }
    }

    fn outcome() -> Outcome<'static> {
        Outcome {
            status: 200,
            bytes_out: 5,
            total_us: 1500,
            queued_us: 0,
            pool: "app",
            server: "app-1",
            retries: 0,
            id: "1",
        }
    }

    #[test]
    fn combined_lines_cannot_be_forged() {
        let line = combined_line(&fields(), &outcome(), std::time::Duration::from_secs(951_782_400));
        let expected =
            "203.0.113.7 - - [29/Feb/2000:00:00:00 +0000] \"GET /a\\\"b\\n HTTP/1.1\" 200 5 \"x\\\\y\" \"-\"\n";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn json_lines_parse() {
        let line = json_line(&fields(), &outcome(), std::time::Duration::from_millis(951_782_400_123));
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["time"], "2000-02-29T00:00:00.123Z");
        assert_eq!(value["target"], "/a\"b\n");
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
