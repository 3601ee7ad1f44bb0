//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it.
//!
//! The server side learns a client's key when the client proves itself, and the client side can log in with it: so the
//! gateway needs no password, only the verifier that PostgreSQL itself keeps.

mod attributes;
pub mod binding;
pub mod client;
mod prepare;
pub mod server;
pub mod verifier;

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac};

use super::super::protocol::report::sqlstate;

pub const MECHANISM: &str = "SCRAM-SHA-256";
/// The same with channel binding.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// A SHA-256 value: a key, or its digest.
pub type Key = [u8; 32];

/// Why an exchange did not end in mutual proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScramError {
    /// The server breaks the protocol, or asks for what is not done here. The text says what, for a person.
    Exchange(&'static str),
    /// The client does: what it is told.
    Client(Box<Violation>),
    /// It does not know the secret.
    Proof,
    /// We do not have what the server wants to see proven; the text says why.
    Secret(&'static str),
}

/// What is wrong with a client's message, in the words and with the code of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub code: &'static str,
    pub message: String,
    /// Empty when there is none.
    pub detail: String,
}

impl Violation {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: String::new() }
    }

    fn of_protocol(message: impl Into<String>) -> Self {
        Self::new(sqlstate::PROTOCOL_VIOLATION, message)
    }

    fn with_detail(self, detail: impl Into<String>) -> ScramError {
        Self { detail: detail.into(), ..self }.into()
    }
}

impl From<Violation> for ScramError {
    fn from(violation: Violation) -> Self {
        Self::Client(Box::new(violation))
    }
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(what) | Self::Secret(what) => f.write_str(what),
            Self::Client(violation) => f.write_str(&violation.message),
            Self::Proof => f.write_str("the proof is wrong"),
        }
    }
}

impl std::error::Error for ScramError {}

/// Unpredictable bytes from the operating system.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It fails only where there is no getrandom(2) and no /dev/urandom, where TLS could not work either.
    SystemRandom::new().fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// A fresh nonce: 18 random bytes in base64, as in PostgreSQL.
pub fn nonce() -> String {
    BASE64_STANDARD.encode(random_bytes::<18>())
}

fn hmac(key: &[u8], message: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

fn sha256(bytes: &[u8]) -> Key {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

fn xor(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|at| a[at] ^ b[at])
}

fn decoded(text: &str, problem: &'static str) -> Result<Vec<u8>, ScramError> {
    BASE64_STANDARD.decode(text).map_err(|_| ScramError::Exchange(problem))
}

fn decoded_key(text: &str, problem: &'static str) -> Result<Key, ScramError> {
    decoded(text, problem)?.try_into().map_err(|_| ScramError::Exchange(problem))
}

/// The value of the attribute `name` at the start of `text`, and what follows its comma.
fn attribute<'a>(text: &'a str, name: &str, problem: &'static str) -> Result<(&'a str, &'a str), ScramError> {
    let rest = text.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).ok_or(ScramError::Exchange(problem))?;
    Ok(rest.split_once(',').unwrap_or((rest, "")))
}

/// Nonces are printable ASCII without a comma (RFC 5802, section 7).
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

fn as_text(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).map_err(|_| ScramError::Exchange("SCRAM message is not UTF-8"))
}

#[cfg(test)]
mod tests;
