//! A connection of which the first bytes were read already, to see what it speaks.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::Buffer;
use crate::net::stream::Stream;

/// What a client that knows us to speak HTTP/2 begins with (RFC 9113, section 3.4). A request head ends within it.
pub const PREFACE_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

#[derive(Debug)]
pub struct Preceded {
    arrived: Option<Buffer>,
    stream: Stream,
}

impl Preceded {
    pub fn new(arrived: Option<Buffer>, stream: Stream) -> Self {
        Self { arrived, stream }
    }
}

impl AsyncRead for Preceded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(buffer) = &mut self.arrived else {
            return self.stream.poll_read_into(cx, into);
        };
        let count = buffer.len().min(into.remaining());
        into.put_slice(&buffer.filled()[..count]);
        buffer.consume(count);
        if buffer.is_empty() {
            self.arrived = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Preceded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.finish_sending();
        Poll::Ready(Ok(()))
    }
}
