"""Random batches of protocol messages, to PostgreSQL directly and through the gateway: the same messages, errors and texts.

A batch ends with `END`, after which a session is idle or in a transaction, whatever came before: the end of COPY data, a Sync,
and five Close messages, whose answers do not come together in any other place.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trimaran.databases.postgres import EmbeddedNode

from tests.support.gateways import builder_of, empty_database, start_gateway

from .raw import FLUSH, SYNC, Ended, Message, Raw, bind, execute, fields, message, parse, query, session, text

EXAMPLES = 150
TEXTS = (
    "SELECT 1",
    "SELECT $1::int + 1",
    "SELECT 10 / $1::int",
    "SELECT generate_series(1, 3)",
    "SELECT 1/0",
    "SELECT wrong",
    "SELEC",
    "",
    "SHOW application_name",
    "SET application_name = 'one'",
    "SET LOCAL application_name = 'two'",
    "RESET application_name",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "RELEASE a",
    "INSERT INTO t VALUES (1)",
    "SELECT count(*) FROM t",
    "COPY t FROM STDIN",
    "COPY t TO STDOUT",
    "COPY nowhere FROM STDIN",
    "DEALLOCATE ALL",
    "DEALLOCATE a",
    "DEALLOCATE nothing",
    'DEALLOCATE "_trimaran_1"',
    "DISCARD ALL",
    "EXECUTE a",
    "PREPARE a AS SELECT 5",
    'PREPARE "_trimaran_2" AS SELECT 6',
    'EXECUTE "_trimaran_1"',
)
MORE_TEXTS = (
    "SELECT 1; SELECT 2",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "SET application_name = 'three'; SELECT 1/0",
    "BEGIN; SET application_name = 'four'; COMMIT; SELECT 1/0",
    "BEGIN; SAVEPOINT a; SELECT 1/0; SAVEPOINT b",
    "SELECT 1/0; SAVEPOINT a; SET application_name = 'five'",
    "DEALLOCATE a; SELECT 1",
    "SELECT 1; DEALLOCATE ALL; SELECT 1/0",
    "COPY t FROM STDIN; SELECT 1; COPY t FROM STDIN",
    "COPY t TO STDOUT; COPY t TO STDOUT",
    "ROLLBACK; SELECT 1",
)
NAMES = ("", "a", "b")
BARRIER = message(b"C", b"Pbarrier\0") * 5 + SYNC
END = message(b"f", text("over")) + SYNC + BARRIER


def _mostly(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(names)


def _target(tag: bytes) -> st.SearchStrategy[bytes]:
    def made(kind: bytes, name: str) -> bytes:
        return message(tag, kind + text(name))

    return st.builds(made, st.sampled_from((b"S", b"P")), _mostly(NAMES))


def _bind(portal: str, statement: str, value: str | None) -> bytes:
    return bind(portal, statement, *([] if value is None else [value.encode()]))


parses = st.builds(parse, _mostly(NAMES), st.sampled_from(TEXTS))
binds = st.builds(_bind, _mostly(NAMES), _mostly(NAMES), st.sampled_from((None, None, None, "1", "0", "x")))
executes = st.builds(execute, _mostly(NAMES), st.sampled_from((0, 0, 0, 1, 2)))
describes, closes = _target(b"D"), _target(b"C")
queries = st.builds(query, st.sampled_from(TEXTS + MORE_TEXTS))
data = st.sampled_from((message(b"d", b"1\n"), message(b"d", b"1\n2\n"), message(b"d", b"x\n")))
copy = st.builds(
    lambda rows, end: b"".join(rows) + end,
    st.lists(data, max_size=3),
    st.sampled_from((message(b"c"), message(b"c"), message(b"f", text("no more")), b"", FLUSH + message(b"c"))),
)


def _whole(name: str, portal: str, sql: str, described: bytes, limit: int, tail: bytes) -> bytes:
    return parse(name, sql) + bind(portal, name) + described + execute(portal, limit) + tail


wholes = st.builds(
    _whole,
    _mostly(NAMES),
    _mostly(NAMES),
    st.sampled_from(TEXTS),
    st.sampled_from((b"", message(b"D", b"P\0"))),
    st.sampled_from((0, 0, 2)),
    st.sampled_from((b"", b"", SYNC, FLUSH)),
)
copies_in = st.builds(
    lambda name, tail, rows: _whole(name, "", "COPY t FROM STDIN", b"", 0, tail) + rows + SYNC,
    _mostly(NAMES),
    st.sampled_from((b"", SYNC, FLUSH)),
    copy,
)
messages = st.one_of(
    parses,
    binds,
    executes,
    describes,
    closes,
    wholes,
    wholes,
    st.sampled_from((SYNC, SYNC, FLUSH)),
    queries,
    copies_in,
    copy,
)
scripts = st.lists(st.lists(messages, min_size=1, max_size=8).map(b"".join), min_size=1, max_size=4)


def shown(kind: bytes, contents: bytes) -> tuple[str, object]:
    """What of a message must be the same."""
    if kind in b"EN":
        return kind.decode(), tuple(fields(contents).get(field) for field in "SVCMDHPWR")
    if kind == b"T":
        # Tables have other numbers in the other database.
        count, at, columns = struct.unpack("!h", contents[:2])[0], 2, []
        for _ in range(count):
            end = contents.index(b"\0", at)
            columns.append((contents[at:end], contents[end + 7 : end + 19]))
            at = end + 19
        return "T", columns
    return kind.decode(), contents


def answers(raw: Raw, batch: bytes) -> list[tuple[str, object]]:
    """The answers to one batch; the last is "end" where the connection has ended."""
    raw.send(batch + END)
    found: list[Message] = []
    try:
        while b"".join(kind for kind, _ in found[-6:]) != b"33333Z":
            found.append(raw.receive())
    except Ended:
        return [*(shown(*each) for each in found), ("end", None)]
    return [shown(*each) for each in found]


@pytest.fixture(scope="module")
def doors(primary: EmbeddedNode) -> Iterator[tuple[str, str]]:
    """A database's address directly, and another's through a gateway with two server connections."""
    gateway = start_gateway(primary, connections_max=2)
    direct = empty_database(builder_of(primary), "protocol_direct")
    through = gateway.through(empty_database(builder_of(primary), "protocol_gateway"))
    for dsn in (direct, through):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (a int)")
    yield direct, through
    gateway.stop()


@contextmanager
def crowded(dsn: str) -> Iterator[None]:
    """Other sessions that use the same server connections, with statements and settings of their own."""
    ended = threading.Event()

    def work(number: int) -> None:
        with session(dsn) as raw:
            while not ended.is_set():
                raw.send(parse("a", f"SELECT {number}") + parse("", "SELECT 'of the crowd'") + SYNC)
                raw.until_ready()
                raw.send(bind("", "a") + execute() + message(b"C", b"Sa\0") + SYNC)
                raw.until_ready()
                raw.ask(f"SET application_name = 'crowd {number}'")

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(20)


def _without_sync_in_data(batch: bytes) -> bytes:
    """A batch without a Sync between COPY data and its end: which of them a failed COPY is ended by is documented to differ."""
    kept, at, in_data = b"", 0, False
    while at < len(batch):
        kind, end = batch[at : at + 1], at + 1 + int.from_bytes(batch[at + 1 : at + 5], "big")
        in_data = kind == b"d" or (in_data and kind in (b"S", b"H"))
        if not (in_data and kind == b"S"):
            kept += batch[at:end]
        at = end
    return kept


def compare(doors: tuple[str, str], script: list[bytes]) -> None:
    with ExitStack() as stack:
        sessions = [stack.enter_context(session(door)) for door in doors]
        for raw in sessions:
            raw.ask("TRUNCATE t")
        for batch in script:
            expected, found = (answers(raw, _without_sync_in_data(batch)) for raw in sessions)
            assert found == expected
            if ("end", None) in expected:
                break


def check(doors: tuple[str, str], examples: int) -> None:
    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(script=scripts)
    def run(script: list[bytes]) -> None:
        compare(doors, script)

    run()


def test_random_batches(doors: tuple[str, str]) -> None:
    check(doors, EXAMPLES)


def test_random_batches_in_a_crowd(doors: tuple[str, str]) -> None:
    with crowded(doors[1]):
        check(doors, EXAMPLES)
