//! What must hold for any bytes that a network can bring. Each property panics where it does not hold.
//!
//! Two drivers feed them: `mutation`, inside `cargo test`, for seconds; and libFuzzer, guided by coverage, for as long as one
//! likes (`make fuzz`, crates/fuzz). What they find goes into tests/servers/gateway/corpus.

mod chunks;
mod grammar;
#[cfg(test)]
mod mutation;
mod proxy_headers;
mod requests;
mod responses;
mod values;

pub type Property = fn(&[u8]);

/// Every property by its name.
pub const ALL: [(&str, Property); 5] = [
    ("requests", requests::hold),
    ("responses", responses::hold),
    ("chunks", chunks::hold),
    ("proxy_headers", proxy_headers::hold),
    ("values", values::hold),
];

/// Lengths of pieces into which `data` is cut, taken from `data` itself, so that a finding can be repeated.
fn pieces(data: &[u8]) -> impl Iterator<Item = usize> + '_ {
    data.iter().rev().cycle().map(|byte| 1 + usize::from(byte % 7))
}
