//! A connection in HTTP/2: its task reads what has arrived, hands requests to lanes, and sends what all of them have to
//! say in as few writes as possible.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::frame::{Code, PAYLOAD_MAX, kind, put, put_goaway, put_settings, put_window_update, setting};
use super::lane::{Lane, Shared};
use super::reader::{FAREWELL, Reader};
use super::state::{CONNECTION_WINDOW, STREAM_WINDOW, STREAMS_MAX, State};
use crate::buffer::Buffer;
use crate::net::stream::Stream;
use crate::plane::Plane;
use crate::servers::flow;
use crate::servers::http::client::Client;
use crate::servers::http::deadline::Deadline;
use crate::servers::http::linger::linger;
use crate::servers::http::request::Peer;
use crate::snapshot::Http;

/// How long a client has to take note of the end before the connection is closed.
const GOODBYE_MS: u64 = 1_000;
/// Lanes that had nothing to do for so long go home.
const LANES_IDLE_MS: u64 = 1_000;
/// Reads in a row before others get their turn.
const READS_MAX: usize = 8;
/// A buffer for sending that grew beyond this is not kept.
const KEPT: usize = 256 * 1024;

/// Serves a connection until it ends. `arrived` was read of it already; `idle` is true while it has no request in
/// progress.
pub async fn serve(stream: Stream, arrived: Option<Buffer>, peer: Peer, idle: Arc<AtomicBool>, plane: Arc<Plane>) {
    let http = Arc::clone(&plane.topology().http);
    let state = State::new(http.head_max_bytes);
    let mut connection = Connection {
        stream,
        arrived,
        is_new: true,
        writing: Vec::new(),
        written: 0,
        must_flush: false,
        reader: Reader::default(),
        present: Present(Shared::new(state)),
        deadline: Deadline::default(),
        wait: Wait::Nothing,
        ending: Ending::NotYet,
        begun_at_stop: None,
        peer,
        idle,
        plane,
        http,
    };
    connection.begin();
    let end = poll_fn(|cx| connection.poll(cx)).await;
    if end == End::Said {
        connection.linger().await;
    }
}

/// How the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client may still have to read that it did.
    Said,
    Broken,
}

/// How far the end of a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    NotYet,
    /// The client has been told to begin nothing more; what is on its way is still served.
    Announced,
    /// Nothing is begun any more.
    Leaving,
    /// All is said.
    Failed,
}

/// What the deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Nothing,
    /// For the client to show that it speaks HTTP/2.
    Introduction,
    Write,
    /// For the next request, while lanes are kept.
    Request,
    /// The same, without lanes.
    Rest,
}

/// What reading has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Some,
    Nothing,
    /// It was not tried, because too much waits to be sent.
    NotYet,
}

struct Connection {
    stream: Stream,
    arrived: Option<Buffer>,
    /// Nothing was read yet.
    is_new: bool,
    /// What is being sent, and how much of it was.
    writing: Vec<u8>,
    written: usize,
    must_flush: bool,
    reader: Reader,
    present: Present,
    deadline: Deadline,
    wait: Wait,
    ending: Ending,
    /// Streams begun when the plane was first seen to stop.
    begun_at_stop: Option<usize>,
    peer: Peer,
    idle: Arc<AtomicBool>,
    plane: Arc<Plane>,
    http: Arc<Http>,
}

impl Connection {
    /// Says our settings.
    fn begin(&mut self) {
        let list_max = u32::try_from(self.http.head_max_bytes).unwrap_or(u32::MAX);
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, STREAMS_MAX as u32),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (setting::MAX_FRAME_SIZE, PAYLOAD_MAX as u32),
            (setting::MAX_HEADER_LIST_SIZE, list_max),
        ];
        put_settings(&mut self.writing, &settings);
        put_window_update(&mut self.writing, 0, CONNECTION_WINDOW - 65_535);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let shared = Arc::clone(&self.present.0);
        shared.lock().sleep(cx.waker());
        let read = if self.ending == Ending::Failed { Ok(Read::Nothing) } else { self.read(cx, &shared) };
        let read = match read {
            Ok(read) => read,
            Err(Fault::Ended) => return Poll::Ready(End::Broken),
            Err(Fault::Client(code)) => {
                self.fail(&shared, code);
                Read::Nothing
            }
        };
        self.see_to_end(&shared);
        let Ok(sent) = self.send(cx, &shared) else { return Poll::Ready(End::Broken) };
        let is_sending = self.is_sending();
        if read == Read::NotYet && !is_sending {
            cx.waker().wake_by_ref();
        }
        let open = shared.lock().open;
        let is_resting = open == 0 && !is_sending;
        self.idle.store(is_resting, Ordering::Relaxed);
        if self.ending == Ending::Failed && !is_sending || is_resting && self.is_over() {
            return Poll::Ready(End::Said);
        }
        let is_active = sent || read == Read::Some;
        let wait = match self.wait {
            _ if is_sending => Wait::Write,
            _ if open > 0 => Wait::Nothing,
            _ if !self.reader.is_introduced() => Wait::Introduction,
            Wait::Rest if !is_active => Wait::Rest,
            _ => Wait::Request,
        };
        if wait != self.wait || wait == Wait::Write && sent || wait == Wait::Request && is_active {
            self.wait_for(wait);
        }
        while self.wait != Wait::Nothing && self.deadline.poll_passed(cx).is_ready() {
            match self.wait {
                Wait::Request => {
                    let mut state = shared.lock();
                    state.dismiss_free();
                    state.out = Vec::new();
                    self.writing = Vec::new();
                    drop(state);
                    self.wait_for(Wait::Rest);
                }
                Wait::Rest if self.ending == Ending::NotYet => {
                    self.fail(&shared, Code::NoError);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Wait::Rest => return Poll::Ready(End::Said),
                Wait::Nothing | Wait::Introduction | Wait::Write => return Poll::Ready(End::Broken),
            }
        }
        Poll::Pending
    }

    fn wait_for(&mut self, wait: Wait) {
        self.wait = wait;
        let most = if self.ending == Ending::NotYet { u64::MAX } else { GOODBYE_MS };
        let rest_ms = self.http.keep_alive_timeout_ms.min(most);
        let ms = match wait {
            Wait::Nothing => return,
            Wait::Introduction => self.http.head_timeout_ms,
            Wait::Write => self.http.write_timeout_ms,
            Wait::Request => LANES_IDLE_MS.min(rest_ms),
            Wait::Rest => rest_ms.saturating_sub(LANES_IDLE_MS),
        };
        self.deadline.set(Instant::now(), ms);
    }

    /// Reads and takes what has arrived.
    fn read(&mut self, cx: &mut Context<'_>, shared: &Arc<Shared>) -> Result<Read, Fault> {
        let mut outcome = Read::Nothing;
        for _ in 0..READS_MAX {
            if shared.lock().is_congested() {
                return Ok(Read::NotYet);
            }
            let mut buffer = match self.arrived.take() {
                Some(buffer) => buffer,
                None if self.stream.poll_read_ready(cx).is_pending() => return Ok(outcome),
                None if self.reader.is_in_body() => Buffer::large(),
                None => Buffer::small(),
            };
            // What was read before we knew what the client speaks comes first.
            let count = if std::mem::take(&mut self.is_new) && !buffer.is_empty() {
                buffer.len()
            } else {
                let read = self.stream.poll_read(cx, buffer.room());
                if let Poll::Ready(Ok(0) | Err(_)) = read {
                    return Err(Fault::Ended);
                }
                let count = if let Poll::Ready(Ok(count)) = read { count } else { 0 };
                buffer.advance(count);
                count
            };
            let taken = if count > 0 { self.reader.take(&mut buffer, &mut shared.lock()) } else { Ok(()) };
            if !buffer.is_empty() {
                self.arrived = Some(buffer);
            }
            if count == 0 {
                return Ok(outcome);
            }
            outcome = Read::Some;
            self.serve_lanes(shared);
            taken.map_err(Fault::Client)?;
        }
        // There may be more.
        cx.waker().wake_by_ref();
        Ok(outcome)
    }

    /// Finds somebody for lanes that are new, and counts what was answered without any.
    fn serve_lanes(&self, shared: &Arc<Shared>) {
        let mut state = shared.lock();
        for refusal in state.refused.drain(..) {
            let traffic = self.plane.traffic.mine();
            traffic.requests.add(1);
            traffic.answered(refusal.status());
            traffic.refused[refusal.cause()].add(1);
        }
        while let Some(at) = state.unserved.pop() {
            let stream = Stream::Lane(Lane::new(Arc::clone(shared), at));
            let client = Client::new(stream, Peer { http2: true, ..self.peer }, Arc::default());
            tokio::spawn(flow::serve(client, Arc::clone(&self.plane)));
        }
    }

    /// Sends what waits. True when some of it was.
    fn send(&mut self, cx: &mut Context<'_>, shared: &Arc<Shared>) -> io::Result<bool> {
        let mut sent = false;
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                if self.writing.capacity() > KEPT {
                    self.writing = Vec::new();
                }
                shared.lock().take_out(&mut self.writing);
                if self.writing.is_empty() {
                    break;
                }
            }
            match self.stream.poll_write(cx, &self.writing[self.written..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => self.written += count?,
                Poll::Pending => return Ok(sent),
            }
            sent = true;
            self.must_flush = true;
        }
        if self.must_flush {
            if let Poll::Ready(flushed) = self.stream.poll_flush(cx) {
                flushed?;
                self.must_flush = false;
            }
        }
        Ok(sent)
    }

    fn is_sending(&self) -> bool {
        self.must_flush || self.written < self.writing.len()
    }

    /// Ends the connection as soon as this is said.
    fn fail(&mut self, shared: &Arc<Shared>, code: Code) {
        let mut state = shared.lock();
        let last = state.last_stream;
        state.end();
        put_goaway(&mut state.out, last, code);
        self.ending = Ending::Failed;
    }

    /// Takes the steps of a graceful end (RFC 9113, section 6.8) when their time has come.
    fn see_to_end(&mut self, shared: &Arc<Shared>) {
        if self.ending == Ending::NotYet && self.plane.is_stopping() {
            let mut state = shared.lock();
            if state.open == 0 {
                drop(state);
                self.fail(shared, Code::NoError);
                return;
            }
            // Some clients take a GOAWAY for the end of all streams; only one that goes on must be told so early.
            let begun = *self.begun_at_stop.get_or_insert(state.begun);
            if state.begun > begun {
                // Requests that are still on their way are waited for.
                put_goaway(&mut state.out, u32::MAX >> 1, Code::NoError);
                put(&mut state.out, kind::PING, 0, 0, FAREWELL);
                self.ending = Ending::Announced;
            }
        }
        if self.ending == Ending::Announced && self.reader.farewell_seen {
            let mut state = shared.lock();
            state.is_leaving = true;
            let last = state.last_stream;
            put_goaway(&mut state.out, last, Code::NoError);
            self.ending = Ending::Leaving;
        }
    }

    /// Whether no further request will come.
    fn is_over(&self) -> bool {
        self.ending == Ending::Leaving || self.reader.client_leaves
    }

    /// Closes without destroying what was said last.
    async fn linger(self) {
        let Self { stream, peer, present, .. } = self;
        drop(present);
        linger(Client::new(stream, peer, Arc::default())).await;
    }
}

/// Ends all lanes with the connection, however it ends.
struct Present(Arc<Shared>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.lock().end();
    }
}

/// Why nothing more can be read.
enum Fault {
    Ended,
    /// The client has broken the rules.
    Client(Code),
}
