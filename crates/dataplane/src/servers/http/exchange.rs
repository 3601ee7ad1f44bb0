//! One attempt on one server: send the request, wait for the head of the response.

use std::future::poll_fn;
use std::task::Poll;

use tokio::time::Instant;

use super::client::Client;
use super::refusal::Refusal;
use super::request::Request;
use super::response::{Response, rewrite};
use super::upload::{Upload, UploadError};
use super::upstream::Upstream;
use crate::buffer::{Buffer, Draft};
use crate::clock::instant;
use crate::servers::retry::Failure;

/// A response head has come; its body follows, part of it in `arrived` already.
#[derive(Debug)]
pub struct Answer {
    pub response: Response,
    pub arrived: Buffer,
    /// The head for the client.
    pub head: Draft,
    pub upload_complete: bool,
}

/// Why there is none.
#[derive(Debug)]
pub enum NoAnswer {
    Failed(Failure),
    ClientGone,
    /// The client's body turned out to be bad while it was sent on.
    Refused(Refusal),
}

enum News {
    Arrived,
    Ended,
    Passed,
    Gone,
    Refused(Refusal),
}

/// `client_keeps` is asked when the head of the response is written: by then the plane may have begun to stop. The
/// server's time runs from `now_us`, or from when it has the whole request if that cannot be sent at once.
pub async fn exchange(
    client: &mut Client,
    upstream: &mut Upstream,
    upload: &mut Upload<'_>,
    request: &Request,
    client_keeps: impl Fn() -> bool,
    now_us: u64,
    response_timeout_ms: u64,
) -> Result<Answer, NoAnswer> {
    let mut arrived = None;
    let (mut upload_open, mut upload_waited) = (true, false);
    client.deadline.set(instant(now_us), response_timeout_ms);
    loop {
        let news = poll_fn(|cx| {
            if upload_open {
                match upload.poll(cx, &mut upstream.stream, client) {
                    Poll::Ready(Ok(())) => {
                        upload_open = false;
                        if upload_waited {
                            client.deadline.set(Instant::now(), response_timeout_ms);
                        }
                    }
                    // The server may have answered before it stopped to listen; what it said comes first.
                    Poll::Ready(Err(UploadError::Server)) => upload_open = false,
                    Poll::Ready(Err(UploadError::Client(refusal))) => {
                        return Poll::Ready(News::Refused(refusal));
                    }
                    Poll::Ready(Err(UploadError::Spool)) => {
                        return Poll::Ready(News::Refused(Refusal::SpoolFailed));
                    }
                    Poll::Pending => upload_waited = true,
                }
            }
            // Large, because a body often comes along with its head, and one read and one write are cheaper than two.
            if let Poll::Ready(read) = upstream.stream.poll_fill(cx, &mut arrived, Buffer::large) {
                return Poll::Ready(match read {
                    Ok(1..) => News::Arrived,
                    Ok(0) | Err(_) => News::Ended,
                });
            }
            if !(upload_open && upload.reads_client()) && client.poll_gone(cx).is_ready() {
                return Poll::Ready(News::Gone);
            }
            client.deadline.poll_passed(cx).map(|()| News::Passed)
        });
        match news.await {
            News::Arrived => {}
            News::Ended if arrived.is_none() => {
                return Err(NoAnswer::Failed(Failure::Reset { sent: upload.sending.sent_any }));
            }
            News::Ended => {
                return Err(NoAnswer::Failed(Failure::Malformed("the server broke off its response head")));
            }
            News::Passed => return Err(NoAnswer::Failed(Failure::Timeout)),
            News::Gone => return Err(NoAnswer::ClientGone),
            News::Refused(refusal) => return Err(NoAnswer::Refused(refusal)),
        }
        let Some(mut buffer) = arrived.take() else { continue };
        let mut head = Draft::default();
        // A head that is too large is refused before it has filled the buffer.
        while let Some(response) = rewrite(buffer.filled(), request, client_keeps(), &mut head)
            .map_err(|what| NoAnswer::Failed(Failure::Malformed(what)))?
        {
            buffer.consume(response.head_length);
            if !response.is_informational() {
                return Ok(Answer { response, arrived: buffer, head, upload_complete: !upload_open });
            }
            // Early hints go on at once; HTTP/1.0 knows nothing of the kind.
            if request.is_http11 && !head.is_empty() && client.write_all(&head).await.is_err() {
                return Err(NoAnswer::ClientGone);
            }
            head.clear();
        }
        arrived = Some(buffer).filter(|buffer| !buffer.is_empty());
    }
}
