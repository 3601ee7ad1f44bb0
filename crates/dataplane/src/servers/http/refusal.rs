//! Answers that the gateway gives by itself: what was wrong, as a status, a cause for the counters, and a sentence.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock::http_date;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Malformed or ambiguous; the sentence says what.
    BadRequest(&'static str),
    HeadTooLarge,
    TooManyFields,
    BodyTooLarge,
    /// The head or the body did not arrive in time.
    RequestTimeout,
    MethodNotAllowed,
    ExpectationFailed,
    TransferCodingUnknown,
    VersionNotSupported,
    NoRoute,
    /// The client has sent more than its rate allows; the seconds until it may go on.
    TooManyRequests(u32),
    /// The body could not be spooled to disk.
    SpoolFailed,
    QueueFull,
    QueueTimeout,
    /// Its turn would come too late; better said at once.
    Overloaded,
    NoServer,
    BadGateway(&'static str),
    GatewayTimeout,
}

/// Causes in the order of `Refusal::cause`; the names of the counters.
pub const CAUSES: [&str; 17] = [
    "bad_request",
    "head_too_large",
    "body_too_large",
    "timeout",
    "method",
    "version",
    "no_route",
    "spool",
    "queue_full",
    "queue_timeout",
    "bad_gateway",
    "gateway_timeout",
    "tls_handshake",
    "rate_limit",
    "connections_per_client",
    "proxy_protocol",
    "overload",
];

/// Index into `CAUSES` of a connection that failed before its first request.
pub const HANDSHAKE: usize = 12;
/// Index into `CAUSES` of a connection without the PROXY header that it should have.
pub const PROXY_HEADER: usize = 15;
/// Index into `CAUSES` of a connection too many.
pub const CONNECTIONS: usize = 14;

impl Refusal {
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::NoRoute => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::ExpectationFailed => 417,
            Self::TooManyRequests(_) => 429,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::TransferCodingUnknown => 501,
            Self::BadGateway(_) => 502,
            Self::QueueFull | Self::QueueTimeout | Self::Overloaded | Self::NoServer | Self::SpoolFailed => 503,
            Self::GatewayTimeout => 504,
            Self::VersionNotSupported => 505,
        }
    }

    /// Index into `CAUSES`.
    pub fn cause(self) -> usize {
        match self {
            Self::BadRequest(_) | Self::ExpectationFailed | Self::TransferCodingUnknown => 0,
            Self::HeadTooLarge | Self::TooManyFields => 1,
            Self::BodyTooLarge => 2,
            Self::RequestTimeout => 3,
            Self::MethodNotAllowed => 4,
            Self::VersionNotSupported => 5,
            Self::NoRoute => 6,
            Self::SpoolFailed => 7,
            Self::QueueFull => 8,
            Self::QueueTimeout | Self::NoServer => 9,
            Self::BadGateway(_) => 10,
            Self::GatewayTimeout => 11,
            Self::TooManyRequests(_) => 13,
            Self::Overloaded => 16,
        }
    }

    fn title(self) -> &'static str {
        match self.status() {
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            413 => "Content Too Large",
            417 => "Expectation Failed",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            _ => "Service Unavailable",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::BadRequest(what) | Self::BadGateway(what) => what,
            Self::NoRoute => "no route leads to an app for this host and path",
            Self::MethodNotAllowed => "this gateway does not tunnel",
            Self::RequestTimeout => "the request did not arrive in time",
            Self::BodyTooLarge => "the request body is larger than allowed",
            Self::ExpectationFailed => "only 100-continue is understood",
            Self::TooManyRequests(_) => "more requests than allowed",
            Self::HeadTooLarge => "the request head is larger than allowed",
            Self::TooManyFields => "the request has more header fields than allowed",
            Self::TransferCodingUnknown => "only the chunked transfer coding is understood",
            Self::SpoolFailed => "the request body could not be stored",
            Self::QueueFull => "all servers are busy and the queue is full",
            Self::QueueTimeout => "all servers were busy for too long",
            Self::Overloaded => "all servers are busy and would be for too long",
            Self::NoServer => "no server is available",
            Self::GatewayTimeout => "the server did not answer in time",
            Self::VersionNotSupported => "only HTTP/1.0 and HTTP/1.1 are spoken here",
        }
    }

    /// Writes the whole response. With `head_only` (HEAD) the body is left out and its length kept.
    pub fn write(self, out: &mut Vec<u8>, request_id: &str, keep_alive: bool, head_only: bool) {
        let (status, title) = (self.status(), self.title());
        let body = format!("{status} {title}: {}\n", self.sentence());
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // Writing to a Vec cannot fail.
        let _ = write!(out, "HTTP/1.1 {status} {title}\r\nDate: ");
        http_date(out, seconds);
        let _ = write!(out, "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n", body.len());
        if matches!(self, Self::QueueFull | Self::QueueTimeout | Self::Overloaded | Self::NoServer) {
            out.extend_from_slice(b"Retry-After: 1\r\n");
        }
        if let Self::TooManyRequests(seconds) = self {
            let _ = write!(out, "Retry-After: {seconds}\r\n");
        }
        if self == Self::MethodNotAllowed {
            out.extend_from_slice(b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
        }
        if !request_id.is_empty() {
            let _ = write!(out, "X-Request-Id: {request_id}\r\n");
        }
        out.extend_from_slice(if keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" });
        if !head_only {
            out.extend_from_slice(body.as_bytes());
        }
    }
}
