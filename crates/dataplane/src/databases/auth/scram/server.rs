//! The gateway as a SCRAM server, towards clients.

use std::sync::OnceLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::{Choice, ConstantTimeEq};

use super::verifier::Verifier;
use super::{Key, ScramError, as_text, attribute, decoded_key, hmac, is_nonce, random_bytes, sha256, xor};

/// One exchange: the client has said its first message, and its proof is awaited.
#[derive(Debug)]
pub struct Challenge {
    verifier: Verifier,
    /// False where the user is unknown, and the exchange cannot succeed.
    is_known: bool,
    /// The GS2 header in base64, as the client must repeat it.
    binding: &'static str,
    nonce: String,
    /// Both first messages, which the proof covers.
    so_far: String,
}

/// The client has proved itself.
#[derive(Debug)]
pub struct Proven {
    /// The server-final message, which proves that the verifier is known here.
    pub message: Vec<u8>,
    /// What the client used; with it the gateway can log in to a server as this client.
    pub client_key: Key,
}

impl Challenge {
    /// Answers a client-first message; returns the server-first message too. `nonce` is this side's part.
    ///
    /// Without a verifier the exchange goes on with a made-up one, always the same for the name, and fails at the end
    /// exactly as a wrong password does: so nobody can find out which users exist.
    pub fn new(
        user: &str,
        verifier: Option<&Verifier>,
        client_first: &[u8],
        nonce: &str,
    ) -> Result<(Self, Vec<u8>), ScramError> {
        let text = as_text(client_first)?;
        let (flag, rest) = text.split_once(',').ok_or(ScramError::Exchange("malformed SCRAM message"))?;
        let binding = match flag {
            "n" => "biws",
            // It could bind to the channel and has seen that this is not offered here, which is so.
            "y" => "eSws",
            _ if flag.starts_with("p=") => {
                return Err(ScramError::Exchange("SCRAM-SHA-256 was chosen, but with channel binding data"));
            }
            _ => return Err(ScramError::Exchange("malformed SCRAM message (channel binding flag)")),
        };
        let (identity, bare) = rest.split_once(',').ok_or(ScramError::Exchange("malformed SCRAM message"))?;
        if !identity.is_empty() {
            return Err(ScramError::Exchange("SCRAM with an authorization identity is not supported"));
        }
        if bare.starts_with("m=") {
            return Err(ScramError::Exchange("SCRAM with mandatory extensions is not supported"));
        }
        // The name is ignored, as in PostgreSQL: the startup packet has told it.
        let (_, rest) = attribute(bare, "n", "malformed SCRAM message (user name)")?;
        let (client_nonce, _) = attribute(rest, "r", "malformed SCRAM message (nonce)")?;
        if !is_nonce(client_nonce) {
            return Err(ScramError::Exchange("SCRAM nonce has characters that are not allowed"));
        }
        let is_known = verifier.is_some();
        let verifier = verifier.map_or_else(|| made_up(user), Clone::clone);
        let nonce = format!("{client_nonce}{nonce}");
        let salt = BASE64_STANDARD.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let so_far = format!("{bare},{server_first}");
        Ok((Self { verifier, is_known, binding, nonce, so_far }, server_first.into_bytes()))
    }

    /// Checks a client-final message. Takes the same time whether the user is unknown or the password wrong.
    pub fn prove(self, client_final: &[u8]) -> Result<Proven, ScramError> {
        let text = as_text(client_final)?;
        let (without_proof, proof) =
            text.rsplit_once(",p=").ok_or(ScramError::Exchange("malformed SCRAM message (proof)"))?;
        let proof = decoded_key(proof, "malformed SCRAM message (proof)")?;
        let (binding, rest) = attribute(without_proof, "c", "malformed SCRAM message (channel binding)")?;
        if binding != self.binding {
            return Err(ScramError::Exchange("SCRAM channel binding check failed"));
        }
        let (nonce, _) = attribute(rest, "r", "malformed SCRAM message (nonce)")?;
        if nonce != self.nonce {
            return Err(ScramError::Exchange("SCRAM nonce does not match"));
        }
        let message = format!("{},{without_proof}", self.so_far);
        let signature = hmac(&self.verifier.stored_key, message.as_bytes());
        let client_key = xor(&proof, &signature);
        let is_right = sha256(&client_key).ct_eq(&self.verifier.stored_key) & Choice::from(u8::from(self.is_known));
        if !bool::from(is_right) {
            return Err(ScramError::Proof);
        }
        let proof_of_server = BASE64_STANDARD.encode(hmac(&self.verifier.server_key, message.as_bytes()));
        Ok(Proven { message: format!("v={proof_of_server}").into_bytes(), client_key })
    }
}

/// The verifier of a user that does not exist: a salt that depends on the name alone while the process lives.
fn made_up(user: &str) -> Verifier {
    static SEED: OnceLock<[u8; 32]> = OnceLock::new();
    let seed = SEED.get_or_init(random_bytes);
    let salt = hmac(seed, user.as_bytes())[..16].to_vec();
    Verifier { iterations: 4096, salt, stored_key: sha256(&salted_twice(seed, user)), server_key: [0; 32] }
}

fn salted_twice(seed: &[u8; 32], user: &str) -> Key {
    hmac(&hmac(seed, user.as_bytes()), b"no password")
}
