//! Passwords in the form that is hashed.

use std::borrow::Cow;

/// SASLprep (RFC 4013). A password that it forbids, or of which it leaves nothing, is taken as it is: PostgreSQL does
/// the same on both sides.
pub fn prepare(password: &str) -> Cow<'_, str> {
    match stringprep::saslprep(password) {
        Ok(prepared) if !prepared.is_empty() => prepared,
        _ => Cow::Borrowed(password),
    }
}
