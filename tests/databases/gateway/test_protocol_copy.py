"""COPY with the client, by simple queries and by the extended protocol; directly and through the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from .raw import (
    FLUSH,
    SYNC,
    TERMINATE,
    Raw,
    bind,
    errors,
    execute,
    fields,
    message,
    parse,
    query,
    rows,
    session,
    tags,
    text,
)

pytestmark = pytest.mark.usefixtures("crowd")

DATA, DONE, FAIL = message(b"d", b"1\n2\n"), message(b"c"), message(b"f", text("no more"))


def take(raw: Raw, count: int) -> str:
    return tags([raw.receive() for _ in range(count)])


def extended(sql: str, name: str = "") -> bytes:
    return parse(name, sql) + bind("", name) + execute()


@pytest.fixture
def table(dsn: str) -> Iterator[str]:
    name = f"t_{uuid4().hex[:12]}"
    with session(dsn) as raw:
        raw.ask(f"CREATE TABLE {name} (a int CHECK (a < 100))")
        yield name
        raw.ask(f"DROP TABLE {name}")


def count(raw: Raw, table: str) -> str | None:
    return rows(raw.ask(f"SELECT count(*) FROM {table}"))[0][0]


@pytest.mark.parametrize("name", ["", "s"])
def test_data_that_follows_a_flush(dsn: str, table: str, name: str) -> None:
    """As pg8000 sends it: CopyDone and the Sync together, behind a batch that was only flushed."""
    with session(dsn) as raw:
        for at in range(1, 4):
            raw.send(parse(name, f"COPY {table} FROM STDIN") + bind("", name) + FLUSH)
            assert take(raw, 2) == "12"
            raw.send(execute() + FLUSH)
            assert take(raw, 1) == "G"
            raw.send(DATA)
            raw.send(DATA + DONE + SYNC)
            assert tags(raw.until_ready()) == "CZ"
            assert count(raw, table) == str(4 * at)
            raw.send(message(b"C", b"S" + text(name)) + SYNC)
            assert tags(raw.until_ready()) == "3Z"


def test_all_of_it_in_one_write(dsn: str, table: str) -> None:
    with session(dsn) as raw:
        copy = extended(f"COPY {table} FROM STDIN")
        raw.send(copy + DATA + DONE + SYNC)
        assert tags(raw.until_ready()) == "12GCZ"
        # Two of them and a statement between; the Syncs within COPY are ignored.
        raw.send(copy + SYNC + DATA + DONE + extended("SELECT 1") + copy + FLUSH + DATA + SYNC + DONE + SYNC)
        assert tags(raw.until_ready()) == "12GC12DC12GCZ"
        raw.send(copy + DATA + FAIL + SYNC + SYNC)
        assert tags(raw.until_ready()) == "12GEZ"
        assert tags(raw.until_ready()) == "Z"
        assert count(raw, table) == "6"
        raw.ask("BEGIN")
        raw.send(copy + DATA + DONE + copy + message(b"d", b"x\n") + DATA + DONE + extended("SELECT 1") + SYNC)
        assert tags(raw.until_ready()) == "12GC12GEZ"
        raw.ask("ROLLBACK")
        assert count(raw, table) == "6"


def test_data_without_a_copy(dsn: str, table: str) -> None:
    with session(dsn) as raw:
        raw.send(extended("COPY nowhere FROM STDIN") + DATA + DONE + extended("SELECT 1") + SYNC)
        assert errors(raw.until_ready()) == ["42P01"]
        raw.send(parse("", "SELECT 1") + DATA + bind("", "") + FAIL + execute() + DONE + SYNC)
        assert tags(raw.until_ready()) == "12DCZ"
        raw.send(query("COPY nowhere FROM STDIN") + DATA + DONE + query("SELECT 1"))
        assert errors(raw.until_ready()) == ["42P01"]
        assert rows(raw.until_ready()) == [("1",)]


def test_errors_at_the_end_and_in_the_middle(dsn: str, table: str) -> None:
    with session(dsn) as raw:
        for bad, code in ((b"100\n", "23514"), (b"x\n", "22P02"), (b"1\t2\n", "22P04")):
            for start in (query(f"COPY {table} FROM STDIN"), extended(f"COPY {table} FROM STDIN") + FLUSH):
                raw.send(start)
                while raw.receive()[0] != b"G":
                    pass
                raw.send(message(b"d", bad) + DATA * 1000 + DONE + (b"" if start[:1] == b"Q" else SYNC))
                assert errors(raw.until_ready()) == [code]
                assert count(raw, table) == "0"


def test_several_in_one_text(dsn: str, table: str) -> None:
    with session(dsn) as raw:
        copy = f"COPY {table} FROM STDIN"
        raw.send(
            query(f"{copy}; SELECT 1; {copy}; COPY {table} TO STDOUT") + SYNC + DATA + DONE + FLUSH + DATA + SYNC + DONE
        )
        assert tags(raw.until_ready()) == "GCTDCGCHddddcCZ"


@pytest.mark.parametrize("start", ["simple", "extended", "transaction"])
@pytest.mark.parametrize("wrong", [query("SELECT 1"), parse("", "SELECT 1"), execute(), TERMINATE, message(b"z")])
def test_other_messages_end_the_connection_as_postgresql_does(dsn: str, table: str, start: str, wrong: bytes) -> None:
    with session(dsn) as raw:
        if start == "transaction":
            raw.ask("BEGIN")
        raw.send(
            extended(f"COPY {table} FROM STDIN") + FLUSH if start == "extended" else query(f"COPY {table} FROM STDIN")
        )
        while raw.receive()[0] != b"G":
            pass
        raw.send(DATA + wrong)
        reports = [fields(contents) for tag, contents in raw.until_end() if tag == b"E"]
        assert [(each["S"], each["C"], each["M"]) for each in reports] == [
            ("ERROR", "08P01", f"unexpected message type 0x{wrong[0]:02X} during COPY from stdin"),
            ("FATAL", "08P01", "terminating connection because protocol synchronization was lost"),
        ]


def test_to_the_client(dsn: str, table: str) -> None:
    with session(dsn) as raw:
        raw.ask(f"INSERT INTO {table} SELECT generate_series(1, 3)")
        out = extended(f"COPY {table} TO STDOUT")
        raw.send(out + extended("SELECT 1") + out + SYNC)
        assert tags(raw.until_ready()) == "12HdddcC12DC12HdddcCZ"
        raw.send(out + FLUSH)
        assert take(raw, 8) == "12HdddcC"
        raw.send(extended(f"COPY (SELECT 1 / (a - 2) FROM {table}) TO STDOUT") + SYNC)
        assert errors(raw.until_ready()) == ["22012"]
        assert rows(raw.ask("SELECT 7")) == [("7",)]
