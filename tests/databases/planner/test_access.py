"""Which statements may go to a replica: only those that are certain to read."""

from __future__ import annotations

import pytest
from trimaran.databases.planner import plan

READS = [
    "SELECT 1",
    "select abalance from pgbench_accounts where aid = 12345;",
    "VALUES (1), (2)",
    "TABLE t",
    "(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1",
    "WITH a AS (SELECT 1), b AS MATERIALIZED (SELECT * FROM a) SELECT * FROM b",
    "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT sum(n) FROM t",
    "SELECT * FROM t WHERE id IN (SELECT id FROM u) AND EXISTS (SELECT FROM v)",
    "SELECT count(*) FILTER (WHERE x > 1) OVER (PARTITION BY y) FROM t",
    "SELECT lower(name), now(), random(), my_function(1), app.nextval('x') FROM t",
    "SELECT * FROM generate_series(1, 10) g, LATERAL (SELECT g) x",
    "SELECT $1::int + $2",
    "SELECT * FROM pg_class JOIN pg_catalog.pg_indexes ON true, information_schema.tables, pg_stats",
    "SELECT nextval FROM t",
    "SELECT 'nextval(''a'')' AS \"FOR UPDATE\" -- nextval('a')",
    "SELECT \"NEXTVAL\"('a')",
    "SELECT pg_table_is_visible(1), pg_relation_size('t'), pg_size_pretty(1::bigint), pg_sleep(0), to_regclass('t')",
    "SELECT current_user, current_setting('timezone'), current_setting('app.tenant', true)",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) TABLE t",
    "SHOW timezone",
    "SHOW server_version",
    "COPY t TO STDOUT",
    "COPY (SELECT * FROM t) TO STDOUT WITH (FORMAT csv)",
    "SELECT 1; SELECT 2",
    "BEGIN READ ONLY; SELECT 1; COMMIT",
    "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "BEGIN READ ONLY; SAVEPOINT a; SELECT 1; ROLLBACK TO a; RELEASE a; ROLLBACK",
    "SELECT 1; COMMIT",
]

WRITES = {
    "INSERT INTO t VALUES (1)": "INSERT",
    "UPDATE t SET a = 1": "UPDATE",
    "DELETE FROM t": "DELETE",
    "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE": "MERGE",
    "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d": "DELETE",
    "WITH a AS (WITH b AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM b) SELECT * FROM a": "INSERT",
    "WITH a AS (SELECT 1) UPDATE t SET x = 1": "UPDATE",
    "SELECT * INTO u FROM t": "SELECT INTO",
    "SELECT * FROM t FOR UPDATE": "FOR UPDATE",
    "SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED": "FOR UPDATE",
    "SELECT * FROM (SELECT * FROM t FOR SHARE) s": "FOR SHARE",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM t FOR KEY SHARE NOWAIT)": "FOR SHARE",
    "SELECT nextval('a')": "nextval",
    "SELECT NextVal('a')": "nextval",
    "SELECT pg_catalog.nextval('a')": "nextval",
    "SELECT \"nextval\"('a')": "nextval",
    "SELECT setval('a', 1)": "setval",
    "SELECT lastval()": "lastval",
    "SELECT 1 FROM t WHERE a = (SELECT currval('a'))": "currval",
    "SELECT 1 FROM t JOIN u ON pg_try_advisory_xact_lock(u.id)": "pg_try_advisory_xact_lock",
    "SELECT 1 GROUP BY pg_notify('a', 'b')": "pg_notify",
    "SELECT 1 FROM t HAVING count(pg_notify('a', 'b')) > 0": "pg_notify",
    "SELECT 1 ORDER BY pg_notify('a', 'b')": "pg_notify",
    "SELECT 1 LIMIT nextval('a') OFFSET 1": "nextval",
    "SELECT sum(1) OVER (ORDER BY nextval('a'))": "nextval",
    "SELECT sum(1) OVER w FROM t WINDOW w AS (PARTITION BY nextval('a'))": "nextval",
    "SELECT * FROM nextval('a')": "nextval",
    "SELECT * FROM ROWS FROM (generate_series(1, 2), nextval('a')) x": "nextval",
    "SELECT * FROM t TABLESAMPLE system (nextval('a'))": "nextval",
    "SELECT DISTINCT ON (nextval('a')) 1": "nextval",
    "SELECT CASE WHEN true THEN ARRAY[nextval('a')] END": "nextval",
    "SELECT 1 UNION SELECT nextval('a')": "nextval",
    "VALUES (nextval('a'))": "nextval",
    "SELECT (x).y FROM (SELECT ROW(nextval('a')) x) z": "nextval",
    "SELECT COALESCE(nextval('a'), 1), NULLIF(1, 2)": "nextval",
    "SELECT xmlelement(name a, nextval('a'))": "nextval",
    "SELECT count(*) FILTER (WHERE nextval('a') > 1) FROM t": "nextval",
    "SELECT set_config('a.b', 'c', true)": "set_config",
    "SELECT txid_current()": "txid_current",
    "SELECT pg_current_xact_id()": "pg_current_xact_id",
    "SELECT pg_is_in_recovery()": "pg_is_in_recovery",
    "SELECT pg_current_wal_lsn()": "pg_current_wal_lsn",
    "SELECT lo_create(0)": "lo_create",
    "SELECT * FROM public.dblink('a', 'SELECT 1') AS t(a int)": "dblink",
    "SELECT pg_terminate_backend(1)": "pg_terminate_backend",
    "SELECT pg_cancel_backend(1)": "pg_cancel_backend",
    "SELECT pg_reload_conf()": "pg_reload_conf",
    "SELECT pg_switch_wal()": "pg_switch_wal",
    "SELECT pg_export_snapshot()": "pg_export_snapshot",
    "SELECT pg_create_restore_point('a')": "pg_create_restore_point",
    "SELECT * FROM pg_logical_slot_get_changes('a', NULL, NULL)": "pg_logical_slot_get_changes",
    "SELECT pg_stat_reset()": "pg_stat_reset",
    "SELECT current_setting('transaction_read_only')": "transaction_read_only",
    "SELECT current_setting($1)": "current_setting",
    "SELECT * FROM pg_stat_activity": "pg_stat_activity",
    "SELECT * FROM pg_catalog.pg_locks": "pg_locks",
    "SELECT * FROM pg_stat_replication, t": "pg_stat_replication",
    "SELECT * FROM pg_replication_slots": "pg_replication_slots",
    "SELECT * FROM pg_prepared_statements": "pg_prepared_statements",
    "SELECT * FROM pg_cursors": "pg_cursors",
    "SELECT * FROM pg_temp.t": "pg_temp.t",
    "TABLE pg_stat_user_tables": "pg_stat_user_tables",
    "COPY pg_stat_activity TO STDOUT": "pg_stat_activity",
    "EXPLAIN INSERT INTO t VALUES (1)": "INSERT",
    "EXPLAIN (ANALYZE) INSERT INTO t VALUES (1)": "INSERT",
    "EXPLAIN ANALYZE SELECT * FROM t FOR UPDATE": "FOR UPDATE",
    "EXPLAIN (ANALYZE false) DELETE FROM t": "DELETE",
    "EXPLAIN ANALYZE CREATE TABLE u AS SELECT 1": "creates a table",
    "EXPLAIN EXECUTE p": "does not show",
    "SHOW transaction_read_only": "transaction_read_only",
    "SHOW ALL": "all",
    "COPY t FROM STDIN": "COPY FROM",
    "COPY t TO '/tmp/file'": "file",
    "COPY t TO PROGRAM 'cat'": "program",
    "COPY (SELECT nextval('a')) TO STDOUT": "nextval",
    "COPY (INSERT INTO t VALUES (1) RETURNING *) TO STDOUT": "INSERT",
    "DO $$ BEGIN END $$": "does not show",
    "CALL p()": "does not show",
    "EXECUTE p(1)": "does not show",
    "CREATE TABLE t (a int)": "CREATE",
    "CREATE TABLE u AS SELECT 1": "creates a table",
    "CREATE MATERIALIZED VIEW v AS SELECT 1": "creates a table",
    "REFRESH MATERIALIZED VIEW v": "REFRESH",
    "ALTER TABLE t ADD b int": "ALTER",
    "TRUNCATE t": "TRUNCATE",
    "DROP TABLE t": "DROP",
    "VACUUM": "VACUUM",
    "ANALYZE t": "VACUUM",
    "LOCK TABLE t": "LOCK",
    "GRANT SELECT ON t TO a": "GRANT",
    "NOTIFY a": "NOTIFY",
    "SET a.b = 1": "setting",
    "RESET a.b": "setting",
    "DECLARE c CURSOR FOR SELECT 1": "cursor",
    "FETCH 1 FROM c": "FETCH",
    "BEGIN": "may write",
    "BEGIN READ WRITE": "may write",
    "BEGIN; SELECT 1; COMMIT": "may write",
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY": "serializable",
    "COMMIT": "COMMIT",
    "SAVEPOINT a": "SAVEPOINT",
    "SELECT 1; INSERT INTO t VALUES (1); SELECT 2": "INSERT",
    "SELECT 1; SET a.b = 1": "setting",
    "": "no statement",
    " ; -- nothing": "no statement",
    "SELEC 1": "cannot be parsed",
    "SELECT 'a": "cannot be parsed",
    "SELECT 1 WHERE": "cannot be parsed",
    "SELECT 1; SELEC 2": "cannot be parsed",
    "SELECT '\0'": "cannot be parsed",
    "SELECT '\ud800'": "cannot be parsed",
}


@pytest.mark.parametrize("text", READS)
def test_what_only_reads_may_go_to_a_replica(text: str) -> None:
    made = plan(text)
    assert made.access == "read", made.reason
    assert not made.doubtful
    assert not made.pins


@pytest.mark.parametrize(("text", "reason"), WRITES.items())
def test_all_else_goes_to_the_primary_and_says_why(text: str, reason: str) -> None:
    made = plan(text)
    assert made.access == "write"
    assert reason in made.reason
    assert made.doubtful == made.reason.startswith("cannot be parsed")


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("SELECT * FROM a, s.b JOIN c.s.d ON true WHERE EXISTS (SELECT FROM e)", ("a", "s.b", "c.s.d", "e")),
        ('SELECT * FROM "A", "x.y"."z""w", a', ('"A"', '"x.y"."z""w"', "a")),
        ("WITH a AS (SELECT * FROM a), b AS (SELECT * FROM a) SELECT * FROM b, s.b", ("a", "s.b")),
        ("WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", ()),
        ("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) x, a", ("a",)),
        ("WITH t AS (SELECT 1) INSERT INTO t SELECT * FROM t", ("t",)),
        ("MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE", ("a", "b")),
        ("UPDATE a SET x = 1 FROM b WHERE c.x = 1", ("a", "b")),
        ("SELECT * FROM a FOR UPDATE OF b", ("a",)),
        ("COPY a (x) FROM STDIN", ("a",)),
        ("DROP TABLE a, s.b", ("a", "s.b")),
        ("TRUNCATE a, b", ("a", "b")),
        ("SELECT 1 FROM a; SELECT 1 FROM b, a", ("a", "b")),
    ],
)
def test_tables_are_those_of_the_database_in_the_order_of_the_text(text: str, tables: tuple[str, ...]) -> None:
    assert plan(text).tables == tables


def test_statements_are_counted_without_empty_ones() -> None:
    assert [plan(text).statements for text in ("", ";;", "SELECT 1;", "SELECT 1;; SELECT ';'")] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("/* trimaran: primary */ SELECT 1", "primary"),
        ("SELECT 1 /*TRIMARAN:REPLICA*/", "replica"),
        ("/* trimaran: replica */ SELECT 1 /* trimaran: primary */", "primary"),
        ("SELECT 'ü', '/* trimaran: primary */' /* trimaran: replica */", "replica"),
        ("SELECT 1 /* not trimaran: primary */ -- /* trimaran: primary */", None),
        ("SELECT 1 /* /* trimaran: primary */ */", None),
        ("SELECT 1", None),
    ],
)
def test_a_hint_is_a_comment_that_begins_with_our_name(text: str, hint: str | None) -> None:
    assert plan(text).hint == hint


def test_a_hint_that_says_nothing_known_is_ignored_and_told() -> None:
    made = plan("/* trimaran: Replicca */ SELECT 1")
    assert (made.access, made.hint) == ("read", None)
    assert '"replicca" ignored' in made.reason


@pytest.mark.parametrize(
    ("sql", "may_write"),
    [
        ("SELECT count(*), lower(name), now() FROM t GROUP BY 2", False),
        ("SELECT pg_catalog.lower('X'), jsonb_build_object('a', 1) FROM t", False),
        ("SELECT x + 1, CASE WHEN x > 1 THEN 2 END FROM t WHERE x IN (1, 2)", False),
        ("SELECT mine(1)", True),
        ("SELECT 1 FROM t WHERE x > (SELECT app.limit_of(x))", True),
        ("SELECT public.lower('X')", True),
        ("SELECT * FROM mine(1)", True),
    ],
)
def test_what_calls_functions_of_the_user_may_write(sql: str, may_write: bool) -> None:
    made = plan(sql)
    assert (made.access, made.may_write) == ("read", may_write)
