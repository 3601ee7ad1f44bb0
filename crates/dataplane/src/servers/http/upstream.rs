//! A connection to a server.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use crate::clock::now_us;
use crate::net::address::Address;
use crate::net::stream::Stream;
use crate::servers::server::Server;

/// Remote servers close idle connections when they like (gunicorn after 2 s, uvicorn after 5 s). One that was idle for
/// longer than this is not trusted with a request that may not be repeated.
const FRESH_US: u64 = 1_000_000;
/// Idle connections to remote servers are not kept for longer.
const IDLE_MAX_US: u64 = 60_000_000;

#[derive(Debug)]
pub struct Upstream {
    pub stream: Stream,
    /// Has served a request before: its end may have crossed with ours.
    pub is_reused: bool,
    idle_since_us: u64,
}

impl Upstream {
    /// An idle connection, else a new one. Only idempotent requests take one that may have gone stale.
    pub async fn open(server: &Server, idempotent: bool, connect_timeout_ms: u64) -> io::Result<Self> {
        while let Some(connection) = server.take_idle() {
            if !connection.stream.has_news() && (idempotent || connection.is_fresh(&server.address)) {
                return Ok(connection);
            }
        }
        Self::connect(&server.address, connect_timeout_ms).await
    }

    pub async fn connect(address: &Address, connect_timeout_ms: u64) -> io::Result<Self> {
        let stream = timeout(Duration::from_millis(connect_timeout_ms), Stream::connect(address)).await??;
        Ok(Self { stream, is_reused: false, idle_since_us: 0 })
    }

    /// Our own servers never close idle connections; others may.
    fn is_fresh(&self, address: &Address) -> bool {
        matches!(address, Address::Unix(_)) || now_us() - self.idle_since_us < FRESH_US
    }

    /// Whether it is of no use any more.
    pub fn is_stale(&self) -> bool {
        let too_old = matches!(self.stream, Stream::Tcp(_)) && now_us() - self.idle_since_us > IDLE_MAX_US;
        too_old || self.stream.has_news()
    }

    /// Goes back to its server for the next request.
    pub fn keep(mut self, server: &Server, most: usize, now_us: u64) {
        self.is_reused = true;
        self.idle_since_us = now_us;
        server.keep_idle(self, most);
    }
}
