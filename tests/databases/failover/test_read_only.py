"""A READ ONLY transaction, a serializable one and a statement that only a standby refuses: each is answered as by a primary.

What is asked through the gateway is asked of the primary too, and the answers are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString, cast

import psycopg
import pytest

from tests.databases.failover.conftest import cluster, until_replayed
from tests.databases.gateway.raw import (
    FLUSH,
    SYNC,
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
)
from tests.support.cluster import Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(240)
OBJECTS = """
CREATE TABLE t AS SELECT generate_series(1, 100) AS x;
CREATE UNLOGGED TABLE quick AS SELECT generate_series(1, 10) AS x;
CREATE SEQUENCE numbers;
CREATE FUNCTION lock_it(key bigint) RETURNS boolean LANGUAGE sql AS 'SELECT pg_try_advisory_xact_lock(key)';
CREATE FUNCTION number_of_it() RETURNS boolean LANGUAGE plpgsql AS $$
  BEGIN PERFORM pg_current_xact_id(); RETURN true; EXCEPTION WHEN OTHERS THEN RAISE EXCEPTION 'in other words'; END $$
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("read_only"), replicas=1) as group:
        with group.connect() as connection:
            for statement in OBJECTS.split(";\n"):
                connection.execute(statement.encode())
        until_replayed(group)
        yield group


@pytest.fixture
def connection(running: Cluster) -> Iterator[psycopg.Connection[Any]]:
    with running.connect() as connection:
        until_replicas_serve(running, connection)
        yield connection


def count(running: Cluster, name: str) -> int:
    return running.facts().counts[name]


def until_replicas_serve(running: Cluster, connection: psycopg.Connection[Any]) -> None:
    def reads_there() -> bool:
        before = count(running, "replica_reads_total")
        connection.execute("SELECT count(*) FROM t")
        return count(running, "replica_reads_total") > before

    eventually(reads_there, "reads go to the replica")


def is_on_replica(running: Cluster, connection: psycopg.Connection[Any]) -> bool:
    """Where the session's transaction is, as the console says."""
    del running
    row = connection.execute("/* trimaran: replica */ SELECT pg_is_in_recovery()").fetchone()
    assert row is not None
    return bool(row[0])


def told(connection: psycopg.Connection[Any], *statements: str, prepare: bool = False) -> list[str]:
    """What each statement is answered with: rows, or the SQLSTATE and the message."""
    answers = []
    for statement in statements:
        try:
            cursor = connection.execute(cast(LiteralString, statement), prepare=prepare)
            answers.append(f"{cursor.statusmessage} {cursor.fetchall() if cursor.description else ''}".strip())
        except psycopg.Error as error:
            answers.append(f"{error.sqlstate} {error.diag.message_primary}")
    if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        connection.execute("ROLLBACK")
    return answers


ALLOWED_IN_READ_ONLY = [
    "SELECT pg_try_advisory_xact_lock(77)",
    "SELECT lock_it(78)",
    "NOTIFY x",
    "SELECT pg_notify('a', 'b')",
    "UNLISTEN *",
    "LOCK TABLE t IN ACCESS SHARE MODE",
    "LOCK TABLE t IN SHARE MODE",
    "LOCK TABLE t",
    "SELECT pg_current_xact_id() IS NULL",
    "SELECT txid_current() IS NULL",
    "SELECT number_of_it()",
    "SET TRANSACTION READ WRITE",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SELECT set_config('transaction_isolation', 'serializable', true)",
    "SET transaction_isolation = 'serializable'",
    "PREPARE TRANSACTION 'x'",
    "SELECT count(*) FROM quick",
    "EXPLAIN (COSTS OFF) SELECT * FROM quick",
    "COPY quick TO '/dev/null'",
    "DO $$ BEGIN PERFORM pg_advisory_xact_lock(3); END $$",
    "SELECT pg_is_in_recovery()",
    "SELECT pg_export_snapshot() IS NULL",
    "SELECT pg_walfile_name('0/0')",
    "SELECT pg_logical_emit_message(false, 'a', 'b') IS NULL",
    "SELECT last_value, is_called FROM pg_sequences, numbers WHERE sequencename = 'numbers'",
    "SHOW in_hot_standby",
    "INSERT INTO t VALUES (1)",
    "SELECT nextval('numbers')",
    "VACUUM t",
    "SELECT * FROM t FOR UPDATE",
    "CREATE TEMPORARY TABLE own (a int)",
    "SELECT count(*) FROM nowhere",
    "SELECT 1 / 0",
]


@pytest.mark.parametrize("prepare", [False, True], ids=["simple", "prepared"])
@pytest.mark.parametrize("begin", ["BEGIN READ ONLY", "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"])
def test_what_a_read_only_transaction_may_do_first(
    running: Cluster, connection: psycopg.Connection[Any], begin: str, prepare: bool
) -> None:
    """Behind settings and a savepoint, which hold on the primary too."""
    before = ("SET LOCAL work_mem = '3MB'", "SAVEPOINT a", "SET statement_timeout = '77s'")
    behind = (
        "SHOW work_mem",
        "SELECT current_setting('app.x')",
        "SHOW transaction_read_only",
        "ROLLBACK TO a",
        "COMMIT",
    )
    with psycopg.connect(running.direct(running.primary.name), autocommit=True) as direct:
        for statement in ALLOWED_IN_READ_ONLY:
            asked = (begin, *before, statement, *behind, "SHOW statement_timeout")
            assert told(connection, *asked, prepare=prepare) == told(direct, *asked, prepare=prepare), statement
            direct.execute("RESET ALL")
            connection.execute("RESET ALL")


@pytest.mark.parametrize("statement", ALLOWED_IN_READ_ONLY)
def test_the_same_in_one_text_and_in_one_batch(running: Cluster, statement: str) -> None:
    answers = []
    for dsn in (running.direct(running.primary.name), running.dsn):
        with session(dsn) as client:
            one = client.ask(f"BEGIN READ ONLY; {statement}; ROLLBACK")
            client.send(query("ROLLBACK"))
            client.until_ready()
            batch = b"".join(
                parse("", part) + bind("", "") + execute() for part in ("BEGIN READ ONLY", statement, "ROLLBACK")
            )
            client.send(batch + SYNC)
            two = client.until_ready()
        answers.append(
            [(tags(part), errors(part), rows(part) if "xact" not in statement else []) for part in (one, two)]
        )
    assert answers[0] == answers[1]


ONLY_THERE = [
    "SELECT pg_try_advisory_xact_lock(77)",
    "NOTIFY x",
    "LISTEN x",
    "LOCK TABLE t IN ACCESS SHARE MODE",
    "LOCK TABLE t",
    "SELECT pg_current_xact_id() IS NULL",
    "PREPARE TRANSACTION 'x'",
    "PREPARE p AS SELECT 1",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "SELECT count(*) FROM quick",
    "SELECT pg_advisory_lock_shared(1)",
    "SELECT count(pid) > 0 FROM pg_stat_activity",
]


@pytest.mark.parametrize("prepare", [False, True], ids=["simple", "prepared"])
def test_what_comes_after_a_read_fails_with_the_reason_and_the_hint(
    running: Cluster, connection: psycopg.Connection[Any], prepare: bool
) -> None:
    for statement in ONLY_THERE:
        connection.execute("BEGIN READ ONLY")
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (100,)
        assert is_on_replica(running, connection)
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(cast(LiteralString, statement), prepare=prepare)
        assert "trimaran: primary" in (caught.value.diag.message_hint or ""), statement
        assert caught.value.diag.message_detail, statement
        assert caught.value.diag.severity == "ERROR", statement
        assert told(connection, "SELECT 1", "COMMIT", "SELECT 1") == [
            "25P02 current transaction is aborted, commands ignored until end of transaction block",
            "ROLLBACK",
            "SELECT 1 [(1,)]",
        ]
        with (
            running.connect() as hinted,
            psycopg.connect(running.direct(running.primary.name), autocommit=True) as direct,
        ):
            direct.execute("BEGIN READ ONLY")
            hinted.execute("/* trimaran: primary */ BEGIN READ ONLY")
            assert told(hinted, "SELECT count(*) FROM t", statement) == told(
                direct, "SELECT count(*) FROM t", statement
            )


def test_reads_stay_on_the_replica(running: Cluster, connection: psycopg.Connection[Any]) -> None:
    for begin in ("BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
        for statement in (
            "SET LOCAL statement_timeout = 1000",
            "DECLARE c CURSOR FOR SELECT x FROM t",
            "SELECT set_config('app.x', 'y', true)",
            "SHOW transaction_isolation",
            "COPY t TO STDOUT",
        ):
            connection.execute(cast(LiteralString, begin))
            if statement.startswith("COPY"):
                with connection.cursor().copy(cast(LiteralString, statement)) as copy:
                    assert len(list(copy)) == 100
            else:
                connection.execute(cast(LiteralString, statement))
            if statement.startswith("DECLARE"):
                assert connection.execute("FETCH 2 FROM c").fetchall() == [(1,), (2,)]
            assert is_on_replica(running, connection), statement
            connection.execute("COMMIT")


def test_a_chained_transaction_moves_too(running: Cluster, connection: psycopg.Connection[Any]) -> None:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    connection.execute("SELECT count(*) FROM t")
    connection.execute("COMMIT AND CHAIN")
    assert connection.execute("SELECT pg_try_advisory_xact_lock(5)").fetchone() == (True,)
    assert connection.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)
    assert connection.execute("SHOW transaction_read_only").fetchone() == ("on",)
    assert not is_on_replica(running, connection)
    connection.execute("COMMIT")


def test_what_follows_the_end_in_the_same_text_is_for_the_primary(running: Cluster) -> None:
    with session(running.dsn) as client:
        for ask in (client.ask, lambda text: _batch(client, text.split("; "))):
            ask("BEGIN READ ONLY")
            ask("SELECT count(*) FROM t")
            answer = ask("COMMIT; CREATE TABLE made (a int); DROP TABLE made")
            assert (tags(answer).count("C"), errors(answer)) == (3, [])
            ask("BEGIN READ ONLY")
            ask("SELECT count(*) FROM t")
            assert errors(ask("SELECT * FROM missing")) == ["42P01"]
            assert errors(ask("ROLLBACK; BEGIN")) == []
            assert errors(ask("CREATE TABLE made (a int); DROP TABLE made")) == []
            ask("COMMIT")


def _batch(client: Any, parts: list[str]) -> Any:
    client.send(b"".join(parse("", part) + bind("", "") + execute() for part in parts) + SYNC)
    return client.until_ready()


def test_locks_exclude_across_read_only_transactions(running: Cluster) -> None:
    statements = ["SELECT pg_try_advisory_xact_lock(99)", "SELECT lock_it(99)"]
    for statement in statements:
        clients = [running.connect() for _ in range(3)]
        try:
            got = []
            for client in clients:
                client.execute("BEGIN READ ONLY")
                got.append(client.execute(cast(LiteralString, statement)).fetchone())
            assert got == [(True,), (False,), (False,)]
        finally:
            for client in clients:
                client.close()


def test_a_function_called_by_its_number(running: Cluster) -> None:
    """As the fast-path interface does: there is no text, so there is no plan."""
    with psycopg.connect(running.direct(running.primary.name), autocommit=True) as direct:
        row = direct.execute("SELECT 'pg_try_advisory_xact_lock(bigint)'::regprocedure::oid::int").fetchone()
    assert row is not None
    call = message(
        b"F", row[0].to_bytes(4, "big") + b"\0\1\0\1" + b"\0\1" + b"\0\0\0\x08" + (55).to_bytes(8, "big") + b"\0\1"
    )
    with session(running.dsn) as one, session(running.dsn) as other:
        answers = []
        for client in (one, other):
            client.ask("BEGIN READ ONLY")
            client.send(call)
            answers.append(client.until_ready())
        assert [part[0][1][-1:] for part in answers] == [b"\1", b"\0"]
    with session(running.dsn) as third:
        eventually(lambda: _begins_on_a_replica(third), "it reads on the replica")
        third.ask("SELECT count(*) FROM t")
        third.send(call)
        refused = third.until_ready()
        assert (tags(refused), errors(refused)) == ("EZ", ["25006"])
        assert "trimaran: primary" in fields(refused[0][1])["H"]


def _begins_on_a_replica(client: Any) -> bool:
    client.ask("ROLLBACK")
    client.ask("BEGIN READ ONLY")
    return bool(rows(client.ask("/* trimaran: replica */ SELECT pg_is_in_recovery()")) == [("t",)])


def test_a_batch_that_goes_on_behind_its_begin(running: Cluster) -> None:
    with session(running.dsn) as client:
        client.send(parse("", "BEGIN READ ONLY") + bind("", "") + execute() + FLUSH)
        assert [client.receive()[0] for _ in range(3)] == [b"1", b"2", b"C"]
        client.send(parse("", "NOTIFY x") + bind("", "") + execute() + SYNC)
        assert tags(client.until_ready()) == "12CZ"


SERIALIZABLE = {
    "default": ["SET default_transaction_isolation = 'serializable'"],
    "characteristics": ["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY"],
    "characteristics of JDBC": [
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    ],
    "set_config": ["SELECT set_config('default_transaction_isolation', 'serializable', false)"],
    "read only": [
        "SET default_transaction_isolation TO serializable",
        "SET default_transaction_read_only TO on",
    ],
}


@pytest.mark.parametrize("how", SERIALIZABLE)
def test_serializable_by_a_setting(running: Cluster, connection: psycopg.Connection[Any], how: str) -> None:
    for statement in SERIALIZABLE[how]:
        connection.execute(cast(LiteralString, statement))
    _serializable(connection)
    connection.execute("RESET ALL")
    until_replicas_serve(running, connection)


def _serializable(connection: psycopg.Connection[Any]) -> None:
    for prepare in (False, True):
        assert told(connection, "SELECT count(*) FROM t", "SHOW transaction_isolation", prepare=prepare) == [
            "SELECT 1 [(100,)]",
            "SHOW [('serializable',)]",
        ]
        for begin in ("BEGIN", "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"):
            asked = (begin, "SHOW transaction_isolation", "SELECT count(*) FROM t", "COMMIT")
            assert told(connection, *asked, prepare=prepare) == [
                "BEGIN",
                "SHOW [('serializable',)]",
                "SELECT 1 [(100,)]",
                "COMMIT",
            ]


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
        "BEGIN READ ONLY; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "BEGIN READ ONLY; SET LOCAL transaction_isolation = 'serializable'",
        "/* trimaran: replica */ BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
    ],
)
def test_serializable_by_the_transaction(connection: psycopg.Connection[Any], text: str) -> None:
    for parts in (text.split("; "), [text]):
        answers = told(connection, *parts, "SELECT count(*) FROM t", "SHOW transaction_isolation", "COMMIT")
        assert answers[-3:] == ["SELECT 1 [(100,)]", "SHOW [('serializable',)]", "COMMIT"]


def test_serializable_by_the_options(running: Cluster) -> None:
    with running.connect(options="-c default_transaction_isolation=serializable") as connection:
        _serializable(connection)


def test_serializable_by_the_role(running: Cluster, connection: psycopg.Connection[Any]) -> None:
    """The gateway is not told of it: a replica refuses the first transaction, which the client does not see."""
    del connection
    with running.connect() as admin:
        admin.execute("ALTER ROLE CURRENT_USER SET default_transaction_isolation = serializable")
    until_replayed(running)
    try:
        for first in ("SELECT count(*) FROM t", "BEGIN READ ONLY"):
            with running.connect() as fresh:
                told(fresh, first, "SELECT count(*) FROM t", "COMMIT")
                _serializable(fresh)
                fresh.execute("SET default_transaction_isolation = 'read committed'")
                until_replicas_serve(running, fresh)
    finally:
        with running.connect() as admin:
            admin.execute("ALTER ROLE CURRENT_USER RESET default_transaction_isolation")
        until_replayed(running)


def test_psycopg_sets_the_session_so(running: Cluster) -> None:
    with psycopg.connect(running.dsn) as connection:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        for _ in range(3):
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (100,)
            assert connection.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
            connection.commit()


def test_a_snapshot_is_exported_and_imported(running: Cluster) -> None:
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    with running.connect() as exporting, running.connect() as importing:
        exporting.execute(cast(LiteralString, begin))
        row = exporting.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        importing.execute(cast(LiteralString, begin))
        importing.execute(f"SET TRANSACTION SNAPSHOT '{row[0]}'".encode())
        assert importing.execute("SELECT count(*) FROM t").fetchone() == (100,)


REFUSED_BY_A_STANDBY = [
    "SELECT count(*) FROM quick WHERE x > 2.5",
    "SELECT number_of_it()",
    "COPY (SELECT x FROM quick) TO STDOUT",
    "TABLE quick",
]


def test_refusals_are_not_seen_and_are_remembered(running: Cluster, connection: psycopg.Connection[Any]) -> None:
    for statement in REFUSED_BY_A_STANDBY:
        until_replicas_serve(running, connection)
        with session(running.dsn) as client:
            for _ in range(3):
                answer = client.ask(statement)
                assert errors(answer) == [], statement


def test_a_refusal_behind_another_answer(running: Cluster, connection: psycopg.Connection[Any]) -> None:
    until_replicas_serve(running, connection)
    with session(running.dsn) as client:
        answer = client.ask("SELECT count(*) FROM t; SELECT count(*) FROM quick WHERE x > 3")
        assert (tags(answer), rows(answer)) == ("TDCTDCZ", [("100",), ("7",)])
        client.send(
            b"".join(
                parse("", text) + bind("", "") + execute()
                for text in ("SELECT count(*) FROM t", "SELECT count(*) FROM quick WHERE x > 4")
            )
            + SYNC
        )
        assert rows(client.until_ready()) == [("100",), ("6",)]


def test_what_the_replica_does_not_know_yet(running: Cluster, connection: psycopg.Connection[Any]) -> None:
    """A table that another session has made: the replica does not replay it before the read."""
    replica = running.replicas()[0].name
    with running.superuser(replica) as held, running.superuser(running.primary.name) as primary:
        held.execute("SELECT pg_wal_replay_pause()")
        eventually(
            lambda: held.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",), "replay rests"
        )
        try:
            primary.execute("CREATE TABLE new AS SELECT 1 AS x; GRANT SELECT ON new TO PUBLIC")
            assert connection.execute("SELECT x FROM new").fetchone() == (1,)
            with pytest.raises(psycopg.errors.UndefinedTable):
                connection.execute("SELECT x FROM never_made")
        finally:
            held.execute("SELECT pg_wal_replay_resume()")


def test_sessions_that_read_only_by_default(running: Cluster, connection: psycopg.Connection[Any]) -> None:
    connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    until_replicas_serve(running, connection)
    connection.execute("BEGIN")
    assert is_on_replica(running, connection)
    connection.execute("COMMIT")
    assert told(connection, "INSERT INTO t VALUES (1)") == ["25006 cannot execute INSERT in a read-only transaction"]
    connection.execute("BEGIN")
    assert told(connection, "SET TRANSACTION READ WRITE", "CREATE TEMPORARY TABLE mine (a int) ON COMMIT DROP") == [
        "SET",
        "CREATE TABLE",
    ]
    connection.execute("RESET ALL")
