//! What an `ErrorResponse` or a `NoticeResponse` says, owned, so that it can be kept and passed on.

use std::fmt;

use super::ProtocolError;
use super::fields::ReportFields;
use super::messages::message;
use super::tag::to_client;

/// Classes of trouble that the gateway itself reports (PostgreSQL 18, appendix A).
pub mod sqlstate {
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    pub const CONNECTION_FAILURE: &str = "08006";
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    pub const INTERNAL_ERROR: &str = "XX000";
    pub const INVALID_AUTHORIZATION: &str = "28000";
    pub const INVALID_PASSWORD: &str = "28P01";
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    pub const QUERY_CANCELED: &str = "57014";
    pub const READ_ONLY_TRANSACTION: &str = "25006";
    pub const SYNTAX_ERROR: &str = "42601";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    pub const UNDEFINED_DATABASE: &str = "3D000";
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
    Panic,
    Warning,
    Notice,
    /// `DEBUG`, `INFO` and `LOG`.
    Detail,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Detail => "LOG",
        }
    }

    pub(super) fn parse(text: &[u8]) -> Self {
        match text {
            b"FATAL" => Self::Fatal,
            b"PANIC" => Self::Panic,
            b"WARNING" => Self::Warning,
            b"NOTICE" => Self::Notice,
            b"DEBUG" | b"INFO" | b"LOG" => Self::Detail,
            // Also what is unknown: that it did not work is the safe reading.
            _ => Self::Error,
        }
    }
}

/// An error or a notice, with the fields that a client shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub severity: Severity,
    /// The SQLSTATE, five characters.
    pub code: String,
    pub message: String,
    /// Empty when there is none, as is the hint.
    pub detail: String,
    pub hint: String,
}

impl Report {
    pub fn new(severity: Severity, code: &str, message: impl Into<String>) -> Self {
        Self { severity, code: code.to_owned(), message: message.into(), detail: String::new(), hint: String::new() }
    }

    pub fn fatal(code: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Fatal, code, message)
    }

    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Reads an `ErrorResponse` or a `NoticeResponse`. Bytes that are not UTF-8 are shown as U+FFFD.
    pub fn read(message: &[u8]) -> Result<Self, ProtocolError> {
        let fields = ReportFields::read(message)?;
        let text = |kind| String::from_utf8_lossy(fields.get(kind).unwrap_or_default()).into_owned();
        Ok(Self {
            severity: fields.severity(),
            code: text(b'C'),
            message: text(b'M'),
            detail: text(b'D'),
            hint: text(b'H'),
        })
    }

    /// Appends an `ErrorResponse`.
    pub fn write_error(&self, out: &mut Vec<u8>) {
        self.write(out, to_client::ERROR_RESPONSE);
    }

    /// Appends a `NoticeResponse`.
    pub fn write_notice(&self, out: &mut Vec<u8>) {
        self.write(out, to_client::NOTICE_RESPONSE);
    }

    fn write(&self, out: &mut Vec<u8>, tag: u8) {
        let severity = self.severity.as_str();
        message(out, tag, |contents| {
            for (kind, text) in [
                (b'S', severity),
                (b'V', severity),
                (b'C', &self.code),
                (b'M', &self.message),
                (b'D', &self.detail),
                (b'H', &self.hint),
            ] {
                if !text.is_empty() {
                    contents.byte(kind);
                    contents.text(text.as_bytes());
                }
            }
            contents.byte(0);
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (SQLSTATE {})", self.severity.as_str(), self.message, self.code)?;
        if !self.detail.is_empty() {
            write!(f, "; {}", self.detail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_the_wire() {
        let sent = Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, "no room")
            .with_detail("100 clients are connected")
            .with_hint("raise databases.main.clients_max");
        let mut out = Vec::new();
        sent.write_error(&mut out);
        assert_eq!(out[0], b'E');
        assert_eq!(Report::read(&out), Ok(sent));
    }

    #[test]
    fn a_zero_byte_in_a_text_cannot_smuggle_in_a_field() {
        let mut out = Vec::new();
        Report::error("XX000", "before\0Dfalse detail").write_error(&mut out);
        let read = Report::read(&out).unwrap();
        assert_eq!((read.message.as_str(), read.detail.as_str()), ("before", ""));
    }
}
