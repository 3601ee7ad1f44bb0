//! HTTP/1.1 on both sides: parsing, rewriting, bodies, and the conversation with a client and with a server.

pub mod chunked;
pub mod client;
pub mod compression;
pub mod deadline;
pub mod exchange;
pub mod fields;
pub mod forwarded;
pub mod linger;
pub mod payload;
pub mod refusal;
pub mod relay;
pub mod request;
pub mod response;
pub mod tunnel;
pub mod upload;
pub mod upstream;
