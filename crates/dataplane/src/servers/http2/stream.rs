//! One stream: its request goes into a pipe, at whose other end it is served as HTTP/1.1, and its response comes back.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::head::{Download, Upload, request_head, response_head, trailers, write_field};
use crate::net::stream::Stream;
use crate::plane::Plane;
use crate::servers::flow;
use crate::servers::http::chunked::{ChunkDecoder, Piece};
use crate::servers::http::client::Client;
use crate::servers::http::request::Peer;

/// Bytes on their way through the pipe, each way.
const PIPE: usize = 64 * 1024;
const READ: usize = 16 * 1024;
/// Our own response heads are never larger.
const HEAD_MAX: usize = 512 * 1024;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Complete,
    /// The client has taken it back.
    ClientGone,
    /// The response broke off.
    Broken,
}

/// Serves one request.
pub async fn carry(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    peer: Peer,
    plane: Arc<Plane>,
) -> End {
    let (parts, body) = request.into_parts();
    let (head, upload) = match request_head(&parts, body.is_end_stream()) {
        Ok(made) => made,
        Err(status) => {
            let mut refusal = Response::new(());
            *refusal.status_mut() = status;
            plane.traffic.mine().requests.add(1);
            plane.traffic.mine().answered(status.as_u16());
            return if respond.send_response(refusal, true).is_ok() { End::Complete } else { End::ClientGone };
        }
    };
    let (near, far) = tokio::io::duplex(PIPE);
    let patience = Duration::from_millis(plane.topology().http.write_timeout_ms);
    // A task of its own: when the client leaves, it sees the pipe's end and gives back what it holds in good order.
    tokio::spawn(flow::serve(Client::new(Stream::Pipe(far), peer, Arc::default()), plane));
    let (from_server, mut to_server) = tokio::io::split(near);
    let mut uploading = pin!(send_up(head, upload, body, &mut to_server));
    let to_head = parts.method == http::Method::HEAD;
    let mut answering = pin!(answer(from_server, &mut respond, to_head, patience));
    let mut uploaded = false;
    poll_fn(|cx| {
        if !uploaded {
            match uploading.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => uploaded = true,
                Poll::Ready(Err(ClientGone)) => return Poll::Ready(End::ClientGone),
                Poll::Pending => {}
            }
        }
        answering.as_mut().poll(cx)
    })
    .await
}

struct ClientGone;

/// Writes the request into the pipe. A pipe that takes no more has its response already.
async fn send_up(
    head: Vec<u8>,
    upload: Upload,
    mut body: RecvStream,
    pipe: &mut WriteHalf<DuplexStream>,
) -> Result<(), ClientGone> {
    if pipe.write_all(&head).await.is_err() || upload == Upload::None {
        return Ok(());
    }
    while let Some(data) = body.data().await {
        let data = data.map_err(|_| ClientGone)?;
        if data.is_empty() {
            continue;
        }
        let written = if upload == Upload::Chunked { chunk(pipe, &data).await } else { pipe.write_all(&data).await };
        if written.is_err() {
            return Ok(());
        }
        // Only now may the client send more.
        body.flow_control().release_capacity(data.len()).map_err(|_| ClientGone)?;
    }
    let fields = body.trailers().await.map_err(|_| ClientGone)?;
    if upload == Upload::Chunked {
        let mut end = b"0\r\n".to_vec();
        for (name, value) in fields.iter().flatten() {
            write_field(&mut end, name, value.as_bytes());
        }
        end.extend_from_slice(b"\r\n");
        // As above.
        let _ = pipe.write_all(&end).await;
    }
    Ok(())
}

async fn chunk(pipe: &mut WriteHalf<DuplexStream>, data: &[u8]) -> io::Result<()> {
    pipe.write_all(format!("{:x}\r\n", data.len()).as_bytes()).await?;
    pipe.write_all(data).await?;
    pipe.write_all(b"\r\n").await
}

/// The response's side of the pipe.
struct Incoming {
    pipe: ReadHalf<DuplexStream>,
    arrived: BytesMut,
}

impl Incoming {
    /// Reads more. Zero is the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.arrived.reserve(READ);
        // A pipe does not fail.
        pin!(self.pipe.read_buf(&mut self.arrived)).poll(cx).map(|read| read.unwrap_or(0))
    }
}

/// Takes the response from the pipe to the client.
async fn answer(
    pipe: ReadHalf<DuplexStream>,
    respond: &mut SendResponse<Bytes>,
    to_head: bool,
    patience: Duration,
) -> End {
    let mut incoming = Incoming { pipe, arrived: BytesMut::new() };
    let (response, download) = loop {
        if let Some((size, response, download)) = response_head(&incoming.arrived, to_head) {
            let _ = incoming.arrived.split_to(size);
            if !response.status().is_informational() {
                break (response, download);
            }
            // Early hints; 100 means nothing here, and 101 cannot be: nobody asked for it.
            if response.status().as_u16() == 103 && respond.send_informational(response).is_err() {
                return End::ClientGone;
            }
            continue;
        }
        let read = poll_fn(|cx| match respond.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => incoming.poll_more(cx).map(Some),
        });
        match read.await {
            None => return End::ClientGone,
            Some(0) => return broken(|reason| respond.send_reset(reason)),
            Some(_) if incoming.arrived.len() > HEAD_MAX => return broken(|reason| respond.send_reset(reason)),
            Some(_) => {}
        }
    };
    let ends = download == Download::Length(0);
    match respond.send_response(response, ends) {
        Err(_) => End::ClientGone,
        Ok(_) if ends => End::Complete,
        Ok(stream) => send_down(incoming, stream, download, patience).await,
    }
}

fn broken(reset: impl FnOnce(Reason)) -> End {
    reset(Reason::INTERNAL_ERROR);
    End::Broken
}

async fn send_down(
    mut incoming: Incoming,
    mut stream: SendStream<Bytes>,
    download: Download,
    patience: Duration,
) -> End {
    let mut decoder = ChunkDecoder::default();
    let mut left = match download {
        Download::Length(length) => length,
        Download::Chunked => u64::MAX,
    };
    loop {
        while !incoming.arrived.is_empty() {
            let (data, end) = if download == Download::Chunked {
                match decoder.next(&incoming.arrived) {
                    Ok(Piece::Data(count)) => (incoming.arrived.split_to(count).freeze(), false),
                    Ok(Piece::Framing(count)) => {
                        let _ = incoming.arrived.split_to(count);
                        continue;
                    }
                    Ok(Piece::End(_)) => return finish(stream, decoder.trailers()),
                    Ok(Piece::More) => break,
                    Err(_) => return broken(|reason| stream.send_reset(reason)),
                }
            } else {
                let count =
                    usize::try_from(left).map_or(incoming.arrived.len(), |left| left.min(incoming.arrived.len()));
                left -= count as u64;
                (incoming.arrived.split_to(count).freeze(), left == 0)
            };
            if send(&mut stream, data, end, patience).await.is_err() {
                stream.send_reset(Reason::CANCEL);
                return End::ClientGone;
            }
            if end {
                return End::Complete;
            }
        }
        let read = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => incoming.poll_more(cx).map(Some),
        });
        match read.await {
            None => return End::ClientGone,
            Some(0) => return broken(|reason| stream.send_reset(reason)),
            Some(_) => {}
        }
    }
}

fn finish(mut stream: SendStream<Bytes>, trailer_lines: &[u8]) -> End {
    let fields = trailers(trailer_lines);
    let sent = if fields.is_empty() { stream.send_data(Bytes::new(), true) } else { stream.send_trailers(fields) };
    if sent.is_ok() { End::Complete } else { End::ClientGone }
}

/// Sends as the client's windows allow. One that keeps them shut for longer than `patience` counts as gone.
async fn send(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    end: bool,
    patience: Duration,
) -> Result<(), ClientGone> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let granted = timeout(patience, poll_fn(|cx| stream.poll_capacity(cx))).await;
        let count = granted.ok().flatten().and_then(Result::ok).ok_or(ClientGone)?.min(data.len());
        let part = data.split_to(count);
        let ends = end && data.is_empty();
        stream.send_data(part, ends).map_err(|_| ClientGone)?;
    }
    Ok(())
}
