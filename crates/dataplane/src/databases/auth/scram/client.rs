//! The gateway as a SCRAM client, towards servers.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::ConstantTimeEq;

use super::super::password::Secret;
use super::binding::END_POINT_HEADER;
use super::{
    Key, MECHANISM, MECHANISM_PLUS, ScramError, as_text, attribute, decoded, decoded_key, hmac, is_nonce, sha256, xor,
};

/// What ties the exchange to the TLS connection that it is made on (RFC 5929, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// No TLS, or a certificate for which no binding is defined.
    None,
    /// TLS, but the server does not offer to bind to it. It will refuse if that is not what it said.
    NotOffered,
    /// The digest of the server's certificate, `tls-server-end-point`.
    EndPoint(Vec<u8>),
}

/// The exchange has begun: the server's challenge is awaited.
#[derive(Debug)]
pub struct Begun {
    header: String,
    binding: Vec<u8>,
    nonce: String,
}

/// The proof was given: that of the server is awaited.
#[derive(Debug)]
pub struct Answered {
    message: String,
    server_key: Key,
}

impl Begun {
    /// Begins; returns the mechanism to choose and the client-first message too.
    pub fn new(binding: Binding, nonce: String) -> (Self, &'static str, Vec<u8>) {
        let (header, binding, mechanism) = match binding {
            Binding::None => ("n,,", Vec::new(), MECHANISM),
            Binding::NotOffered => ("y,,", Vec::new(), MECHANISM),
            Binding::EndPoint(digest) => (END_POINT_HEADER, digest, MECHANISM_PLUS),
        };
        // The startup packet has told the name; servers ignore this one.
        let first = format!("{header}n=,r={nonce}").into_bytes();
        (Self { header: header.to_owned(), binding, nonce }, mechanism, first)
    }

    /// Answers a server-first message; returns the client-final message too.
    pub fn answer(self, server_first: &[u8], secret: &Secret) -> Result<(Answered, Vec<u8>), ScramError> {
        const MALFORMED: &str = "malformed SCRAM message from the server";
        let text = as_text(server_first)?;
        let (nonce, rest) = attribute(text, "r", MALFORMED)?;
        let (salt, rest) = attribute(rest, "s", MALFORMED)?;
        let (iterations, _) = attribute(rest, "i", MALFORMED)?;
        if !is_nonce(nonce) || nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Exchange("the server's SCRAM nonce does not continue ours"));
        }
        let salt = decoded(salt, MALFORMED)?;
        let iterations = iterations.parse().map_err(|_| ScramError::Exchange(MALFORMED))?;
        let keys = secret.keys(&salt, iterations)?;
        let mut bound = self.header.clone().into_bytes();
        bound.extend(&self.binding);
        let without_proof = format!("c={},r={nonce}", BASE64_STANDARD.encode(bound));
        let message = format!("n=,r={},{text},{without_proof}", self.nonce);
        let signature = hmac(&sha256(&keys.client_key), message.as_bytes());
        let proof = BASE64_STANDARD.encode(xor(&keys.client_key, &signature));
        let last = format!("{without_proof},p={proof}").into_bytes();
        Ok((Answered { message, server_key: keys.server_key }, last))
    }
}

impl Answered {
    /// Checks the server-final message: that the server knows the verifier, and is not somebody else.
    pub fn verify(self, server_final: &[u8]) -> Result<(), ScramError> {
        let text = as_text(server_final)?;
        if text.starts_with("e=") {
            return Err(ScramError::Exchange("the server broke off the SCRAM exchange"));
        }
        let (signature, _) = attribute(text, "v", "malformed SCRAM message from the server")?;
        let signature = decoded_key(signature, "malformed SCRAM message from the server")?;
        let expected = hmac(&self.server_key, self.message.as_bytes());
        if bool::from(expected.ct_eq(&signature)) { Ok(()) } else { Err(ScramError::Proof) }
    }
}
