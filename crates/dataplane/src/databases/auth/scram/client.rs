//! The gateway as a SCRAM client, towards servers.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::digest;
use subtle::ConstantTimeEq;

use super::super::password::Secret;
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
            Binding::EndPoint(digest) => ("p=tls-server-end-point,,", digest, MECHANISM_PLUS),
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

/// The `tls-server-end-point` binding to a certificate in DER: its digest with the hash of its signature, where MD5 and
/// SHA-1 give way to SHA-256. `None` for signatures without a single hash, such as Ed25519.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match signature_algorithm(certificate)? {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256 (RFC 8017, RFC 5758).
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 4 | 5 | 11] => &digest::SHA256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 2] => &digest::SHA256,
        // The same with SHA-384 and SHA-512.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 12] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 3] => {
            &digest::SHA384
        }
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 13] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 4] => {
            &digest::SHA512
        }
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The object id of a certificate's signature: `SEQUENCE { tbsCertificate, SEQUENCE { OBJECT IDENTIFIER ...` (RFC 5280).
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let (inside, _) = element(certificate, SEQUENCE)?;
    let (_, behind) = element(inside, SEQUENCE)?;
    let (algorithm, _) = element(behind, SEQUENCE)?;
    element(algorithm, OBJECT_IDENTIFIER).map(|(id, _)| id)
}

/// The contents of the DER element that `bytes` begins with, and what follows it.
fn element(bytes: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let digits = rest.get(..usize::from(first & 0x7f)).filter(|digits| (1..=4).contains(&digits.len()))?;
        rest = &rest[digits.len()..];
        digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit))
    };
    (tag == expected && length <= rest.len()).then(|| rest.split_at(length))
}
