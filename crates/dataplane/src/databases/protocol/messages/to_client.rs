//! What a server says. Errors and notices are in `report`.

use super::super::tag::to_client as tag;
use super::message;

/// The state of the transaction that `ReadyForQuery` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TransactionStatus {
    Idle = b'I',
    InTransaction = b'T',
    Failed = b'E',
}

pub fn authentication_ok(out: &mut Vec<u8>) {
    authentication(out, 0, &[]);
}

/// Offers SASL mechanisms, the most wanted first.
pub fn authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    let mut list = Vec::new();
    for mechanism in mechanisms {
        list.extend(mechanism.as_bytes());
        list.push(0);
    }
    list.push(0);
    authentication(out, 10, &list);
}

pub fn authentication_sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 11, data);
}

pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 12, data);
}

fn authentication(out: &mut Vec<u8>, kind: u32, data: &[u8]) {
    message(out, tag::AUTHENTICATION, |contents| {
        contents.u32(kind);
        contents.bytes(data);
    });
}

/// Answers a client that asked for a newer minor version, or for protocol options (`_pq_.`) that are not known here.
pub fn negotiate_protocol_version(out: &mut Vec<u8>, minor: u16, unknown: &[String]) {
    message(out, tag::NEGOTIATE_PROTOCOL_VERSION, |contents| {
        // The documentation says "minor version"; PostgreSQL sends, and libpq expects, the whole one.
        contents.u32(3 << 16 | u32::from(minor));
        contents.u32(unknown.len() as u32);
        for name in unknown {
            contents.text(name.as_bytes());
        }
    });
}

pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, tag::PARAMETER_STATUS, |contents| {
        contents.text(name.as_bytes());
        contents.text(value.as_bytes());
    });
}

/// What a client must show to cancel. The secret is 4 bytes before protocol 3.2, up to 256 since.
pub fn backend_key_data(out: &mut Vec<u8>, process: u32, secret: &[u8]) {
    message(out, tag::BACKEND_KEY_DATA, |contents| {
        contents.u32(process);
        contents.bytes(secret);
    });
}

pub fn ready_for_query(out: &mut Vec<u8>, status: TransactionStatus) {
    message(out, tag::READY_FOR_QUERY, |contents| contents.byte(status as u8));
}

pub fn command_complete(out: &mut Vec<u8>, command: &str) {
    message(out, tag::COMMAND_COMPLETE, |contents| contents.text(command.as_bytes()));
}

pub fn empty_query_response(out: &mut Vec<u8>) {
    message(out, tag::EMPTY_QUERY_RESPONSE, |_| ());
}

pub fn parse_complete(out: &mut Vec<u8>) {
    message(out, tag::PARSE_COMPLETE, |_| ());
}

pub fn bind_complete(out: &mut Vec<u8>) {
    message(out, tag::BIND_COMPLETE, |_| ());
}

pub fn close_complete(out: &mut Vec<u8>) {
    message(out, tag::CLOSE_COMPLETE, |_| ());
}

pub fn no_data(out: &mut Vec<u8>) {
    message(out, tag::NO_DATA, |_| ());
}

/// Parameter types of a prepared statement, as object ids.
pub fn parameter_description(out: &mut Vec<u8>, types: &[u32]) {
    message(out, tag::PARAMETER_DESCRIPTION, |contents| {
        contents.u16(types.len() as u16);
        for each in types {
            contents.u32(*each);
        }
    });
}

/// Describes a result whose columns are all of type `text`.
pub fn row_description(out: &mut Vec<u8>, columns: &[&str]) {
    const TEXT: u32 = 25;
    message(out, tag::ROW_DESCRIPTION, |contents| {
        contents.u16(columns.len() as u16);
        for name in columns {
            contents.text(name.as_bytes());
            // Of no table and of no column of one.
            contents.u32(0);
            contents.u16(0);
            contents.u32(TEXT);
            // Of variable size (-1), without a modifier (-1), in text format (0).
            contents.u16(u16::MAX);
            contents.u32(u32::MAX);
            contents.u16(0);
        }
    });
}

/// A row of text values; `None` is NULL.
pub fn data_row<T: AsRef<[u8]>>(out: &mut Vec<u8>, values: &[Option<T>]) {
    message(out, tag::DATA_ROW, |contents| {
        contents.u16(values.len() as u16);
        for value in values {
            contents.value(value.as_ref().map(AsRef::as_ref));
        }
    });
}
