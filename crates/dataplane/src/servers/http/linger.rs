//! Closing without destroying the last response.
//!
//! A socket that is closed with unread bytes sends a reset, which can overtake the response and erase it at the
//! client. So: finish sending, read and forget for a moment, then close.

use std::future::poll_fn;
use std::task::Poll;

use tokio::time::Instant;

use super::client::Client;

const BYTES_MAX: u64 = 256 * 1024;
const TIME_MAX_MS: u64 = 1_000;

pub async fn linger(mut client: Client) {
    client.stream.finish_sending();
    client.deadline.set(Instant::now(), TIME_MAX_MS);
    let start = client.bytes_in;
    poll_fn(|cx| {
        loop {
            let arrived = client.arrived().len();
            client.consume(arrived);
            match client.poll_fill(cx) {
                Poll::Ready(Ok(1..)) if client.bytes_in - start < BYTES_MAX => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return client.deadline.poll_passed(cx),
            }
        }
    })
    .await;
}
