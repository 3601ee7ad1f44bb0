use super::*;

fn row(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

#[test]
fn names_of_custom_settings_are_told_by_their_dots() {
    for name in ["app.tenant", "a.b.c", "_x.y1", "request.jwt.claims"] {
        assert!(is_custom(name), "{name}");
    }
    for name in ["work_mem", "1.5", "a.", ".a", "a..b", "app.1", ""] {
        assert!(!is_custom(name), "{name}");
    }
}

#[test]
fn unseen_code_is_asked_about_with_the_names_that_its_messages_have() {
    let opaque = Plan { audit: Audit::Settings, unknown_settings: true, doubtful: false, ..Plan::doubtful("test") };
    let mut need = Need::default();
    need.add(&opaque, b"Q\0\0\0\x20SELECT set('App.Tenant', 1.5)\0", false);
    assert!(need.custom.contains("app.tenant"));
    assert!(!need.unknown, "the name that it makes is the one in its text");
    let mut need = Need::default();
    need.add(&opaque, b"SELECT set(1)", true);
    assert!(!need.unknown, "it was rolled back");
    need.add(&opaque, b"SELECT set(1)", false);
    assert!(need.unknown);
}

#[test]
fn names_behind_any_length_are_found_in_a_function_call() {
    for length in 10..200 {
        let name = format!("app.{}", "x".repeat(length - 4));
        let mut message = b"F\0\0\0\0".to_vec();
        message.extend((length as u32).to_be_bytes());
        message.extend(name.as_bytes());
        message.extend(b"\0\0\0\x01A");
        let mut need = Need::default();
        need.add_unknown(&message);
        assert!(need.custom.contains(name.as_str()) && !need.unknown, "{length}");
    }
    let mut need = Need::default();
    need.add_unknown(b"F\0\0\0\0");
    assert!(need.unknown);
}

#[test]
fn the_answer_is_read_whole_or_not_at_all() {
    let state = row(&["t", "f", "t", "f", "t", "0", "3", "0", "5", "70", "0", "9"]);
    let settings = [row(&["TimeZone", "UTC", "t"]), row(&["role", "none", "t"])];
    let rows: Vec<_> = [vec![state.clone()], settings.to_vec()].concat();
    let found = Findings::read(&rows, Audit::Settings).unwrap();
    assert_eq!(found.pins, [ADVISORY_LOCK, LISTEN]);
    assert!(found.has_used_temporary && !found.is_misled);
    assert_eq!((found.prepared, found.changes, found.relation_changes), (3, (5, 70), (0, 9)));
    let settings = found.settings.unwrap();
    assert_eq!(statement_of(&settings[0]), "SELECT pg_catalog.set_config('timezone', 'UTC', false)");
    assert!(Findings::read(&[], Audit::State).is_none());
    assert!(Findings::read(&[state[..11].to_vec()], Audit::State).is_none());
    assert!(Findings::read(&[state, row(&["x"])], Audit::Settings).is_none());
}
