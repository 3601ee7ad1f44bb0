use proptest::prelude::*;

use super::super::password::Secret;
use super::binding::end_point;
use super::client::{Begun, Binding};
use super::prepare::prepare;
use super::server::{Challenge, Channel};
use super::verifier::Verifier;
use super::*;

const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

fn verifier_of_the_rfc() -> Verifier {
    let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    Verifier::with_salt("pencil", salt, 4096).unwrap()
}

/// A whole exchange in memory; what the server learnt, or who failed.
fn exchange(verifier: Option<&Verifier>, secret: &Secret, binding: Binding) -> Result<Key, ScramError> {
    let end_point = [7; 32];
    let channel =
        if binding == Binding::EndPoint(end_point.to_vec()) { Channel::Bound(&end_point) } else { Channel::Unbound };
    let (begun, mechanism, first) = Begun::new(binding, nonce());
    assert_eq!(mechanism, if channel == Channel::Unbound { MECHANISM } else { MECHANISM_PLUS });
    let (challenge, server_first) = Challenge::new("ada", verifier, channel, &first, &nonce())?;
    let (answered, last) = begun.answer(&server_first, secret)?;
    let proven = challenge.prove(&last)?;
    answered.verify(&proven.message)?;
    Ok(proven.client_key)
}

#[test]
fn the_example_of_rfc_7677() {
    let first = format!("n,,n=user,r={CLIENT_NONCE}");
    let (challenge, server_first) =
        Challenge::new("user", Some(&verifier_of_the_rfc()), Channel::Unbound, first.as_bytes(), SERVER_NONCE).unwrap();
    let expected = format!("r={CLIENT_NONCE}{SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    assert_eq!(server_first, expected.as_bytes());
    let last = format!("c=biws,r={CLIENT_NONCE}{SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    let proven = challenge.prove(last.as_bytes()).unwrap();
    assert_eq!(proven.message, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn a_verifier_is_read_as_postgresql_writes_it() {
    // CREATE ROLE ... PASSWORD 'pencil', PostgreSQL 18.
    let text = verifier_of_the_rfc().to_string();
    assert_eq!(
        text,
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    );
    assert_eq!(text.parse(), Ok(verifier_of_the_rfc()));
    for wrong in [
        "",
        "md5abc",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$AAAA:AAAA",
        "SCRAM-SHA-256$4096:W22Z$AAAA:AAAA",
        "SCRAM-SHA-256$99999999:W22Z$AAAA:AAAA",
        &format!("{text}$"),
    ] {
        assert!(wrong.parse::<Verifier>().is_err(), "{wrong}");
    }
    assert!(!format!("{:?}", verifier_of_the_rfc()).contains("WG5d8"));
}

#[test]
fn a_password_and_the_key_that_it_yielded_log_in() {
    let verifier = Verifier::of_password("pencil");
    for binding in [Binding::None, Binding::NotOffered, Binding::EndPoint(vec![7; 32])] {
        let client_key = exchange(Some(&verifier), &Secret::password("pencil"), binding).unwrap();
        let passed_on = Secret::ClientKey { client_key, verifier: verifier.clone() };
        assert_eq!(exchange(Some(&verifier), &passed_on, Binding::None), Ok(client_key));
        let other = Verifier::of_password("pencil");
        assert!(matches!(exchange(Some(&other), &passed_on, Binding::None), Err(ScramError::Secret(_))));
    }
}

#[test]
fn wrong_passwords_and_unknown_users_fail_alike() {
    let verifier = Verifier::of_password("pencil");
    let wrong = exchange(Some(&verifier), &Secret::password("pen"), Binding::None);
    let unknown = exchange(None, &Secret::password("pen"), Binding::None);
    assert_eq!((wrong, unknown), (Err(ScramError::Proof), Err(ScramError::Proof)));
    let salt_of = |user| {
        let (_, _, first) = Begun::new(Binding::None, "abc".into());
        String::from_utf8(Challenge::new(user, None, Channel::Unbound, &first, "def").unwrap().1).unwrap()
    };
    assert_eq!(salt_of("nobody"), salt_of("nobody"));
    assert_ne!(salt_of("nobody"), salt_of("somebody"));
}

#[test]
fn a_server_that_does_not_know_the_verifier_is_found_out() {
    let (begun, _, _) = Begun::new(Binding::None, "abc".into());
    let (answered, _) =
        begun.answer(b"r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", &Secret::password("pencil")).unwrap();
    assert_eq!(answered.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Err(ScramError::Proof));
}

#[test]
fn hostile_servers_are_refused() {
    for first in [
        "r=other,s=W22Z,i=4096",      // not our nonce
        "r=abc,s=W22Z,i=4096",        // nothing of its own
        "r=abcdef,s=W22Z,i=0",        // no hashing
        "r=abcdef,s=W22Z,i=99999999", // hashing for minutes
        "r=abcdef,s=W22Z,i=-1",       //
        "r=abcdef,s=%,i=4096",        //
        "m=x,r=abcdef,s=W22Z,i=4096", // mandatory extension
        "",                           //
    ] {
        let (begun, _, _) = Begun::new(Binding::None, "abc".into());
        assert!(begun.answer(first.as_bytes(), &Secret::password("pencil")).is_err(), "{first}");
    }
}

fn challenged(channel: Channel<'_>, first: &str) -> Result<(Challenge, Vec<u8>), ScramError> {
    Challenge::new("ada", Some(&verifier_of_the_rfc()), channel, first.as_bytes(), "def")
}

fn code_of(error: &ScramError) -> &str {
    if let ScramError::Client(violation) = error { violation.code } else { "" }
}

#[test]
fn gs2_headers_are_taken_exactly() {
    const BOUND: Channel<'_> = Channel::Bound(&[7; 32]);
    for (channel, first) in [
        (Channel::Unbound, "n,,n=,r=abc"),
        (Channel::Declined, "n,,n=,r=abc"),
        (Channel::Unbound, "y,,n=ada,r=abc"),
        (BOUND, "p=tls-server-end-point,,n=,r=abc"),
        (Channel::Unbound, "n,,n=,r=abc,x=later"),
        (Channel::Unbound, "n,,n=,r="),
        (Channel::Unbound, "n,,n=,r=abc,"),
    ] {
        assert!(challenged(channel, first).is_ok(), "{first}");
    }
    for (channel, first, code) in [
        (Channel::Unbound, "p=tls-server-end-point,,n=,r=abc", "08P01"),
        (Channel::Declined, "p=tls-server-end-point,,n=,r=abc", "08P01"),
        (Channel::Declined, "y,,n=,r=abc", "28000"),
        (BOUND, "n,,n=,r=abc", "08P01"),
        (BOUND, "y,,n=,r=abc", "08P01"),
        (BOUND, "p=tls-unique,,n=,r=abc", "08P01"),
        (BOUND, "p,,n=,r=abc", "08P01"),
        (Channel::Unbound, "n,a=other,n=,r=abc", "0A000"),
        (Channel::Unbound, "x,,n=,r=abc", "08P01"),
        (Channel::Unbound, "nn,,n=,r=abc", "08P01"),
        (Channel::Unbound, "n,,m=must,n=,r=abc", "0A000"),
        (Channel::Unbound, "n,,n=,r=a\u{e9}", "08P01"),
        (Channel::Unbound, "n,,n=,r=abc,0=x", "08P01"),
        (Channel::Unbound, "n,,r=abc", "08P01"),
        (Channel::Unbound, "n,", "08P01"),
        (Channel::Unbound, "n,,n=,r=a\0", "08P01"),
        (Channel::Unbound, "", "08P01"),
    ] {
        assert_eq!(code_of(&challenged(channel, first).unwrap_err()), code, "{first}");
    }
}

#[test]
fn what_is_bound_to_must_be_what_is_here() {
    let secret = Secret::password("pencil");
    let last = |binding, channel| {
        let (begun, _, first) = Begun::new(binding, "abc".into());
        let (challenge, server_first) = challenged(channel, std::str::from_utf8(&first).unwrap()).unwrap();
        (challenge, begun.answer(&server_first, &secret).unwrap().1)
    };
    let (challenge, right) = last(Binding::EndPoint(vec![7; 32]), Channel::Bound(&[7; 32]));
    assert!(challenge.prove(&right).is_ok());
    let (challenge, elsewhere) = last(Binding::EndPoint(vec![8; 32]), Channel::Bound(&[7; 32]));
    assert_eq!(code_of(&challenge.prove(&elsewhere).unwrap_err()), "28000");
    // The header must be repeated as it was: a man in the middle would have to change it.
    let (begun, _, _) = Begun::new(Binding::NotOffered, "abc".into());
    let (challenge, server_first) = challenged(Channel::Unbound, "n,,n=,r=abc").unwrap();
    let (_, changed) = begun.answer(&server_first, &secret).unwrap();
    assert_eq!(code_of(&challenge.prove(&changed).unwrap_err()), "08P01");
}

#[test]
fn passwords_are_prepared_as_postgresql_does() {
    // From RFC 4013, section 3, and two that it forbids.
    for (password, prepared) in
        [("I\u{ad}X", "IX"), ("\u{aa}", "a"), ("\u{2168}", "IX"), ("a\u{7}b", "a\u{7}b"), ("\u{ad}", "\u{ad}")]
    {
        assert_eq!(prepare(password), prepared);
    }
}

#[test]
fn channel_binding_chooses_the_mechanism_and_needs_a_readable_certificate() {
    let (_, mechanism, first) = Begun::new(Binding::EndPoint(vec![1; 32]), "abc".into());
    assert_eq!((mechanism, &first[..]), (MECHANISM_PLUS, &b"p=tls-server-end-point,,n=,r=abc"[..]));
    // SEQUENCE { SEQUENCE {}, SEQUENCE { OBJECT IDENTIFIER ecdsa-with-SHA384 } }
    let certificate = b"\x30\x0e\x30\x00\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03";
    assert_eq!(end_point(certificate).map(|digest| digest.len()), Some(48));
    for end in 0..certificate.len() {
        assert_eq!(end_point(&certificate[..end]), None);
    }
    // RSASSA-PSS with SHA-512, and with its defaults.
    let pss = b"\x30\x20\x30\x00\x30\x1c\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\
        \x30\x0f\xa0\x0d\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03";
    assert_eq!(end_point(pss).map(|digest| digest.len()), Some(64));
    let defaults = b"\x30\x11\x30\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x00";
    assert_eq!(end_point(defaults).map(|digest| digest.len()), Some(32));
    // Ed25519.
    assert_eq!(end_point(b"\x30\x09\x30\x00\x30\x05\x06\x03\x2b\x65\x70"), None);
}

proptest! {
    #[test]
    fn random_messages_never_panic(text in "[a-z=,0-9]{0,40}", bytes: Vec<u8>) {
        let verifier = verifier_of_the_rfc();
        for message in [text.as_bytes(), &bytes, format!("n,,n=,r={text}").as_bytes()] {
            let _ = Challenge::new("ada", Some(&verifier), Channel::Unbound, message, "def");
            let (challenge, _) = challenged(Channel::Unbound, "n,,n=,r=abc").unwrap();
            prop_assert!(challenge.prove(message).is_err());
            let (begun, _, _) = Begun::new(Binding::None, "abc".into());
            let _ = begun.answer(message, &Secret::None);
            let _ = end_point(message);
            let _ = String::from_utf8_lossy(message).parse::<Verifier>();
        }
    }
}
