//! Takes values one after the other from the contents of a message; whatever is not there is an error.

use std::ops::Range;

use super::{ProtocolError, frame};

#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads a whole message, behind its header, which must tell its true length.
    pub fn of_message(message: &'a [u8]) -> Result<Self, ProtocolError> {
        match frame::next(message, usize::MAX)? {
            Some(frame) if frame.length == message.len() => Ok(Self { bytes: message, at: frame::HEADER }),
            _ => Err(ProtocolError("message is cut off")),
        }
    }

    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], ProtocolError> {
        let taken = self.rest().get(..count).ok_or(ProtocolError("message ends before its contents do"))?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let (taken, _) =
            self.rest().split_first_chunk::<N>().ok_or(ProtocolError("message ends before its contents do"))?;
        self.at += N;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, ProtocolError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, ProtocolError> {
        self.array().map(i32::from_be_bytes)
    }

    /// Text up to a zero byte, without it.
    pub fn text(&mut self) -> Result<&'a [u8], ProtocolError> {
        let range = self.text_range()?;
        Ok(&self.bytes[range])
    }

    /// Where the text lies in what this reader was made from, without its zero byte.
    pub fn text_range(&mut self) -> Result<Range<usize>, ProtocolError> {
        let length = memchr::memchr(0, self.rest()).ok_or(ProtocolError("text without an end in a message"))?;
        let start = self.at;
        self.at += length + 1;
        Ok(start..start + length)
    }

    /// A value with its length before it; -1 stands for NULL.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, ProtocolError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| ProtocolError("invalid length of a value"))?;
                self.take(length).map(Some)
            }
        }
    }

    pub fn finish(self) -> Result<(), ProtocolError> {
        if self.rest().is_empty() { Ok(()) } else { Err(ProtocolError("message goes on behind its contents")) }
    }
}
