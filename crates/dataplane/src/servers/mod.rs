//! The first hull: HTTP requests from clients to app servers.

pub mod balance;
pub mod flow;
pub mod health;
pub mod http;
pub mod http2;
pub mod pool;
pub mod pressure;
pub mod probe;
pub mod queue;
pub mod rate_limit;
pub mod retry;
pub mod router;
pub mod server;
pub mod topology;
pub mod view;
