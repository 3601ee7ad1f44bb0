//! Monotonic time as plain numbers, so that atomics can hold it and tests can hand it in.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();

/// Microseconds since the first call in this process.
pub fn now_us() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// Milliseconds since the first call of `now_us`.
pub fn now_ms() -> u64 {
    now_us() / 1000
}

/// The instant that `now_us` called `us`.
pub fn instant(us: u64) -> tokio::time::Instant {
    (*START.get_or_init(Instant::now) + Duration::from_micros(us)).into()
}

/// Writes the current date as HTTP wants it (RFC 9110, section 5.6.7), for example `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(out: &mut Vec<u8>, unix_s: u64) {
    use std::io::Write;
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day) = civil(unix_s / 86_400);
    let (weekday, second) = (DAYS[(unix_s / 86_400 % 7) as usize], unix_s % 86_400);
    let month = MONTHS[month as usize - 1];
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{weekday}, {day:02} {month} {year:04} {h:02}:{m:02}:{s:02} GMT");
}

/// Year, month and day of a count of days since 1970-01-01 (Gregorian calendar, years of 400-year eras).
pub fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_known_instants() {
        for (unix_s, expected) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            let mut out = Vec::new();
            http_date(&mut out, unix_s);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
