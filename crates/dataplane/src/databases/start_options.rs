//! `options` of the start-up packet: the command line of a server process, as PostgreSQL reads it (`process_postgres_switches`).

use super::protocol::report::{Report, sqlstate};

/// Switches that take a value, and the settings that they stand for.
const WITH_VALUE: [(char, &str); 6] = [
    ('B', "shared_buffers"),
    ('N', "max_connections"),
    ('S', "work_mem"),
    ('W', "post_auth_delay"),
    ('k', "unix_socket_directories"),
    ('p', "port"),
];
/// Switches that take none, with the values that they give.
const ALONE: [(char, &str, &str); 7] = [
    ('F', "fsync", "false"),
    ('O', "allow_system_table_mods", "true"),
    ('P', "ignore_system_indexes", "true"),
    ('e', "datestyle", "euro"),
    ('i', "listen_addresses", "*"),
    ('l', "ssl", "true"),
    ('s', "log_statement_stats", "true"),
];
/// `-f` forbids a kind of plan, `-t` shows statistics.
const PLANS: [(&str, &str); 8] = [
    ("s", "enable_seqscan"),
    ("i", "enable_indexscan"),
    ("o", "enable_indexonlyscan"),
    ("b", "enable_bitmapscan"),
    ("t", "enable_tidscan"),
    ("n", "enable_nestloop"),
    ("m", "enable_mergejoin"),
    ("h", "enable_hashjoin"),
];
const STATISTICS: [(&str, &str); 3] =
    [("pa", "log_parser_stats"), ("pl", "log_planner_stats"), ("e", "log_executor_stats")];
/// Without an effect any more.
const IGNORED: [char; 3] = ['E', 'j', 'n'];

/// The settings that they make, in their order.
pub fn settings_of(text: &str) -> Result<Vec<(String, String)>, Report> {
    let mut found = Vec::new();
    let mut words = words(text).into_iter();
    while let Some(word) = words.next() {
        let invalid = || {
            Report::fatal(sqlstate::SYNTAX_ERROR, format!("invalid command-line argument for server process: {word}"))
                .with_hint("Try \"postgres --help\" for more information.")
        };
        let mut switch = word.strip_prefix('-').ok_or_else(invalid)?.chars();
        let letter = switch.next().ok_or_else(invalid)?;
        let attached = switch.as_str();
        if letter == '-' && attached.is_empty() {
            // The end of the switches.
            return if words.next().is_none() { Ok(found) } else { Err(invalid()) };
        }
        if let Some((_, name, value)) = ALONE.iter().find(|(each, ..)| *each == letter && attached.is_empty()) {
            found.push(((*name).to_owned(), (*value).to_owned()));
            continue;
        }
        if IGNORED.contains(&letter) && attached.is_empty() {
            continue;
        }
        let value = if attached.is_empty() { words.next().ok_or_else(invalid)? } else { attached.to_owned() };
        let known = |list: &[(&str, &str)], state: &str| {
            let name = list.iter().find(|(each, _)| *each == value).map(|(_, name)| (*name).to_owned());
            name.map(|name| (name, state.to_owned())).ok_or_else(invalid)
        };
        let setting = match letter {
            'c' | '-' => {
                let prefix = if letter == 'c' { "-c " } else { "--" };
                let requires = || Report::fatal(sqlstate::SYNTAX_ERROR, format!("{prefix}{value} requires a value"));
                let (name, value) = value.split_once('=').ok_or_else(requires)?;
                (name.replace('-', "_"), value.to_owned())
            }
            'd' if value == "0" => ("log_min_messages".to_owned(), "notice".to_owned()),
            'd' => ("log_min_messages".to_owned(), format!("debug{value}")),
            'f' => known(&PLANS, "false")?,
            't' => known(&STATISTICS, "true")?,
            // The version of the protocol, which is known.
            'v' => continue,
            _ => match WITH_VALUE.iter().find(|(each, _)| *each == letter) {
                Some((_, name)) => ((*name).to_owned(), value),
                None => return Err(invalid()),
            },
        };
        found.push(setting);
    }
    Ok(found)
}

/// The words of a command line: apart by spaces, which a backslash takes for itself (`pg_split_opts`).
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, words.last_mut()) {
            ('\\', Some(word)) => word.extend(characters.next()),
            (space, _) if space.is_ascii_whitespace() => words.push(String::new()),
            (other, Some(word)) => word.push(other),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_settings() {
        let found = settings_of(r"-c a=1 --b-c=two\ words  -cd=4 -fs -t pl -e -S 64 -n -v3 --").unwrap();
        let expected = [
            ("a", "1"),
            ("b_c", "two words"),
            ("d", "4"),
            ("enable_seqscan", "false"),
            ("log_planner_stats", "true"),
            ("datestyle", "euro"),
            ("work_mem", "64"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for wrong in ["junk", "-x", "-c", "-c a", "--a", "-f x", "-", "-- -c a=1"] {
            assert_eq!(settings_of(wrong).unwrap_err().code, "42601", "{wrong}");
        }
    }
}
