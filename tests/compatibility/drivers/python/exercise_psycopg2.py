"""psycopg2: sessions' characteristics, server-side cursors, COPY, notifications, large objects, its pool."""

from __future__ import annotations

import io
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extras
import psycopg2.pool
from checks import ADDRESS, CHECKS, LEAKS, check, run_all, told

Connection = psycopg2.extensions.connection


@contextmanager
def connect(**options: Any) -> Iterator[Connection]:
    connection = psycopg2.connect(**ADDRESS, **options)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: Connection, sql: str, arguments: Any = None) -> Any:
    """The rows of a statement, or what its error says."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(sql, arguments)
            return [list(row) for row in cursor.fetchall()] if cursor.description else cursor.statusmessage
        except psycopg2.Error as error:
            return told(error)


@check("values and errors")
def values() -> Any:
    with connect() as connection:
        connection.autocommit = True
        return [
            ask(connection, "SELECT %s + 1, %s, %s::bytea, %s", (1, "né", b"\0\xff", None)),
            ask(connection, "SELECT %s", ([1, 2, 3],)),
            ask(connection, "SELECT 1 / 0"),
            ask(connection, "SELEC"),
            ask(connection, "SELECT * FROM nosuch"),
            ask(connection, "SELECT 1; SELECT 2"),
            ask(connection, "SELECT 1; SELECT 1 / 0"),
            ask(connection, "SELECT length(%s)", ("x" * 10_000_000,)),
        ]


def _session(isolation: str, readonly: bool, deferrable: bool, autocommit: bool) -> Callable[[], Any]:
    def run() -> Any:
        with connect() as connection:
            connection.set_session(isolation, readonly, deferrable, autocommit)
            got = []
            for _ in range(3):
                got += [
                    ask(connection, f"SHOW {name}")
                    for name in ("transaction_isolation", "transaction_read_only", "transaction_deferrable")
                ]
                got.append(ask(connection, "INSERT INTO items (name) VALUES ('psycopg2')"))
                connection.rollback()
            connection.set_session("DEFAULT", "DEFAULT", "DEFAULT", autocommit)
            return [*got, ask(connection, "SHOW transaction_isolation"), ask(connection, "SHOW transaction_read_only")]

    return run


for _isolation in ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"):
    for _readonly in (False, True):
        for _autocommit in (False, True):
            _name = f"set_session: {_isolation}, read only {_readonly}, autocommit {_autocommit}"
            CHECKS[_name] = _session(_isolation, _readonly, _isolation == "SERIALIZABLE", _autocommit)


@check("named cursors")
def named_cursors() -> Any:
    with connect() as connection:
        with connection.cursor("mine") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT generate_series(1, 1000)")
            total = sum(row[0] for row in cursor)
        with connection.cursor("scrolled", scrollable=True) as cursor:
            cursor.execute("SELECT generate_series(1, 100)")
            cursor.scroll(50)
            scrolled = [cursor.fetchone()[0]]
            cursor.scroll(-10)
            scrolled.append(cursor.fetchone()[0])
        with connection.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT generate_series(1, 100)")
            connection.commit()
            held = len(cursor.fetchall())
        return total, scrolled, held, ask(connection, "SELECT count(*) FROM pg_cursors WHERE name IN ('mine', 'held')")


@check("execute_values and execute_batch")
def execute_values() -> Any:
    with connect() as connection, connection.cursor() as cursor:
        rows = [(f"values {n}", n) for n in range(1000)]
        made = psycopg2.extras.execute_values(
            cursor, "INSERT INTO items (name, amount) VALUES %s RETURNING amount", rows, page_size=100, fetch=True
        )
        psycopg2.extras.execute_batch(cursor, "INSERT INTO items (name, amount) VALUES (%s, %s)", rows, page_size=100)
        connection.commit()
        return len(made), ask(connection, "SELECT count(*), sum(amount) FROM items WHERE name LIKE 'values%'")


@check("copy")
def copy() -> Any:
    with connect() as connection:
        connection.autocommit = True
        got = [ask(connection, "CREATE TABLE copied (n int PRIMARY KEY, name text)")]
        text = "".join(f"{n}\tname {n}\n" for n in range(5000))
        with connection.cursor() as cursor:
            for again in range(2):
                try:
                    cursor.copy_expert("COPY copied FROM STDIN", io.StringIO(text))
                    got.append(cursor.rowcount)
                except psycopg2.Error as error:
                    got.append(told(error))
                got.append((again, ask(connection, "SELECT count(*) FROM copied")))
            out = io.StringIO()
            cursor.copy_expert("COPY (SELECT * FROM copied ORDER BY n) TO STDOUT WITH CSV", out)
            got.append(len(out.getvalue()))
        return got


@check("notifies")
def notifies() -> Any:
    with connect() as listener, connect() as sender:
        listener.autocommit = sender.autocommit = True
        got = [ask(listener, "LISTEN news")]
        for n in range(3):
            ask(sender, f"NOTIFY news, 'payload {n}'")
            while not listener.notifies:
                select.select([listener], [], [], 10)
                listener.poll()
            got += [(each.channel, each.payload) for each in listener.notifies]
            listener.notifies.clear()
        return [*got, ask(listener, "UNLISTEN *")]


@check("cancel")
def cancel() -> Any:
    with connect() as connection:
        connection.autocommit = True
        got = []
        for _ in range(2):
            ended = threading.Event()

            def work(ended: threading.Event = ended) -> None:
                # A request that comes before the statement has no effect, so it is repeated.
                while not ended.wait(0.1):
                    connection.cancel()

            thread = threading.Thread(target=work)
            thread.start()
            got.append(ask(connection, "SELECT pg_sleep(15)"))
            ended.set()
            thread.join()
            got.append(ask(connection, "SELECT 'after'"))
        return got


@check("large object")
def large_object() -> Any:
    with connect() as connection:
        made = connection.lobject(0, "wb")
        written = made.write(b"a large object")
        made.close()
        read = connection.lobject(made.oid, "rb")
        read.seek(2)
        got = read.read(5).decode()
        read.close()
        read.unlink()
        connection.commit()
        return written, got


@check("two-phase commit")
def two_phase() -> Any:
    with connect() as connection:
        got = []
        for end in ("commit", "rollback"):
            connection.tpc_begin(connection.xid(1, "psycopg2-" + ADDRESS["database"], end))
            got.append(ask(connection, "INSERT INTO items (name) VALUES ('two phases')"))
            connection.tpc_prepare()
            connection.tpc_commit() if end == "commit" else connection.tpc_rollback()
            got.append(ask(connection, "SELECT count(*) FROM items WHERE name = 'two phases'"))
            connection.rollback()
        return got


@check("set_client_encoding, reset")
def encoding() -> Any:
    with connect() as connection:
        connection.set_client_encoding("LATIN1")
        got = [connection.encoding, ask(connection, "SELECT %s, length(%s)", ("é", "é"))]
        connection.reset()
        return [*got, connection.encoding, ask(connection, "SHOW client_encoding")]


@check("start-up options")
def options() -> Any:
    with connect(options="-c app.x=started -c TimeZone=Asia/Tokyo", application_name="mine") as connection:
        connection.autocommit = True
        question = "SELECT current_setting('app.x'), current_setting('TimeZone'), current_setting('application_name')"
        got = [ask(connection, question)]
        for sql in ("SET app.x = 'other'", "RESET ALL", "SET TimeZone = 'UTC'", "DISCARD ALL"):
            got += [ask(connection, sql), ask(connection, question)]
        return got


def _probe(connection: Connection, *questions: str) -> Any:
    got = [ask(connection, question) for question in questions]
    connection.rollback()
    return got


def _leak(way: list[str], reset: bool) -> Callable[[], Any]:
    def run() -> Any:
        pool = psycopg2.pool.SimpleConnectionPool(1, 1, **ADDRESS)
        first = pool.getconn()
        first.autocommit = True
        got: dict[str, Any] = {"changes": [ask(first, sql) for sql in way]}
        if reset:
            try:
                first.reset()
            except psycopg2.Error as error:
                got["reset"] = told(error)
        first.autocommit = False if first.info.transaction_status == 0 else first.autocommit
        pool.putconn(first)
        second = pool.getconn()
        got["next user of the pool"] = _probe(second, LEAKS["probe"], LEAKS["lock"])
        with connect() as other:
            got["another client"] = _probe(other, LEAKS["probe"], LEAKS["lock"])
        pool.putconn(second)
        pool.closeall()
        with connect() as other:
            got["another client after the pool's end"] = _probe(other, LEAKS["probe"])
        return got

    return run


for _way, _statements in LEAKS["ways"].items():
    CHECKS[f"leak, no reset: {_way}"] = _leak(_statements, reset=False)
    CHECKS[f"leak, reset(): {_way}"] = _leak(_statements, reset=True)

run_all()
