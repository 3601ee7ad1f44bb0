//! HTTP/2 from clients. Frames, flow control and header compression are the `h2` crate's; each stream is then a client of
//! its own, which speaks HTTP/1.1 through a pipe in memory. So a stream is parsed, limited, queued, balanced, retried,
//! counted and logged by the same code as every other request, and by itself.

mod head;
mod preceded;
mod stream;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::http::deadline::Deadline;
use super::http::request::Peer;
use crate::plane::Plane;
use crate::snapshot::Http;

pub use preceded::{PREFACE_HEAD, Preceded};

/// Requests in progress on one connection.
const STREAMS_MAX: u32 = 128;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// A client that has taken back this many requests, and most of what it sent, is an attack (rapid reset, CVE-2023-44487).
const RESETS_MAX: usize = 100;

/// How long a client has to take note of the end before the connection is closed.
const GOODBYE_MS: u64 = 1_000;

/// What a connection and its streams know of each other.
#[derive(Debug, Default)]
struct Streams {
    open: AtomicUsize,
    /// Taken back by the client.
    reset: AtomicUsize,
    ended: Notify,
}

type Accepted = (http::Request<RecvStream>, SendResponse<Bytes>);

#[allow(clippy::large_enum_variant)] // Lives for a moment, on the stack.
enum Event {
    /// A request, an error, or the end.
    Accepted(Option<Result<Accepted, h2::Error>>),
    StreamEnded,
    Idle,
}

/// Serves a connection until it ends. `idle` is true while it has no request in progress.
pub async fn serve<T>(io: T, peer: Peer, idle: Arc<AtomicBool>, plane: Arc<Plane>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let http = Arc::clone(&plane.topology().http);
    let limit = Duration::from_millis(http.head_timeout_ms);
    let Ok(Ok(mut connection)) = timeout(limit, settings(&http).handshake(io)).await else {
        return;
    };
    let streams = Arc::new(Streams::default());
    let mut deadline = Deadline::default();
    let (mut served, mut closing) = (0_usize, false);
    loop {
        let resting = streams.open.load(Ordering::Acquire) == 0;
        idle.store(resting, Ordering::Relaxed);
        if plane.is_stopping() && !closing {
            connection.graceful_shutdown();
            closing = true;
        }
        let idle_ms = if closing { http.keep_alive_timeout_ms.min(GOODBYE_MS) } else { http.keep_alive_timeout_ms };
        deadline.set(Instant::now(), idle_ms);
        let mut ended = pin!(streams.ended.notified());
        let event = poll_fn(|cx| {
            if let Poll::Ready(next) = connection.poll_accept(cx) {
                return Poll::Ready(Event::Accepted(next));
            }
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::StreamEnded);
            }
            if resting { deadline.poll_passed(cx).map(|()| Event::Idle) } else { Poll::Pending }
        });
        match event.await {
            Event::Accepted(Some(Ok((request, respond)))) => {
                served += 1;
                streams.open.fetch_add(1, Ordering::AcqRel);
                let present = Present(Arc::clone(&streams));
                let plane = Arc::clone(&plane);
                tokio::spawn(async move {
                    if stream::carry(request, respond, peer, plane).await == stream::End::ClientGone {
                        present.0.reset.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // The end, or an error of which the client has been told already.
            Event::Accepted(None | Some(Err(_))) => return,
            Event::StreamEnded => {
                let resets = streams.reset.load(Ordering::Relaxed);
                if resets > RESETS_MAX && resets * 2 > served {
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
            }
            Event::Idle if closing => return,
            Event::Idle => {
                connection.graceful_shutdown();
                closing = true;
            }
        }
    }
}

fn settings(http: &Http) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(http.head_max_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(http.response_buffer_bytes)
        // Streams that the client took back before they were looked at.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(100));
    builder
}

/// Counts a stream for as long as it exists, however it ends.
struct Present(Arc<Streams>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_one();
    }
}
