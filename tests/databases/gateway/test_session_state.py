"""What belongs to a session holds whichever server connection serves it, and nothing of it reaches another session."""

from __future__ import annotations

import contextlib
from uuid import uuid4

import psycopg
import pytest
from psycopg import ClientCursor, errors, sql
from trimaran.databases.postgres import EmbeddedNode

from tests.support.gateways import Gateway, start_gateway, superuser

Connection = psycopg.Connection

pytestmark = pytest.mark.usefixtures("crowd")


def show(connection: Connection, name: str) -> str:
    row = connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(name)), prepare=False).fetchone()
    assert row
    return str(row[0])


def test_settings_hold_and_are_reset(connection: Connection) -> None:
    for _ in range(5):
        connection.execute("SET work_mem = '7MB'; SET TIME ZONE 'Asia/Tokyo'")
        assert (show(connection, "work_mem"), show(connection, "timezone")) == ("7MB", "Asia/Tokyo")
        assert connection.info.parameter_status("TimeZone") == "Asia/Tokyo"
        connection.execute("RESET timezone")
        assert (show(connection, "work_mem"), show(connection, "timezone")) == ("7MB", "UTC")
        connection.execute("SELECT set_config('work_mem', '9MB', false)")
        assert show(connection, "work_mem") == "9MB"
        connection.execute("DISCARD ALL")
        assert show(connection, "work_mem") == "4MB"


def test_settings_follow_transactions(connection: Connection) -> None:
    connection.execute("SET work_mem = '5MB'")
    connection.execute("BEGIN")
    connection.execute("SET work_mem = '6MB'")
    connection.execute("SET LOCAL temp_buffers = '9MB'")
    assert show(connection, "work_mem") == "6MB"
    connection.execute("ROLLBACK")
    assert show(connection, "work_mem") == "5MB"
    assert show(connection, "temp_buffers") == "8MB"
    connection.execute("BEGIN; SET work_mem = '6MB'")
    connection.execute("ROLLBACK")
    assert show(connection, "work_mem") == "5MB"
    connection.execute("BEGIN; SET work_mem = '6MB'; COMMIT")
    assert show(connection, "work_mem") == "6MB"
    with pytest.raises(errors.DivisionByZero):
        connection.execute("SET work_mem = '7MB'; SELECT 1 / 0")
    assert show(connection, "work_mem") == "6MB"


def test_settings_follow_savepoints(connection: Connection) -> None:
    connection.execute("SET work_mem = '5MB'; BEGIN; SET work_mem = '6MB'")
    connection.execute("SAVEPOINT a")
    connection.execute("SET work_mem = '7MB'")
    connection.execute("SAVEPOINT b; SET work_mem = '8MB'")
    connection.execute("RELEASE b")
    with pytest.raises(errors.DivisionByZero):
        connection.execute("SELECT 1 / 0")
    connection.execute("ROLLBACK TO a")
    connection.execute("COMMIT")
    for _ in range(5):
        assert show(connection, "work_mem") == "6MB"
    with connection.transaction(), contextlib.suppress(errors.DivisionByZero), connection.transaction():
        connection.execute("SET work_mem = '9MB'")
        connection.execute("SELECT 1 / 0")
    for _ in range(5):
        assert show(connection, "work_mem") == "6MB"


def test_settings_of_a_failed_text_that_has_committed_reach_nobody(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn, autocommit=True) as connection, pytest.raises(errors.DivisionByZero):
        connection.execute("BEGIN; SET work_mem = '123MB'; COMMIT; SELECT 1 / 0")
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            other = stack.enter_context(psycopg.connect(gateway.dsn))
            assert show(other, "work_mem") == "4MB"


def test_a_statement_that_is_only_prepared_sets_nothing(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn, autocommit=True) as connection:
        connection.pgconn.prepare(b"later", b"SET work_mem = '11MB'")
        for _ in range(5):
            assert show(connection, "work_mem") == "4MB"
        connection.pgconn.exec_prepared(b"later", [])
        for _ in range(5):
            assert show(connection, "work_mem") == "11MB"


def test_settings_of_the_start(dsn: str) -> None:
    options = {"options": "-c work_mem=6MB -c TimeZone=Asia/Tokyo", "application_name": "mine, \\'yours'"}
    with psycopg.connect(dsn, autocommit=True, **options) as connection:
        assert connection.info.parameter_status("TimeZone") == "Asia/Tokyo"
        assert connection.info.parameter_status("application_name") == "mine, \\'yours'"
        for _ in range(3):
            assert show(connection, "work_mem") == "6MB"
            connection.execute("SET work_mem = '7MB'; SET TIME ZONE 'UTC'")
            connection.execute("RESET ALL")
            assert (show(connection, "work_mem"), show(connection, "timezone")) == ("6MB", "Asia/Tokyo")
            assert connection.info.parameter_status("TimeZone") == "Asia/Tokyo"
            connection.execute("DISCARD ALL")
            assert show(connection, "timezone") == "Asia/Tokyo"
    with pytest.raises(psycopg.OperationalError, match="no_such_setting"):
        psycopg.connect(dsn, options="-c no_such_setting=1")


@pytest.mark.parametrize("encoding", ["latin1", "sjis", "euc_jp", "win1252"])
def test_encodings(dsn: str, encoding: str) -> None:
    text = "é'\\" if encoding in ("latin1", "win1252") else "ソ表'\\"
    with psycopg.connect(dsn, autocommit=True, client_encoding=encoding) as connection:
        for _ in range(3):
            assert connection.execute("SELECT %s::text", [text]).fetchone() == (text,)
            literal = text.replace("'", "''")
            assert connection.execute(f"SELECT '{literal}', 1").fetchone() == (text, 1)
            assert ClientCursor(connection).execute("SELECT %s, %s", [text, "x"]).fetchone() == (text, "x")
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert connection.info.encoding == "utf-8"
        connection.execute(f"SET client_encoding TO {encoding}")
        assert connection.execute("SELECT %s::text", [text]).fetchone() == (text,)
        connection.execute("RESET client_encoding")
        assert connection.execute("SELECT 'ä\u20ac'").fetchone() == ("ä\u20ac",)


def test_what_lives_on_one_server_connection(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection, psycopg.connect(dsn, autocommit=True) as other:
        connection.execute("CREATE TEMP TABLE mine (a int)")
        connection.execute("SELECT pg_advisory_lock(4711)")
        connection.execute("DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)")
        connection.execute("CREATE SEQUENCE IF NOT EXISTS numbers")
        connection.execute("SELECT nextval('numbers')")
        for number in range(5):
            connection.execute("INSERT INTO mine VALUES (%s)", [number])
            assert connection.execute("SELECT currval('numbers') > 0").fetchone() == (True,)
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (5,)
        assert connection.execute("FETCH 2 FROM held").fetchall() == [(1,), (2,)]
        assert other.execute("SELECT pg_try_advisory_lock(4711)").fetchone() == (False,)
        with pytest.raises(errors.UndefinedTable):
            other.execute("SELECT * FROM mine")
        connection.execute("DISCARD ALL")
        assert other.execute("SELECT pg_try_advisory_lock(4711)").fetchone() == (True,)
        other.execute("SELECT pg_advisory_unlock_all()")
        with pytest.raises(errors.UndefinedTable):
            connection.execute("SELECT * FROM mine")
        connection.execute("DROP SEQUENCE numbers")


def test_a_statement_means_what_its_session_sees(dsn: str) -> None:
    """Two schemas with tables of one name and other columns, and statements of one text."""
    schemas = [f"s_{uuid4().hex[:8]}" for _ in range(2)]
    with psycopg.connect(dsn, autocommit=True) as owner, contextlib.ExitStack() as stack:
        for schema, column in zip(schemas, ("int", "text"), strict=True):
            owner.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (a {column})")
            owner.execute(f"INSERT INTO {schema}.t VALUES ('1')")
        sessions = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for _ in range(4)]
        for number, session in enumerate(sessions):
            session.execute(f"SET search_path TO {schemas[number % 2]}")
        for _ in range(10):
            for number, session in enumerate(sessions):
                row = session.execute("SELECT * FROM t", prepare=True).fetchone()
                assert row == ((1,), ("1",))[number % 2]
        for schema in schemas:
            owner.execute(f"DROP SCHEMA {schema} CASCADE")


def test_definitions_are_seen_by_statements_prepared_after_them(dsn: str) -> None:
    table = f"t_{uuid4().hex[:12]}"
    with contextlib.ExitStack() as stack:
        first, *others = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for _ in range(5)]
        first.execute(f"CREATE TABLE {table} (a int)")
        first.execute(f"INSERT INTO {table} VALUES (1)")
        # Often enough that it is prepared on whatever connection comes: one without it would answer with the new columns.
        for other in others * 10:
            assert other.execute(f"SELECT * FROM {table}", prepare=True).fetchone() == (1,)
        first.execute(f"ALTER TABLE {table} ALTER a TYPE text")
        for _ in range(5):
            session = stack.enter_context(psycopg.connect(dsn, autocommit=True))
            assert session.execute(f"SELECT * FROM {table}", prepare=True).fetchone() == ("1",)
        # One that keeps what it has prepared is told so, as PostgreSQL does.
        with pytest.raises(errors.FeatureNotSupported, match="cached plan"):  # noqa: PT012 - what raises is the block's end
            for other in others * 10:
                other.execute(f"SELECT * FROM {table}", prepare=True)
        first.execute(f"DROP TABLE {table}")


def test_databases_are_made_and_dropped_while_the_pool_knows_them(gateway: Gateway) -> None:
    name = f"d_{uuid4().hex[:12]}"
    for address in (superuser(gateway.node), gateway.through(superuser(gateway.node))):
        with psycopg.connect(address, autocommit=True) as connection:
            made = psycopg.conninfo.make_conninfo(address, dbname=name)
            for _ in range(2):
                connection.execute(f"CREATE DATABASE {name}")
                connection.execute(f"ALTER DATABASE {name} SET work_mem = '12MB'")
                for _ in range(3):
                    with psycopg.connect(made) as other:
                        assert show(other, "work_mem") == "12MB"
                connection.execute(f"ALTER DATABASE {name} SET work_mem = '13MB'")
                with psycopg.connect(made) as other:
                    assert show(other, "work_mem") == "13MB"
                connection.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
                connection.execute(f"ALTER DATABASE {name} RENAME TO {name}_old")
                connection.execute(f"DROP DATABASE {name}_old")
                connection.execute(f"DROP DATABASE {name}_copy")
                with pytest.raises(psycopg.OperationalError, match="does not exist"):
                    psycopg.connect(made)


def test_deallocating_by_name_in_a_pipeline(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name in (b"one", b"Two"):
            assert connection.pgconn.prepare(name, b"SELECT 1").status == psycopg.pq.ExecStatus.COMMAND_OK
        for statement in (b"DEALLOCATE one", b'deallocate prepare "Two"'):
            result = connection.pgconn.exec_params(statement, None)
            assert (result.status, result.command_status) == (psycopg.pq.ExecStatus.COMMAND_OK, b"DEALLOCATE")
        for name in (b"one", b"Two"):
            assert connection.pgconn.exec_prepared(name, []).status == psycopg.pq.ExecStatus.FATAL_ERROR
            assert connection.pgconn.prepare(name, b"SELECT 2").status == psycopg.pq.ExecStatus.COMMAND_OK
        result = connection.pgconn.exec_params(b"DEALLOCATE ALL", None)
        assert result.command_status == b"DEALLOCATE ALL"
        for name in (b"one", b"Two"):
            assert connection.pgconn.exec_prepared(name, []).status == psycopg.pq.ExecStatus.FATAL_ERROR
            assert connection.pgconn.prepare(name, b"SELECT 2").status == psycopg.pq.ExecStatus.COMMAND_OK


def test_statements_of_others_outlive_a_deallocate_all(gateway: Gateway) -> None:
    """Which runs on a server connection that knows statements of others, and may fail halfway."""
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(psycopg.connect(gateway.dsn, autocommit=True)) for _ in range(4)]
        rude = stack.enter_context(psycopg.connect(gateway.dsn, autocommit=True))
        for turn in range(20):
            for other in others:
                assert other.execute("SELECT %s + 1", [turn], prepare=True).fetchone() == (turn + 1,)
            with contextlib.suppress(errors.DivisionByZero):
                rude.execute("DEALLOCATE ALL; SELECT 1 / 0")
            rude.pgconn.exec_params(b"DEALLOCATE ALL", None)


def test_roles_hold(gateway: Gateway) -> None:
    """Settings that only a superuser may make are made before the session becomes another role."""
    for dsn in (superuser(gateway.node), gateway.through(superuser(gateway.node))):
        with contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for _ in range(4)]
            for number, session in enumerate(sessions):
                session.execute("SET session_replication_role = replica")
                session.execute(f"SET work_mem = '{number + 5}MB'")
                session.execute(f"SET ROLE {('app', 'builder')[number % 2]}")
            for _ in range(5):
                for number, session in enumerate(sessions):
                    row = session.execute("SELECT current_user, current_setting('work_mem')").fetchone()
                    assert row == (("app", "builder")[number % 2], f"{number + 5}MB")
            for session in sessions:
                session.execute("RESET ROLE")
                assert session.execute("SELECT current_user").fetchone() == ("trimaran",)


def test_settings_of_a_batch_that_fails_after_a_flush_are_undone(gateway: Gateway) -> None:
    for dsn in (gateway.direct, gateway.dsn):
        with psycopg.connect(dsn, autocommit=True) as connection:
            with pytest.raises(errors.DivisionByZero), connection.pipeline():  # noqa: PT012 - what raises is the block's end
                connection.execute("SELECT set_config('work_mem', '8MB', false)").fetchone()
                connection.execute("SELECT 1 / 0")
            for _ in range(3):
                assert show(connection, "work_mem") == "4MB"


def test_long_statements_do_not_keep_their_connection(primary: EmbeddedNode) -> None:
    """Two sessions on one server connection; a client that writes its values into its statements has very long ones."""
    one = start_gateway(primary, connections_max=1, checkout_timeout_ms=2000)
    try:
        with psycopg.connect(one.dsn, autocommit=True) as first, psycopg.connect(one.dsn, autocommit=True) as second:
            first.execute("CREATE TABLE long (n int, text text)")
            cursor = ClientCursor(first)
            cursor.execute("INSERT INTO long VALUES (1, %s)", ["x'\\" * 500_000])
            second.execute("SELECT 1")
            row_values = sql.SQL(",").join(sql.SQL("({}, {})").format(n, f"text {n}") for n in range(100_000))
            cursor.execute(sql.SQL("INSERT INTO long VALUES {}").format(row_values))
            second.execute("SELECT 1")
            counted = first.execute("SELECT count(*), max(length(text)) FROM long").fetchone()
            assert counted == (100_001, 1_500_000)
            second.execute("DROP TABLE long")
    finally:
        one.stop()
