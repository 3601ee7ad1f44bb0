//! HTTP/2 from clients, by a codec of our own: frames, header compression and flow control. Each stream is put on a lane,
//! which is served like a connection in HTTP/1.1; so a stream is parsed, limited, queued, balanced, retried, counted and
//! logged by the same code as every other request, and by itself.
//!
//! `connection` reads and writes; `reader` takes frames apart and `receive` does what they say; `send` makes frames of
//! responses; `state` is what all of them and the lanes share.

mod connection;
pub(crate) mod frame;
pub(crate) mod hpack;
pub(crate) mod lane;
pub(crate) mod reader;
mod receive;
mod request;
mod response;
mod send;
pub(crate) mod state;
#[cfg(test)]
mod tests;

pub use connection::serve;
pub use lane::Lane;

/// What a client that knows us to speak HTTP/2 begins with (RFC 9113, section 3.4). A request head ends within it.
pub const PREFACE_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
