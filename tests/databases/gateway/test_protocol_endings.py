"""A FATAL that ends what a client holds looks as it does without the gateway: it comes once, and the connection ends."""

from __future__ import annotations

import pytest

from .raw import FLUSH, SYNC, bind, execute, fields, message, parse, query, session

pytestmark = pytest.mark.usefixtures("crowd")


def reports(messages: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(fields(contents)["S"], fields(contents)["C"]) for tag, contents in messages if tag == b"E"]


def test_a_transaction_that_is_idle_too_long(dsn: str) -> None:
    with session(dsn) as raw:
        raw.ask("SET idle_in_transaction_session_timeout = '100ms'")
        raw.ask("BEGIN")
        assert reports(raw.until_end()) == [("FATAL", "25P03")]


def test_it_is_asked_behind_the_end(dsn: str) -> None:
    with session(dsn) as raw:
        raw.ask("BEGIN")
        raw.ask("SET idle_in_transaction_session_timeout = '100ms'")
        ended = raw.receive()
        raw.send(query("COMMIT") + query("SELECT 1"))
        assert reports([ended, *raw.until_end()]) == [("FATAL", "25P03")]


def test_a_batch_that_is_not_over(dsn: str) -> None:
    with session(dsn) as raw:
        raw.send(parse("", "SET transaction_timeout = '100ms'") + bind("", "") + execute() + FLUSH)
        assert reports(raw.until_end()) == [("FATAL", "25P04")]


def test_a_transaction_that_runs_too_long(dsn: str) -> None:
    with session(dsn) as raw:
        raw.send(query("SET transaction_timeout = '100ms'; SELECT pg_sleep(10)"))
        assert reports(raw.until_end()) == [("FATAL", "25P04")]
    with session(dsn) as raw:
        raw.ask("BEGIN")
        raw.ask("SET transaction_timeout = '100ms'")
        raw.send(parse("s", "SELECT pg_sleep(10)") + message(b"D", b"Ss\0") + bind("", "s") + execute() + SYNC)
        assert reports(raw.until_end()) == [("FATAL", "25P04")]


def test_a_session_that_keeps_its_connection(dsn: str) -> None:
    with session(dsn) as raw, session(dsn) as other:
        raw.ask("LISTEN c")
        process = raw.ask("SELECT pg_backend_pid()")[1][1][6:].decode()
        other.ask(f"SELECT pg_terminate_backend({process})")
        assert reports(raw.until_end()) == [("FATAL", "57P01")]
