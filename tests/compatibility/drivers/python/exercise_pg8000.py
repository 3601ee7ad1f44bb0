"""pg8000: everything by the extended protocol, COPY too."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pg8000.native
from checks import ADDRESS, CHECKS, LEAKS, check, run_all, told


@contextmanager
def connect(**options: Any) -> Iterator[pg8000.native.Connection]:
    connection = pg8000.native.Connection(timeout=15, **ADDRESS, **options)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: pg8000.native.Connection, sql: str, **parameters: Any) -> Any:
    """The rows of a statement, or what its error says."""
    try:
        return connection.run(sql, **parameters)
    except (pg8000.exceptions.DatabaseError, pg8000.exceptions.InterfaceError) as error:
        return told(error)


@check("values and errors")
def values() -> Any:
    with connect() as connection:
        got = []
        for _ in range(2):
            got += [
                ask(connection, "SELECT :n::int + 1, :text::text, :empty::text", n=1, text="né", empty=None),
                ask(connection, "SELECT :numbers::int[]", numbers=[1, 2, 3]),
                ask(connection, "SELECT md5(:data::bytea)", data=b"\0\xff"),
                ask(connection, "SELECT 1 / :n::int", n=0),
                ask(connection, "SELEC"),
                ask(connection, "SELECT * FROM nosuch"),
                ask(connection, "SELECT :n::int", n="no number"),
                ask(connection, "SELECT length(:text::text)", text="x" * 5_000_000),
            ]
        return got


@check("prepared statements")
def prepared() -> Any:
    with connect() as connection:
        first = connection.prepare("SELECT :n::int + 1")
        second = connection.prepare("SELECT :n::int + 1")
        got = [statement.run(n=n) for n in range(3) for statement in (first, second)]
        first.close()
        got.append(second.run(n=5))
        second.close()
        try:
            connection.prepare("SELECT * FROM nosuch")
        except pg8000.exceptions.DatabaseError as error:
            got.append(told(error))
        return [*got, ask(connection, "SELECT 1")]


@check("copy in")
def copy_in() -> Any:
    with connect() as connection:
        got = [ask(connection, "CREATE TABLE copied (n int, name text)")]
        for size in (1, 10, 20_000):
            text = "".join(f"{n}\tname {n}\n" for n in range(size))
            got.append(ask(connection, "COPY copied FROM STDIN", stream=io.StringIO(text)))
            got.append(connection.row_count)
        return [*got, ask(connection, "SELECT count(*), sum(n) FROM copied")]


@check("copy in that fails, then use")
def copy_fails() -> Any:
    with connect() as connection:
        got = [ask(connection, "CREATE TABLE copied_once (n int PRIMARY KEY)")]
        for text in ("1\n1\n", "x\n", "2\n"):
            got.append(ask(connection, "COPY copied_once FROM STDIN", stream=io.StringIO(text)))
            got.append(ask(connection, "SELECT count(*) FROM copied_once"))
        return got


@check("copy out")
def copy_out() -> Any:
    with connect() as connection:
        out = io.StringIO()
        ask(connection, "COPY (SELECT generate_series(1, 5000)) TO STDOUT", stream=out)
        return len(out.getvalue()), ask(connection, "SELECT 1")


@check("transactions")
def transactions() -> Any:
    with connect() as connection:
        got = []
        for level in ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"):
            for access in ("READ WRITE", "READ ONLY"):
                got.append(ask(connection, f"BEGIN TRANSACTION ISOLATION LEVEL {level}, {access}"))
                got.append(ask(connection, "SELECT current_setting('transaction_isolation')"))
                got.append(ask(connection, "INSERT INTO items (name) VALUES ('pg8000')"))
                got.append(ask(connection, "COMMIT"))
        return [*got, ask(connection, "SELECT count(*) FROM items WHERE name = 'pg8000'")]


@check("notifications")
def notifications() -> Any:
    with connect() as listener, connect() as sender:
        listener.run("LISTEN news")
        got = []
        for n in range(3):
            sender.run(f"NOTIFY news, 'payload {n}'")
            while not listener.notifications:
                listener.run("SELECT 1")
            got += [(channel, payload) for _, channel, payload in listener.notifications]
            listener.notifications.clear()
        return got


@check("start-up parameters")
def startup() -> Any:
    with connect(application_name="mine") as connection:
        got = [connection.parameter_statuses.get(name) for name in ("application_name", "TimeZone", "client_encoding")]
        got.append(ask(connection, "SET TimeZone = 'Asia/Tokyo'"))
        got.append(ask(connection, "SELECT '2024-01-01 00:00'::timestamptz::text"))
        return [*map(str, got), connection.parameter_statuses.get("TimeZone")]


def _leak(way: list[str]) -> Callable[[], Any]:
    def run() -> Any:
        def probe(*questions: str) -> Any:
            with connect() as other:
                return [ask(other, question) for question in questions]

        with connect() as first:
            got: dict[str, Any] = {"changes": [ask(first, sql) for sql in way]}
            got["itself"] = ask(first, LEAKS["probe"])
            got["another client"] = probe(LEAKS["probe"], LEAKS["lock"])
        got["another client after its end"] = probe(LEAKS["probe"])
        return got

    return run


for _way, _statements in LEAKS["ways"].items():
    CHECKS[f"leak, no pool: {_way}"] = _leak(_statements)

run_all()
