//! Builders: each appends one whole message to a buffer that already may hold others.

pub mod to_client;
pub mod to_server;

/// The contents of a message that is being built.
pub struct Contents<'a>(&'a mut Vec<u8>);

impl Contents<'_> {
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.0.extend(value.to_be_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend(value.to_be_bytes());
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.0.extend(value);
    }

    /// Text and its zero byte. The protocol cannot carry a zero within: the text ends there.
    pub fn text(&mut self, value: &[u8]) {
        let end = memchr::memchr(0, value).unwrap_or(value.len());
        self.0.extend(&value[..end]);
        self.0.push(0);
    }

    /// A value with its length before it, or NULL.
    pub fn value(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => {
                self.u32(value.len() as u32);
                self.bytes(value);
            }
            None => self.u32(u32::MAX),
        }
    }
}

/// Appends a message with this tag and the contents that `fill` writes.
pub fn message(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Contents<'_>)) {
    out.push(tag);
    untagged(out, fill);
}

/// Appends a packet of the opening, which has no tag.
fn untagged(out: &mut Vec<u8>, fill: impl FnOnce(&mut Contents<'_>)) {
    let start = out.len();
    out.extend([0; 4]);
    fill(&mut Contents(out));
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
