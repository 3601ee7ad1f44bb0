"""Code that a statement does not show, made through the gateway a moment before, or run before the gateway knows the catalogue."""

from __future__ import annotations

import struct
from uuid import uuid4

import psycopg
import pytest

from tests.databases.gateway.raw import message, query, rows, session
from tests.support.gateways import Gateway, start_gateway

TENANT = "SELECT current_setting('app.tenant', true)"


def text(value: str) -> bytes:
    return struct.pack("!i", len(value)) + value.encode()


def set_config(name: str, value: str) -> bytes:
    """A FunctionCall message of it."""
    arguments = text(name) + text(value) + text("false")
    return message(b"F", struct.pack("!ihh", 2078, 0, 3) + arguments + struct.pack("!h", 0))


@pytest.mark.parametrize("used_before", [False, True])
def test_a_trigger_counts_from_its_definition_on(gateway: Gateway, used_before: bool) -> None:
    name = f"t_{uuid4().hex[:12]}"
    with psycopg.connect(gateway.dsn, autocommit=True) as maker:
        maker.execute(f"CREATE TABLE {name} (x int)")
        if used_before:
            maker.execute(f"INSERT INTO {name} VALUES (0)")
        maker.execute(
            f"CREATE FUNCTION {name}_mark() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM set_config('app.tenant', NEW.x::text, false); RETURN NEW; END $$"
        )
        maker.execute(f"CREATE TRIGGER mark BEFORE INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION {name}_mark()")
        with psycopg.connect(gateway.dsn, autocommit=True) as one, psycopg.connect(gateway.dsn, autocommit=True) as other:
            one.execute(f"INSERT INTO {name} VALUES (1)")
            assert other.execute(TENANT).fetchone() == (None,)
            assert one.execute(TENANT).fetchone() == ("1",)
        maker.execute(f"DROP TABLE {name}; DROP FUNCTION {name}_mark()")


def test_a_function_call_is_the_first_that_a_gateway_sees(gateway: Gateway) -> None:
    with psycopg.connect(gateway.direct, autocommit=True) as maker:
        maker.execute("CREATE TABLE owned (tenant text)")
        maker.execute("CREATE POLICY own ON owned USING (tenant = current_setting('app.tenant', true))")
        cold = start_gateway(gateway.node, connections_max=2)
        try:
            with session(cold.dsn) as one, session(cold.dsn) as other:
                one.send(set_config("app.tenant", "A"))
                one.until_ready()
                other.send(query(TENANT))
                assert rows(other.until_ready()) == [(None,)]
                one.send(query(TENANT))
                assert rows(one.until_ready()) == [("A",)]
        finally:
            cold.stop()
            maker.execute("DROP TABLE owned")


@pytest.mark.parametrize(
    "keeps", ["LISTEN news", "PREPARE a AS SELECT 1", "SELECT pg_advisory_lock(4)", "CREATE TEMP TABLE own (x int)"]
)
def test_a_session_keeps_a_connection_without_foreign_settings(gateway: Gateway, keeps: str) -> None:
    narrow = start_gateway(gateway.node, connections_max=1)
    try:
        with psycopg.connect(narrow.dsn, autocommit=True) as one, psycopg.connect(narrow.dsn, autocommit=True) as other:
            one.execute("SET app.tenant = 'A'")
            other.execute(keeps.encode())
            assert other.execute(TENANT).fetchone() == (None,)
    finally:
        narrow.stop()
