//! A response on its way to the client: streamed with bounded read-ahead, so that a slow client does not hold a server.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::chunked::{ChunkDecoder, Piece};
use super::client::Client;
use super::compression::encoder::{Chunk, Encoder};
use super::exchange::Answer;
use super::response::{Emission, Framing, Response};
use super::upload::Upload;
use super::upstream::Upstream;
use crate::buffer::{Buffer, Draft, LARGE, SMALL};
use crate::clock::now_us;
use crate::net::stream::Stream;
use crate::servers::pool::Slot;
use crate::snapshot::Http;

/// How a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Complete,
    ClientGone,
    /// The client did not take its response in time.
    ClientSlow,
    /// The server broke off or sent nonsense; the client gets what came before, and notices by a missing end.
    ServerBroke,
    ServerSlow,
}

/// The server's side of a response. It is let go as soon as its last byte is here.
struct Source {
    upstream: Upstream,
    slot: Slot,
    decoder: Decoder,
    encoder: Option<Encoder>,
    server_keeps: bool,
}

enum Decoder {
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    UntilClose,
}

/// Bytes for the client, oldest first.
struct Outbound {
    head: Draft,
    head_sent: usize,
    /// Whether writing two parts costs more than putting them together.
    joins: bool,
    parts: VecDeque<Part>,
    waiting: usize,
    sent: u64,
}

enum Part {
    Raw(Buffer),
    Made { bytes: Vec<u8>, sent: usize },
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Raw(buffer) => buffer.filled(),
            Self::Made { bytes, sent } => &bytes[*sent..],
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Self::Raw(buffer) => buffer.consume(count),
            Self::Made { sent, .. } => *sent += count,
        }
    }
}

impl Outbound {
    fn new(head: Draft, joins: bool) -> Self {
        Self { waiting: head.len(), head, head_sent: 0, joins, parts: VecDeque::new(), sent: 0 }
    }

    fn push(&mut self, part: Part) {
        let bytes = part.bytes();
        if bytes.is_empty() {
            return;
        }
        self.waiting += bytes.len();
        // A short body goes into the same buffer as the head: one plain write.
        if self.joins && self.head_sent == 0 && self.parts.is_empty() && self.head.len() + bytes.len() <= SMALL / 2 {
            self.head.extend_from_slice(bytes);
        } else {
            self.parts.push_back(part);
        }
    }

    /// What has to wait moves out of a buffer that it does not fill: a slow client costs about what it was sent.
    fn pack(&mut self) {
        let Some(Part::Raw(buffer)) = self.parts.back() else { return };
        if buffer.len() >= LARGE / 4 {
            return;
        }
        let bytes = buffer.filled().to_vec();
        self.parts.pop_back();
        match self.parts.back_mut() {
            Some(Part::Made { bytes: earlier, .. }) if earlier.len() < LARGE => earlier.extend_from_slice(&bytes),
            _ => self.parts.push_back(Part::Made { bytes, sent: 0 }),
        }
    }

    fn push_chunk(&mut self, chunk: Option<Chunk>) {
        if let Some(Chunk { bytes, start }) = chunk {
            self.push(Part::Made { bytes, sent: start });
        }
    }

    /// Sends until the client takes no more. Ready when all is sent.
    fn poll_send(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<io::Result<()>> {
        while self.waiting > 0 {
            let head = &self.head[self.head_sent..];
            let written = match self.parts.front() {
                Some(part) if head.is_empty() => client.stream.poll_write(cx, part.bytes()),
                Some(part) => client.stream.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(part.bytes())]),
                None => client.stream.poll_write(cx, head),
            };
            match std::task::ready!(written) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.sent(count),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        client.stream.poll_flush(cx)
    }

    fn sent(&mut self, count: usize) {
        self.sent += count as u64;
        self.waiting -= count;
        let of_head = count.min(self.head.len() - self.head_sent);
        self.head_sent += of_head;
        let mut left = count - of_head;
        while left > 0 {
            let Some(part) = self.parts.front_mut() else {
                break;
            };
            let of_part = left.min(part.bytes().len());
            part.consume(of_part);
            left -= of_part;
            if part.bytes().is_empty() {
                self.parts.pop_front();
            }
        }
    }
}

/// What became of freshly read bytes.
enum Taken {
    More,
    /// The body is complete; `clean` when nothing followed it.
    Complete {
        clean: bool,
    },
    Malformed,
}

impl Decoder {
    fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Checks `buffer` against the framing and queues it, compressed, for the client.
    fn take_compressed(&mut self, buffer: &Buffer, encoder: &mut Option<Encoder>, out: &mut Outbound) -> Taken {
        self.compress(buffer, encoder, out).unwrap_or(Taken::Malformed)
    }

    /// `None`: the body is malformed, or cannot be compressed.
    fn compress(&mut self, buffer: &Buffer, own: &mut Option<Encoder>, out: &mut Outbound) -> Option<Taken> {
        let encoder = own.as_mut()?;
        let bytes = buffer.filled();
        let clean = match self {
            Self::Length(left) => {
                let wanted = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                encoder.push(&bytes[..wanted]).ok()?;
                *left -= wanted as u64;
                (*left == 0).then_some(wanted == bytes.len())
            }
            Self::UntilClose => {
                encoder.push(bytes).ok()?;
                None
            }
            Self::Chunked(decoder) => {
                let mut at = 0;
                loop {
                    match decoder.next(&bytes[at..]).ok()? {
                        Piece::Data(count) => {
                            encoder.push(&bytes[at..at + count]).ok()?;
                            at += count;
                        }
                        Piece::Framing(count) => at += count,
                        Piece::End(count) => break Some(at + count == bytes.len()),
                        Piece::More => break None,
                    }
                }
            }
        };
        out.push_chunk(encoder.take());
        match clean {
            None => Some(Taken::More),
            Some(clean) => self.end_compressed(own, out).map(|()| Taken::Complete { clean }),
        }
    }

    /// Queues the end of a compressed body.
    fn end_compressed(&self, encoder: &mut Option<Encoder>, out: &mut Outbound) -> Option<()> {
        let trailers = if let Self::Chunked(decoder) = self { decoder.trailers() } else { &[] };
        out.push_chunk(Some(encoder.take()?.finish(trailers).ok()?));
        Some(())
    }

    /// Checks `buffer` against the framing and queues it for the client.
    fn take(&mut self, buffer: Buffer, emission: Emission, out: &mut Outbound) -> Taken {
        match self {
            Self::Length(left) => {
                let surplus = (buffer.len() as u64).saturating_sub(*left) as usize;
                *left -= (buffer.len() - surplus) as u64;
                let complete = *left == 0;
                if surplus > 0 {
                    let wanted = buffer.filled()[..buffer.len() - surplus].to_vec();
                    out.push(Part::Made { bytes: wanted, sent: 0 });
                } else {
                    out.push(Part::Raw(buffer));
                }
                if complete { Taken::Complete { clean: surplus == 0 } } else { Taken::More }
            }
            Self::Chunked(decoder) => {
                let (mut at, mut made) = (0, Vec::new());
                let taken = loop {
                    match decoder.next(&buffer.filled()[at..]) {
                        Ok(Piece::Data(count)) => {
                            if emission == Emission::Dechunk {
                                made.extend_from_slice(&buffer.filled()[at..at + count]);
                            }
                            at += count;
                        }
                        Ok(Piece::Framing(count)) => at += count,
                        Ok(Piece::End(count)) => {
                            at += count;
                            break Taken::Complete { clean: at == buffer.len() };
                        }
                        Ok(Piece::More) => break Taken::More,
                        Err(_) => return Taken::Malformed,
                    }
                };
                if emission == Emission::Dechunk {
                    out.push(Part::Made { bytes: made, sent: 0 });
                } else if at == buffer.len() {
                    out.push(Part::Raw(buffer));
                } else {
                    out.push(Part::Made { bytes: buffer.filled()[..at].to_vec(), sent: 0 });
                }
                taken
            }
            Self::UntilClose => {
                if emission == Emission::Enchunk && !buffer.is_empty() {
                    let mut bytes = format!("{:x}\r\n", buffer.len()).into_bytes();
                    bytes.extend_from_slice(buffer.filled());
                    bytes.extend_from_slice(b"\r\n");
                    out.push(Part::Made { bytes, sent: 0 });
                } else {
                    out.push(Part::Raw(buffer));
                }
                Taken::More
            }
        }
    }
}

impl Source {
    /// Checks what has arrived and queues it for the client.
    fn take(&mut self, buffer: Buffer, emission: Emission, out: &mut Outbound) -> Taken {
        if let Emission::Compress(_) = emission {
            self.decoder.take_compressed(&buffer, &mut self.encoder, out)
        } else {
            self.decoder.take(buffer, emission, out)
        }
    }

    /// Lets out what the compression holds back. False when there was nothing, or it cannot.
    fn flush(&mut self, out: &mut Outbound) -> bool {
        let Some(encoder) = self.encoder.as_mut().filter(|encoder| encoder.holds_back) else {
            return false;
        };
        let flushed = encoder.flush().is_ok();
        out.push_chunk(encoder.take());
        flushed
    }

    /// The last byte is here: the server is free for others.
    fn finish(mut self, clean: bool, upload_complete: bool, now_us: u64) {
        if clean && self.server_keeps && upload_complete {
            self.upstream.keep(&self.slot.server, self.slot.terms.idle_connections_max, now_us);
        }
        self.slot.ends_at(now_us);
    }
}

/// Sends `answer`, whose head came at `answered_us`, to the client; says how that ended and how many bytes the client got.
pub async fn relay(
    client: &mut Client,
    answer: Answer,
    upstream: Upstream,
    mut slot: Slot,
    mut upload: Upload<'_>,
    http: &Http,
    answered_us: u64,
) -> (End, u64) {
    let Answer { response, arrived, head, mut upload_complete } = answer;
    let mut patience_ms = slot.terms.response_timeout_ms;
    if response.is_event_stream {
        slot.becomes_stream();
        patience_ms = http.stream_idle_timeout_ms;
    }
    let emission = response.emission;
    let mut out = Outbound::new(head, !matches!(client.stream, Stream::Lane(_)));
    let mut from = Source {
        upstream,
        slot,
        decoder: Decoder::new(response.framing),
        encoder: encoder(&response),
        server_keeps: response.server_keeps,
    };
    let taken = from.take(arrived, emission, &mut out);
    let mut source = Some(from);
    // Once there is no source any more, this is the end that comes when all bytes are sent.
    let mut end = settle(&mut source, taken, upload_complete, || answered_us);
    let ended = poll_fn(|cx| {
        loop {
            let mut progress = false;
            if let Some(from) = &mut source {
                if !upload_complete {
                    match upload.poll(cx, &mut from.upstream.stream, client) {
                        Poll::Ready(Ok(())) => upload_complete = true,
                        // Whatever stopped the upload, the response may still be whole.
                        Poll::Ready(Err(_)) | Poll::Pending => {}
                    }
                }
                if out.waiting < http.response_buffer_bytes {
                    let mut buffer = None;
                    let read = from.upstream.stream.poll_fill(cx, &mut buffer, Buffer::large);
                    match (read, buffer) {
                        (Poll::Ready(Ok(_)), Some(buffer)) => {
                            progress = true;
                            let taken = from.take(buffer, emission, &mut out);
                            end = settle(&mut source, taken, upload_complete, now_us);
                        }
                        (Poll::Ready(Ok(_)), None) if matches!(from.decoder, Decoder::UntilClose) => {
                            progress = true;
                            if emission == Emission::Enchunk {
                                out.push(Part::Made { bytes: b"0\r\n\r\n".to_vec(), sent: 0 });
                            } else if from.encoder.is_some() {
                                let ended = from.decoder.end_compressed(&mut from.encoder, &mut out);
                                end = if ended.is_some() { End::Complete } else { End::ServerBroke };
                            }
                            source = None;
                        }
                        (Poll::Ready(_), _) => {
                            progress = true;
                            end = End::ServerBroke;
                            source = None;
                        }
                        (Poll::Pending, _) => progress = from.flush(&mut out),
                    }
                }
            }
            let before = out.sent;
            match out.poll_send(cx, client) {
                Poll::Ready(Ok(())) if source.is_none() => return Poll::Ready(end),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(End::ClientGone),
                Poll::Pending => out.pack(),
            }
            if progress || out.sent > before {
                let wait_ms = if out.waiting > 0 { http.write_timeout_ms } else { patience_ms };
                client.deadline.set(Instant::now(), wait_ms);
                continue;
            }
            let reads_client = !upload_complete && upload.reads_client();
            if out.waiting == 0 && !reads_client && client.poll_gone(cx).is_ready() {
                return Poll::Ready(End::ClientGone);
            }
            let late = if out.waiting > 0 { End::ClientSlow } else { End::ServerSlow };
            return client.deadline.poll_passed(cx).map(|()| late);
        }
    });
    (ended.await, out.sent)
}

/// What compresses the body, where that was decided. Without one, a body that should be is treated as broken off.
fn encoder(response: &Response) -> Option<Encoder> {
    let Emission::Compress(coding) = response.emission else {
        return None;
    };
    let length = if let Framing::Length(length) = response.framing { Some(length) } else { None };
    Encoder::new(coding, length).ok()
}

/// Lets the server go when no more will come from it; how the response ends then.
fn settle(source: &mut Option<Source>, taken: Taken, upload_complete: bool, now_us: impl Fn() -> u64) -> End {
    match taken {
        Taken::More => {}
        Taken::Complete { clean } => {
            if let Some(source) = source.take() {
                source.finish(clean, upload_complete, now_us());
            }
        }
        Taken::Malformed => {
            *source = None;
            return End::ServerBroke;
        }
    }
    End::Complete
}
