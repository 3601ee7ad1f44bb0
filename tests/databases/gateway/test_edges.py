"""Clients at the edge of what is allowed."""

from __future__ import annotations

import json
import socket

import psycopg
import pytest
from trimaran._core import DataPlane
from trimaran.databases.planning import answer
from trimaran.databases.postgres import EmbeddedNode

from tests.databases.gateway.raw import (
    SYNC,
    Raw,
    bind,
    errors,
    execute,
    message,
    parse,
    query,
    rows,
    session,
    tags,
    text,
)
from tests.support.gateways import Gateway, start_gateway
from tests.support.snapshots import pool, server, snapshot

MOST = 65_536


def test_a_message_of_nearly_the_limit_may_come_behind_others(primary: EmbeddedNode) -> None:
    gateway = start_gateway(primary, request_max_bytes=MOST)
    try:
        with session(gateway.dsn) as raw:
            value = b"x" * (MOST - 100)
            prepared = parse("", "SELECT length($1), $2::text", (25, 25)) + bind("", "", value, b"")
            raw.send(prepared + execute() + SYNC)
            assert rows(raw.until_ready()) == [(str(len(value)), "")]
    finally:
        gateway.stop()


@pytest.mark.parametrize("through", ["direct", "gateway"])
def test_a_client_that_ends_its_side_gets_its_answer(gateway: Gateway, through: str) -> None:
    with session(gateway.direct if through == "direct" else gateway.dsn) as raw:
        raw.send(query("SELECT pg_sleep(0.2), 1") + query("SELECT 2"))
        raw.socket.shutdown(socket.SHUT_WR)
        assert rows(raw.until_ready()) == [("", "1")]
        assert rows(raw.until_ready()) == [("2",)]
        assert raw.until_end() == []


def test_clients_of_the_console_count(primary: EmbeddedNode) -> None:
    """Some get in when nobody else does, and not without end."""
    gateway = start_gateway(primary, clients_max=2)
    console = gateway.dsn.rpartition("/")[0] + "/trimaran_console"
    opened: list[psycopg.Connection] = []
    try:
        opened += [psycopg.connect(console, autocommit=True) for _ in range(7)]
        with pytest.raises(psycopg.OperationalError, match="the gateway has 7 clients already"):
            psycopg.connect(console)
        assert json.loads(gateway.plane.facts())["databases"][0]["clients"] == len(opened)
        with pytest.raises(psycopg.OperationalError, match="the gateway has 2 clients already"):
            psycopg.connect(gateway.dsn)
    finally:
        for connection in opened:
            connection.close()
        gateway.stop()


def test_names_are_given_and_taken_back_without_a_connection(primary: EmbeddedNode) -> None:
    """The only one is taken; what others have prepared needs none, and what nobody has waits for it."""
    gateway = start_gateway(primary, connections_max=1, checkout_timeout_ms=200)
    close = message(b"C", b"S" + text("mine"))
    try:
        with session(gateway.dsn) as other, session(gateway.dsn) as raw:
            other.send(parse("theirs", "SELECT $1::int + 1") + SYNC)
            assert tags(other.until_ready()) == "1Z"
            other.ask("BEGIN")
            raw.send(parse("mine", "SELECT $1::int + 1") + SYNC + close + SYNC + SYNC)
            assert tags(raw.until_ready() + raw.until_ready() + raw.until_ready()) == "1Z3ZZ"
            raw.send(parse("mine", "SELECT $1::int + 1") + parse("mine", "SELECT $1::int + 1") + SYNC)
            assert errors(raw.until_ready()) == ["53300"], "an error is the server's to undo"
            raw.send(parse("new", "SELECT $1::int + 2") + SYNC)
            assert errors(raw.until_ready()) == ["53300"]
            raw.send(parse("mine", "SELECT $1::int + 1") + SYNC)
            assert tags(raw.until_ready()) == "1Z"
            other.ask("COMMIT")
            raw.send(bind("", "mine", b"41") + execute() + SYNC)
            assert rows(raw.until_ready()) == [("42",)]
            raw.send(bind("", "new", b"41") + execute() + SYNC)
            assert errors(raw.until_ready()) == ["26000"]
    finally:
        gateway.stop()


LITERAL = "SELECT extract(epoch FROM '2024-01-01 00:00'::timestamptz)::bigint"
HOUR = 3600
NEW_YEAR = 1_704_067_200
"""In UTC."""


def seconds(raw: Raw, name: str) -> int:
    raw.send(bind("", name) + execute() + SYNC)
    [(value,)] = rows(raw.until_ready())
    return int(value or 0)


def test_literals_are_read_with_the_settings_of_their_own_session(primary: EmbeddedNode) -> None:
    """All by one connection, which keeps what it made of a literal when the statement was prepared."""
    gateway = start_gateway(primary, connections_max=1)
    try:
        with session(gateway.dsn, TimeZone="UTC") as first, session(gateway.dsn) as second:
            second.ask("SET TimeZone = 'Asia/Tokyo'")
            for raw in (first, second):
                raw.send(parse("s", LITERAL) + SYNC)
                assert tags(raw.until_ready()) == "1Z"
            for _ in range(2):
                assert seconds(first, "s") == NEW_YEAR
                assert seconds(second, "s") == NEW_YEAR - 9 * HOUR
            with session(gateway.dsn, TimeZone="UTC") as third:
                third.ask("BEGIN")
                third.ask("SET LOCAL TimeZone = 'America/New_York'")
                third.send(parse("local", LITERAL) + SYNC)
                third.until_ready()
                assert seconds(third, "local") == NEW_YEAR + 5 * HOUR
                third.ask("COMMIT")
                third.ask("SET TimeZone = 'Asia/Seoul'")
                third.send(parse("batch", "SET TimeZone = 'UTC'") + bind("", "batch") + execute())
                third.send(parse("late", LITERAL) + bind("", "late") + execute() + SYNC)
                assert rows(third.until_ready()) == [(str(NEW_YEAR),)]
            with session(gateway.dsn) as korean:
                korean.ask("SET TimeZone = 'Asia/Seoul'")
                korean.send(parse("s", LITERAL) + SYNC)
                korean.until_ready()
                assert seconds(korean, "s") == NEW_YEAR - 9 * HOUR
            assert seconds(first, "s") == NEW_YEAR
            assert seconds(second, "s") == NEW_YEAR - 9 * HOUR
            with session(gateway.dsn, TimeZone="UTC") as fourth:
                fourth.send(parse("s", LITERAL) + SYNC)
                fourth.until_ready()
                assert seconds(fourth, "s") == NEW_YEAR
                fourth.ask("SET TimeZone = 'America/New_York'")
                fourth.ask("DISCARD PLANS")
                seconds(fourth, "s")
            assert seconds(first, "s") == NEW_YEAR
    finally:
        gateway.stop()


def test_a_name_for_what_is_no_more_is_refused_when_it_is_used(primary: EmbeddedNode) -> None:
    gateway = start_gateway(primary)
    try:
        with session(gateway.dsn) as raw, psycopg.connect(gateway.direct, autocommit=True) as past:
            raw.ask("CREATE TABLE fleeting (x int)")
            raw.send(parse("first", "SELECT x FROM fleeting") + SYNC)
            assert tags(raw.until_ready()) == "1Z"
            past.execute("DROP TABLE fleeting")
            raw.send(parse("second", "SELECT x FROM fleeting") + SYNC)
            assert tags(raw.until_ready()) == "1Z"
            raw.send(bind("", "second") + execute() + SYNC)
            assert errors(raw.until_ready()) == ["42P01"]
    finally:
        gateway.stop()


def test_a_plan_that_comes_late_is_used_by_the_next_execution(gateway: Gateway) -> None:
    plane = DataPlane(snapshot(pool(server("none", "127.0.0.1:1")), databases=[gateway.settings]))
    port = plane.addresses()[-1].rpartition(":")[2]
    dsn = gateway.dsn.replace(f":{gateway.port}/", f":{port}/")
    try:
        with session(dsn) as raw:
            assert errors(raw.ask("SELECT 4711")) == []
        wanted = plane.plans_wanted(0)
        assert [text for _, text, *_ in wanted] == ["SELECT 4711"]

        def told() -> tuple[str, str]:
            found = next(plan for plan in json.loads(plane.plans("main") or "[]") if plan["statement"] == "SELECT 4711")
            return found["goes_to"], found["reason"]

        assert told() == ("primary", "it was not planned in time")
        for number, text, *_ in wanted:
            plane.planned(number, answer(text))
        assert told()[0] == "replica"
        with session(dsn) as raw:
            assert rows(raw.ask("SELECT 4711")) == [("4711",)]
    finally:
        plane.stop(0)
