"""What statements do to their session: transactions, settings, and what needs one server connection from then on."""

from __future__ import annotations

import json

import pytest
from trimaran.databases.planner import explain, plan

Detail = dict[str, str | bool | None]


def effects(text: str) -> list[Detail]:
    made = json.loads(plan(text).to_json())["effects"]
    assert isinstance(made, list)
    return made


def begin(read_only: bool | None = None, isolation: str | None = None, deferrable: bool | None = None) -> Detail:
    return {"kind": "begin", "read_only": read_only, "isolation": isolation, "deferrable": deferrable}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BEGIN", [begin()]),
        ("START TRANSACTION READ ONLY", [begin(True)]),
        ("BEGIN READ WRITE", [begin(False)]),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE", [begin(True, "serializable", True)]),
        ("BEGIN WORK ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE", [begin(None, "read committed", False)]),
        ("COMMIT", [{"kind": "commit", "chain": False}]),
        ("END", [{"kind": "commit", "chain": False}]),
        ("COMMIT AND CHAIN", [{"kind": "commit", "chain": True}]),
        ("ROLLBACK", [{"kind": "rollback", "chain": False}]),
        ("ABORT AND CHAIN", [{"kind": "rollback", "chain": True}]),
        ('SAVEPOINT "A"', [{"kind": "savepoint", "name": "A"}]),
        ("RELEASE SAVEPOINT a", [{"kind": "release", "name": "a"}]),
        ("ROLLBACK TO SAVEPOINT a", [{"kind": "rollback_to", "name": "a"}]),
        ("PREPARE TRANSACTION 'x'", [{"kind": "prepare_transaction", "gid": "x"}]),
        ("COMMIT PREPARED 'x'", [{"kind": "commit_prepared", "gid": "x"}]),
        ("ROLLBACK PREPARED 'x'", [{"kind": "rollback_prepared", "gid": "x"}]),
        ("BEGIN; SELECT 1; COMMIT", [begin(), {"kind": "commit", "chain": False}]),
        ("RESET ALL", [{"kind": "reset", "name": None}]),
        ("RESET TimeZone", [{"kind": "reset", "name": "timezone"}]),
        ("RESET ROLE", [{"kind": "reset", "name": "role"}]),
        ("DISCARD ALL", [{"kind": "discard", "what": "all"}]),
        ("DISCARD SEQUENCES", [{"kind": "discard", "what": "sequences"}]),
        ("DISCARD PLANS", [{"kind": "discard", "what": "plans"}]),
        ("DISCARD TEMPORARY", [{"kind": "discard", "what": "temp"}]),
        ("DEALLOCATE ALL", [{"kind": "deallocate", "name": None}]),
        ("DEALLOCATE PREPARE a", [{"kind": "deallocate", "name": "a"}]),
        ("PREPARE a AS SELECT 1", [{"kind": "prepare", "name": "a"}]),
        ("SHOW Trimaran.Position", [{"kind": "show", "name": "trimaran.position"}]),
        ("SELECT 1", []),
        ("CREATE TABLE a (b int)", [{"kind": "define"}]),
        ("CREATE TABLE a AS SELECT 1", [{"kind": "define"}]),
        ("ALTER TABLE a ADD b int", [{"kind": "define"}]),
        ("DROP VIEW a", [{"kind": "define"}]),
        ("ALTER TABLE a RENAME TO b", [{"kind": "define"}]),
        ("CREATE TEMP TABLE a (b int)", []),
        ("CREATE INDEX ON a (b)", [{"kind": "define"}]),
        ("VACUUM a", []),
        ("DROP DATABASE IF EXISTS a", [{"kind": "vacate", "database": "a"}]),
        ("ALTER DATABASE a RENAME TO b", [{"kind": "vacate", "database": "a"}]),
        ("CREATE DATABASE a", [{"kind": "vacate", "database": "template1"}]),
        ("CREATE DATABASE a WITH OWNER = x TEMPLATE = 'b'", [{"kind": "vacate", "database": "b"}]),
        ("ALTER DATABASE a SET work_mem = '8MB'", [{"kind": "vacate", "database": "a"}]),
        ("ALTER ROLE CURRENT_USER SET work_mem = '8MB'", [{"kind": "vacate", "database": None}]),
        ("SELECT 'SET a.b = 1'", []),
    ],
)
def test_effects(text: str, expected: list[Detail]) -> None:
    assert effects(text) == expected


@pytest.mark.parametrize(
    ("text", "name", "scope", "value"),
    [
        ("SET TimeZone = 'UTC'", "timezone", "session", "UTC"),
        ("SET SESSION a.b TO c", "a.b", "session", "c"),
        ("SET LOCAL work_mem = 1000", "work_mem", "local", "1000"),
        ("SET TIME ZONE 'Asia/Tokyo'", "timezone", "session", "Asia/Tokyo"),
        ("SET TIME ZONE -5.5", "timezone", "session", "-5.5"),
        ("SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE", "timezone", "session", None),
        ("SET NAMES 'LATIN1'", "client_encoding", "session", "LATIN1"),
        ("SET ROLE admin", "role", "session", "admin"),
        ("SET SESSION AUTHORIZATION 'bob'", "session_authorization", "session", "bob"),
        ("SET SCHEMA 'x'", "search_path", "session", "x"),
        ('SET search_path TO a, "B"', "search_path", "session", None),
        ("SET XML OPTION DOCUMENT", "xmloption", "session", "DOCUMENT"),
        ("SET transaction_read_only = on", "transaction_read_only", "local", "on"),
        ("SET TRANSACTION READ ONLY", "transaction_read_only", "local", "on"),
        ("SET TRANSACTION READ WRITE", "transaction_read_only", "local", "off"),
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "transaction_isolation", "local", "repeatable read"),
        ("SET TRANSACTION SNAPSHOT '0-1'", "transaction_snapshot", "local", "0-1"),
        ("SET trimaran.after = '0/16B3748'", "trimaran.after", "session", "0/16B3748"),
    ],
)
def test_a_setting_that_is_made_can_be_made_again_elsewhere(
    text: str, name: str, scope: str, value: str | None
) -> None:
    assert effects(f"SELECT 1; {text} ; SELECT 2") == [
        {"kind": "set", "name": name, "scope": scope, "to_default": False, "value": value, "sql": text}
    ]


def test_characteristics_of_the_session_are_settings_of_their_own() -> None:
    made = effects("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY")
    assert [(effect["name"], effect["sql"]) for effect in made] == [
        (name, f"SELECT pg_catalog.set_config('{name}', '{value}', false)")
        for name, value in (("default_transaction_isolation", "serializable"), ("default_transaction_read_only", "on"))
    ]


def test_what_makes_a_setting_again_has_no_comments() -> None:
    (effect,) = effects("/* é */ SET a.b = '--', -- one\n 'ü /*'/* two */ -- three")
    assert effect["sql"] == "SET a.b = '--',  \n 'ü /*'"


@pytest.mark.parametrize("text", ["SET a.b TO DEFAULT", "SET TIME ZONE LOCAL", "SET SESSION AUTHORIZATION DEFAULT"])
def test_a_setting_may_go_back_to_its_default(text: str) -> None:
    (effect,) = effects(text)
    assert (effect["kind"], effect["to_default"], effect["value"]) == ("set", True, None)


def test_several_characteristics_are_several_settings() -> None:
    made = effects("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE")
    assert [(effect["name"], effect["value"]) for effect in made] == [
        ("default_transaction_isolation", "serializable"),
        ("default_transaction_read_only", "off"),
    ]


@pytest.mark.parametrize(
    ("call", "scope", "to_default", "value", "sql"),
    [
        (
            "set_config('TimeZone', 'UTC', false)",
            "session",
            False,
            "UTC",
            "SELECT pg_catalog.set_config('timezone', 'UTC', false)",
        ),
        (
            "pg_catalog.set_config('timezone', E'it''s\\\\', true)",
            "local",
            False,
            "it's\\",
            "SELECT pg_catalog.set_config('timezone', E'it''s\\\\', true)",
        ),
        (
            "set_config('timezone', NULL, false)",
            "session",
            True,
            None,
            "SELECT pg_catalog.set_config('timezone', NULL, false)",
        ),
    ],
)
def test_set_config_is_followed_where_it_surely_runs(
    call: str, scope: str, to_default: bool, value: str | None, sql: str
) -> None:
    made = plan(f"SELECT {call}")
    assert effects(f"SELECT {call}") == [
        {"kind": "set", "name": "timezone", "scope": scope, "to_default": to_default, "value": value, "sql": sql}
    ]
    assert not made.pins
    assert effects(sql) == effects(f"SELECT {call}")


@pytest.mark.parametrize(
    ("text", "pins"),
    [
        ("LISTEN a", ["LISTEN"]),
        ("CREATE TEMP TABLE t (a int)", ["temporary table"]),
        ("CREATE LOCAL TEMPORARY TABLE t (a int) ON COMMIT DELETE ROWS", ["temporary table"]),
        ("CREATE TABLE pg_temp.t (a int)", ["temporary table"]),
        ("CREATE TEMP TABLE t AS SELECT 1", ["temporary table"]),
        ("CREATE TEMP VIEW v AS SELECT 1", ["temporary table"]),
        ("CREATE TEMP SEQUENCE s", ["temporary table"]),
        ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", ["temporary table"]),
        ("CREATE TYPE pg_temp.e AS ENUM ('a')", ["temporary table"]),
        ("CREATE TYPE pg_temp.c AS (a int)", ["temporary table"]),
        ("CREATE DOMAIN pg_temp.d AS int", ["temporary table"]),
        ("SELECT 1 AS a INTO TEMP t", ["temporary table"]),
        ("SET search_path = pg_temp, public", ["temporary table"]),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", ["WITH HOLD cursor"]),
        ("SELECT pg_advisory_lock(1)", ["advisory lock"]),
        ("SELECT 1 WHERE pg_catalog.pg_try_advisory_lock_shared(1)", ["advisory lock"]),
        ("INSERT INTO t SELECT pg_try_advisory_lock(1)", ["advisory lock"]),
        ("EXPLAIN ANALYZE SELECT pg_advisory_lock(1)", ["advisory lock"]),
        ("COPY (SELECT pg_advisory_lock(1)) TO STDOUT", ["advisory lock"]),
        ("CALL p(pg_advisory_lock(1))", ["advisory lock"]),
        ("PREPARE a AS SELECT 1", ["PREPARE"]),
        ("LOAD 'auto_explain'", ["LOAD"]),
        ("SELECT currval('a'), lastval()", ["sequence position"]),
        ("SELECT setseed(0.5)", ["random seed"]),
        ("SELECT set_config('a.b', $1, false)", ["setting made by a function"]),
        ("SELECT set_config('a.b', 'c', $1)", ["setting made by a function"]),
        ("SELECT set_config('a.b', 'c', false) FROM t", ["setting made by a function"]),
        ("SELECT lower(set_config('a.b', 'c', false))", ["setting made by a function"]),
        ("WITH x AS (SELECT set_config('a.b', 'c', false)) SELECT * FROM x", ["setting made by a function"]),
        ("INSERT INTO t SELECT set_config('a.b', 'c', false)", ["setting made by a function"]),
        ("UPDATE pg_settings SET setting = 'a' WHERE name = 'b'", ["setting made by a function"]),
        ("SET standard_conforming_strings = off", ["standard_conforming_strings is off"]),
        ("SELECT set_config('standard_conforming_strings', '0', false)", ["standard_conforming_strings is off"]),
        ("LISTEN a; CREATE TEMP TABLE t (a int)", ["LISTEN", "temporary table"]),
        ("LISTEN a; UNLISTEN *; LISTEN b", ["LISTEN"]),
    ],
)
def test_pins(text: str, pins: list[str]) -> None:
    made = plan(text)
    assert list(made.pins) == pins
    assert made.access == "write"


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
        "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1",
        "CREATE TABLE t (a int DEFAULT pg_try_advisory_lock(1)::int)",
        "CREATE VIEW v AS SELECT pg_advisory_lock(1)",
        "DECLARE c CURSOR FOR SELECT 1",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_advisory_unlock(1)",
        "EXPLAIN SELECT pg_advisory_lock(1)",
        "SELECT nextval('a')",
        "NOTIFY a",
        "SELECT set_config('a.b', $1, true) FROM t",
        "SET standard_conforming_strings = on",
        "SET LOCAL standard_conforming_strings = off",
        "SET search_path = public, pg_temp",
        "BEGIN; LISTEN a; UNLISTEN *; COMMIT",
        "SELECT app.pg_advisory_lock(1)",
        "SELEC 1",
    ],
)
def test_what_ends_with_its_transaction_does_not_pin(text: str) -> None:
    assert plan(text).pins == ()


@pytest.mark.parametrize(
    ("text", "unpins"),
    [
        ("UNLISTEN *", ["LISTEN"]),
        ("UNLISTEN a", []),
        ("DEALLOCATE ALL", ["PREPARE"]),
        ("DEALLOCATE a", []),
        ("DISCARD TEMP", ["temporary table"]),
        ("DISCARD SEQUENCES", ["sequence position"]),
        ("CLOSE ALL", ["WITH HOLD cursor"]),
        ("CLOSE c", []),
        ("RESET ALL", ["setting made by a function"]),
        ("SELECT pg_advisory_unlock_all()", ["advisory lock"]),
        ("SELECT pg_advisory_unlock_all() WHERE false", []),
        ("SELECT pg_advisory_unlock_all(), pg_advisory_lock(1)", []),
        ("SELECT pg_advisory_unlock(1)", []),
        ("UNLISTEN *; LISTEN a", []),
    ],
)
def test_unpins_are_only_what_surely_ends(text: str, unpins: list[str]) -> None:
    assert list(plan(text).unpins) == unpins


def test_discard_all_ends_every_pin_but_those_that_outlive_it() -> None:
    made = plan("DISCARD ALL")
    assert set(made.unpins) >= {"LISTEN", "temporary table", "PREPARE", "advisory lock", "WITH HOLD cursor"}
    assert "LOAD" not in made.unpins


def test_the_json_is_one_stable_line() -> None:
    assert plan("BEGIN; SELECT 1 FROM t").to_json() == (
        '{"access":"write","reason":"begins a transaction that may write","statements":2,"tables":["t"],'
        '"effects":[{"kind":"begin","read_only":null,"isolation":null,"deferrable":null}],"pins":[],"unpins":[],'
        '"hint":null,"doubtful":false,"may_write":false,"standby":"never",'
        '"audit":"settings","custom":[],"unknown_settings":true,"reads_custom":null,"may_define":true,"temp":false,'
        '"provisional":false,"effects_at":[0],"pins_at":[]}'
    )


def test_a_plan_can_be_told_to_a_person() -> None:
    assert explain(plan("SELECT 1 FROM pg_class")) == (
        "runs on: a replica or the primary (reads only: SELECT without locking)\ntables: pg_class"
    )
    told = explain(plan("LISTEN a; SET x.y = 'z'"))
    assert "runs on: primary" in told
    assert "set name=x.y scope=session to_default=False value=z" in told
    assert "keeps its connection from now on: LISTEN" in told
