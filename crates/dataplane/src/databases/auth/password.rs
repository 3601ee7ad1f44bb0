//! What a user proves itself with to a server, and the older ways to do it.

use std::fmt;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use md5::{Digest, Md5};

use super::scram::verifier::{Keys, Verifier};
use super::scram::{Key, ScramError};

/// What is known of a user's password.
pub enum Secret {
    /// Nothing: the server must let the user in without (`trust`, `peer`).
    None,
    Password(Password),
    /// What a client proved itself with at the gateway. It works where the server keeps the same verifier.
    ClientKey {
        client_key: Key,
        verifier: Verifier,
    },
}

/// A password, with the keys of the last server that asked, so that the next connections need not hash it again.
pub struct Password {
    text: String,
    derived: Mutex<Option<(Vec<u8>, u32, Keys)>>,
}

impl Secret {
    pub fn password(text: impl Into<String>) -> Self {
        Self::Password(Password { text: text.into(), derived: Mutex::new(None) })
    }

    /// The password itself, where it is known.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Password(password) => Some(&password.text),
            _ => None,
        }
    }

    /// The keys for a server's salt and iteration count.
    pub(super) fn keys(&self, salt: &[u8], iterations: u32) -> Result<Keys, ScramError> {
        match self {
            Self::None => Err(ScramError::Secret("the server asks for a password, and none is known")),
            Self::Password(password) => password.keys(salt, iterations),
            Self::ClientKey { client_key, verifier } => {
                if verifier.salt != salt || verifier.iterations != iterations {
                    return Err(ScramError::Secret("the server keeps another verifier of this user than the gateway"));
                }
                Ok(Keys { client_key: *client_key, server_key: verifier.server_key() })
            }
        }
    }
}

impl Password {
    fn keys(&self, salt: &[u8], iterations: u32) -> Result<Keys, ScramError> {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        match &*derived {
            Some((its_salt, its_iterations, keys)) if its_salt == salt && *its_iterations == iterations => {
                Ok(keys.clone())
            }
            _ => {
                let keys = Keys::derive(&self.text, salt, iterations)?;
                *derived = Some((salt.to_vec(), iterations, keys.clone()));
                Ok(keys)
            }
        }
    }
}

/// The answer to a server that asks for MD5 (PostgreSQL 18, section 54.2.1).
pub fn md5_response(user: &str, password: &str, salt: &[u8]) -> String {
    let inner = hexadecimal(&Md5::new().chain_update(password).chain_update(user).finalize());
    format!("md5{}", hexadecimal(&Md5::new().chain_update(inner).chain_update(salt).finalize()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Without the secret: it must not reach a log.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password(_) => "Password",
            Self::ClientKey { .. } => "ClientKey",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_as_postgresql_computes_it() {
        // SELECT 'md5' || md5(convert_to(md5('secret' || 'ada'), 'UTF8') || '\x01020304')
        assert_eq!(md5_response("ada", "secret", &[1, 2, 3, 4]), "md5164dbcd37c01a78e869e72965960a754");
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", Secret::password("hunter2")), "Password");
    }
}
