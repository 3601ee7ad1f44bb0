//! Where one tagged message ends and the next begins. Contents are not looked at, so large rows cost nothing here.

use super::ProtocolError;

/// Bytes of the tag and the length, before the contents.
pub const HEADER: usize = 5;

/// The header of a message that may not have arrived completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub tag: u8,
    /// Bytes of the whole message: tag, length and contents.
    pub length: usize,
}

impl Frame {
    /// Whether the message that `bytes` begins with is there to its end.
    pub fn is_complete(self, bytes: &[u8]) -> bool {
        bytes.len() >= self.length
    }
}

/// The header at the start of `bytes`; `None` while it is not complete.
///
/// Refuses a message that says it is longer than `most` bytes as a whole, or shorter than its own length field.
pub fn next(bytes: &[u8], most: usize) -> Result<Option<Frame>, ProtocolError> {
    let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes([a, b, c, d]);
    if length < 4 {
        return Err(ProtocolError("invalid message length"));
    }
    let length = length as usize + 1;
    if length > most {
        return Err(ProtocolError("message is longer than the limit"));
    }
    Ok(Some(Frame { tag, length }))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_at_their_limits() {
        let header = |length: i32| [&b"Q"[..], &length.to_be_bytes()].concat();
        assert_eq!(next(&header(4), 100), Ok(Some(Frame { tag: b'Q', length: 5 })));
        assert_eq!(next(&header(99), 100), Ok(Some(Frame { tag: b'Q', length: 100 })));
        for refused in [3, 0, -1, i32::MIN, i32::MAX, 100] {
            assert!(next(&header(refused), 100).is_err(), "{refused}");
        }
        assert_eq!(next(&header(4)[..4], 100), Ok(None));
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            messages in vec((any::<u8>(), vec(any::<u8>(), 0..40)), 0..12),
            cuts in vec(1_usize..17, 1..8),
        ) {
            let mut wire = Vec::new();
            for (tag, contents) in &messages {
                wire.push(*tag);
                wire.extend((contents.len() as u32 + 4).to_be_bytes());
                wire.extend(contents);
            }
            let (mut arrived, mut seen, mut rest) = (Vec::new(), Vec::new(), &wire[..]);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*cut));
                rest = later;
                arrived.extend(now);
                while let Some(frame) = next(&arrived, 1000).unwrap().filter(|frame| frame.is_complete(&arrived)) {
                    seen.push((frame.tag, arrived[HEADER..frame.length].to_vec()));
                    arrived.drain(..frame.length);
                }
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, messages);
            prop_assert!(arrived.is_empty());
        }
    }
}
