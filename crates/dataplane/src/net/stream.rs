//! One stream type over TCP, TLS and Unix sockets, read and written by polling, so that one task can do both at once.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::address::Address;
use super::local::LocalStream;
use crate::buffer::Buffer;
use crate::servers::http2::Lane;

#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(LocalStream),
    /// One HTTP/2 stream after the other, each a request like any other.
    Lane(Lane),
    /// From a client or to a server: the stream knows which.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects; never waits longer than the caller's own deadline.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let stream = Self::Tcp(stream);
                if address.ip().is_loopback() {
                    stream.spare_congestion_control();
                }
                Ok(stream)
            }
            Address::Unix(path) => LocalStream::connect(path).await.map(Self::Unix),
        }
    }

    /// For connections within the machine: nobody shares the way with them, and what the system uses for real networks (BBR
    /// paces every segment) only costs there. That it cannot be had is no reason to fail.
    pub fn spare_congestion_control(&self) {
        if let Self::Tcp(stream) = self {
            let _ = SockRef::from(stream).set_tcp_congestion(b"reno");
        }
    }

    /// Moves to the event loop of the calling thread. Encrypted streams cannot: they go on where they are, at the price of
    /// wake-ups from thread to thread.
    pub fn into_this_loop(self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream.into_std()?).map(Self::Tcp),
            Self::Unix(stream) => stream.into_this_loop().map(Self::Unix),
            other => Ok(other),
        }
    }

    /// Reads into `room`, which must not be empty. Zero means the other side has finished sending.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(room);
        self.poll_read_into(cx, &mut into).map_ok(|()| into.filled().len())
    }

    /// The same, into room that may not be initialised yet.
    pub fn poll_read_into(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Unix(stream) => stream.poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Lane(lane) => lane.poll_read(cx, into),
        }
    }

    /// Reads into `buffer`, which is taken from `fresh` only when there is something to read: waiting costs no memory, and
    /// the buffer that a busy thread uses is nearly always the one that its processor has in its cache. A buffer that is
    /// there must have room. Zero means the other side has finished sending.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Option<Buffer>,
        fresh: fn() -> Buffer,
    ) -> Poll<io::Result<usize>> {
        if buffer.is_none() {
            ready!(self.poll_read_ready(cx))?;
        }
        let mut filling = buffer.take().unwrap_or_else(fresh);
        let read = self.poll_read(cx, filling.room());
        if let Poll::Ready(Ok(count)) = read {
            filling.advance(count);
        }
        *buffer = Some(filling).filter(|buffer| !buffer.is_empty());
        read
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => stream.poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Lane(lane) => lane.poll_write(cx, bytes),
        }
    }

    /// Ready when all that was written is with the kernel. TLS may still hold some of it; the others never do.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Lane(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Unix(stream) => stream.poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Lane(lane) => lane.poll_write_vectored(cx, parts),
        }
    }

    /// Ready when a read would not wait: data, the end, or an error. With TLS it may be only a part of something.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Lane(lane) => lane.poll_read_ready(cx),
            Self::Tls(stream) => match stream.get_ref() {
                (socket, session) if session.wants_read() => socket.poll_read_ready(cx),
                _ => Poll::Ready(Ok(())),
            },
        }
    }

    /// Whether anything has arrived that nobody asked for. On an idle connection to a server that can only be its end.
    pub fn has_news(&self) -> bool {
        self.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Whether the other side is seen to have closed, or at least finished sending, with nothing left to read. With TLS
    /// only a read can tell.
    pub fn is_at_end(&self) -> bool {
        let mut byte = [MaybeUninit::uninit(); 1];
        let peeked = match self {
            Self::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => SockRef::from(stream.socket()).peek(&mut byte),
            Self::Tls(_) => return false,
            Self::Lane(lane) => return lane.is_at_end(),
        };
        match peeked {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// A second handle on the socket, by which another task can end it. None where there is no socket of its own.
    pub fn handle(&self) -> io::Result<Option<Socket>> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream).try_clone().map(Some),
            Self::Unix(stream) => SockRef::from(stream.socket()).try_clone().map(Some),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0).try_clone().map(Some),
            Self::Lane(_) => Ok(None),
        }
    }

    /// Says that nothing more will be sent; the other side may go on sending.
    pub fn finish_sending(&mut self) {
        // The peer may be gone already, which is as good.
        let _ = match self {
            Self::Tcp(stream) => SockRef::from(&*stream).shutdown(std::net::Shutdown::Write),
            Self::Unix(stream) => SockRef::from(stream.socket()).shutdown(std::net::Shutdown::Write),
            Self::Lane(lane) => {
                lane.finish_sending();
                Ok(())
            }
            Self::Tls(stream) => {
                // What the kernel does not take at once, a client that does not read would not get anyway.
                let _ = Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
                Ok(())
            }
        };
    }
}
