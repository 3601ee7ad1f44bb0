"""Clients at the edge of what is allowed."""

from __future__ import annotations

import json
import socket

import psycopg
import pytest
from trimaran._core import DataPlane
from trimaran.databases.planning import answer
from trimaran.databases.postgres import EmbeddedNode

from tests.databases.gateway.raw import SYNC, bind, errors, execute, parse, query, rows, session
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
    console = gateway.dsn.rpartition("/")[0] + "/trimaran"
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


def test_a_plan_that_comes_late_is_used_by_the_next_execution(gateway: Gateway) -> None:
    plane = DataPlane(snapshot(pool(server("none", "127.0.0.1:1")), databases=[gateway.settings]))
    port = plane.addresses()[-1].rpartition(":")[2]
    dsn = gateway.dsn.replace(f":{gateway.port}/", f":{port}/")
    try:
        with session(dsn) as raw:
            assert errors(raw.ask("SELECT 4711")) == []
        wanted = plane.plans_wanted(0)
        assert [text for _, text in wanted] == ["SELECT 4711"]

        def told() -> tuple[str, str]:
            found = next(plan for plan in json.loads(plane.plans("main") or "[]") if plan["statement"] == "SELECT 4711")
            return found["goes_to"], found["reason"]

        assert told() == ("primary", "it was not planned in time")
        for number, text in wanted:
            plane.planned(number, answer(text))
        assert told()[0] == "replica"
        with session(dsn) as raw:
            assert rows(raw.ask("SELECT 4711")) == [("4711",)]
    finally:
        plane.stop(0)
