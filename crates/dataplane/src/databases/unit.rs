//! One unit of a client's requests: everything up to where it expects an answer. It is collected whole before anything is
//! decided, so that it can be repeated elsewhere.

use super::protocol::ProtocolError;
use super::protocol::frame;

/// A pipeline without a Sync is cut into units of about this size.
const PIPELINE: usize = 1024 * 1024;

/// Longest unit, in bytes, and one more, where a message has `most`: what comes before the last message is no pipeline yet.
pub fn longest(most: usize) -> usize {
    most + PIPELINE + 1
}

/// What ends a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Query,
    Call,
    Sync,
    /// The client wants to see what there is so far; the batch goes on. `asked` is false where a long pipeline was cut.
    Flush {
        asked: bool,
    },
    Terminate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    pub length: usize,
    pub end: End,
}

/// How far the search has come.
#[derive(Debug, Default)]
pub struct Search {
    at: usize,
}

impl Search {
    /// The unit at the start of `arrived`, once it is there as a whole. Answers with the bytes of stray COPY data that
    /// come before it and must be dropped first: what a client goes on sending after the server has refused its COPY.
    pub fn next(&mut self, arrived: &[u8], most: usize) -> Result<Found, ProtocolError> {
        while let Some(frame) = frame::next(&arrived[self.at..], most)? {
            let end = self.at + frame.length;
            let is_data = matches!(frame.tag, b'd' | b'c' | b'f') && self.at > 0;
            if end > arrived.len() && !is_data {
                return Ok(Found::Incomplete);
            }
            let found = match frame.tag {
                b'S' | b'H' | b'X' if frame.length > frame::HEADER => {
                    return Err(ProtocolError("invalid message format"));
                }
                b'Q' | b'F' if self.at > 0 => Some((self.at, End::Flush { asked: false })),
                b'Q' => Some((end, End::Query)),
                b'F' => Some((end, End::Call)),
                b'S' => Some((end, End::Sync)),
                b'H' => Some((end, End::Flush { asked: true })),
                b'X' => Some((end, End::Terminate)),
                b'd' | b'c' | b'f' if self.at == 0 => return Ok(Found::Stray(end)),
                b'P' | b'B' | b'D' | b'E' | b'C' if end >= PIPELINE => Some((end, End::Flush { asked: false })),
                b'P' | b'B' | b'D' | b'E' | b'C' => None,
                // Data of a COPY that begins with what comes before, or what ends the connection behind it.
                _ if self.at > 0 => Some((self.at, End::Flush { asked: false })),
                unknown => return Ok(Found::Unknown(unknown)),
            };
            self.at = end;
            if let Some((length, end)) = found {
                self.at = 0;
                return Ok(Found::Unit(Unit { length, end }));
            }
        }
        Ok(Found::Incomplete)
    }

    /// What has arrived so far as a unit, if it is whole messages. For a client that goes on waiting without a Sync or a
    /// Flush: PostgreSQL would have begun with it, and tells of an error without being asked.
    pub fn so_far(&self, arrived: &[u8]) -> Option<Unit> {
        (self.at > 0 && self.at == arrived.len()).then_some(Unit { length: self.at, end: End::Flush { asked: false } })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Unit(Unit),
    Stray(usize),
    /// A message of a kind that no client sends.
    Unknown(u8),
    Incomplete,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 64 * 1024 * 1024;

    fn message(tag: u8, size: usize) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&u32::try_from(size + 4).unwrap().to_be_bytes());
        bytes.resize(size + 5, 0);
        bytes
    }

    fn units(bytes: &[u8], step: usize) -> Vec<(usize, End)> {
        let (mut search, mut units, mut start, mut end) = (Search::default(), Vec::new(), 0, 0);
        while end < bytes.len() {
            end = (end + step).min(bytes.len());
            loop {
                match search.next(&bytes[start..end], MOST).unwrap() {
                    Found::Unit(unit) => {
                        units.push((unit.length, unit.end));
                        start += unit.length;
                    }
                    Found::Stray(count) => start += count,
                    Found::Incomplete | Found::Unknown(_) => break,
                }
            }
        }
        assert_eq!(start, bytes.len());
        units
    }

    #[test]
    fn units_end_where_an_answer_is_expected_however_the_bytes_arrive() {
        let bytes: Vec<u8> = [
            (b'Q', 10),
            (b'P', 3),
            (b'B', 4),
            (b'E', 5),
            (b'S', 0),
            (b'd', 100),
            (b'c', 0),
            (b'P', 3),
            (b'D', 2),
            (b'H', 0),
            (b'P', 1),
            (b'Q', 2),
            (b'X', 0),
        ]
        .iter()
        .flat_map(|(tag, size)| message(*tag, *size))
        .collect();
        let expected = [
            (15, End::Query),
            (8 + 9 + 10 + 5, End::Sync),
            (8 + 7 + 5, End::Flush { asked: true }),
            (6, End::Flush { asked: false }),
            (7, End::Query),
            (5, End::Terminate),
        ];
        for step in [1, 2, 3, 7, 1000] {
            assert_eq!(units(&bytes, step), expected);
        }
    }

    #[test]
    fn long_pipelines_are_cut_between_messages() {
        let mut bytes = message(b'B', PIPELINE);
        bytes.extend(message(b'E', 4));
        bytes.extend(message(b'S', 0));
        assert_eq!(units(&bytes, 4096), [(PIPELINE + 5, End::Flush { asked: false }), (14, End::Sync)]);
    }

    #[test]
    fn so_far_is_only_whole_messages() {
        let mut search = Search::default();
        let bytes = [message(b'B', 3), message(b'E', 4)].concat();
        assert_eq!(search.so_far(&[]), None);
        assert_eq!(search.next(&bytes[..10], MOST).unwrap(), Found::Incomplete);
        assert_eq!(search.so_far(&bytes[..10]), None);
        assert_eq!(search.next(&bytes, MOST).unwrap(), Found::Incomplete);
        assert_eq!(search.so_far(&bytes), Some(Unit { length: 17, end: End::Flush { asked: false } }));
    }

    #[test]
    fn unknown_messages_are_refused() {
        for kind in [b'z', b'p'] {
            assert_eq!(Search::default().next(&message(kind, 1), MOST), Ok(Found::Unknown(kind)));
            let behind = [message(b'P', 3), message(kind, 1)].concat();
            let before = Unit { length: 8, end: End::Flush { asked: false } };
            assert_eq!(Search::default().next(&behind, MOST), Ok(Found::Unit(before)));
        }
    }

    #[test]
    fn copy_data_does_not_wait_for_its_end_to_have_the_copy_begin() {
        let bytes = [message(b'E', 3), message(b'd', 100)].concat();
        let begun = Found::Unit(Unit { length: 8, end: End::Flush { asked: false } });
        assert_eq!(Search::default().next(&bytes[..20], MOST), Ok(begun));
    }
}
