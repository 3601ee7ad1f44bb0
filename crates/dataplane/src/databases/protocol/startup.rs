//! The packets that open a connection, before messages have tags (PostgreSQL 18, sections 54.2.1, 54.7 and 54.10).

use super::reader::Reader;
use super::{MINOR_NEWEST, ProtocolError};

/// Longest first packet, as in PostgreSQL.
pub const LENGTH_MAX: usize = 10_000;
/// Longest cancellation key (protocol 3.2).
pub const SECRET_MAX: usize = 256;
pub(super) const CANCEL_CODE: u32 = code(5678);
pub(super) const SSL_CODE: u32 = code(5679);
const GSS_CODE: u32 = code(5680);

/// Requests other than a session are told apart by a version that never will be.
const fn code(number: u32) -> u32 {
    1234 * 65_536 + number
}

/// What a client opens its connection with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// It wants TLS.
    Tls,
    /// It wants GSSAPI encryption.
    Gss,
    Cancel(Cancel),
    Startup(Startup),
    /// Another major version of the protocol.
    Version {
        major: u16,
        minor: u16,
    },
}

/// Which session to cancel, and the proof of being allowed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    pub process: u32,
    pub secret: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The minor version that the client asked for.
    pub minor: u16,
    /// Names and values in the client's order, without protocol options.
    pub parameters: Vec<(String, String)>,
    /// Protocol options (`_pq_.` and more) that the client asked for. None is known here.
    pub options: Vec<String>,
}

impl Startup {
    /// The last value given for the name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }

    /// The minor version that the session will speak.
    pub fn agreed_minor(&self) -> u16 {
        self.minor.min(MINOR_NEWEST)
    }

    /// Whether the client must be told what it does not get.
    pub fn needs_negotiation(&self) -> bool {
        self.minor > MINOR_NEWEST || !self.options.is_empty()
    }
}

/// Bytes of the whole packet that `bytes` begins with; `None` while that cannot be told.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
    let Some((length, _)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if (8..=LENGTH_MAX).contains(&length) {
        Ok(Some(length))
    } else {
        Err(ProtocolError("invalid length of startup packet"))
    }
}

/// Reads a whole first packet.
pub fn read(packet: &[u8]) -> Result<First, ProtocolError> {
    if length(packet)? != Some(packet.len()) {
        return Err(ProtocolError("startup packet is cut off"));
    }
    let mut reader = Reader::new(&packet[4..]);
    let code = reader.u32()?;
    match (code >> 16, code) {
        (_, SSL_CODE) => reader.finish().map(|()| First::Tls),
        (_, GSS_CODE) => reader.finish().map(|()| First::Gss),
        (_, CANCEL_CODE) => {
            let process = reader.u32()?;
            let secret = reader.rest();
            if !(1..=SECRET_MAX).contains(&secret.len()) {
                return Err(ProtocolError("invalid length of cancel request packet"));
            }
            Ok(First::Cancel(Cancel { process, secret: secret.to_vec() }))
        }
        (3, _) => startup(reader, code as u16).map(First::Startup),
        (major, _) => Ok(First::Version { major: major as u16, minor: code as u16 }),
    }
}

const LAYOUT: ProtocolError = ProtocolError("invalid startup packet layout: expected terminator as last byte");

fn startup(mut reader: Reader<'_>, minor: u16) -> Result<Startup, ProtocolError> {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(ProtocolError("startup packet has a parameter that is not UTF-8")),
    };
    let (mut parameters, mut options) = (Vec::new(), Vec::new());
    loop {
        let name = text(reader.text().map_err(|_| LAYOUT)?)?;
        if name.is_empty() {
            break;
        }
        let value = text(reader.text().map_err(|_| LAYOUT)?)?;
        if name.starts_with("_pq_.") {
            options.push(name);
        } else {
            parameters.push((name, value));
        }
    }
    reader.finish().map_err(|_| LAYOUT)?;
    Ok(Startup { minor, parameters, options })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::messages::to_server;
    use super::*;

    fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
        [&(rest.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
    }

    #[test]
    fn startup_with_options_of_a_future_protocol() {
        let bytes = packet(3 * 65_536 + 9999, b"user\0ada\0_pq_.wish\0on\0database\0flights\0user\0bob\0\0");
        let Ok(First::Startup(startup)) = read(&bytes) else { panic!("not a startup") };
        assert_eq!((startup.get("user"), startup.get("database")), (Some("bob"), Some("flights")));
        assert_eq!(startup.options, ["_pq_.wish"]);
        assert!(startup.needs_negotiation());
        assert_eq!(startup.agreed_minor(), 2);
    }

    #[test]
    fn requests_of_a_fixed_size() {
        assert_eq!(read(&packet(SSL_CODE, b"")), Ok(First::Tls));
        assert_eq!(read(&packet(GSS_CODE, b"")), Ok(First::Gss));
        assert!(read(&packet(SSL_CODE, b"x")).is_err());
        assert_eq!(read(&packet(2 << 16, b"\0")), Ok(First::Version { major: 2, minor: 0 }));
    }

    #[test]
    fn cancel_keys_of_every_allowed_length() {
        for length in [0, 1, 4, 32, 256, 257] {
            let mut bytes = Vec::new();
            let secret = vec![7; length];
            to_server::cancel_request(&mut bytes, 42, &secret);
            let allowed = (1..=256).contains(&length);
            assert_eq!(read(&bytes).ok(), allowed.then_some(First::Cancel(Cancel { process: 42, secret })), "{length}");
        }
    }

    #[test]
    fn refuses_what_is_too_long_or_badly_ended() {
        assert!(length(&10_001_u32.to_be_bytes()).is_err());
        assert!(length(&7_u32.to_be_bytes()).is_err());
        assert!(length(&u32::MAX.to_be_bytes()).is_err());
        assert_eq!(length(b"\0\0\0"), Ok(None));
        for rest in ["user\0ada\0\0more", "user\0ada\0", "user\0ada", "user", ""] {
            assert!(read(&packet(3 << 16, rest.as_bytes())).is_err(), "{rest:?}");
        }
        assert!(read(&packet(3 << 16, b"user\0\xff\0\0")).is_err());
    }

    proptest! {
        #[test]
        fn parameters_come_out_as_they_went_in(
            minor in 0_u16..4,
            parameters in vec(("[a-z_]{1,12}", "[^\0]{0,20}"), 0..8),
        ) {
            let parameters: Vec<(String, String)> = parameters;
            let borrowed: Vec<_> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut bytes = Vec::new();
            to_server::startup(&mut bytes, minor, &borrowed);
            prop_assert_eq!(read(&bytes), Ok(First::Startup(Startup { minor, parameters, options: Vec::new() })));
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..64), code in prop::sample::select(vec![
            SSL_CODE, GSS_CODE, CANCEL_CODE, 3 << 16, 3 << 16 | 2,
        ])) {
            let _ = read(&bytes);
            let _ = read(&packet(code, &bytes));
        }
    }
}
