//! Reading and writing whole messages while a connection is opened, or when it is our own. Deadlines are the caller's.

use std::future::poll_fn;
use std::io;

use super::protocol::{ProtocolError, frame};
use crate::net::stream::Stream;

/// Why a message cannot be read.
#[derive(Debug)]
pub enum ReadError {
    Io(io::Error),
    /// The other side has finished sending.
    Closed,
    Protocol(ProtocolError),
}

impl From<ProtocolError> for ReadError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

/// Writes all of it, to the kernel.
pub async fn write_all(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|cx| stream.poll_write(cx, bytes)).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[count..];
    }
    poll_fn(|cx| stream.poll_flush(cx)).await
}

/// Fills `room`, and takes no byte more than that from the stream.
pub async fn read_exact(stream: &mut Stream, mut room: &mut [u8]) -> Result<(), ReadError> {
    while !room.is_empty() {
        match poll_fn(|cx| stream.poll_read(cx, room)).await {
            Ok(0) => return Err(ReadError::Closed),
            Ok(count) => room = &mut room[count..],
            Err(error) => return Err(ReadError::Io(error)),
        }
    }
    Ok(())
}

/// Reads one message of at most `most` bytes, and nothing that follows it.
pub async fn read_message(stream: &mut Stream, most: usize) -> Result<Vec<u8>, ReadError> {
    let mut message = vec![0; frame::HEADER];
    read_exact(stream, &mut message).await?;
    if let Some(header) = frame::next(&message, most)? {
        message.resize(header.length, 0);
        read_exact(stream, &mut message[frame::HEADER..]).await?;
    }
    Ok(message)
}

/// Messages from a stream that is read in larger pieces.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    /// Longest message, in bytes.
    most: usize,
}

impl Inbox {
    const PIECE: usize = 4096;

    /// `bytes` have been read already.
    pub fn new(bytes: Vec<u8>, most: usize) -> Self {
        Self { bytes, start: 0, most }
    }

    /// The next message. It stays here; what was given before is forgotten.
    pub async fn next(&mut self, stream: &mut Stream) -> Result<&[u8], ReadError> {
        loop {
            let arrived = &self.bytes[self.start..];
            let header = frame::next(arrived, self.most)?;
            if let Some(header) = header.filter(|header| header.is_complete(arrived)) {
                let start = self.start;
                self.start += header.length;
                return Ok(&self.bytes[start..self.start]);
            }
            self.bytes.drain(..self.start);
            self.start = 0;
            let filled = self.bytes.len();
            let missing = header.map_or(0, |header| header.length - filled);
            self.bytes.resize(filled + missing.max(Self::PIECE), 0);
            let read = poll_fn(|cx| stream.poll_read(cx, &mut self.bytes[filled..])).await;
            self.bytes.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(ReadError::Closed),
                Ok(_) => {}
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
    }

    /// What has arrived behind the last message.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.start);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::task::spawn;

    use super::*;
    use crate::net::local::LocalStream;

    /// Sends `wire` in parts of `part` bytes, and then ends; what an inbox made of it.
    fn received(wire: Vec<u8>, part: usize, first: usize) -> (Vec<Vec<u8>>, ReadError) {
        tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(async {
            let (near, far) = LocalStream::pair().unwrap();
            let (first, later) = (wire[..first].to_vec(), wire[first..].to_vec());
            let sender = spawn(async move {
                let mut stream = Stream::Unix(far);
                for part in later.chunks(part) {
                    // The receiver may have heard enough.
                    let _ = write_all(&mut stream, part).await;
                    tokio::task::yield_now().await;
                }
            });
            let (mut inbox, mut stream) = (Inbox::new(first, 20_000), Stream::Unix(near));
            let mut messages = Vec::new();
            let end = loop {
                match inbox.next(&mut stream).await {
                    Ok(message) => messages.push(message.to_vec()),
                    Err(end) => break end,
                }
            };
            drop(stream);
            sender.await.unwrap();
            (messages, end)
        })
    }

    fn message(length: usize) -> Vec<u8> {
        let mut message = vec![b'D'];
        message.extend((length as u32 + 4).to_be_bytes());
        message.extend((0..length).map(|at| at as u8));
        message
    }

    proptest! {
        #[test]
        fn messages_arrive_whole_however_they_are_cut(
            lengths in vec(prop_oneof![0..50_usize, 4000..9000_usize], 0..8), part in 1..6000_usize, first in 0..100_usize,
        ) {
            let sent: Vec<_> = lengths.into_iter().map(message).collect();
            let wire = sent.concat();
            let first = first.min(wire.len());
            let (messages, end) = received(wire, part, first);
            prop_assert_eq!(messages, sent);
            prop_assert!(matches!(end, ReadError::Closed));
        }
    }

    #[test]
    fn an_end_within_a_message_and_a_message_beyond_the_limit_are_errors() {
        let wire = [message(3), message(10)[..12].to_vec()].concat();
        assert!(matches!(received(wire, 100, 0), (messages, ReadError::Closed) if messages == [message(3)]));
        let (messages, end) = received(message(20_000), 100, 0);
        assert!(messages.is_empty() && matches!(end, ReadError::Protocol(_)));
    }
}
