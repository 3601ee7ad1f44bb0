//! SCRAM: nobody gets in by chance, every right proof is taken, and one with any change is not.

use std::sync::OnceLock;

use crate::databases::auth::password::Secret;
use crate::databases::auth::scram::binding::end_point;
use crate::databases::auth::scram::client::{Begun, Binding};
use crate::databases::auth::scram::server::{Challenge, Channel};
use crate::databases::auth::scram::verifier::{Keys, Verifier};
use crate::databases::auth::scram::{MECHANISM, MECHANISM_PLUS};

const PASSWORD: &str = "pencil";
const NONCE: &str = "3rfcNHYJY1ZVvWVs7j";

fn verifier() -> &'static Verifier {
    static VERIFIER: OnceLock<Verifier> = OnceLock::new();
    VERIFIER.get_or_init(|| Verifier::with_salt(PASSWORD, b"salt".to_vec(), 16).expect("few iterations"))
}

/// The secret of a client of ours which computes nothing that takes long.
fn secret() -> Secret {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let keys = KEYS.get_or_init(|| Keys::derive(PASSWORD, b"salt", 16).expect("few iterations"));
    Secret::ClientKey { client_key: keys.client_key, verifier: verifier().clone() }
}

pub fn hold(data: &[u8]) {
    // Two messages of one side, and one of them alone.
    let end = data.iter().position(|byte| *byte == 0xff).unwrap_or(data.len());
    let (first, second) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    check_client(first, second);
    check_server(first, second);
    check_both(first, second);
    if let Some(digest) = end_point(data) {
        assert!([32, 48, 64].contains(&digest.len()));
    }
    if let Ok(verifier) = String::from_utf8_lossy(data).parse::<Verifier>() {
        assert_eq!(verifier.to_string().parse(), Ok(verifier));
    }
}

/// A client that knows no secret.
fn check_client(first: &[u8], second: &[u8]) {
    for channel in [Channel::Unbound, Channel::Declined, Channel::Bound(b"digest")] {
        check_client_on(channel, first, second);
    }
}

fn check_client_on(channel: Channel<'_>, first: &[u8], second: &[u8]) {
    let known = Challenge::new("ada", Some(verifier()), channel, first, NONCE);
    let unknown = Challenge::new("ada", None, channel, first, NONCE);
    // Whether there is such a user shows in nothing.
    assert_eq!(known.as_ref().err(), unknown.as_ref().err());
    let (Ok((known, said)), Ok((unknown, _))) = (known, unknown) else { return };
    let said = String::from_utf8(said).expect("text");
    let (nonce, rest) = said.strip_prefix("r=").and_then(|rest| rest.split_once(',')).expect("a nonce");
    let theirs = format!("r={}", nonce.strip_suffix(NONCE).expect("our part of the nonce"));
    assert!(first.windows(theirs.len()).any(|part| part == theirs.as_bytes()), "another nonce");
    assert_eq!(rest, "s=c2FsdA==,i=16");
    let flags: &[&[u8]] = match channel {
        Channel::Unbound => &[b"n,,", b"y,,"],
        Channel::Declined => &[b"n,,"],
        Channel::Bound(_) => &[b"p=tls-server-end-point,,"],
    };
    assert!(flags.iter().any(|flag| first.starts_with(flag)));
    assert_eq!(known.prove(second).err(), unknown.prove(second).err(), "somebody got in, or was told something");
}

/// A server that knows no secret.
fn check_server(first: &[u8], second: &[u8]) {
    let (begun, mechanism, said) = Begun::new(Binding::None, NONCE.to_owned());
    assert_eq!((mechanism, &said[..3]), (MECHANISM, &b"n,,"[..]));
    let Ok((answered, last)) = begun.answer(first, &secret()) else { return };
    let (text, last) = (std::str::from_utf8(first).expect("text"), String::from_utf8(last).expect("text"));
    let nonce = text.strip_prefix("r=").and_then(|rest| rest.split(',').next()).expect("a nonce");
    assert!(nonce.starts_with(NONCE) && nonce.len() > NONCE.len());
    assert!(last.starts_with(&format!("c=biws,r={nonce},p=")), "a proof for another exchange");
    assert!(answered.verify(second).is_err(), "a server was believed");
}

/// Our own two sides, with what the input says in between.
fn check_both(first: &[u8], second: &[u8]) {
    let (binding, channel) = match first.len() % 3 {
        0 => (Binding::EndPoint(first.to_vec()), Channel::Bound(first)),
        1 => (Binding::NotOffered, Channel::Unbound),
        _ => (Binding::None, Channel::Declined),
    };
    let (begun, mechanism, said) = Begun::new(binding, NONCE.to_owned());
    assert_eq!(mechanism, if matches!(channel, Channel::Bound(_)) { MECHANISM_PLUS } else { MECHANISM });
    let challenge = Challenge::new("ada", Some(verifier()), channel, &said, NONCE);
    let (challenge, offered) = challenge.expect("our own first message");
    let (answered, last) = begun.answer(&offered, &secret()).expect("our own challenge");
    let place = usize::from(second.first().copied().unwrap_or(0)) % last.len();
    let mut changed = last.clone();
    changed[place] ^= 1 << (second.len() % 7);
    if second.len() % 3 == 0 {
        assert!(challenge.prove(&changed).is_err(), "a proof with a change in it: {}", changed.escape_ascii());
        return;
    }
    let proven = challenge.prove(&last).expect("the right proof");
    assert_eq!(Some(proven.client_key), Keys::derive(PASSWORD, b"salt", 16).ok().map(|keys| keys.client_key));
    let mut message = proven.message;
    if second.len() % 3 == 1 {
        assert_eq!(answered.verify(&message), Ok(()));
    } else {
        let place = place % message.len();
        message[place] ^= 1 << (second.len() % 7);
        assert!(answered.verify(&message).is_err(), "a server's proof with a change in it");
    }
}
