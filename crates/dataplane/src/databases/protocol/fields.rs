//! Views of messages, without copying. Each reads one whole message, header included, and refuses what the protocol
//! does not allow; ranges count from the start of the message. Texts are bytes: the client's encoding is its own.

use std::ops::Range;

use super::ProtocolError;
use super::messages::message;
use super::reader::Reader;
use super::report::Severity;

/// The SQL of a `Query`.
pub fn query(message: &[u8]) -> Result<&[u8], ProtocolError> {
    only_text(message)
}

/// The tag of a `CommandComplete`, for example `INSERT 0 1`.
pub fn command_complete(message: &[u8]) -> Result<&[u8], ProtocolError> {
    only_text(message)
}

/// The status byte of a `ReadyForQuery`: `I`, `T` or `E`.
pub fn ready_for_query(message: &[u8]) -> Result<u8, ProtocolError> {
    let mut reader = Reader::of_message(message)?;
    let status = reader.u8()?;
    reader.finish()?;
    if matches!(status, b'I' | b'T' | b'E') { Ok(status) } else { Err(ProtocolError("unknown transaction status")) }
}

fn only_text(message: &[u8]) -> Result<&[u8], ProtocolError> {
    let mut reader = Reader::of_message(message)?;
    let text = reader.text()?;
    reader.finish()?;
    Ok(text)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Empty for the unnamed statement.
    pub name: &'a [u8],
    pub query: &'a [u8],
    /// Object ids of the parameter types, four bytes each in network order: as a key it needs no decoding.
    pub types: &'a [u8],
    /// Everything behind the name: the query and the types.
    tail: &'a [u8],
    tag: u8,
}

impl<'a> Parse<'a> {
    pub fn read(message: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::of_message(message)?;
        let name = reader.text()?;
        let tail = reader.rest();
        let query = reader.text()?;
        let count = reader.u16()?;
        let types = reader.take(4 * usize::from(count))?;
        reader.finish()?;
        Ok(Self { name, query, types, tail, tag: message[0] })
    }

    /// Object ids of the parameter types; 0 stands for "find out".
    pub fn type_ids(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.types.chunks_exact(4).map(|id| u32::from_be_bytes([id[0], id[1], id[2], id[3]]))
    }

    /// Appends the same message for another statement name.
    pub fn write_as(&self, name: &[u8], out: &mut Vec<u8>) {
        message(out, self.tag, |contents| {
            contents.text(name);
            contents.bytes(self.tail);
        });
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
    /// Where the statement's name lies in the message, without its zero byte.
    pub statement_range: Range<usize>,
    /// Formats and values of the parameters and formats of the result. `parameters` checks and reads them.
    tail: &'a [u8],
    tag: u8,
}

impl<'a> Bind<'a> {
    pub fn read(message: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::of_message(message)?;
        let portal = reader.text()?;
        let statement_range = reader.text_range()?;
        let statement = &message[statement_range.clone()];
        Ok(Self { portal, statement, statement_range, tail: reader.rest(), tag: message[0] })
    }

    /// The parameters; refuses a message that is malformed anywhere behind the names.
    pub fn parameters(&self) -> Result<Parameters<'a>, ProtocolError> {
        Parameters::read(self.tail)
    }

    /// Appends the same message for another statement name.
    pub fn write_as(&self, statement: &[u8], out: &mut Vec<u8>) {
        message(out, self.tag, |contents| {
            contents.text(self.portal);
            contents.text(statement);
            contents.bytes(self.tail);
        });
    }
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Binary,
}

/// The parameters of a `Bind`, all of it checked.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a> {
    formats: &'a [u8],
    count: usize,
    values: Reader<'a>,
}

impl<'a> Parameters<'a> {
    fn read(tail: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(tail);
        let formats = formats(&mut reader)?;
        let count = usize::from(reader.u16()?);
        if formats.len() > 2 && formats.len() != 2 * count {
            return Err(ProtocolError("bind message has another number of formats than of parameters"));
        }
        let values = reader;
        for _ in 0..count {
            reader.value()?;
        }
        self::formats(&mut reader)?;
        reader.finish()?;
        Ok(Self { formats, count, values })
    }

    /// Each value with its format; `None` is NULL.
    pub fn iter(&self) -> impl Iterator<Item = (Format, Option<&'a [u8]>)> + use<'a> {
        let (formats, mut values) = (self.formats, self.values);
        (0..self.count).map_while(move |at| {
            let code = match formats.len() {
                0 => 0,
                // One for all.
                2 => formats[1],
                _ => formats[2 * at + 1],
            };
            let format = if code == 0 { Format::Text } else { Format::Binary };
            values.value().ok().map(|value| (format, value))
        })
    }
}

/// A list of format codes, two bytes each.
fn formats<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ProtocolError> {
    let count = usize::from(reader.u16()?);
    let formats = reader.take(2 * count)?;
    if formats.chunks_exact(2).any(|code| code[0] != 0 || code[1] > 1) {
        return Err(ProtocolError("unsupported format code"));
    }
    Ok(formats)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    Statement,
    Portal,
}

/// What a `Describe` or a `Close` is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    pub kind: TargetKind,
    pub name: &'a [u8],
    tag: u8,
}

impl<'a> Target<'a> {
    pub fn read(message: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::of_message(message)?;
        let kind = match reader.u8()? {
            b'S' => TargetKind::Statement,
            b'P' => TargetKind::Portal,
            _ => return Err(ProtocolError("invalid subtype of a describe or close message")),
        };
        let name = reader.text()?;
        reader.finish()?;
        Ok(Self { kind, name, tag: message[0] })
    }

    /// Appends the same message for another name.
    pub fn write_as(&self, name: &[u8], out: &mut Vec<u8>) {
        message(out, self.tag, |contents| {
            contents.byte(if self.kind == TargetKind::Statement { b'S' } else { b'P' });
            contents.text(name);
        });
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execute<'a> {
    pub portal: &'a [u8],
    /// Zero or less: all rows.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    pub fn read(message: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::of_message(message)?;
        let portal = reader.text()?;
        let max_rows = reader.i32()?;
        reader.finish()?;
        Ok(Self { portal, max_rows })
    }
}

/// The fields of an `ErrorResponse` or a `NoticeResponse`.
#[derive(Debug, Clone, Copy)]
pub struct ReportFields<'a>(&'a [u8]);

impl<'a> ReportFields<'a> {
    pub fn read(message: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::of_message(message)?;
        let fields = reader.rest();
        while reader.u8()? != 0 {
            reader.text()?;
        }
        reader.finish()?;
        Ok(Self(fields))
    }

    /// The first field of this kind (PostgreSQL 18, section 54.8).
    pub fn get(&self, kind: u8) -> Option<&'a [u8]> {
        let mut reader = Reader::new(self.0);
        loop {
            match reader.u8().ok()? {
                0 => return None,
                each if each == kind => return reader.text().ok(),
                _ => reader.text().ok()?,
            };
        }
    }

    /// The SQLSTATE; empty when there is none.
    pub fn code(&self) -> &'a [u8] {
        self.get(b'C').unwrap_or_default()
    }

    pub fn message(&self) -> &'a [u8] {
        self.get(b'M').unwrap_or_default()
    }

    /// The function of the server's source that reports it, which is never translated; empty when the server tells none.
    pub fn routine(&self) -> &'a [u8] {
        self.get(b'R').unwrap_or_default()
    }

    /// From the field that is never translated, where the server sends it.
    pub fn severity(&self) -> Severity {
        Severity::parse(self.get(b'V').or_else(|| self.get(b'S')).unwrap_or_default())
    }
}

/// The name and the value of a `ParameterStatus`.
pub fn parameter_status(message: &[u8]) -> Result<(&[u8], &[u8]), ProtocolError> {
    let mut reader = Reader::of_message(message)?;
    let pair = (reader.text()?, reader.text()?);
    reader.finish()?;
    Ok(pair)
}

/// The process and the secret of a `BackendKeyData`.
pub fn backend_key_data(message: &[u8]) -> Result<(u32, &[u8]), ProtocolError> {
    let mut reader = Reader::of_message(message)?;
    let process = reader.u32()?;
    match reader.rest() {
        secret if (4..=super::startup::SECRET_MAX).contains(&secret.len()) => Ok((process, secret)),
        _ => Err(ProtocolError("invalid length of a cancellation key")),
    }
}

/// The kind of an `Authentication` message and what follows it.
pub fn authentication(message: &[u8]) -> Result<(u32, &[u8]), ProtocolError> {
    let mut reader = Reader::of_message(message)?;
    Ok((reader.u32()?, reader.rest()))
}

/// The mechanisms in the contents of an `AuthenticationSASL`.
pub fn sasl_mechanisms(contents: &[u8]) -> Result<Vec<&[u8]>, ProtocolError> {
    let mut reader = Reader::new(contents);
    let mut mechanisms = Vec::new();
    loop {
        match reader.text()? {
            b"" => break,
            mechanism => mechanisms.push(mechanism),
        }
    }
    reader.finish()?;
    Ok(mechanisms)
}

/// The mechanism and the data of a `SASLInitialResponse`.
pub fn sasl_initial_response(message: &[u8]) -> Result<(&[u8], Option<&[u8]>), ProtocolError> {
    let mut reader = Reader::of_message(message)?;
    let response = (reader.text()?, reader.value()?);
    reader.finish()?;
    Ok(response)
}

/// The data of a `SASLResponse`.
pub fn sasl_response(message: &[u8]) -> Result<&[u8], ProtocolError> {
    Reader::of_message(message).map(|reader| reader.rest())
}

/// The minor version that a `NegotiateProtocolVersion` grants.
pub fn negotiate_protocol_version(message: &[u8]) -> Result<u16, ProtocolError> {
    let mut reader = Reader::of_message(message)?;
    let version = reader.u32()?;
    for _ in 0..reader.u32()? {
        reader.text()?;
    }
    reader.finish()?;
    match version >> 16 {
        3 => Ok(version as u16),
        _ => Err(ProtocolError("the server wants another major version of the protocol")),
    }
}

/// The values of a `DataRow`; `None` is NULL.
pub fn data_row(message: &[u8]) -> Result<Vec<Option<&[u8]>>, ProtocolError> {
    let mut reader = Reader::of_message(message)?;
    let count = reader.u16()?;
    let values: Result<Vec<_>, _> = (0..count).map(|_| reader.value()).collect();
    reader.finish()?;
    values
}

#[cfg(test)]
mod tests;
