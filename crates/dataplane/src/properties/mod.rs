//! What must hold for any bytes that a network can bring. Each property panics where it does not hold.
//!
//! Two drivers feed them: `mutation`, inside `cargo test`, for seconds; and libFuzzer, guided by coverage, for as long as one
//! likes (`make fuzz`, crates/fuzz). What they find goes into tests/servers/gateway/corpus or crates/fuzz/seeds.toml.

mod chunks;
mod grammar;
mod hpack;
mod http2;
#[cfg(test)]
mod mutation;
mod postgres_answers;
mod postgres_messages;
mod postgres_startup;
mod proxy_headers;
mod reference;
mod requests;
mod responses;
mod scram;
mod statements;
mod values;

use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use crate::databases::transfer::write_all;
use crate::net::stream::Stream;

pub type Property = fn(&[u8]);

/// Every property by its name.
pub const ALL: [(&str, Property); 12] = [
    ("requests", requests::hold),
    ("responses", responses::hold),
    ("chunks", chunks::hold),
    ("proxy_headers", proxy_headers::hold),
    ("values", values::hold),
    ("http2", http2::hold),
    ("hpack", hpack::hold),
    ("postgres_startup", postgres_startup::hold),
    ("postgres_messages", postgres_messages::hold),
    ("postgres_answers", postgres_answers::hold),
    ("scram", scram::hold),
    ("statements", statements::hold),
];

/// Runs what needs sockets.
fn runtime<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("an event loop");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// Lengths of pieces into which `data` is cut, taken from `data` itself, so that a finding can be repeated.
fn pieces(data: &[u8]) -> impl Iterator<Item = usize> + '_ {
    data.iter().rev().cycle().map(|byte| 1 + usize::from(byte % 7))
}

/// `bytes` in the parts that `pieces` says.
fn cut(bytes: &[u8], mut pieces: impl Iterator<Item = usize>) -> Vec<Vec<u8>> {
    let mut rest = bytes.to_vec();
    std::iter::from_fn(|| {
        let count = pieces.next().unwrap_or(1).min(rest.len());
        (count > 0).then(|| rest.drain(..count).collect())
    })
    .collect()
}

/// Says the parts one after the other; whoever listens may have heard enough before the end.
async fn say(stream: &mut Stream, parts: Vec<Vec<u8>>) {
    for part in parts {
        let _ = write_all(stream, &part).await;
        yield_now().await;
    }
}
