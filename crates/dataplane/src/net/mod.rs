//! Sockets: addresses, listeners and one stream type over TCP and Unix sockets.

pub mod address;
pub mod listener;
pub mod local;
pub mod network;
pub mod proxy_protocol;
pub mod stream;
pub mod tls;
pub mod tls_client;
