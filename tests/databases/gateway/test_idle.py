"""Sessions that are idle: `idle_session_timeout`, and connections to templates that stand in the way of others."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from trimaran.databases.postgres import EmbeddedNode

from tests.databases.gateway.raw import Raw, errors, rows, session
from tests.support.gateways import Gateway, builder_of, start_gateway
from tests.support.waiting import eventually

SET = [
    "SET idle_session_timeout = 150",
    "SET SESSION idle_session_timeout TO '150ms'",
    "SELECT set_config('idle_session_timeout', '0.15s', false)",
    "BEGIN; SET idle_session_timeout = '150 ms'; COMMIT",
]


@pytest.fixture
def alone(primary: EmbeddedNode) -> Iterator[Gateway]:
    """A gateway of its own, with one server connection."""
    started = start_gateway(primary, connections_max=1)
    yield started
    started.stop()


def ended(raw: Raw) -> list[str]:
    """The codes that a session ends with."""
    return errors(raw.until_end())


@pytest.mark.parametrize("statement", SET)
def test_an_idle_session_is_ended(dsn: str, statement: str) -> None:
    with session(dsn) as raw:
        assert errors(raw.ask(statement)) == []
        assert rows(raw.ask("SELECT current_setting('idle_session_timeout')")) == [("150ms",)]
        assert rows(raw.ask("SHOW idle_session_timeout")) == [("150ms",)]
        assert rows(raw.ask("SELECT 1")) == [("1",)]
        assert ended(raw) == ["57P05"]


def test_also_by_the_start_up_packet(dsn: str) -> None:
    for options in ({"options": "-c idle_session_timeout=150"}, {"idle_session_timeout": "150"}):
        with session(dsn, **options) as raw:
            assert rows(raw.ask("SHOW idle_session_timeout")) == [("150ms",)]
            raw.ask("SET idle_session_timeout = 0")
            raw.ask("RESET idle_session_timeout")
            assert ended(raw) == ["57P05"]


def test_also_of_a_session_that_keeps_its_connection(dsn: str) -> None:
    with session(dsn) as raw:
        raw.ask("CREATE TEMPORARY TABLE mine (x int)")
        raw.ask("SET idle_session_timeout = 150")
        assert ended(raw) == ["57P05"]


def test_what_was_rolled_back_ends_nothing(dsn: str) -> None:
    with session(dsn) as raw:
        raw.ask("BEGIN")
        raw.ask("SET idle_session_timeout = 1")
        raw.ask("ROLLBACK")
        raw.ask("BEGIN")
        raw.ask("SET LOCAL idle_session_timeout = 1")
        assert rows(raw.ask("SELECT pg_sleep(0.05), current_setting('idle_session_timeout')")) == [("", "1ms")]
        raw.ask("COMMIT")
        assert rows(raw.ask("SHOW idle_session_timeout")) == [("0",)]
        assert rows(raw.ask("SELECT 2")) == [("2",)]


def test_the_server_connection_outlives_it(alone: Gateway) -> None:
    """It is for whoever comes next."""
    with psycopg.connect(alone.dsn, autocommit=True) as other:
        with session(alone.dsn, idle_session_timeout="150") as raw:
            raw.ask("SELECT 1")
            served = other.execute("SELECT pg_backend_pid()").fetchone()
            assert rows(raw.ask("SELECT pg_backend_pid()")) == [tuple(str(pid) for pid in served or ())]
            assert ended(raw) == ["57P05"]
        assert other.execute("SELECT pg_backend_pid()").fetchone() == served
        assert other.execute("SHOW idle_session_timeout").fetchone() == ("0",)


def test_wrong_values_are_refused(dsn: str) -> None:
    with pytest.raises(psycopg.OperationalError, match='invalid value for parameter "idle_session_timeout": "soon"'):
        psycopg.connect(dsn, options="-c idle_session_timeout=soon")


def test_a_template_is_free_soon_after_it_was_used(gateway: Gateway) -> None:
    """CREATE DATABASE, past the gateway, waits for 5 s at most."""
    builder = builder_of(gateway.node)
    template = gateway.through(builder.rpartition("/")[0] + "/template1")
    with psycopg.connect(template, autocommit=True) as used:
        used.execute("SELECT 1")
        with psycopg.connect(builder, autocommit=True) as past:
            past.execute("CREATE DATABASE copied")
            past.execute("DROP DATABASE copied")
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'template1'"
        with psycopg.connect(builder, autocommit=True) as past:
            eventually(lambda: past.execute(count).fetchone() == (0,), "nobody is connected to template1")
        assert used.execute("SELECT 2").fetchone() == (2,)
