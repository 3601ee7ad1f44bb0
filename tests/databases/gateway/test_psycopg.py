"""psycopg 3 in all its ways of asking, directly and through the gateway."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors, pq
from psycopg.rows import dict_row

Connection = psycopg.Connection


@pytest.fixture
def table(connection: Connection) -> Iterator[str]:
    """A table of numbers and texts, with a thousand rows."""
    name = f"t_{uuid4().hex[:12]}"
    connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, text text)")
    connection.execute(f"INSERT INTO {name} SELECT n, 'text ' || n FROM generate_series(1, 1000) n")
    yield name
    if connection.broken or connection.closed:
        return
    connection.rollback()
    connection.execute(f"DROP TABLE {name}")


def value(connection: Connection, statement: str, *parameters: object) -> object:
    row = connection.execute(statement, parameters or None).fetchone()  # type: ignore[arg-type]
    assert row
    return row[0]


def test_types_go_both_ways_in_text_and_binary(connection: Connection) -> None:
    values = [1, 2**40, 1.5, "ä\u20ac\U0001f600", b"\x00\xff", True, None, [1, 2, None], {"a": [1]}]
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            for each in values:
                sent = psycopg.types.json.Jsonb(each) if isinstance(each, dict) else each
                assert cursor.execute("SELECT %s", [sent]).fetchone() == (each,)
                placeholder = "%b" if binary else "%t"
                assert cursor.execute(f"SELECT {placeholder}", [sent]).fetchone() == (each,)


def test_transactions_commit_and_roll_back(connection: Connection, table: str) -> None:
    with connection.transaction():
        connection.execute(f"DELETE FROM {table} WHERE id <= 10")
        with contextlib.suppress(errors.DivisionByZero), connection.transaction():
            connection.execute(f"DELETE FROM {table}")
            connection.execute("SELECT 1 / 0")
        assert connection.info.transaction_status == pq.TransactionStatus.INTRANS
    assert value(connection, f"SELECT count(*) FROM {table}") == 990
    connection.autocommit = False
    connection.execute(f"DELETE FROM {table}")
    with pytest.raises(errors.UndefinedTable):
        connection.execute("SELECT * FROM none_such")
    with pytest.raises(errors.InFailedSqlTransaction):
        connection.execute("SELECT 1")
    connection.rollback()
    connection.autocommit = True
    assert value(connection, f"SELECT count(*) FROM {table}") == 990


def test_errors_carry_all_that_the_server_says(connection: Connection, table: str) -> None:
    with pytest.raises(errors.UniqueViolation) as raised:
        connection.execute(f"INSERT INTO {table} VALUES (1, 'again')")
    said = raised.value.diag
    assert (said.table_name, said.constraint_name, said.sqlstate) == (table, f"{table}_pkey", "23505")
    assert said.message_detail == "Key (id)=(1) already exists."
    with pytest.raises(errors.SyntaxError) as wrong:
        connection.execute("SELECT FROM WHERE")
    assert wrong.value.diag.statement_position == "13"
    with pytest.raises(errors.IndeterminateDatatype):
        connection.execute("SELECT %s IS NULL", [None], prepare=True)


def test_statements_are_prepared_by_count_and_on_request(connection: Connection, table: str) -> None:
    connection.prepare_threshold = 2
    for number in range(1, 30):
        assert value(connection, f"SELECT text FROM {table} WHERE id = %s", number) == f"text {number}"
    for number in range(5):
        assert connection.execute("SELECT %s + 1", [number], prepare=True).fetchone() == (number + 1,)
    # More than are kept: the oldest are deallocated.
    connection.prepared_max = 3
    for number in range(12):
        query = f"SELECT %s + {number}"
        assert connection.execute(query, [1], prepare=True).fetchone() == (number + 1,)
    assert connection.execute("SELECT %s + 1", [1], prepare=True).fetchone() == (2,)


def test_prepared_statements_of_many_clients(dsn: str, crowd: None) -> None:
    """Each client calls its statements `_pg3_0` and so on, and they share server connections."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for _ in range(8)]
        for turn in range(20):
            for number, client in enumerate(clients):
                client.prepare_threshold = 0
                # Another statement under the same name.
                assert value(client, f"SELECT %s || '{number}'", f"{turn}-") == f"{turn}-{number}"


def test_what_is_prepared_is_forgotten(connection: Connection) -> None:
    connection.execute("SELECT %s + 1", [1], prepare=True)
    connection.execute("DEALLOCATE ALL")
    connection.execute("SELECT 1")
    connection.execute("PREPARE mine AS SELECT $1::int * 2")
    assert value(connection, "EXECUTE mine (21)") == 42
    connection.execute("DEALLOCATE mine")
    with pytest.raises(errors.InvalidSqlStatementName):
        connection.execute("EXECUTE mine (21)")
    with pytest.raises(errors.InvalidSqlStatementName):
        connection.execute("DEALLOCATE mine")


def test_pipelines(connection: Connection, table: str) -> None:
    with connection.pipeline():
        cursors = [connection.execute(f"SELECT id, text FROM {table} WHERE id = %s", [n]) for n in range(1, 200)]
        connection.execute(f"UPDATE {table} SET text = 'changed' WHERE id = 1")
        after = connection.execute(f"SELECT text FROM {table} WHERE id = 1")
    assert [cursor.fetchone() for cursor in cursors] == [(n, f"text {n}") for n in range(1, 200)]
    assert after.fetchone() == ("changed",)


def test_an_error_within_a_pipeline_ends_it_up_to_its_sync(connection: Connection, table: str) -> None:
    with connection.pipeline() as pipeline:
        connection.execute(f"DELETE FROM {table} WHERE id = 1")
        pipeline.sync()
        first = connection.execute(f"DELETE FROM {table} WHERE id = 2")
        # It fails late enough: psycopg raises the error in whatever call comes after it has arrived.
        wrong = connection.execute("SELECT 1 / (count(*) - 1) FROM pg_sleep(0.5)")
        skipped = connection.execute(f"DELETE FROM {table} WHERE id = 3")

        def until_told() -> None:
            # Raises already if the answer is there by then.
            pipeline.sync()
            wrong.fetchone()

        with pytest.raises(errors.DivisionByZero):
            until_told()
        assert wrong.pgresult is None
        with pytest.raises(psycopg.ProgrammingError):
            skipped.fetchone()
        assert first.rowcount == 1
        assert connection.execute("SELECT 1").fetchone() == (1,)
    # Up to the first sync it is done; the rest was one transaction.
    assert value(connection, f"SELECT array_agg(id ORDER BY id) FROM {table} WHERE id < 5") == [2, 3, 4]


def test_a_pipeline_within_a_transaction(connection: Connection, table: str) -> None:
    with connection.pipeline(), connection.transaction():
        connection.execute(f"DELETE FROM {table} WHERE id = %s", [1])
        with connection.transaction():
            connection.execute(f"DELETE FROM {table} WHERE id = %s", [2])
        count = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert count == (998,)
    with pytest.raises(errors.UndefinedColumn), connection.pipeline(), connection.transaction():  # noqa: PT012 - what raises is the block's end
        connection.execute(f"DELETE FROM {table}")
        connection.execute(f"SELECT none_such FROM {table}")
    assert value(connection, f"SELECT count(*) FROM {table}") == 998


def test_many_rows_with_executemany(connection: Connection, table: str) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s)", [(n, "more") for n in range(1001, 4001)])
        assert cursor.rowcount == 3000
        cursor.executemany("SELECT %s + 1", [(n,) for n in range(50)], returning=True)
        found = []
        while True:
            found.append(cursor.fetchone())
            if not cursor.nextset():
                break
        assert found == [(n + 1,) for n in range(50)]


def test_cursors_of_the_server(connection: Connection, table: str) -> None:
    with connection.transaction(), connection.cursor("names", scrollable=True, row_factory=dict_row) as cursor:
        cursor.execute(f"SELECT id, text FROM {table} ORDER BY id")
        assert cursor.fetchmany(2) == [{"id": 1, "text": "text 1"}, {"id": 2, "text": "text 2"}]
        cursor.scroll(100)
        assert cursor.fetchone() == {"id": 103, "text": "text 103"}
        cursor.itersize = 100
        assert sum(1 for _ in cursor) == 897
    with connection.cursor("held", withhold=True) as held:
        held.execute(f"SELECT id FROM {table} ORDER BY id")
        assert held.fetchmany(3) == [(1,), (2,), (3,)]
        assert held.fetchone() == (4,)


def test_results_one_row_at_a_time(connection: Connection, table: str) -> None:
    with connection.cursor() as cursor:
        assert sum(row[0] for row in cursor.stream(f"SELECT id FROM {table}")) == 500_500
        stream = cursor.stream("SELECT n FROM generate_series(1, 100000) n")
        assert next(stream) == (1,)
        stream.close()
    assert value(connection, "SELECT 1") == 1


def test_copy_both_ways(connection: Connection, table: str) -> None:
    with connection.cursor() as cursor:
        for form in ("TEXT", "BINARY"):
            connection.execute(f"TRUNCATE {table}")
            with cursor.copy(f"COPY {table} FROM STDIN (FORMAT {form})") as copy:
                copy.set_types(["int4", "text"])
                for number in range(20_000):
                    copy.write_row((number, f"line {number}\n"))
            assert value(connection, f"SELECT count(*) FROM {table}") == 20_000
            with cursor.copy(f"COPY {table} TO STDOUT (FORMAT {form})") as copy:
                copy.set_types(["int4", "text"])
                assert sum(row[0] for row in copy.rows()) == sum(range(20_000))


def test_copies_that_fail_on_either_side(connection: Connection, table: str) -> None:
    with connection.cursor() as cursor:
        with pytest.raises(errors.UniqueViolation), cursor.copy(f"COPY {table} FROM STDIN") as copy:  # noqa: PT012 - what raises is the block's end
            for number in range(100_000):
                copy.write_row((number, "again"))
        with pytest.raises(ZeroDivisionError), cursor.copy(f"COPY {table} FROM STDIN") as copy:  # noqa: PT012 - what raises is the block's end
            copy.write_row((5000, "x"))
            raise ZeroDivisionError
        with pytest.raises(errors.UndefinedTable), cursor.copy("COPY none_such FROM STDIN"):
            pass
        with cursor.copy(f"COPY {table} TO STDOUT") as copy:
            assert sum(1 for _ in copy.rows()) == 1000
        assert value(connection, f"SELECT count(*) FROM {table}") == 1000


def test_notifications_reach_who_listens(dsn: str, crowd: None) -> None:
    channel = f"c_{uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as listener, psycopg.connect(dsn, autocommit=True) as speaker:
        listener.execute(f"LISTEN {channel}")
        for number in range(3):
            speaker.execute("SELECT pg_notify(%s, %s)", [channel, str(number)])
        found = [(each.channel, each.payload) for each in listener.notifies(timeout=10, stop_after=3)]
        assert found == [(channel, "0"), (channel, "1"), (channel, "2")]
        listener.execute(f"NOTIFY {channel}, 'mine'")
        own = list(listener.notifies(timeout=10, stop_after=1))
        assert own[0].payload == "mine"
        assert own[0].pid > 0
        listener.execute("UNLISTEN *")
        speaker.execute(f"NOTIFY {channel}")
        assert list(listener.notifies(timeout=0.2)) == []


def test_cancelling(connection: Connection) -> None:
    for how in (connection.cancel_safe, connection.cancel):
        timer = threading.Timer(0.2, how)
        timer.start()
        with pytest.raises(errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        timer.join()
        assert value(connection, "SELECT 1") == 1


def test_notices(connection: Connection) -> None:
    seen: list[str | None] = []
    connection.add_notice_handler(lambda notice: seen.append(notice.message_primary))
    connection.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 1; END $$")
    connection.execute("DROP TABLE IF EXISTS none_such")
    assert seen == ["hello 1", 'table "none_such" does not exist, skipping']


def test_large_results_and_parameters(connection: Connection) -> None:
    large = "x" * 20_000_000
    assert value(connection, "SELECT length(%s)", large) == len(large)
    assert value(connection, "SELECT repeat('x', 20000000)") == large
    rows = connection.execute("SELECT n, repeat('y', 1000) FROM generate_series(1, 50000) n").fetchall()
    assert len(rows) == 50_000
    assert rows[-1] == (50_000, "y" * 1000)
    cursor = psycopg.ClientCursor(connection)
    row = cursor.execute("SELECT length(%s), %s::int", [large, 7]).fetchone()
    assert row == (len(large), 7)
    values = psycopg.sql.SQL(",").join(psycopg.sql.Literal(n) for n in range(100_000))
    counted = connection.execute(psycopg.sql.SQL("SELECT count(*) FROM unnest(ARRAY[{}]) n").format(values))
    assert counted.fetchone() == (100_000,)


def test_several_statements_in_one_text(connection: Connection, table: str) -> None:
    cursor = connection.execute(f"SELECT 1; SELECT 2, 3; DELETE FROM {table} WHERE id < 3; SELECT 4")
    found = []
    while True:
        found.append(cursor.fetchall() if cursor.description else cursor.rowcount)
        if not cursor.nextset():
            break
    assert found == [[(1,)], [(2, 3)], 2, [(4,)]]
    with pytest.raises(errors.DivisionByZero):
        connection.execute(f"DELETE FROM {table}; SELECT 1 / 0")
    assert value(connection, f"SELECT count(*) FROM {table}") == 998
    assert connection.execute("").description is None
    assert connection.execute(";;").description is None


def test_two_phase_commit(connection: Connection, table: str) -> None:
    try:
        ready = value(connection, "SHOW max_prepared_transactions") != "0"
    except errors.Error:
        ready = False
    if not ready:
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            connection.execute("BEGIN; PREPARE TRANSACTION 'x'")
        return
    connection.autocommit = False
    xid = connection.xid(1, f"x{uuid4().hex}", "b")
    connection.tpc_begin(xid)
    connection.execute(f"DELETE FROM {table}")
    connection.tpc_prepare()
    connection.tpc_rollback(xid)
    connection.autocommit = True


def test_large_objects(connection: Connection) -> None:
    """libpq reaches them by function calls."""
    with connection.transaction():
        number = value(connection, "SELECT lo_from_bytea(0, 'hello')")
        assert value(connection, "SELECT lo_get(%s)", number) == b"hello"
        connection.execute("SELECT lo_unlink(%s)", [number])
