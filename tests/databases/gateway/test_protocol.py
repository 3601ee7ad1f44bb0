"""The protocol message by message, where drivers leave corners out; directly and through the gateway."""

from __future__ import annotations

import struct
from uuid import uuid4

import pytest

from tests.support.gateways import Gateway

from .raw import (
    FLUSH,
    SYNC,
    Raw,
    bind,
    connected,
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

pytestmark = pytest.mark.usefixtures("crowd")


def take(raw: Raw, count: int) -> str:
    return tags([raw.receive() for _ in range(count)])


def test_a_batch_is_answered_as_far_as_it_is_flushed(dsn: str) -> None:
    with session(dsn) as raw:
        raw.send(parse("s", "SELECT $1::int + 1", (23,)) + message(b"D", b"S" + text("s")) + FLUSH)
        assert take(raw, 3) == "1tT"
        raw.send(bind("", "s", b"1") + FLUSH)
        assert take(raw, 1) == "2"
        raw.send(execute() + FLUSH)
        assert take(raw, 2) == "DC"
        raw.send(bind("", "s", b"2") + execute() + SYNC)
        assert tags(raw.until_ready()) == "2DCZ"


def test_an_error_in_a_flushed_batch_lasts_until_its_sync(dsn: str) -> None:
    with session(dsn) as raw:
        raw.send(parse("", "SELECT 1 / $1::int") + bind("", "", b"0") + execute() + FLUSH)
        # The division is done when the value is known, which is in Bind.
        assert take(raw, 2) == "1E"
        raw.send(parse("t", "SELECT 1") + bind("", "t") + execute() + FLUSH + query("SELECT 1") + SYNC)
        assert tags(raw.until_ready()) == "Z"
        raw.send(bind("", "t") + SYNC)
        assert errors(raw.until_ready()) == ["26000"]
        assert rows(raw.ask("SELECT 7")) == [("7",)]


def test_an_error_is_told_without_a_sync(dsn: str) -> None:
    """PostgreSQL sends what it has when there is an error; a client that sends no Sync waits for just that."""
    with session(dsn) as raw:
        raw.send(parse("", "SELECT 1 / $1::int") + bind("", "", b"0") + execute())
        assert take(raw, 2) == "1E"
        raw.send(execute() + SYNC)
        assert tags(raw.until_ready()) == "Z"
        assert rows(raw.ask("SELECT 7")) == [("7",)]


def test_portals_live_as_long_as_their_transaction(dsn: str) -> None:
    with session(dsn) as raw:
        raw.ask("BEGIN")
        raw.send(parse("s", "SELECT generate_series(1, 5)") + bind("p", "s") + execute("p", 2) + SYNC)
        assert tags(raw.until_ready()) == "12DDsZ"
        raw.send(execute("p", 2) + SYNC)
        assert rows(raw.until_ready()) == [("3",), ("4",)]
        raw.send(message(b"D", b"P" + text("p")) + execute("p") + SYNC)
        assert tags(raw.until_ready()) == "TDCZ"
        raw.ask("COMMIT")
        raw.send(execute("p") + SYNC)
        assert errors(raw.until_ready()) == ["34000"]


def test_the_unnamed_statement_stays_until_another_takes_its_place(dsn: str) -> None:
    with session(dsn) as raw:
        raw.send(parse("", "SELECT 'first'") + SYNC)
        assert tags(raw.until_ready()) == "1Z"
        for _ in range(3):
            raw.send(bind("", "") + execute() + SYNC)
            assert rows(raw.until_ready()) == [("first",)]
        raw.send(parse("", "SELECT wrong") + SYNC)
        assert errors(raw.until_ready()) == ["42703"]
        raw.send(parse("", "SELECT 'second'") + bind("", "") + execute() + SYNC)
        assert rows(raw.until_ready()) == [("second",)]
        raw.ask("SELECT 1")
        raw.send(bind("", "") + execute() + SYNC)
        assert errors(raw.until_ready()) == ["26000"]
        raw.send(parse("", "SELECT 1") + message(b"C", b"S\0") + bind("", "") + SYNC)
        assert errors(raw.until_ready()) == ["26000"]


def test_names_of_statements(dsn: str) -> None:
    with session(dsn) as raw:
        raw.send(parse("s", "SELECT 1") + parse("s", "SELECT 2") + SYNC)
        assert errors(raw.until_ready()) == ["42P05"]
        # What was prepared before the error is there.
        raw.send(bind("", "s") + execute() + SYNC)
        assert rows(raw.until_ready()) == [("1",)]
        raw.send(message(b"C", b"S" + text("s")) + parse("s", "SELECT 3") + bind("", "s") + execute() + SYNC)
        assert tags(raw.until_ready()) == "312DCZ"
        raw.send(message(b"C", b"S" + text("none")) + message(b"C", b"P" + text("none")) + SYNC)
        assert tags(raw.until_ready()) == "33Z"
        raw.send(message(b"D", b"S" + text("none")) + SYNC)
        assert errors(raw.until_ready()) == ["26000"]
        raw.send(message(b"D", b"P" + text("none")) + SYNC)
        assert errors(raw.until_ready()) == ["34000"]


def test_answers_stand_in_their_order_whatever_a_server_has_to_be_asked(dsn: str) -> None:
    """As Go's pgx sends its batches: everything is prepared and described, and only then run."""
    describe = {name: message(b"D", b"S" + text(name)) for name in "ab"}
    with session(dsn) as raw:
        for _ in range(3):
            raw.send(parse("a", "SELECT 1") + describe["a"] + message(b"C", b"S" + text("a")) + SYNC)
            assert tags(raw.until_ready()) == "1tT3Z"
            both = parse("a", "SELECT 1") + describe["a"] + parse("b", "SELECT $1::int") + describe["b"]
            raw.send(both + FLUSH)
            assert take(raw, 6) == "1tT1tT"
            raw.send(message(b"C", b"S" + text("a")) + message(b"C", b"S" + text("b")) + SYNC)
            assert tags(raw.until_ready()) == "33Z"
            raw.send(parse("a", "SET work_mem = '8MB'") + describe["a"] + message(b"C", b"S" + text("a")) + SYNC)
            assert tags(raw.until_ready()) == "1tn3Z"


def test_each_sync_ends_an_implicit_transaction(dsn: str) -> None:
    table = f"t_{uuid4().hex[:12]}"
    with session(dsn) as raw:
        raw.ask(f"CREATE TABLE {table} (a int)")
        insert = parse("", f"INSERT INTO {table} VALUES (1)") + bind("", "") + execute()
        raw.send(insert + insert + SYNC + insert + parse("", "SELECT 1/0") + bind("", "") + execute() + insert + SYNC)
        assert tags(raw.until_ready()) == "12C12CZ"
        assert errors(raw.until_ready()) == ["22012"]
        assert rows(raw.ask(f"SELECT count(*) FROM {table}")) == [("2",)]
        raw.ask(f"DROP TABLE {table}")


def test_simple_queries_sent_ahead(dsn: str) -> None:
    with session(dsn) as raw:
        batch = parse("", "SELECT 5") + bind("", "") + execute()
        raw.send(
            query("SELECT 1") + query("SELECT 2; SELECT 3") + query("wrong") + query("") + batch + query("SELECT 4")
        )
        assert rows(raw.until_ready()) == [("1",)]
        assert rows(raw.until_ready()) == [("2",), ("3",)]
        assert errors(raw.until_ready()) == ["42601"]
        assert tags(raw.until_ready()) == "IZ"
        assert rows(raw.until_ready()) == [("5",), ("4",)]


def test_copy_in_a_batch(dsn: str) -> None:
    table = f"t_{uuid4().hex[:12]}"
    with session(dsn) as raw:
        raw.ask(f"CREATE TABLE {table} (a int)")
        begin = parse("", f"COPY {table} FROM STDIN") + bind("", "") + execute()
        # The Sync within COPY is ignored, and libpq sends another behind the data.
        raw.send(begin + SYNC)
        assert take(raw, 3) == "12G"
        raw.send(message(b"d", b"1\n2\n") + FLUSH + message(b"d", b"3\n") + message(b"c") + SYNC)
        assert tags(raw.until_ready()) == "CZ"
        raw.send(begin + FLUSH)
        assert take(raw, 3) == "12G"
        raw.send(message(b"d", b"4\n") + message(b"f", text("no more")) + SYNC)
        assert errors(raw.until_ready()) == ["57014"]
        raw.send(begin + SYNC)
        assert take(raw, 3) == "12G"
        raw.send(message(b"d", b"x\n") + message(b"d", b"5\n") * 1000 + message(b"c") + SYNC)
        assert errors(raw.until_ready()) == ["22P02"]
        # All at once, and a statement behind it.
        raw.send(query(f"COPY {table} FROM STDIN") + message(b"d", b"6\n") + message(b"c") + query("SELECT 1"))
        assert tags(raw.until_ready()) == "GCZ"
        assert rows(raw.until_ready()) == [("1",)]
        assert rows(raw.ask(f"SELECT count(*) FROM {table}")) == [("4",)]
        out = parse("", f"COPY {table} TO STDOUT") + bind("", "") + execute() + SYNC
        raw.send(out)
        assert tags(raw.until_ready()) == "12HddddcCZ"
        copies = raw.ask(f"COPY {table} TO STDOUT; SELECT 1; COPY {table} TO STDOUT")
        assert tags(copies) == "HddddcCTDCHddddcCZ"
        raw.ask(f"DROP TABLE {table}")


def test_function_calls(dsn: str) -> None:
    with session(dsn) as raw:
        number = rows(raw.ask("SELECT 'int4pl'::regproc::oid::int4"))[0][0]
        arguments = b"".join(struct.pack("!i", 1) + digit for digit in (b"2", b"3"))
        call = message(b"F", struct.pack("!ihh", int(number or 0), 0, 2) + arguments + b"\0\0")
        for _ in range(2):
            raw.send(call)
            assert raw.until_ready()[:-1] == [(b"V", struct.pack("!i", 1) + b"5")]
        raw.send(message(b"F", struct.pack("!ihh", 1, 0, 0) + b"\0\0"))
        assert len(errors(raw.until_ready())) == 1


def test_what_is_told_at_the_start(gateway: Gateway) -> None:
    def told(dsn: str, version: int = 3 << 16, **parameters: str) -> tuple[dict[str, str], int, str]:
        with connected(dsn) as raw:
            start = raw.log_in(version, **parameters)
        parts = [contents.split(b"\0") for tag, contents in start if tag == b"S"]
        key = next(contents for tag, contents in start if tag == b"K")
        assert start[-1] == (b"Z", b"I")
        return {name.decode(): value.decode() for name, value, _ in parts}, len(key) - 4, tags(start).lstrip("S")

    options = {
        "application_name": "x",
        "TimeZone": "Asia/Tokyo",
        "client_encoding": "LATIN1",
        "options": "-cDateStyle=German",
    }
    for version, length in ((3 << 16, 4), (3 << 16 | 2, 32)):
        for each in ({}, options):
            assert told(gateway.dsn, version, **each) == told(gateway.direct, version, **each)
            assert told(gateway.dsn, version)[1] == length


def test_newer_versions_are_negotiated(dsn: str) -> None:
    with connected(dsn) as raw:
        start = raw.log_in(3 << 16 | 99, **{"_pq_.unknown": "1"})
        assert start[-1][0] == b"Z"
    with connected(dsn) as raw:
        raw.send(struct.pack("!ii", 8, 4 << 16))
        assert errors(raw.until_end()) == ["0A000"]


def test_a_cancel_needs_the_right_key(dsn: str) -> None:
    with connected(dsn) as raw:
        key = next(contents for tag, contents in raw.log_in() if tag == b"K")
        raw.send(query("SELECT pg_sleep(3)"))
        for wrong in (key[:4] + bytes(4), key[:-1], key + b"x", bytes(8)):
            _cancel(dsn, wrong)
        # A wrong one changes nothing; the right one ends it at once.
        raw.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            raw.receive()
        raw.socket.settimeout(20)
        _cancel(dsn, key)
        assert errors(raw.until_ready()) == ["57014"]


def _cancel(dsn: str, key: bytes) -> None:
    with connected(dsn) as raw:
        raw.send(struct.pack("!ii", len(key) + 8, 80877102) + key)
        assert raw.until_end() == []
