//! A Unix socket that is watched for reading alone.
//!
//! The kernel tells whoever watches a Unix socket for writing whenever the other side has read from it, so that a thread
//! would be woken once more for every request, for nothing. Writing is watched only while the socket is full.

use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};

#[derive(Debug)]
pub struct LocalStream {
    socket: AsyncFd<UnixStream>,
    /// The same socket, watched for writing. Only while it takes no more.
    full: Option<Box<AsyncFd<UnixStream>>>,
}

// Deprecated because a type could hand out a descriptor it does not own; a `UnixStream` owns its socket, and the
// replacement is `unsafe`.
#[allow(deprecated)]
fn watch(socket: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(socket, interest)
}

impl LocalStream {
    /// Connects; waits as long as it takes.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        Self::new(tokio::net::UnixStream::connect(path).await?.into_std()?)
    }

    /// `socket` must be non-blocking. It joins the event loop of the calling thread.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        Ok(Self { socket: watch(socket, Interest::READABLE)?, full: None })
    }

    /// Two that are connected with each other.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn pair() -> io::Result<(Self, Self)> {
        let (near, far) = tokio::net::UnixStream::pair()?;
        Ok((Self::new(near.into_std()?)?, Self::new(far.into_std()?)?))
    }

    /// Moves to the event loop of the calling thread.
    pub fn into_this_loop(self) -> io::Result<Self> {
        Self::new(self.socket.into_inner())
    }

    pub fn socket(&self) -> &UnixStream {
        self.socket.get_ref()
    }

    /// Ready when a read would not wait: data, the end, or an error.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(cx).map_ok(|mut guard| guard.retain_ready())
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            let room = into.initialize_unfilled();
            match self.socket().read(room) {
                Ok(count) => {
                    // A read that leaves room has taken all there is: the next byte makes the kernel tell again.
                    if 0 < count && count < room.len() {
                        guard.clear_ready();
                    }
                    into.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes.len(), |mut socket| socket.write(bytes))
    }

    pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        self.poll_send(cx, length, |mut socket| socket.write_vectored(parts))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        send: impl Fn(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let guard = match &self.full {
                Some(full) => Some(ready!(full.poll_write_ready(cx))?),
                None => None,
            };
            match send(self.socket.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match guard {
                    Some(mut guard) => guard.clear_ready(),
                    None => self.full = Some(Box::new(watch(self.socket().try_clone()?, Interest::WRITABLE)?)),
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => {
                    if matches!(done, Ok(count) if count == length) {
                        self.full = None;
                    }
                    return Poll::Ready(done);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::ErrorKind;

    use super::*;

    fn pair() -> (LocalStream, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (LocalStream::new(near).unwrap(), far)
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(test);
    }

    #[test]
    fn every_byte_arrives_through_a_socket_that_fills_up() {
        run(async {
            let (mut near, mut far) = pair();
            let sent: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
            let read = move || {
                let mut got = Vec::new();
                far.read_to_end(&mut got).map(|_| got)
            };
            let (mut at, mut read, mut reader) = (0, Some(read), None);
            while at < sent.len() {
                at += poll_fn(|cx| {
                    let written = near.poll_write(cx, &sent[at..]);
                    // Nobody reads before it was full, however fast a reader would be.
                    if written.is_pending() {
                        reader = reader.take().or_else(|| read.take().map(std::thread::spawn));
                    }
                    written
                })
                .await
                .unwrap();
            }
            drop(near);
            let reader = reader.expect("four megabytes fill it");
            assert!(reader.join().unwrap().unwrap() == sent);
        });
    }

    #[test]
    fn reads_wait_for_bytes_and_see_the_end() {
        run(async {
            let (near, mut far) = pair();
            let mut store = [0; 8];
            let pending = poll_fn(|cx| Poll::Ready(near.poll_read(cx, &mut ReadBuf::new(&mut store)).is_pending()));
            assert!(pending.await);
            far.write_all(b"abcdefghij").unwrap();
            drop(far);
            let mut got = Vec::new();
            loop {
                let mut into = ReadBuf::new(&mut store);
                poll_fn(|cx| near.poll_read(cx, &mut into)).await.unwrap();
                if into.filled().is_empty() {
                    break;
                }
                got.extend_from_slice(into.filled());
            }
            assert_eq!(got, b"abcdefghij");
        });
    }

    #[test]
    fn the_other_side_is_gone() {
        run(async {
            let (mut near, far) = pair();
            drop(far);
            let error = poll_fn(|cx| near.poll_write(cx, b"x")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        });
    }
}
