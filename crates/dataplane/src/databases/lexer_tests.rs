//! What the key promises: texts that differ in literals, white space, case and comments share one; others do not.

use std::time::Instant;

use proptest::prelude::*;

use super::{Key, key};

fn folded(sql: &str) -> Vec<u8> {
    let mut into = Vec::new();
    assert_eq!(key(sql.as_bytes(), &mut into), Key::Folded, "{sql}");
    into
}

/// The key with its literals shown as `?` and its mark for more of the same as `+`.
fn shown(sql: &str) -> String {
    String::from_utf8(folded(sql)).unwrap().replace('\u{1}', "?").replace('\u{2}', "+")
}

fn doubtful(sql: impl AsRef<[u8]>) {
    let mut into = b"from before".to_vec();
    let sql = sql.as_ref();
    assert_eq!(key(sql, &mut into), Key::Doubtful, "{}", String::from_utf8_lossy(sql));
    assert_eq!(into, [b"\0", sql].concat());
}

#[test]
fn literals_case_white_space_and_comments_do_not_count() {
    for (sql, expected) in [
        (
            "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
            "select abalance from pgbench_accounts where aid = ?",
        ),
        ("  select\n\t1 ;; \n", "select ?"),
        ("SELECT/* a /* nested */ ' */1--x\n+2", "select ? +?"),
        ("select 1 -- to the end", "select ?"),
        ("select -- a\r 1", "select ?"),
        ("SELECT 'it''s', E'a\\'b', e'\\\\', U&'d!0061', N'x', B'01', X'ff'", "select ?,?,?,?,n?,?,?"),
        ("SELECT 'a'\n  -- more\n 'b', 'c'", "select ?,?"),
        ("SELECT E'a'\n'\\'', 1", "select ?,?"),
        ("SELECT $$it's$$, $a$ $$ $b$ $a$, $é$x$é$", "select ?,?,?"),
        ("SELECT 1, 1.5, .5, 1., 1e10, 1.5E-3, 0x1F, 0b1_0, 0o17, 1_000", "select ?,?,?,?,?,?,?,?,?,?"),
        ("SELECT a[1:2], t.5, 1..2, -1", "select a[?:?],t?,?..?,-?"),
        ("SELECT $1::INT, $23", "select $1::int,$23"),
        ("SELECT \"Ab\"\"c\", Ab, a$1, Çx", "select \"Ab\"\"c\",ab,a$1,Çx"),
        ("(SELECT 1) UNION (SELECT 'a')", "(select ?)union(select ?)"),
        ("a$b$c", "a$b$c"),
        ("", ""),
        (" ; -- nothing", ""),
    ] {
        assert_eq!(shown(sql), expected, "{sql}");
    }
}

#[test]
fn lists_fold_to_one_of_a_kind_and_a_mark() {
    for (sql, expected) in [
        ("select 1 in (1)", "select ? in(?)"),
        ("select 1 in (1,2)", "select ? in(?+)"),
        ("select 1 NOT IN (1, 2,3 , 4)", "select ? not in(?+)"),
        ("select a in ('a'::uuid,'b'::uuid)", "select a in(?::uuid+)"),
        ("select a in (1,$1,$1)", "select a in(?,$1+)"),
        ("select a in (f(1,2),f(3,4))", "select a in(f(?,?)+)"),
        ("select array[1,2,null], f(1,2)", "select array[?+],f(?,?)"),
        ("select array[[1,2],[3,4]]", "select array[[?,?]+]"),
        ("insert into t values (1,'a')", "insert into t values(?,?)"),
        (
            "insert into t (a,b) values (1,'a'),(2,null) , (default, true) returning a",
            "insert into t(a,b)values(?,?)+ returning a",
        ),
        ("values (null /* no, */), (1), (true -- yes\n)", "values(?)+"),
        ("values (null /* trimaran: primary */)", "values(null /* trimaran: primary */)"),
        ("values (1),(1,2),(3,4)", "values(?),(?,?)+"),
        ("values (a in (1,2)),(a in (1,2,3)),(a in (5,6))", "values(a in(?+))+"),
        ("select * from (values (1,now()),(2,now())) v, (values (3))", "select * from(values(?,now())+)v,(values(?))"),
        ("select a is null, f(null), null", "select a is null,f(null),null"),
        ("select s.values(1),(1)", "select s.values(?),(?)"),
        ("select f(1,1), (1),(1)", "select f(?,?),(?),(?)"),
    ] {
        assert_eq!(shown(sql), expected, "{sql}");
    }
    let long = format!("select a in ({}1)", "7, ".repeat(5000));
    assert_eq!(shown(&long), "select a in(?+)");
    let deep = format!("select {}1{}", "(1 in ".repeat(500), ")".repeat(500));
    assert!(!folded(&deep).is_empty());
}

#[test]
fn literals_stay_where_they_decide() {
    for (sql, expected) in [
        ("SET TimeZone = 'UTC'", "set timezone = 'UTC'"),
        ("SET a = E'x\\'y'  -- c", "set a = E'x\\'y'"),
        ("SELECT set_config('TimeZone', 'UTC', false), 1", "select set_config('TimeZone','UTC',false),1"),
        ("SELECT pg_catalog.\"set_config\"('a', 'b', true)", "select pg_catalog.\"set_config\"('a','b',true)"),
        ("select Current_Setting('port')", "select current_setting('port')"),
        ("SELECT U&\"d!0061\" UESCAPE '!'", "select U&\"d!0061\" uescape '!'"),
        ("DO $$begin end$$", "do $$begin end$$"),
        ("LISTEN a; SELECT 1; FETCH 5 FROM c; VALUES (1)", "listen a;select ?;fetch 5 from c;values(?)"),
        ("create table t partition of p for values in (1,1)", "create table t partition of p for values in(1,1)"),
        ("EXPLAIN (COSTS 0) SELECT 1", "explain(costs ?)select ?"),
        ("EXECUTE p(1, 'a')", "execute p(?,?)"),
    ] {
        assert_eq!(shown(sql), expected, "{sql}");
    }
}

#[test]
fn hints_stay_and_other_comments_do_not() {
    assert_eq!(shown("/* trimaran: primary */ select 1"), "/* trimaran: primary */ select ?");
    assert_eq!(shown("select/*TRIMARAN: replica */1"), "select /*TRIMARAN: replica */ ?");
    assert_eq!(shown("select /* not trimaran: primary */ 1"), "select ?");
    assert_eq!(shown("select '/* trimaran: primary */', \"/* trimaran: x */\""), "select ?,\"/* trimaran: x */\"");
    assert_eq!(shown("select 1 -- /* trimaran: primary */"), "select ?");
}

#[test]
fn what_cannot_be_read_is_its_own_key() {
    for sql in [
        "select 'a",
        "select \"a",
        "select E'a\\'",
        "select $$a",
        "select $a$ $b$",
        "select /* /* */",
        "select 1a",
        "select 1_",
        "select 1e",
        "select 1e5$2",
        "select 0x",
        "select 0b12",
        "select $1a",
        "select $",
        "select $a",
        "select {",
        "select \\",
        "select \u{1}",
        "select \0",
        "set a = 'b",
        "select set_config('a",
    ] {
        doubtful(sql);
    }
    doubtful(b"select '\xff'");
}

/// Texts that are easy to confuse: each has a key of its own.
#[test]
fn different_statements_have_different_keys() {
    let texts = [
        "select a",
        "select \"a\"",
        "select \"A\"",
        "select a from t",
        "select a, 1",
        "select 1",
        "select - 1",
        "select -1",
        "select 'a' 'b'",
        "select $1",
        "select $2",
        "select a1",
        "select a 1",
        "select a.b",
        "select 1 in (1)",
        "select 1 in (1,2)",
        "select 1 = any(array[1,2])",
        "select 1; select 2",
        "select null",
        "select true",
        "select in_(1,2)",
        "select a b",
        "select ab",
        "select a+b",
        "set a = 1",
        "set a = 2",
        "set a = '1'",
        "/* trimaran: primary */ select 1",
        "/* trimaran: replica */ select 1",
        "select set_config('a','b',false)",
        "select set_config('b','b',false)",
        "values (1)",
        "values (1),(2)",
        "values (1),(2),(3,4)",
        "listen a",
        "select 1 for update",
        "select",
    ];
    for (index, one) in texts.iter().enumerate() {
        for other in &texts[index + 1..] {
            assert_ne!(folded(one), folded(other), "{one} and {other}");
        }
    }
}

/// A token as a client may write it, and the same token with another literal, case or form.
fn token() -> impl Strategy<Value = (String, String)> {
    let same = |text: &'static str| Just((text.to_owned(), text.to_owned()));
    let word = "[a-d][a-d0-9_$]{0,4}".prop_map(|word| (word.to_uppercase(), word));
    let literal = || {
        prop_oneof![
            "[0-9]{1,12}",
            "[0-9]{1,3}\\.[0-9]{0,3}",
            "0x[0-9a-f]{1,4}",
            "[ -&(-~é\n]{0,8}".prop_map(|text| format!("'{text}''{text}'")),
            "[ -&(-\\[\\]-~]{0,8}".prop_map(|text| format!("E'{text}\\'\\\\'")),
            "[ -#%-~]{0,8}".prop_map(|text| format!("$x${text}$x$")),
            "[01]{0,8}".prop_map(|text| format!("B'{text}'")),
        ]
    };
    prop_oneof![
        3 => word,
        3 => (literal(), literal()),
        1 => "[ -!#-~]{1,6}".prop_map(|text| format!("\"{text}\"\"\"")).prop_map(|text| (text.clone(), text)),
        1 => (1..40u8).prop_map(|number| (format!("${number}"), format!("${number}"))),
        2 => prop_oneof![same("("), same(")"), same(","), same("="), same("::"), same("<@"), same("*"), same("||")],
    ]
}

fn gap() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ \t\n\r]{1,3}",
        1 => "[ a-z'\"$]{0,6}".prop_map(|text| format!("/*{text}/**/*/")),
        1 => "[ a-z'\"$]{0,6}".prop_map(|text| format!(" --{text}\n")),
    ]
}

proptest! {
    #[test]
    fn any_bytes_have_a_key_which_is_its_own(sql in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut into = Vec::new();
        let outcome = key(&sql, &mut into);
        prop_assert_eq!(outcome == Key::Doubtful, into.first() == Some(&0));
    }

    #[test]
    fn any_text_of_lexical_pieces_has_a_key(
        pieces in prop::collection::vec(
            prop_oneof!["'", "\"", "\\$", "\\$\\$", "/\\*", "\\*/", "--", "\n", " ", "[eE]", "\\\\", "[0-9._]", "[(),;]", "in", "values",
                "array\\[", "\\]", "null", "select "],
            0..40,
        )
    ) {
        let sql = format!("select {}", pieces.concat());
        let (mut one, mut two) = (Vec::new(), b"rest".to_vec());
        prop_assert_eq!(key(sql.as_bytes(), &mut one), key(sql.as_bytes(), &mut two));
        prop_assert_eq!(&one, &two);
        prop_assert!(one.len() <= sql.len() + 1);
    }

    #[test]
    fn other_literals_case_and_white_space_give_the_same_key(
        tokens in prop::collection::vec((token(), gap(), gap()), 0..12)
    ) {
        let (mut one, mut two) = ("select".to_owned(), "SELECT".to_owned());
        for ((first, second), gap_one, gap_two) in tokens {
            // A line's end between two strings would make them one.
            let joins = one.ends_with('\'') && first.starts_with('\'') || two.ends_with('\'') && second.starts_with('\'');
            one.push_str(if joins { " , " } else { &gap_one });
            two.push_str(if joins { " , " } else { &gap_two });
            one.push_str(&first);
            two.push_str(&second);
        }
        prop_assert_eq!(shown(&one), shown(&two));
    }

    #[test]
    fn other_words_and_marks_give_another_key(
        tokens in prop::collection::vec(token(), 1..8), place in any::<prop::sample::Index>(), word in "[f-j]{1,4}"
    ) {
        let one: Vec<String> = tokens.into_iter().map(|(first, _)| first).collect();
        let mut two = one.clone();
        *place.get_mut(&mut two) = word;
        let text = |tokens: &[String]| format!("select {}", tokens.join(" "));
        prop_assert_ne!(folded(&text(&one)), folded(&text(&two)));
    }

    #[test]
    fn lists_of_any_length_and_content_give_the_same_key(
        one in prop::collection::vec(any::<i32>(), 2..30), two in prop::collection::vec("[a-z]{0,5}", 2..30)
    ) {
        let numbers = one.iter().map(|number| number.unsigned_abs().to_string()).collect::<Vec<_>>();
        let strings = two.iter().map(|text| format!("'{text}'")).collect::<Vec<_>>();
        prop_assert_eq!(
            folded(&format!("select a in ({})", numbers.join(", "))),
            folded(&format!("select a in ({})", strings.join(",\n")))
        );
        let rows = |values: &[String]| values.iter().map(|v| format!("({v}, now())")).collect::<Vec<_>>().join(",");
        prop_assert_eq!(
            folded(&format!("insert into t values {}", rows(&numbers))),
            folded(&format!("insert into t values {}", rows(&strings)))
        );
    }
}

/// Prints the cost of a key; run by hand: `cargo test --release -p trimaran-dataplane keys_cost -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures, asserts none"]
fn keys_cost() {
    let batch = format!("INSERT INTO t (a, b) VALUES {}(1, 'x')", "(12345, 'some text'), ".repeat(100));
    for sql in [
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
        "UPDATE pgbench_accounts SET abalance = abalance + -4711 WHERE aid = 12345;",
        "BEGIN;",
        "SELECT \"shop_order\".\"id\", \"shop_order\".\"name\", \"shop_order\".\"created\" FROM \"shop_order\" \
         INNER JOIN \"shop_user\" ON (\"shop_order\".\"user_id\" = \"shop_user\".\"id\") WHERE (\"shop_user\".\"email\" = \
         'someone@example.org' AND \"shop_order\".\"id\" IN (1, 2, 3, 4, 5)) ORDER BY \"shop_order\".\"created\" DESC LIMIT 21",
        &batch,
    ] {
        let mut into = Vec::with_capacity(8192);
        let mut best = f64::MAX;
        for _ in 0..20 {
            let start = Instant::now();
            for _ in 0..20_000 {
                std::hint::black_box(key(std::hint::black_box(sql.as_bytes()), &mut into));
            }
            best = best.min(start.elapsed().as_nanos() as f64 / 20_000.0);
        }
        println!("{best:8.1} ns for {} bytes: {}", sql.len(), &sql[..sql.len().min(60)]);
    }
}
