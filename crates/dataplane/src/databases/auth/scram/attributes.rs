//! The attributes of a client's SCRAM message, read as PostgreSQL reads them, with its errors (`auth-scram.c`).

use super::{ScramError, Violation};

/// Characters of a client's value that an error shows.
const SHOWN_MAX: usize = 30;

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'m>(&'m [u8]);

impl<'m> Attributes<'m> {
    pub fn of(message: &'m [u8]) -> Result<Self, ScramError> {
        if message.is_empty() {
            return Err(malformed("The message is empty."));
        }
        if message.contains(&0) {
            return Err(malformed("Message length does not match input length."));
        }
        Ok(Self(message))
    }

    pub fn rest(&self) -> &'m [u8] {
        self.0
    }

    /// The next character; zero at the end.
    pub fn peek(&self) -> u8 {
        self.0.first().copied().unwrap_or(0)
    }

    pub fn skip(&mut self) {
        self.0 = self.0.get(1..).unwrap_or_default();
    }

    /// A comma.
    pub fn comma(&mut self) -> Result<(), ScramError> {
        match self.peek() {
            b',' => {
                self.skip();
                Ok(())
            }
            other => Err(malformed(format!("Comma expected, but found character \"{}\".", character(other)))),
        }
    }

    /// The value of the attribute `name`, which must be the next.
    pub fn value(&mut self, name: u8) -> Result<&'m [u8], ScramError> {
        let found = self.peek();
        if found != name {
            let (name, found) = (char::from(name), character(found));
            return Err(malformed(format!("Expected attribute \"{name}\" but found \"{found}\".")));
        }
        self.behind_name()
    }

    /// The next attribute, whichever it is.
    pub fn any(&mut self) -> Result<(u8, &'m [u8]), ScramError> {
        match self.peek() {
            0 => Err(malformed("Attribute expected, but found end of string.")),
            name if name.is_ascii_alphabetic() => Ok((name, self.behind_name()?)),
            other => {
                let found = character(other);
                Err(malformed(format!("Attribute expected, but found invalid character \"{found}\".")))
            }
        }
    }

    fn behind_name(&mut self) -> Result<&'m [u8], ScramError> {
        let name = char::from(self.peek());
        self.skip();
        if self.peek() != b'=' {
            return Err(malformed(format!("Expected character \"=\" for attribute \"{name}\".")));
        }
        self.skip();
        let end = self.0.iter().position(|byte| *byte == b',').unwrap_or(self.0.len());
        let (value, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        Ok(value)
    }
}

pub fn malformed(detail: impl Into<String>) -> ScramError {
    Violation::of_protocol("malformed SCRAM message").with_detail(detail)
}

/// A character for an error message.
pub fn character(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!("'{}'", char::from(byte)) } else { format!("0x{byte:02x}") }
}

/// The beginning of a value for an error message.
pub fn shown(value: &[u8]) -> String {
    let visible = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
    value.iter().take(SHOWN_MAX).map(visible).collect()
}
