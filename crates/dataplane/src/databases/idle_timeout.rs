//! `idle_session_timeout`: a session that is idle outside a transaction for so long is ended, whichever connection serves it.
//!
//! The gateway keeps the time itself. Server connections do not get the setting, or those of the pool would end one after the
//! other: only a statement that may ask for it runs where it is set, and that connection serves nobody after it.

use std::time::Duration;

use super::plan::Effect;
use super::protocol::report::Report;
use super::settings::Settings;
use super::survey::Survey;

pub const NAME: &str = "idle_session_timeout";
/// What a statement has that may ask for a setting, in lower case.
const ASKS: [&str; 4] = [NAME, "current_setting", "pg_settings", "show_all_settings"];

/// The limit of a session with these settings; zero where there is none. `None`: the value cannot be read here.
pub fn limit(settings: &Settings) -> Option<Duration> {
    settings.get(NAME).map_or(Some(Duration::ZERO), |statement| duration(&value(statement)?))
}

/// Whether a request may ask for the setting or change it.
pub fn is_asked(survey: &Survey<'_>) -> bool {
    survey.runs.iter().any(|entry| {
        let text = entry.text.to_ascii_lowercase();
        ASKS.iter().any(|word| text.contains(word))
    }) || survey.effects().any(|effect| matches!(effect, Effect::Show { name } if name == "all"))
}

/// Whether a connection may have the setting after a request of a session with these settings.
pub fn is_left(survey: &Survey<'_>, settings: &Settings) -> bool {
    survey.effects().any(|effect| matches!(effect, Effect::Set { name, .. } if name == NAME))
        || settings.get(NAME).is_some() && is_asked(survey)
}

pub fn report() -> Report {
    Report::fatal("57P05", "terminating connection due to idle-session timeout")
}

/// The value in a statement that sets it: the last literal.
fn value(statement: &str) -> Option<String> {
    let statement = statement.trim_end().trim_end_matches(';').trim_end();
    if let Some(end) = statement.rfind('\'') {
        let begin = statement[..end].rfind('\'')?;
        return Some(statement[begin + 1..end].to_owned());
    }
    let last = statement.rsplit(|c: char| c.is_whitespace() || c == '=').next()?;
    Some(last.to_owned())
}

/// A time as PostgreSQL reads it: milliseconds, unless there is a unit.
fn duration(value: &str) -> Option<Duration> {
    let value = value.trim();
    let end = value.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(value.len());
    let (number, unit) = value.split_at(end);
    let factor = match unit.trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1e3,
        "min" => 60e3,
        "h" => 3_600e3,
        "d" => 86_400e3,
        _ => return None,
    };
    let milliseconds = number.parse::<f64>().ok()? * factor;
    (milliseconds <= f64::from(i32::MAX)).then(|| Duration::from_millis(milliseconds.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::super::settings::statement_for;
    use super::*;

    #[test]
    fn limits_of_statements() {
        for (statement, milliseconds) in [
            ("SET idle_session_timeout = 1500", 1500),
            ("SET idle_session_timeout=1500;", 1500),
            ("set session idle_session_timeout to '2s'", 2000),
            ("SET idle_session_timeout TO '1.5 min'", 90_000),
            (&statement_for(NAME, "500ms"), 500),
            (&statement_for(NAME, "1h"), 3_600_000),
        ] {
            let mut settings = Settings::default();
            settings.set(NAME, statement);
            assert_eq!(limit(&settings), Some(Duration::from_millis(milliseconds)), "{statement}");
        }
        let mut settings = Settings::default();
        assert_eq!(limit(&settings), Some(Duration::ZERO));
        settings.set(NAME, "SET idle_session_timeout = 0");
        assert_eq!(limit(&settings), Some(Duration::ZERO));
        settings.set(NAME, "SET idle_session_timeout = '0x10'");
        assert_eq!(limit(&settings), None);
    }
}
