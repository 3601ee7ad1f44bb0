use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::messages::{to_client, to_server};
use super::super::report::Report;
use super::*;

/// An encoder of its own, so that a mistake in the builders cannot hide one in the views.
fn wire(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    [&[tag][..], &(contents.len() as u32 + 4).to_be_bytes(), &contents].concat()
}

fn zero_ended(text: &[u8]) -> Vec<u8> {
    [text, b"\0"].concat()
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(1_u8.., 0..24)
}

/// Everything that reads a message, none of which may panic.
fn read_all(message: &[u8]) {
    let _ = (query(message), ready_for_query(message), parameter_status(message), backend_key_data(message));
    let _ = (authentication(message), sasl_initial_response(message), negotiate_protocol_version(message));
    let _ = (data_row(message), Execute::read(message), Report::read(message), sasl_mechanisms(message));
    let mut out = Vec::new();
    if let Ok(parse) = Parse::read(message) {
        parse.write_as(b"other", &mut out);
        assert_eq!(parse.type_ids().len() * 4, parse.types.len());
    }
    if let Ok(bind) = Bind::read(message) {
        assert_eq!(bind.statement, &message[bind.statement_range.clone()]);
        bind.write_as(b"other", &mut out);
        if let Ok(parameters) = bind.parameters() {
            assert_eq!(parameters.iter().count(), parameters.count);
        }
    }
    if let Ok(target) = Target::read(message) {
        target.write_as(b"other", &mut out);
    }
}

proptest! {
    #[test]
    fn random_contents_never_panic(tag in any::<u8>(), contents in vec(prop_oneof![Just(0_u8), any::<u8>()], 0..80)) {
        read_all(&contents);
        let message = wire(tag, &[&contents]);
        read_all(&message);
        for end in 0..message.len() {
            read_all(&message[..end]);
        }
    }

    #[test]
    fn parse_agrees_and_is_renamed(name in text(), sql in text(), types in vec(any::<u32>(), 0..6), other in text()) {
        let encoded = |name: &[u8]| {
            let types: Vec<u8> = types.iter().flat_map(|id| id.to_be_bytes()).collect();
            let count = (types.len() as u16 / 4).to_be_bytes();
            wire(b'P', &[&zero_ended(name), &zero_ended(&sql), &count, &types])
        };
        let message = encoded(&name);
        let parse = Parse::read(&message).unwrap();
        prop_assert_eq!((parse.name, parse.query), (&name[..], &sql[..]));
        prop_assert_eq!(parse.type_ids().collect::<Vec<_>>(), types.clone());
        let mut renamed = vec![9];
        parse.write_as(&other, &mut renamed);
        prop_assert_eq!(&renamed[1..], encoded(&other));
        let mut built = Vec::new();
        to_server::parse(&mut built, &name, &sql, &types);
        prop_assert_eq!(built, message);
    }

    #[test]
    fn bind_agrees_and_is_renamed(
        portal in text(), statement in text(), other in text(),
        values in vec((any::<bool>(), option::of(vec(any::<u8>(), 0..20))), 0..5), results in vec(0_u16..2, 0..4),
    ) {
        let encoded = |statement: &[u8]| {
            let mut tail = (values.len() as u16).to_be_bytes().to_vec();
            tail.extend(values.iter().flat_map(|(binary, _)| u16::from(*binary).to_be_bytes()));
            tail.extend((values.len() as u16).to_be_bytes());
            for (_, value) in &values {
                tail.extend(value.as_ref().map_or(u32::MAX, |value| value.len() as u32).to_be_bytes());
                tail.extend(value.iter().flatten());
            }
            tail.extend((results.len() as u16).to_be_bytes());
            tail.extend(results.iter().flat_map(|format| format.to_be_bytes()));
            wire(b'B', &[&zero_ended(&portal), &zero_ended(statement), &tail])
        };
        let message = encoded(&statement);
        let bind = Bind::read(&message).unwrap();
        prop_assert_eq!((bind.portal, bind.statement), (&portal[..], &statement[..]));
        prop_assert_eq!(&message[bind.statement_range.clone()], &statement[..]);
        let read: Vec<_> = bind.parameters().unwrap().iter()
            .map(|(format, value)| (format == Format::Binary, value.map(<[u8]>::to_vec))).collect();
        prop_assert_eq!(read, values.clone());
        let mut renamed = Vec::new();
        bind.write_as(&other, &mut renamed);
        prop_assert_eq!(renamed, encoded(&other));
    }

    #[test]
    fn targets_and_executes_agree(tag in prop::sample::select(vec![b'D', b'C']), is_statement: bool, name in text(),
                                  other in text(), max_rows: i32) {
        let kind: &[u8] = if is_statement { b"S" } else { b"P" };
        let message = wire(tag, &[kind, &zero_ended(&name)]);
        let target = Target::read(&message).unwrap();
        prop_assert_eq!((target.kind == TargetKind::Statement, target.name), (is_statement, &name[..]));
        let mut renamed = Vec::new();
        target.write_as(&other, &mut renamed);
        prop_assert_eq!(renamed, wire(tag, &[kind, &zero_ended(&other)]));
        let message = wire(b'E', &[&zero_ended(&name), &max_rows.to_be_bytes()]);
        prop_assert_eq!(Execute::read(&message), Ok(Execute { portal: &name, max_rows }));
    }

    #[test]
    fn rows_agree(values in vec(option::of(vec(any::<u8>(), 0..20)), 0..6)) {
        let mut message = Vec::new();
        to_client::data_row(&mut message, &values);
        let read: Vec<_> = data_row(&message).unwrap().into_iter().map(|value| value.map(<[u8]>::to_vec)).collect();
        prop_assert_eq!(read, values);
    }
}

#[test]
fn one_format_stands_for_all_parameters() {
    let message = wire(b'B', &[b"\0s\0", b"\0\x01\0\x01", b"\0\x02\0\0\0\x01a\xff\xff\xff\xff", b"\0\0"]);
    let bind = Bind::read(&message).unwrap();
    let read: Vec<_> = bind.parameters().unwrap().iter().collect();
    assert_eq!(read, [(Format::Binary, Some(&b"a"[..])), (Format::Binary, None)]);
}

#[test]
fn malformed_parameters_are_refused() {
    for tail in [
        &b"\0\x02\0\0\0\0\0\x01\0\0\0\0\0\0"[..], // two formats, one parameter
        b"\0\x01\0\x02\0\0\0\0",                  // a format that does not exist
        b"\0\0\0\x01\0\0\0\x05abc\0\0",           // a value longer than the message
        b"\0\0\0\x01\xff\xff\xff\xfe\0\0",        // a negative length that is not NULL
        b"\0\0\0\0\0\0more",                      // bytes behind the end
        b"\0\0\0\0",                              // no result formats
    ] {
        let message = wire(b'B', &[b"p\0s\0", tail]);
        assert!(Bind::read(&message).unwrap().parameters().is_err(), "{tail:?}");
    }
}

#[test]
fn trailing_bytes_and_missing_ends_are_refused() {
    assert_eq!(query(&wire(b'Q', &[b"SELECT 1\0"])), Ok(&b"SELECT 1"[..]));
    for contents in [&b"SELECT 1"[..], b"SELECT 1\0; DROP\0", b""] {
        assert!(query(&wire(b'Q', &[contents])).is_err());
    }
    assert!(Parse::read(&wire(b'P', &[b"\0SELECT 1\0\0\x01"])).is_err());
    assert!(Target::read(&wire(b'D', &[b"X\0"])).is_err());
    assert!(ready_for_query(&wire(b'Z', &[b"X"])).is_err());
}

#[test]
fn error_fields_prefer_the_untranslated_severity() {
    let message = wire(b'E', &[b"SFEHLER\0VFATAL\0C57P03\0Mstartet\0\0"]);
    let fields = ReportFields::read(&message).unwrap();
    assert_eq!((fields.severity(), fields.code(), fields.message()), (Severity::Fatal, &b"57P03"[..], &b"startet"[..]));
    assert_eq!(fields.get(b'H'), None);
    assert!(ReportFields::read(&wire(b'E', &[b"SERROR\0"])).is_err());
}

#[test]
fn login_messages_of_the_server() {
    let mut out = Vec::new();
    to_client::authentication_sasl(&mut out, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    let (kind, contents) = authentication(&out).unwrap();
    assert_eq!(kind, 10);
    assert_eq!(sasl_mechanisms(contents).unwrap(), [&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"]);
    out.clear();
    to_client::negotiate_protocol_version(&mut out, 2, &["_pq_.wish".into()]);
    assert_eq!(negotiate_protocol_version(&out), Ok(2));
    assert_eq!(out, wire(b'v', &[b"\0\x03\0\x02\0\0\0\x01_pq_.wish\0"]));
    out.clear();
    to_client::backend_key_data(&mut out, 7, &[1; 32]);
    assert_eq!(backend_key_data(&out), Ok((7, &[1; 32][..])));
    assert!(backend_key_data(&wire(b'K', &[&[0; 7]])).is_err());
    assert!(backend_key_data(&wire(b'K', &[&[0; 4 + 257]])).is_err());
}
