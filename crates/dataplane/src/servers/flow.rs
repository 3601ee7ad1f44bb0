//! One client connection, one request after the other. The journey of a request is `handle`, step by step.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::http::client::Client;
use super::http::exchange::{Answer, NoAnswer, exchange};
use super::http::linger::linger;
use super::http::payload::{BodyReader, Payload};
use super::http::refusal::Refusal;
use super::http::relay::{End, relay};
use super::http::request::{BodyFraming, Request};
use super::http::tunnel::tunnel;
use super::http::upload::{Sending, Source, Upload};
use super::http::upstream::Upstream;
use super::http2::PREFACE_HEAD;
use super::pool::Slot;
use super::retry::Failure;
use super::server::Server;
use crate::access_log::Outcome;
use crate::clock::{self, now_us};
use crate::plane::Plane;
use crate::snapshot::{Http, RequestBuffering};

/// What happens to the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    /// Close so that the client still gets what was sent.
    Linger,
    Close,
}

/// What was told about a request when it was over.
struct Report {
    status: u16,
    bytes_out: u64,
    next: Next,
}

/// How far a request has come, for the log.
#[derive(Default)]
struct Trail {
    queued_us: u64,
    retries: u32,
    server: Option<Arc<Server>>,
}

/// Serves a connection until it ends. It comes back at once when it speaks HTTP/2.
pub async fn serve(mut client: Client, plane: Arc<Plane>) -> Option<Client> {
    let mut first = true;
    let mut http = Arc::clone(&plane.topology().http);
    let mut since_us = now_us();
    loop {
        let head = client.head(&http, first, since_us).await;
        // Settings are exchanged now and then; a count that all threads keep is not to be moved at every request.
        refresh(&mut http, &plane);
        let next = match head {
            Ok(Some(_)) if first && http.http2 && !client.peer.https && client.arrived().starts_with(PREFACE_HEAD) => {
                return Some(client);
            }
            Ok(Some(length)) => {
                let (next, ended_us) = Box::pin(handle(&mut client, &plane, length, &http)).await;
                since_us = ended_us;
                next
            }
            Ok(None) => Next::Close,
            Err(refusal) => refuse_unparsed(&mut client, &plane, &http, refusal).await,
        };
        let traffic = plane.traffic.mine();
        traffic.bytes_in.add(std::mem::take(&mut client.bytes_in));
        match next {
            Next::Request => {
                first = false;
                refresh(&mut http, &plane);
            }
            Next::Linger => {
                linger(client).await;
                return None;
            }
            Next::Close => return None,
        }
    }
}

fn refresh(http: &mut Arc<Http>, plane: &Plane) {
    let topology = plane.topology();
    if !Arc::ptr_eq(http, &topology.http) {
        *http = Arc::clone(&topology.http);
    }
}

/// One request: parse and route, take the body, try servers until one answers, pass the answer on, take note. Also says
/// when it was over.
async fn handle(client: &mut Client, plane: &Arc<Plane>, head_length: usize, http: &Http) -> (Next, u64) {
    let start_us = now_us();
    let parsed = {
        let topology = plane.topology();
        Request::parse(&client.arrived()[..head_length], client.peer, &topology, plane.access_log.is_on())
    };
    let mut request = match parsed {
        Ok(request) => request,
        Err(refusal) => return (refuse_unparsed(client, plane, http, refusal).await, now_us()),
    };
    client.consume(head_length);
    plane.traffic.mine().requests.add(1);

    let mut trail = Trail::default();
    let report = if let Some(location) = request.redirect.take() {
        redirect(client, plane, &request, &location, http).await
    } else if let Some(seconds) = request.limited_s {
        let body_used_up = request.body == BodyFraming::Empty;
        refuse(client, plane, &request, Refusal::TooManyRequests(seconds), body_used_up, http).await
    } else {
        request.pool.counters.mine().arrivals.add(1);
        match body(client, &mut request, http).await {
            Ok(mut source) => {
                let ready_us = if request.body == BodyFraming::Empty { start_us } else { now_us() };
                respond(client, plane, &request, &mut source, http, &mut trail, ready_us).await
            }
            Err(refusal) => refuse(client, plane, &request, refusal, false, http).await,
        }
    };
    let ended_us = now_us();
    record(plane, &request, &report, &trail, ended_us - start_us);
    (report.next, ended_us)
}

/// Takes the body, or gets ready to stream it, and finishes the head for the server accordingly.
async fn body(client: &mut Client, request: &mut Request, http: &Http) -> Result<Source, Refusal> {
    let reader = BodyReader::new(request.body, http.body_max_bytes)?;
    if request.expects_continue && !reader.is_done() && client.arrived().is_empty() {
        client.deadline.set(Instant::now(), http.write_timeout_ms);
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| Refusal::RequestTimeout)?;
    }
    let head = &mut request.head;
    if http.request_buffering == RequestBuffering::Full || reader.is_done() {
        let payload = match request.body {
            BodyFraming::Empty => Payload::empty(),
            framing => Payload::collect(client, framing, http).await?,
        };
        if !payload.trailers.is_empty() {
            head.extend_from_slice(format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", payload.length).as_bytes());
        } else if request.body == BodyFraming::Empty {
            head.extend_from_slice(b"\r\n");
        } else {
            head.extend_from_slice(format!("Content-Length: {}\r\n\r\n", payload.length).as_bytes());
        }
        return Ok(Source::Payload(payload));
    }
    let chunked = if let BodyFraming::Length(length) = request.body {
        head.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
        false
    } else {
        head.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        true
    };
    Ok(Source::Stream { reader, chunked })
}

/// Tries servers from `now_us` on until one answers, and passes its answer on.
async fn respond(
    client: &mut Client,
    plane: &Arc<Plane>,
    request: &Request,
    source: &mut Source,
    http: &Http,
    trail: &mut Trail,
    mut now_us: u64,
) -> Report {
    let pool = &request.pool;
    let (retries_max, connect_ms, response_ms) =
        pool.settings(|s| (s.retries_max, s.connect_timeout_ms, s.response_timeout_ms));
    let mut tried = Vec::new();
    loop {
        let slot = match slot(client, request, &tried, now_us, trail).await {
            Some(Ok(slot)) => slot,
            Some(Err(refusal)) => {
                return refuse(client, plane, request, refusal, body_is_used_up(source), http).await;
            }
            None => return gone(),
        };
        if request.log.is_some() {
            trail.server = Some(Arc::clone(&slot.server));
        }
        let client_keeps = || request.keep_alive && !plane.is_stopping();
        match attempt(client, &slot, request, source, client_keeps, connect_ms, response_ms).await {
            Ok(answered) => {
                slot.answered(answered.at_us);
                return pass_on(client, plane, request, source, http, answered, slot).await;
            }
            Err(Unanswered::ClientGone(upstream)) => {
                see_out(slot, upstream, response_ms);
                return gone();
            }
            Err(Unanswered::Refused(refusal)) => {
                return refuse(client, plane, request, refusal, false, http).await;
            }
            Err(Unanswered::Failed(failure)) => {
                slot.failed(failure);
                let replayable = matches!(source, Source::Payload(_)) || failure == Failure::Connect;
                let may = replayable && trail.retries < retries_max && failure.may_retry(request.idempotent);
                if may && (!failure.costs() || pool.may_retry()) {
                    if !failure.costs() {
                        pool.count_free_retry();
                    }
                    trail.retries += 1;
                    tried.push(Arc::clone(&slot.server));
                    now_us = clock::now_us();
                    continue;
                }
                drop(slot);
                return refuse(client, plane, request, refusal_for(failure), body_is_used_up(source), http).await;
            }
        }
    }
}

/// A slot, or `None` when the client leaves while it waits.
async fn slot(
    client: &mut Client,
    request: &Request,
    tried: &[Arc<Server>],
    since_us: u64,
    trail: &mut Trail,
) -> Option<Result<Slot, Refusal>> {
    if let Some(slot) = request.pool.try_slot(request.key, tried, since_us) {
        return Some(Ok(slot));
    }
    let mut waiting = pin!(request.pool.wait_for_slot(request.key, tried));
    let slot = poll_fn(|cx| match waiting.as_mut().poll(cx) {
        Poll::Ready(slot) => Poll::Ready(Some(slot)),
        Poll::Pending => client.poll_gone(cx).map(|()| None),
    })
    .await?;
    trail.queued_us += now_us() - since_us;
    Some(slot)
}

/// One server has answered: what it said, and how far the request was sent when it did.
struct Answered {
    answer: Answer,
    upstream: Upstream,
    sending: Sending,
    /// When the head of its answer was complete.
    at_us: u64,
}

/// One server has not answered.
enum Unanswered {
    Failed(Failure),
    ClientGone(Upstream),
    Refused(Refusal),
}

/// One attempt on one server. An idle connection that turns out to be dead is replaced without further ado.
async fn attempt(
    client: &mut Client,
    slot: &Slot,
    request: &Request,
    source: &mut Source,
    client_keeps: impl Fn() -> bool,
    connect_ms: u64,
    response_ms: u64,
) -> Result<Answered, Unanswered> {
    let replayable = request.idempotent && matches!(source, Source::Payload(_));
    let opened = Upstream::open(&slot.server, request.idempotent, connect_ms).await;
    let mut upstream = opened.map_err(|_| Unanswered::Failed(Failure::Connect))?;
    let mut start_us = if upstream.is_reused { slot.since_us } else { now_us() };
    loop {
        source.rewind().map_err(|_| Unanswered::Refused(Refusal::SpoolFailed))?;
        let mut upload = Upload { head: &request.head, source: &mut *source, sending: Sending::default() };
        match exchange(client, &mut upstream, &mut upload, request, &client_keeps, start_us, response_ms).await {
            Ok(answer) => {
                return Ok(Answered { answer, upstream, sending: upload.sending, at_us: now_us() });
            }
            Err(NoAnswer::Failed(Failure::Reset { sent })) if upstream.is_reused && (replayable || !sent) => {
                let fresh = Upstream::connect(&slot.server.address, connect_ms).await;
                // The server had the request, perhaps; that it cannot be reached now does not change that.
                upstream = fresh.map_err(|_| Unanswered::Failed(Failure::Reset { sent }))?;
                start_us = now_us();
            }
            Err(NoAnswer::Failed(failure)) => return Err(Unanswered::Failed(failure)),
            Err(NoAnswer::ClientGone) => return Err(Unanswered::ClientGone(upstream)),
            Err(NoAnswer::Refused(refusal)) => return Err(Unanswered::Refused(refusal)),
        }
    }
}

/// The client has left a server that cannot be interrupted: its slot stays taken until the server is done, or the
/// next request would wait inside the server instead of going to a free one.
fn see_out(slot: Slot, upstream: Upstream, response_ms: u64) {
    if slot.outlives_client() {
        tokio::spawn(async move {
            let answered = poll_fn(|cx| upstream.stream.poll_read_ready(cx));
            // Either way the slot is given back now.
            let _ = tokio::time::timeout(Duration::from_millis(response_ms), answered).await;
            drop(slot);
        });
    }
}

/// Passes an answer on to the client.
async fn pass_on(
    client: &mut Client,
    plane: &Plane,
    request: &Request,
    source: &mut Source,
    http: &Http,
    answered: Answered,
    slot: Slot,
) -> Report {
    let Answered { answer, upstream, sending, at_us } = answered;
    let status = answer.response.status;
    plane.traffic.mine().answered(status);
    if answer.response.is_switch {
        let bytes_out = tunnel(client, answer, upstream, slot, http.stream_idle_timeout_ms).await;
        return Report { status, bytes_out, next: Next::Close };
    }
    let keeps = answer.response.client_keeps;
    let upload = Upload { head: &request.head, source: &mut *source, sending };
    let (end, bytes_out) = relay(client, answer, upstream, slot, upload, http, at_us).await;
    let next = match end {
        End::Complete if keeps && body_is_used_up(source) => Next::Request,
        End::Complete => Next::Linger,
        End::ClientGone | End::ClientSlow | End::ServerBroke | End::ServerSlow => Next::Close,
    };
    Report { status, bytes_out, next }
}

/// Whether nothing of the request's body is left on the connection.
fn body_is_used_up(source: &Source) -> bool {
    match source {
        Source::Payload(_) => true,
        Source::Stream { reader, .. } => reader.is_done(),
    }
}

/// The client has left. 499 is what nginx calls it in its log.
fn gone() -> Report {
    Report { status: 499, bytes_out: 0, next: Next::Close }
}

fn refusal_for(failure: Failure) -> Refusal {
    match failure {
        Failure::Connect => Refusal::BadGateway("the server cannot be reached"),
        Failure::Reset { .. } => Refusal::BadGateway("the server broke off the connection"),
        Failure::Timeout => Refusal::GatewayTimeout,
        Failure::Malformed(what) => Refusal::BadGateway(what),
    }
}

/// Answers a request by ourselves.
async fn refuse(
    client: &mut Client,
    plane: &Plane,
    request: &Request,
    refusal: Refusal,
    body_used_up: bool,
    http: &Http,
) -> Report {
    let keep = request.keep_alive && request.is_http11 && body_used_up && !plane.is_stopping();
    let mut out = Vec::with_capacity(512);
    refusal.write(&mut out, request.id.as_str(), keep, request.is_head);
    count_refusal(plane, refusal);
    client.deadline.set(Instant::now(), http.write_timeout_ms);
    let next = match client.write_all(&out).await {
        Ok(()) if keep => Next::Request,
        Ok(()) => Next::Linger,
        Err(_) => Next::Close,
    };
    Report { status: refusal.status(), bytes_out: out.len() as u64, next }
}

/// Sends a client to where its request is encrypted. The method stays what it was.
async fn redirect(client: &mut Client, plane: &Plane, request: &Request, location: &str, http: &Http) -> Report {
    const STATUS: u16 = 308;
    let keep = request.keep_alive && request.body == BodyFraming::Empty && !plane.is_stopping();
    let connection = match (keep, request.is_http11) {
        (true, true) => "",
        (true, false) => "Connection: keep-alive\r\n",
        (false, _) => "Connection: close\r\n",
    };
    let out = format!(
        "HTTP/1.1 {STATUS} Permanent Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n{connection}\r\n"
    );
    plane.traffic.mine().answered(STATUS);
    client.deadline.set(Instant::now(), http.write_timeout_ms);
    let next = match client.write_all(out.as_bytes()).await {
        Ok(()) if keep => Next::Request,
        Ok(()) => Next::Linger,
        Err(_) => Next::Close,
    };
    Report { status: STATUS, bytes_out: out.len() as u64, next }
}

/// Answers what could not be read as a request; the connection cannot be trusted after that.
async fn refuse_unparsed(client: &mut Client, plane: &Plane, http: &Http, refusal: Refusal) -> Next {
    let mut out = Vec::with_capacity(512);
    refusal.write(&mut out, "", false, false);
    plane.traffic.mine().requests.add(1);
    plane.traffic.mine().bytes_out.add(out.len() as u64);
    count_refusal(plane, refusal);
    client.deadline.set(Instant::now(), http.write_timeout_ms);
    if client.write_all(&out).await.is_ok() { Next::Linger } else { Next::Close }
}

fn count_refusal(plane: &Plane, refusal: Refusal) {
    let traffic = plane.traffic.mine();
    traffic.answered(refusal.status());
    traffic.refused[refusal.cause()].add(1);
}

fn record(plane: &Plane, request: &Request, report: &Report, trail: &Trail, total_us: u64) {
    plane.traffic.mine().bytes_out.add(report.bytes_out);
    if report.status != 101 {
        request.pool.counters.mine().latency.record(total_us);
    }
    if let Some(fields) = &request.log {
        let outcome = Outcome {
            status: report.status,
            bytes_out: report.bytes_out,
            total_us,
            queued_us: trail.queued_us,
            pool: &request.pool.name,
            server: trail.server.as_ref().map_or("", |server| &server.name),
            retries: trail.retries,
            id: request.id.as_str(),
        };
        plane.access_log.record(fields, &outcome);
    }
}
