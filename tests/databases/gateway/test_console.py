"""The console: the database `trimaran_console` of a gateway, where people look at sessions, connections and pools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from trimaran.databases.postgres import EmbeddedNode

from tests.support.gateways import start_gateway
from tests.support.waiting import eventually

Console = psycopg.Connection[dict[str, Any]]


@pytest.fixture(scope="module")
def dsn(primary: EmbeddedNode) -> Iterator[str]:
    """A gateway of its own: what others do is not seen."""
    gateway = start_gateway(primary)
    yield gateway.dsn
    gateway.stop()


@pytest.fixture
def console(dsn: str) -> Iterator[Console]:
    address = dsn.rpartition("/")[0] + "/trimaran_console"
    with psycopg.connect(address, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def ask(console: Console, what: str) -> list[dict[str, Any]]:
    return console.execute(f"SHOW {what}".encode()).fetchall()


def test_a_connection_is_idle_or_serves_somebody(dsn: str, console: Console) -> None:
    with psycopg.connect(dsn) as client:
        pid = client.execute("SELECT pg_backend_pid()").fetchone()
        assert pid is not None
        [server] = [row for row in ask(console, "SERVERS") if row["pid"] == str(pid[0])]
        assert (server["state"], server["client_pid"]) == ("active", str(client.info.backend_pid))
        [seen] = [row for row in ask(console, "CLIENTS") if row["pid"] == str(client.info.backend_pid)]
        assert (seen["state"], seen["server"]) == ("in transaction", f"{server['node']} pid {pid[0]}")
        client.rollback()

        def serves_nobody() -> bool:
            """A moment after the client has its answer."""
            servers = [row for row in ask(console, "SERVERS") if row["pid"] == str(pid[0])]
            clients = [row for row in ask(console, "CLIENTS") if row["pid"] == str(client.info.backend_pid)]
            found = [
                (row["state"], row[of])
                for row, of in [*((s, "client_pid") for s in servers), *((c, "server") for c in clients)]
            ]
            return found == [("idle", ""), ("idle", "")]

        eventually(serves_nobody, "the connection is given back")
        idle = sum(int(row["sv_idle"]) for row in ask(console, "POOLS"))
        assert idle == len(ask(console, "SERVERS"))


def test_why_a_session_keeps_its_connection(dsn: str, console: Console) -> None:
    with psycopg.connect(dsn, autocommit=True) as client:
        client.execute("LISTEN news")
        [seen] = [row for row in ask(console, "CLIENTS") if row["pid"] == str(client.info.backend_pid)]
        assert "LISTEN" in seen["kept_because"]


def test_what_was_counted(dsn: str, console: Console) -> None:
    def requests() -> int:
        return next(int(row["value"]) for row in ask(console, "STATS") if row["counter"] == "requests_total")

    before = requests()
    with psycopg.connect(dsn, autocommit=True) as client:
        for _ in range(5):
            client.execute("SELECT 1 AS counted_in_the_console")
    assert requests() >= before + 5
    [plan] = [row for row in ask(console, "PLANS") if "counted_in_the_console" in row["statement"]]
    assert plan["executions"] == "5"


def test_every_command_is_in_the_help(console: Console) -> None:
    commands = [row["command"] for row in ask(console, "HELP")]
    assert {"SHOW POOLS", "SHOW CLIENTS", "SHOW SERVERS", "SHOW STATS"} <= set(commands)
    for command in commands:
        console.execute(command.encode()).fetchall()
    with pytest.raises(psycopg.errors.SyntaxError, match="there are SHOW POOLS"):
        console.execute("DROP DATABASE app")
    assert ask(console, "VERSION"), "an error ends nothing"
