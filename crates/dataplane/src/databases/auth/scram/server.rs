//! The gateway as a SCRAM server, towards clients.

use std::sync::OnceLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::{Choice, ConstantTimeEq};

use super::super::super::protocol::report::sqlstate;
use super::attributes::{Attributes, character, malformed, shown};
use super::binding::END_POINT_HEADER;
use super::verifier::Verifier;
use super::{Key, ScramError, Violation, hmac, random_bytes, sha256, xor};

/// What a client may bind an exchange to, and what it has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel<'c> {
    /// There is no TLS, or no binding to its certificate: SCRAM-SHA-256 was all that was offered.
    Unbound,
    /// The client has chosen SCRAM-SHA-256 although SCRAM-SHA-256-PLUS was offered.
    Declined,
    /// It has chosen SCRAM-SHA-256-PLUS: the `tls-server-end-point` of this connection.
    Bound(&'c [u8]),
}

/// One exchange: the client has said its first message, and its proof is awaited.
#[derive(Debug)]
pub struct Challenge {
    verifier: Verifier,
    /// False where the user is unknown, and the exchange cannot succeed.
    is_known: bool,
    /// The GS2 header and what is bound to, in base64, as the client must repeat it.
    binding: String,
    is_bound: bool,
    nonce: Vec<u8>,
    /// Both first messages, which the proof covers.
    so_far: Vec<u8>,
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
        channel: Channel<'_>,
        client_first: &[u8],
        nonce: &str,
    ) -> Result<(Self, Vec<u8>), ScramError> {
        let mut attributes = Attributes::of(client_first)?;
        let binding = header(&mut attributes, channel)?;
        match attributes.peek() {
            b',' => attributes.skip(),
            b'a' => return Err(unsupported("client uses authorization identity, but it is not supported")),
            other => {
                let found = character(other);
                return Err(malformed(format!("Unexpected attribute \"{found}\" in client-first-message.")));
            }
        }
        let bare = attributes.rest();
        if attributes.peek() == b'm' {
            return Err(unsupported("client requires an unsupported SCRAM extension"));
        }
        // The name is ignored, as in PostgreSQL: the startup packet has told it.
        attributes.value(b'n')?;
        let client_nonce = attributes.value(b'r')?;
        if !client_nonce.iter().all(u8::is_ascii_graphic) {
            return Err(Violation::of_protocol("non-printable characters in SCRAM nonce").into());
        }
        while !attributes.rest().is_empty() {
            attributes.any()?;
        }
        let is_known = verifier.is_some();
        let verifier = verifier.map_or_else(|| made_up(user), Clone::clone);
        let nonce = [client_nonce, nonce.as_bytes()].concat();
        let salt = BASE64_STANDARD.encode(&verifier.salt);
        let server_first = [b"r=", &nonce[..], format!(",s={salt},i={}", verifier.iterations).as_bytes()].concat();
        let so_far = [bare, b",", &server_first].concat();
        let is_bound = matches!(channel, Channel::Bound(_));
        Ok((Self { verifier, is_known, binding, is_bound, nonce, so_far }, server_first))
    }

    /// Checks a client-final message. Takes the same time whether the user is unknown or the password wrong.
    pub fn prove(self, client_final: &[u8]) -> Result<Proven, ScramError> {
        let mut attributes = Attributes::of(client_final)?;
        if attributes.value(b'c')? != self.binding.as_bytes() {
            return Err(if self.is_bound {
                Violation::new(sqlstate::INVALID_AUTHORIZATION, "SCRAM channel binding check failed").into()
            } else {
                Violation::of_protocol("unexpected SCRAM channel-binding attribute in client-final-message").into()
            });
        }
        let nonce = attributes.value(b'r')?;
        // Extensions may come before the proof.
        let (without_proof, proof) = loop {
            let before = client_final.len() - attributes.rest().len();
            if let (b'p', proof) = attributes.any()? {
                // Without the comma.
                break (&client_final[..before - 1], proof);
            }
        };
        let proof = BASE64_STANDARD.decode(proof).ok().and_then(|proof| Key::try_from(proof).ok());
        let proof = proof.ok_or_else(|| malformed("Malformed proof in client-final-message."))?;
        if !attributes.rest().is_empty() {
            return Err(malformed("Garbage found at the end of client-final-message."));
        }
        if nonce != self.nonce {
            return Err(Violation::of_protocol("invalid SCRAM response").with_detail("Nonce does not match."));
        }
        let message = [&self.so_far[..], b",", without_proof].concat();
        let signature = hmac(&self.verifier.stored_key, &message);
        let client_key = xor(&proof, &signature);
        let is_right = sha256(&client_key).ct_eq(&self.verifier.stored_key) & Choice::from(u8::from(self.is_known));
        if !bool::from(is_right) {
            return Err(ScramError::Proof);
        }
        let proof_of_server = BASE64_STANDARD.encode(hmac(&self.verifier.server_key, &message));
        Ok(Proven { message: format!("v={proof_of_server}").into_bytes(), client_key })
    }
}

/// Reads the GS2 header up to the authorization identity; what the client must repeat of it in base64.
fn header(attributes: &mut Attributes<'_>, channel: Channel<'_>) -> Result<String, ScramError> {
    const UNBOUND: &str = "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes \
                           channel binding data.";
    const BOUND: &str = "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding \
                         data.";
    let flag = attributes.peek();
    match (flag, channel) {
        (b'n' | b'y', Channel::Bound(_)) => Err(malformed(BOUND)),
        // It could bind to the channel and thinks that this is not offered: the offer was taken out on the way.
        (b'y', Channel::Declined) => {
            let violation = Violation::new(sqlstate::INVALID_AUTHORIZATION, "SCRAM channel binding negotiation error");
            Err(violation.with_detail(
                "The client supports SCRAM channel binding but thinks the server does not.  \
                 However, this server does support channel binding.",
            ))
        }
        (b'n' | b'y', _) => {
            attributes.skip();
            attributes.comma()?;
            Ok(if flag == b'n' { "biws" } else { "eSws" }.to_owned())
        }
        (b'p', Channel::Bound(end_point)) => {
            let kind = attributes.value(b'p')?;
            if kind != b"tls-server-end-point" {
                let text = format!("unsupported SCRAM channel-binding type \"{}\"", shown(kind));
                return Err(Violation::of_protocol(text).into());
            }
            Ok(BASE64_STANDARD.encode([END_POINT_HEADER.as_bytes(), end_point].concat()))
        }
        (b'p', _) => Err(malformed(UNBOUND)),
        _ => Err(malformed(format!("Unexpected channel-binding flag \"{}\".", character(flag)))),
    }
}

fn unsupported(text: &str) -> ScramError {
    Violation::new(sqlstate::FEATURE_NOT_SUPPORTED, text).into()
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
