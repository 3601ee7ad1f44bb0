"""Malformed, truncated and hostile messages: a clear error or a closed connection, and nothing that another client notices."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
from collections.abc import Iterator

import psutil
import pytest

from tests.support.gateways import Gateway
from tests.support.waiting import eventually

from .raw import (
    FLUSH,
    SYNC,
    TERMINATE,
    Ended,
    Raw,
    bind,
    connected,
    errors,
    execute,
    fields,
    message,
    packet,
    parse,
    query,
    rows,
    session,
    startup,
    text,
)

INT = struct.Struct("!i").pack
SHORT = struct.Struct("!h").pack
MIB = 1024 * 1024

BEFORE_LOGIN: dict[str, tuple[bytes, list[str]]] = {
    "nothing": (b"", []),
    "one byte": (b"\0", []),
    "length 0": (INT(0) * 2, ["08P01"]),
    "length 4": (INT(4) * 2, ["08P01"]),
    "length 7": (INT(7) + INT(3 << 16), ["08P01"]),
    "negative length": (INT(-1) + INT(3 << 16), ["08P01"]),
    "length of a gigabyte": (INT(1 << 30) + INT(3 << 16), ["08P01"]),
    "less than its length": (INT(100) + INT(3 << 16) + b"user\0", []),
    "protocol 2": (packet(INT(2 << 16)), ["0A000"]),
    "protocol 4": (packet(INT(4 << 16)), ["0A000"]),
    "no user": (startup({"database": "app"}), ["28000"]),
    "an empty user": (startup({"user": ""}), ["28000"]),
    "no end of parameters": (packet(INT(3 << 16) + b"user\0app\0"), ["08P01"]),
    "a parameter without a value": (packet(INT(3 << 16) + b"user\0app\0database\0"), ["08P01"]),
    "bytes behind the end": (packet(INT(3 << 16) + b"user\0app\0\0more"), ["08P01"]),
    "no zero byte at all": (packet(INT(3 << 16) + b"user"), ["08P01"]),
    "a request of HTTP": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ["08P01"]),
    "TLS, which is not offered": (bytes.fromhex("160301") + b"\x02\0" + b"\0" * 512, ["08P01"]),
    "a cancel without a key": (packet(INT(80877102)), ["08P01"]),
    "a cancel with half a key": (packet(INT(80877102) + INT(1)), ["08P01"]),
    "a cancel of nobody": (packet(INT(80877102) + INT(1) + b"abcd"), []),
    "a cancel with a key that is too long": (packet(INT(80877102) + INT(1) + b"x" * 300), ["08P01"]),
    "an unknown code": (packet(INT(80877199)), ["0A000"]),
}

SASL: dict[str, tuple[bytes, list[str]]] = {
    "a query instead of a proof": (query("SELECT 1"), ["08P01"]),
    "an unknown mechanism": (message(b"p", b"PLAIN\0" + INT(1) + b"x"), ["08P01"]),
    "no name of a mechanism": (message(b"p", b""), ["08P01"]),
    "a name without an end": (message(b"p", b"SCRAM-SHA-256"), ["08P01"]),
    "no response, and nothing after it": (message(b"p", b"SCRAM-SHA-256\0" + INT(-1)) + message(b"p"), ["08P01"]),
    "a response shorter than it says": (message(b"p", b"SCRAM-SHA-256\0" + INT(50) + b"n,,n=,r=x"), ["08P01"]),
    "an empty response": (message(b"p", b"SCRAM-SHA-256\0" + INT(0)), ["08P01"]),
    "binding to a channel": (message(b"p", b"SCRAM-SHA-256\0" + INT(22) + b"p=tls-unique,,n=,r=abc"), ["08P01"]),
    "an extension that must be known": (message(b"p", b"SCRAM-SHA-256\0" + INT(18) + b"n,,m=x,n=,r=abcdef"), ["0A000"]),
    "no nonce": (message(b"p", b"SCRAM-SHA-256\0" + INT(5) + b"n,,n="), ["08P01"]),
    "a response of a megabyte": (message(b"p", b"SCRAM-SHA-256\0" + INT(MIB) + b"x" * MIB), ["08P01"]),
    "a length of a gigabyte": (b"p" + INT(1 << 30), ["08P01"]),
    "a negative length": (b"p" + INT(-5), ["08P01"]),
}

FATAL: dict[str, bytes] = {
    "an unknown type": message(b"z"),
    "a password": message(b"p", b"x\0"),
    "a server's message": message(b"T", b"\0\0"),
    "type zero": message(b"\0"),
    "length 0": b"Q" + INT(0),
    "length 3": b"P" + INT(3),
    "a negative length": b"B" + INT(-4),
    "the largest length": b"Q" + INT(0x7FFFFFFF),
    "a length beyond the limit": b"d" + INT(1 << 30),
    "an unknown type in a batch": parse("", "SELECT 1") + message(b"y"),
    "a query without an end": message(b"Q", b"SELECT 1"),
    "a query with a zero byte": message(b"Q", b"SELECT\0 1\0"),
    "an empty query message": message(b"Q"),
    "a parse without contents": message(b"P") + SYNC,
    "a parse without a query": message(b"P", b"s\0") + SYNC,
    "a parse with fewer types than it says": message(b"P", b"\0SELECT 1\0" + SHORT(3) + INT(23)) + SYNC,
    "a parse with a negative count": message(b"P", b"\0SELECT 1\0" + SHORT(-1)) + SYNC,
    "a parse with more behind it": message(b"P", b"\0SELECT 1\0" + SHORT(0) + b"more") + SYNC,
    "a bind without names": message(b"B") + SYNC,
    "a describe of what": message(b"D", b"Xs\0") + SYNC,
    "a describe without a name": message(b"D", b"S") + SYNC,
    "a close of what": message(b"C", b"\0s\0") + SYNC,
    "an execute without a limit": message(b"E", b"\0") + SYNC,
    "a sync with contents": message(b"S", b"x"),
    "a flush with contents": message(b"H", b"x"),
}

SURVIVED: dict[str, bytes] = {
    "data of no COPY": message(b"d", b"1\n") * 100 + message(b"c") + message(b"f", b"no\0") + SYNC,
    "a bind of nothing": bind("", "none") + execute() + SYNC,
    "an execute of nothing": execute("none") + SYNC,
    "a bind cut within its values": parse("", "SELECT $1::text")
    + message(b"B", b"\0\0" + SHORT(0) + SHORT(1) + INT(50) + b"x")
    + SYNC,
    "a bind with a length of -2": parse("", "SELECT $1::text")
    + message(b"B", b"\0\0" + SHORT(0) + SHORT(1) + INT(-2) + b"\0\0")
    + SYNC,
    "a bind with other counts": parse("", "SELECT $1::text")
    + message(b"B", b"\0\0" + SHORT(3) + SHORT(0) * 3 + SHORT(1))
    + SYNC,
    "a bind with too few values": parse("", "SELECT $1::text") + bind("", "") + SYNC,
    "an unknown format": parse("", "SELECT 1")
    + message(b"B", b"\0\0" + SHORT(0) + SHORT(0) + SHORT(1) + SHORT(7))
    + execute()
    + SYNC,
    "binary nonsense": parse("", "SELECT $1::int")
    + message(b"B", b"\0\0" + SHORT(1) * 2 + SHORT(1) + INT(1) + b"x" + b"\0\0")
    + SYNC,
    "a text that is no UTF-8": message(b"Q", b"SELECT '\xff\xfe'\0"),
    "a name of a megabyte": parse("n" * MIB, "SELECT 1") + bind("", "n" * MIB) + execute() + SYNC,
    "a negative limit": parse("", "SELECT 1") + bind("", "") + execute("", -1) + SYNC,
    "flushes without end": FLUSH * 10_000 + SYNC,
    "a function call of nothing": message(b"F", INT(0) + SHORT(0) * 3),
    "a function call cut short": message(b"F", INT(1) + SHORT(5)),
    "brackets without end": query("SELECT " + "(" * 100_000),
    "a very deep expression": query("SELECT " + "(" * 20_000 + "1" + ")" * 20_000),
    "a comment without an end": query("/* " * 10_000),
    "a literal without an end": query("SELECT '" + "x" * MIB),
}


@pytest.fixture
def neighbour(gateway: Gateway) -> Iterator[Raw]:
    """Another client in the middle of a transaction, which must not notice anything."""
    with session(gateway.dsn) as raw:
        raw.ask("BEGIN; SET LOCAL work_mem = '5MB'; CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 42 AS a")
        yield raw
        assert rows(raw.ask("SELECT a, current_setting('work_mem') FROM mine")) == [("42", "5MB")]
        raw.ask("ROLLBACK")
    # And one that comes afterwards is served as ever.
    with session(gateway.dsn) as raw:
        assert rows(raw.ask("SELECT current_setting('work_mem')")) == [("4MB",)]


@pytest.mark.parametrize("case", BEFORE_LOGIN)
def test_before_the_login(gateway: Gateway, neighbour: Raw, case: str) -> None:
    data, expected = BEFORE_LOGIN[case]
    with connected(gateway.dsn) as raw:
        raw.send(data)
        with contextlib.suppress(OSError):
            raw.socket.shutdown(socket.SHUT_WR)
        found = raw.until_end()
        assert errors(found) == expected
        assert all(fields(contents)["S"] == "FATAL" for tag, contents in found if tag == b"E")


@pytest.mark.parametrize("case", SASL)
def test_within_the_login(gateway: Gateway, neighbour: Raw, case: str) -> None:
    data, expected = SASL[case]
    with connected(gateway.dsn) as raw:
        raw.send(startup({"user": "app"}))
        assert raw.receive()[0] == b"R"
        raw.send(data)
        assert errors(raw.until_end()) == expected


def test_who_is_unknown_learns_no_more_than_who_is_wrong(gateway: Gateway) -> None:
    def told(user: str) -> str:
        with connected(gateway.dsn) as raw:
            raw.send(startup({"user": user, "database": "app"}))
            with pytest.raises(AssertionError) as raised:
                raw.prove("wrong")
            return str(raised.value).replace(user, "USER")

    assert "28P01" in told("app")
    assert told("app") == told("nobody")


@pytest.mark.parametrize("case", FATAL)
def test_messages_that_end_the_session(gateway: Gateway, neighbour: Raw, case: str) -> None:
    with session(gateway.dsn) as raw:
        raw.ask("BEGIN")
        raw.send(FATAL[case])
        assert errors(raw.until_end())[-1:] == ["08P01"]


@pytest.mark.parametrize("case", SURVIVED)
def test_messages_that_the_session_survives(gateway: Gateway, neighbour: Raw, case: str) -> None:
    said = []
    for dsn in (gateway.direct, gateway.dsn):
        with session(dsn) as raw:
            raw.send(SURVIVED[case])
            said.append(errors(raw.until_ready()))
            assert rows(raw.ask("SELECT 7")) == [("7",)]
    assert said[0] == said[1]


def test_a_query_in_the_middle_of_a_copy(gateway: Gateway, neighbour: Raw) -> None:
    with session(gateway.dsn) as raw:
        raw.ask("CREATE TEMP TABLE t (a int)")
        raw.send(query("COPY t FROM STDIN"))
        assert raw.receive()[0] == b"G"
        raw.send(message(b"d", b"1\n") + query("SELECT 1"))
        assert all(tag in b"EN" for tag, _ in raw.until_end())


WHOLE = (
    query("BEGIN"),
    parse("s", "SELECT generate_series(1, 3), $1::text"),
    message(b"D", b"S" + text("s")),
    bind("p", "s", b"x"),
    message(b"D", b"P" + text("p")),
    execute("p", 2),
    FLUSH,
    execute("p"),
    message(b"C", b"P" + text("p")),
    SYNC,
    query("COPY (SELECT generate_series(1, 100)) TO STDOUT"),
    query("SAVEPOINT a; SET work_mem = '9MB'"),
    query("CREATE TEMP TABLE t (a int) ON COMMIT DROP"),
    query("COPY t FROM STDIN"),
    message(b"d", b"1\n2\n"),
    message(b"c"),
    query("COMMIT"),
    TERMINATE,
)


def test_clients_that_leave_at_any_byte(gateway: Gateway, neighbour: Raw) -> None:
    """After each, its server connection is in a clean state or gone."""
    data = b"".join(WHOLE)
    for cut in range(0, len(data), 7):
        with session(gateway.dsn) as raw:
            raw.send(data[:cut])
    eventually(lambda: _in_use(gateway) <= 1, "all server connections are given back but the neighbour's")


def _in_use(gateway: Gateway) -> int:
    with session(gateway.direct) as raw:
        found = raw.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid() AND usename = 'app'"
        )
    return int(rows(found)[0][0] or 0)


@pytest.mark.parametrize("seed", range(8))
def test_messages_at_random(gateway: Gateway, neighbour: Raw, seed: int) -> None:
    """Valid messages with bytes changed, taken out and put in, in any order. The answer is always whole messages."""
    chance = random.Random(seed)
    for _ in range(25):
        parts = [bytearray(chance.choice(WHOLE)) for _ in range(chance.randint(1, 12))]
        for part in parts:
            for _ in range(chance.choice((0, 0, 1, 3))):
                at = chance.randrange(len(part))
                match chance.randrange(3):
                    case 0:
                        part[at] = chance.randrange(256)
                    case 1 if len(part) > 1:
                        del part[at]
                    case _:
                        part.insert(at, chance.choice((0, 1, 255, 0x51)))
        with session(gateway.dsn) as raw:
            raw.send(b"".join(parts) + SYNC)
            with contextlib.suppress(OSError):
                raw.socket.shutdown(socket.SHUT_WR)
            raw.until_end()


def test_who_reads_nothing_costs_nothing(gateway: Gateway, neighbour: Raw) -> None:
    """Two results of 2 GB each, a pipeline without end, and messages that are announced and never come."""
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            reader = stack.enter_context(session(gateway.dsn))
            reader.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 2000000)"))
        sender = stack.enter_context(session(gateway.dsn))
        sent = _send_until_stuck(sender, query("SELECT repeat('x', 10000)") * 1000)
        assert sent < 32 * MIB
        for _ in range(50):
            announcer = stack.enter_context(session(gateway.dsn))
            announcer.send(b"Q" + INT(200 * MIB) + b"SELECT 1")
        for _ in range(20):
            assert rows(neighbour.ask("SELECT a FROM mine")) == [("42",)]
        assert process.memory_info().rss - before < 64 * MIB
    eventually(lambda: _in_use(gateway) <= 1, "what nobody waits for is cancelled")


def _send_until_stuck(raw: Raw, data: bytes) -> int:
    """How much of it, over and over, is taken before nothing more is for a second."""
    raw.socket.settimeout(1)
    sent = 0
    while sent < 64 * MIB:
        try:
            sent += raw.socket.send(data)
        except TimeoutError:
            break
    return sent


def test_more_statements_than_a_session_may_have(gateway: Gateway, neighbour: Raw) -> None:
    with session(gateway.dsn) as raw:
        for start in range(0, 10_000, 1000):
            raw.send(b"".join(parse(f"s{number}", "SELECT 1") for number in range(start, start + 1000)) + SYNC)
            assert errors(raw.until_ready()) == []
        raw.send(parse("more", "SELECT 1") + SYNC)
        assert errors(raw.until_ready()) == ["54000"]
        raw.send(message(b"C", b"S" + text("s0")) + parse("more", "SELECT 1") + SYNC)
        assert errors(raw.until_ready()) == []


def test_a_connection_that_says_nothing_is_closed(gateway: Gateway) -> None:
    with connected(gateway.dsn) as raw, pytest.raises(Ended):
        raw.receive()
