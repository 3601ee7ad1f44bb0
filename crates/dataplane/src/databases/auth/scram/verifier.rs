//! What a server keeps of a password: enough to check a proof, too little to give one.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::pbkdf2;

use super::prepare::prepare;
use super::{Key, ScramError, hmac, random_bytes, sha256};

/// What PostgreSQL uses by default.
const ITERATIONS: u32 = 4096;
/// More would let a hostile server, or a mistyped verifier, hold a thread for seconds.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// A verifier as `pg_authid.rolpassword` has it: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

/// What a password yields: the client's key proves it, the server's key proves the verifier.
#[derive(Clone)]
pub struct Keys {
    pub client_key: Key,
    pub server_key: Key,
}

impl Keys {
    /// Hashes the password, which takes about a millisecond for each 4,096 iterations.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Result<Self, ScramError> {
        let Some(rounds) = NonZeroU32::new(iterations).filter(|rounds| rounds.get() <= ITERATIONS_MAX) else {
            return Err(ScramError::Exchange("SCRAM iteration count is out of bounds"));
        };
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, prepare(password).as_bytes(), &mut salted);
        Ok(Self { client_key: hmac(&salted, b"Client Key"), server_key: hmac(&salted, b"Server Key") })
    }
}

impl Verifier {
    /// A new verifier, with a random salt.
    pub fn of_password(password: &str) -> Self {
        Self::with_salt(password, random_bytes::<16>().to_vec(), ITERATIONS).expect("the count is within bounds")
    }

    /// What the server proves itself with.
    pub fn server_key(&self) -> Key {
        self.server_key
    }

    /// A verifier with this salt, and another number of iterations than is usual.
    pub fn with_salt(password: &str, salt: Vec<u8>, iterations: u32) -> Result<Self, ScramError> {
        let keys = Keys::derive(password, &salt, iterations)?;
        Ok(Self { iterations, salt, stored_key: sha256(&keys.client_key), server_key: keys.server_key })
    }
}

impl FromStr for Verifier {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str = "expected SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey";
        let mut parts = text.split('$');
        let (Some("SCRAM-SHA-256"), Some(how), Some(keys), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PROBLEM);
        };
        let (iterations, salt) = how.split_once(':').ok_or(PROBLEM)?;
        let (stored, server) = keys.split_once(':').ok_or(PROBLEM)?;
        let iterations = iterations.parse().ok().filter(|count| (1..=ITERATIONS_MAX).contains(count)).ok_or(PROBLEM)?;
        let decode = |text| BASE64_STANDARD.decode(text).map_err(|_| PROBLEM);
        let key = |text| decode(text)?.try_into().map_err(|_| PROBLEM);
        Ok(Self { iterations, salt: decode(salt)?, stored_key: key(stored)?, server_key: key(server)? })
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        let (salt, stored, server) = (encode(&self.salt), encode(&self.stored_key), encode(&self.server_key));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }
}

/// Without the keys: a verifier must not reach a log.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}
