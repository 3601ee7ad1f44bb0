//! PostgreSQL's messages: units of them are whole however they arrive, and what is read of one, written again, is the same.

use super::pieces;
use crate::databases::protocol::fields::{self, Bind, Execute, Format, Parse, ReportFields, Target};
use crate::databases::protocol::messages::{Contents, message, to_client, to_server};
use crate::databases::protocol::report::Report;
use crate::databases::protocol::startup::SECRET_MAX;
use crate::databases::protocol::{ProtocolError, frame};
use crate::databases::unit::{End, Found, Search};

/// Longest message of a client; short, so that short input goes beyond.
const LONGEST: usize = 1000;

/// Messages with a byte 0xff between them, whose lengths are put behind their tags. One that begins with a zero, which is no
/// tag, stands for the bytes behind it.
pub fn said(data: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    for record in data.split(|byte| *byte == 0xff) {
        match record {
            [0, bytes @ ..] => said.extend_from_slice(bytes),
            [tag, contents @ ..] => message(&mut said, *tag, |out| out.bytes(contents)),
            [] => {}
        }
    }
    said
}

pub fn hold(data: &[u8]) {
    let said = said(data);
    let whole = units(&said, std::iter::repeat(usize::MAX));
    assert_eq!(units(&said, pieces(data)), whole, "units depend on packets");
    check_units(&said, &whole);
    let mut rest = &said[..];
    while let Ok(Some(found)) = frame::next(rest, usize::MAX) {
        assert!(frame::next(&rest[..4], 5) == Ok(None) && found.length >= frame::HEADER);
        let Some(message) = rest.get(..found.length) else { break };
        check_message(message);
        rest = &rest[found.length..];
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Heard {
    /// What came, with its length.
    units: Vec<(Option<End>, usize)>,
    end: Result<(), ProtocolError>,
}

fn units(said: &[u8], mut pieces: impl Iterator<Item = usize>) -> Heard {
    let (mut search, mut start, mut seen) = (Search::default(), 0, 0);
    let mut heard = Heard { units: Vec::new(), end: Ok(()) };
    loop {
        match search.next(&said[start..seen], LONGEST) {
            Ok(Found::Incomplete) if seen == said.len() => return heard,
            Ok(Found::Incomplete) => seen = seen.saturating_add(pieces.next().unwrap_or(1)).min(said.len()),
            Ok(Found::Unit(unit)) => {
                heard.units.push((Some(unit.end), unit.length));
                start += unit.length;
            }
            Ok(Found::Stray(count)) => {
                heard.units.push((None, count));
                start += count;
            }
            Ok(Found::Unknown(_)) => {
                heard.end = Err(ProtocolError("unexpected message type"));
                return heard;
            }
            Err(error) => {
                // More changes nothing about it.
                assert_eq!(search.next(&said[start..], LONGEST), Err(error));
                heard.end = Err(error);
                return heard;
            }
        }
        assert!(start <= seen, "more than has arrived");
    }
}

/// Units are made of whole messages, each ends as it says, and nothing is in between.
fn check_units(said: &[u8], heard: &Heard) {
    let mut rest = said;
    for (end, length) in &heard.units {
        let (unit, behind) = rest.split_at(*length);
        let (mut tags, mut at) = (Vec::new(), 0);
        while at < unit.len() {
            let [tag, a, b, c, d, ..] = unit[at..] else { panic!("half a message") };
            tags.push(tag);
            let length = u32::from_be_bytes([a, b, c, d]) as usize + 1;
            assert!((frame::HEADER..=LONGEST).contains(&length));
            at += length;
        }
        assert_eq!(at, unit.len(), "half a message");
        let last = tags.pop().expect("a message");
        let is_batch = tags.iter().all(|tag| b"PBDEC".contains(tag));
        let fits = match end {
            None => tags.is_empty() && b"dcf".contains(&last),
            Some(End::Query) => tags.is_empty() && last == b'Q',
            Some(End::Call) => tags.is_empty() && last == b'F',
            Some(End::Sync) => is_batch && last == b'S',
            Some(End::Terminate) => is_batch && last == b'X',
            Some(End::Flush { asked: true }) => is_batch && last == b'H',
            // Cut before a query, before COPY data, and before what ends the connection.
            Some(End::Flush { asked: false }) => {
                is_batch && b"PBDEC".contains(&last) && behind.first().is_some_and(|next| !b"PBDECSHX".contains(next))
            }
        };
        assert!(fits, "{end:?} after {}", last.escape_ascii());
        rest = behind;
    }
}

fn built(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"before".to_vec();
    build(&mut out);
    out.split_off(6)
}

/// The same message, made anew of its tag and contents.
fn of(message: &[u8], fill: impl FnOnce(&mut Contents<'_>)) -> Vec<u8> {
    built(|out| self::message(out, message[0], fill))
}

fn check_message(message: &[u8]) {
    for cut in 0..message.len() {
        assert!(fields::query(&message[..cut]).is_err() && fields::data_row(&message[..cut]).is_err());
    }
    if let Ok(text) = fields::query(message) {
        assert_eq!(of(message, |out| out.text(text)), message);
        assert_eq!(fields::command_complete(message), Ok(text));
    }
    if let Ok(parse) = Parse::read(message) {
        assert_eq!(built(|out| parse.write_as(parse.name, out)), message);
        assert_eq!(parse.type_ids().len() * 4, parse.types.len());
        let other = built(|out| parse.write_as(b"other", out));
        let other = Parse::read(&other).expect("it was one");
        assert_eq!((other.name, other.query, other.types), (&b"other"[..], parse.query, parse.types));
    }
    if let Ok(bind) = Bind::read(message) {
        assert_eq!(&message[bind.statement_range.clone()], bind.statement);
        assert_eq!(built(|out| bind.write_as(bind.statement, out)), message);
        let other = built(|out| bind.write_as(b"other", out));
        let other = Bind::read(&other).expect("it was one");
        assert_eq!((other.portal, other.statement), (bind.portal, &b"other"[..]));
        match (bind.parameters(), other.parameters()) {
            (Ok(parameters), Ok(others)) => {
                assert!(parameters.iter().eq(others.iter()));
                check_parameters(&message[bind.statement_range.end + 1..], &parameters.iter().collect::<Vec<_>>());
            }
            (ours, others) => assert_eq!(ours.err(), others.err()),
        }
    }
    if let Ok(target) = Target::read(message) {
        assert_eq!(built(|out| target.write_as(target.name, out)), message);
    }
    if let Ok(execute) = Execute::read(message) {
        assert_eq!(
            of(message, |out| {
                out.text(execute.portal);
                out.bytes(&execute.max_rows.to_be_bytes());
            }),
            message
        );
    }
    if let Ok((mechanism, data)) = fields::sasl_initial_response(message) {
        assert_eq!(
            of(message, |out| {
                out.text(mechanism);
                out.value(data);
            }),
            message
        );
    }
    check_answer(message);
}

/// Formats: none, one for all, or one for each; values; and formats of the result, which nobody here needs.
fn check_parameters(tail: &[u8], parameters: &[(Format, Option<&[u8]>)]) {
    let count = u16::from_be_bytes([tail[0], tail[1]]);
    let mut expected = count.to_be_bytes().to_vec();
    let code = |format: Format| u16::from(format == Format::Binary).to_be_bytes();
    match usize::from(count) {
        0 => assert!(parameters.iter().all(|(format, _)| *format == Format::Text)),
        1 => {
            expected.extend_from_slice(&tail[2..4]);
            assert!(parameters.iter().all(|(format, _)| code(*format) == tail[2..4]));
        }
        each => {
            assert_eq!(each, parameters.len());
            expected.extend(parameters.iter().flat_map(|(format, _)| code(*format)));
        }
    }
    expected.extend((parameters.len() as u16).to_be_bytes());
    for (_, value) in parameters {
        expected.extend(value.map_or(u32::MAX, |value| value.len() as u32).to_be_bytes());
        expected.extend_from_slice(value.unwrap_or_default());
    }
    let results = tail.strip_prefix(&expected[..]).expect("the same values");
    assert_eq!(usize::from(u16::from_be_bytes([results[0], results[1]])) * 2, results.len() - 2);
}

/// What servers say.
fn check_answer(message: &[u8]) {
    if let Ok(status) = fields::ready_for_query(message) {
        assert_eq!((message.len(), message[5]), (6, status));
    }
    if let Ok(report) = Report::read(message) {
        let written = built(|out| report.write_error(out));
        assert_eq!(Report::read(&written), Ok(report), "it says something else");
        let fields = ReportFields::read(message).expect("it was one");
        assert!((1..=255).filter_map(|kind| fields.get(kind)).all(|text| !text.contains(&0)));
    }
    if let Ok((name, value)) = fields::parameter_status(message) {
        assert_eq!(
            of(message, |out| {
                out.text(name);
                out.text(value);
            }),
            message
        );
    }
    if let Ok((process, secret)) = fields::backend_key_data(message) {
        assert!((4..=SECRET_MAX).contains(&secret.len()));
        assert_eq!(built(|out| to_client::backend_key_data(out, process, secret))[1..], message[1..]);
        let cancel = built(|out| to_server::cancel_request(out, process, secret));
        assert_eq!(cancel.len(), 12 + secret.len());
    }
    if let Ok((kind, contents)) = fields::authentication(message) {
        assert_eq!(
            of(message, |out| {
                out.u32(kind);
                out.bytes(contents);
            }),
            message
        );
        if let Ok(mechanisms) = fields::sasl_mechanisms(contents) {
            let list: Vec<u8> = mechanisms.iter().flat_map(|name| [*name, b"\0"].concat()).collect();
            assert_eq!([&list[..], b"\0"].concat(), contents);
        }
    }
    if let Ok(minor) = fields::negotiate_protocol_version(message) {
        assert_eq!((&message[5..7], minor.to_be_bytes()), (&[0, 3][..], [message[7], message[8]]));
    }
    if let Ok(row) = fields::data_row(message) {
        assert_eq!(built(|out| to_client::data_row(out, &row))[1..], message[1..]);
    }
}
