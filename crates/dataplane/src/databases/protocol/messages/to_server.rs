//! What a client says.

use super::super::startup::{CANCEL_CODE, SSL_CODE};
use super::super::tag::to_server as tag;
use super::{message, untagged};

/// Begins a session. `parameters` must have a `user`.
pub fn startup(out: &mut Vec<u8>, minor: u16, parameters: &[(&str, &str)]) {
    untagged(out, |contents| {
        contents.u32(3 << 16 | u32::from(minor));
        for (name, value) in parameters {
            contents.text(name.as_bytes());
            contents.text(value.as_bytes());
        }
        contents.byte(0);
    });
}

/// Asks whether the server will do TLS.
pub fn ssl_request(out: &mut Vec<u8>) {
    untagged(out, |contents| contents.u32(SSL_CODE));
}

pub fn cancel_request(out: &mut Vec<u8>, process: u32, secret: &[u8]) {
    untagged(out, |contents| {
        contents.u32(CANCEL_CODE);
        contents.u32(process);
        contents.bytes(secret);
    });
}

/// A password, in the clear or as MD5 digits.
pub fn password(out: &mut Vec<u8>, password: &str) {
    message(out, tag::PASSWORD, |contents| contents.text(password.as_bytes()));
}

pub fn sasl_initial_response(out: &mut Vec<u8>, mechanism: &str, data: &[u8]) {
    message(out, tag::PASSWORD, |contents| {
        contents.text(mechanism.as_bytes());
        contents.value(Some(data));
    });
}

pub fn sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    message(out, tag::PASSWORD, |contents| contents.bytes(data));
}

pub fn query(out: &mut Vec<u8>, sql: &[u8]) {
    message(out, tag::QUERY, |contents| contents.text(sql));
}

/// Prepares a statement. Types are object ids, 0 for what the server should find out.
pub fn parse(out: &mut Vec<u8>, name: &[u8], sql: &[u8], types: &[u32]) {
    message(out, tag::PARSE, |contents| {
        contents.text(name);
        contents.text(sql);
        contents.u16(types.len() as u16);
        for each in types {
            contents.u32(*each);
        }
    });
}

/// Binds text values to a statement; the result will be text too.
pub fn bind(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], values: &[Option<&[u8]>]) {
    message(out, tag::BIND, |contents| {
        contents.text(portal);
        contents.text(statement);
        contents.u16(0);
        contents.u16(values.len() as u16);
        for value in values {
            contents.value(*value);
        }
        contents.u16(0);
    });
}

pub fn describe_statement(out: &mut Vec<u8>, name: &[u8]) {
    target(out, tag::DESCRIBE, b'S', name);
}

pub fn describe_portal(out: &mut Vec<u8>, name: &[u8]) {
    target(out, tag::DESCRIBE, b'P', name);
}

pub fn close_statement(out: &mut Vec<u8>, name: &[u8]) {
    target(out, tag::CLOSE, b'S', name);
}

pub fn close_portal(out: &mut Vec<u8>, name: &[u8]) {
    target(out, tag::CLOSE, b'P', name);
}

fn target(out: &mut Vec<u8>, tag: u8, kind: u8, name: &[u8]) {
    message(out, tag, |contents| {
        contents.byte(kind);
        contents.text(name);
    });
}

/// Runs a portal. `max_rows` of 0 means all.
pub fn execute(out: &mut Vec<u8>, portal: &[u8], max_rows: u32) {
    message(out, tag::EXECUTE, |contents| {
        contents.text(portal);
        contents.u32(max_rows);
    });
}

pub fn flush(out: &mut Vec<u8>) {
    message(out, tag::FLUSH, |_| ());
}

pub fn sync(out: &mut Vec<u8>) {
    message(out, tag::SYNC, |_| ());
}

pub fn copy_fail(out: &mut Vec<u8>, why: &str) {
    message(out, tag::COPY_FAIL, |contents| contents.text(why.as_bytes()));
}

pub fn terminate(out: &mut Vec<u8>) {
    message(out, tag::TERMINATE, |_| ());
}
