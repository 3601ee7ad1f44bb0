"""Catalogues are read when a statement needs one, and again when they change; a database that does not answer delays nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from trimaran.databases.catalogue import fingerprint
from trimaran.databases.planning import Planning
from trimaran.databases.postgres import EmbeddedNode

from tests.databases.planner.conftest import make_database
from tests.databases.test_planning import Exchange, refuse

_FIRST = """CREATE TABLE t (a int); CREATE TABLE u (a int PRIMARY KEY); CREATE VIEW v AS SELECT 1 AS a;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION ef() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE POLICY p ON t USING (true)"""


@pytest.fixture(scope="module")
def changing(node: EmbeddedNode) -> str:
    return make_database(node, "changing", _FIRST)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "ALTER FUNCTION f() STABLE",
        "CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE VIEW v AS SELECT 2 AS a",
        "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION tf()",
        "CREATE RULE r AS ON INSERT TO t DO ALSO SELECT 1",
        "ALTER POLICY p ON t USING (false)",
        "ALTER TABLE t ALTER a SET DEFAULT 1",
        "ALTER TABLE t ADD CHECK (a > 0)",
        "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u ON DELETE CASCADE",
        "CREATE TABLE c () INHERITS (t)",
        "CREATE DOMAIN d AS int CHECK (VALUE > 0)",
        "CREATE OPERATOR +@ (LEFTARG = text, RIGHTARG = text, FUNCTION = textcat)",
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION ef()",
        "CREATE TABLE w (a int)",
        "DROP FUNCTION f",
    ],
)
def test_a_change_is_seen_at_once(changing: str, ddl: str) -> None:
    with psycopg.connect(changing) as connection, psycopg.connect(changing, autocommit=True) as other:
        before = fingerprint(other)
        connection.execute(ddl.encode())
        assert fingerprint(connection) != before
        connection.rollback()


def test_temporary_tables_and_data_change_nothing(changing: str) -> None:
    with psycopg.connect(changing) as connection:
        before = fingerprint(connection)
        connection.execute(
            "CREATE TEMP TABLE mine (a int PRIMARY KEY DEFAULT 1 CHECK (a > 0)); INSERT INTO u VALUES (1)"
        )
        assert fingerprint(connection) == before


def test_statements_are_planned_with_the_catalogue_and_anew_when_it_changes(
    exchange: Exchange, node: EmbeddedNode
) -> None:
    dsn = make_database(node, "served", _FIRST)

    def connect(group: str, database: str) -> psycopg.Connection[Any]:
        assert (group, database) == ("main", "app")
        return psycopg.connect(dsn, autocommit=True)

    exchange.use = [("main", "app", 0)]
    planning = Planning(exchange, connect)
    planning.start()
    try:
        exchange.ask(1, "INSERT INTO t VALUES (1)")
        number, made = exchange.answer()
        assert (number, made["audit"], made["provisional"]) == (1, "none", False)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "CREATE FUNCTION s() RETURNS text LANGUAGE sql AS $$ SELECT set_config('a.b', 'c', false) $$"
            )
            connection.execute("ALTER TABLE t ADD b text DEFAULT s()")
        assert exchange.changed.get(timeout=20) == ("main", "app")
        exchange.ask(2, "INSERT INTO t VALUES (1)", version=1)
        number, made = exchange.answer()
        assert (number, made["audit"], made["custom"], made["provisional"]) == (2, "settings", ["a.b"], False)
    finally:
        assert planning.stop()


def test_without_a_connection_plans_are_provisional(exchange: Exchange) -> None:
    planning = Planning(exchange, refuse)
    planning.start()
    try:
        exchange.ask(1, "SELECT * FROM t")
        number, made = exchange.answer()
        assert (number, made["audit"], made["provisional"]) == (1, "settings", True)
    finally:
        assert planning.stop()


def test_a_database_that_does_not_answer_delays_only_its_own(
    exchange: Exchange, changing: str, released: threading.Event
) -> None:
    def connect(group: str, database: str) -> psycopg.Connection[Any]:
        if database == "stuck":
            released.wait()
            raise psycopg.OperationalError("it is stuck")
        return psycopg.connect(changing, autocommit=True)

    planning = Planning(exchange, connect)
    planning.start()
    try:
        exchange.ask(1, "SELECT * FROM t", "stuck")
        for number in range(2, 6):
            exchange.ask(number, "SELECT * FROM t")
        answers = dict(exchange.answer() for _ in range(5))
        assert answers[1]["provisional"] is True
        assert not any(answers[number]["provisional"] for number in range(2, 6))
    finally:
        released.set()
        assert planning.stop()
