"""What a replica refuses is repeated on the primary, unseen, and remembered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest
from trimaran.facts import PlanFacts

from tests.databases.failover.conftest import cluster, until_replayed
from tests.databases.gateway.raw import FLUSH, SYNC, bind, execute, parse, rows, session
from tests.support.cluster import NAME, Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(180)
OBJECTS = """
CREATE TABLE log (note text);
CREATE TABLE t AS SELECT generate_series(1, 100) AS x;
CREATE UNLOGGED TABLE quick AS SELECT generate_series(1, 10) AS x;
CREATE FUNCTION noted(note text) RETURNS bigint LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO log VALUES (note); RETURN (SELECT count(*) FROM log WHERE log.note = noted.note); END $$;
CREATE FUNCTION noted_too(text) RETURNS bigint LANGUAGE sql AS 'SELECT noted($1)';
CREATE FUNCTION noted_late(text) RETURNS bigint LANGUAGE sql AS 'SELECT noted($1)';
CREATE FUNCTION noted_prepared(text) RETURNS bigint LANGUAGE sql AS 'SELECT noted($1)';
CREATE FUNCTION noted_in_a_pipeline(text) RETURNS bigint LANGUAGE sql AS 'SELECT noted($1)';
CREATE FUNCTION noted_by_asyncpg(text) RETURNS bigint LANGUAGE sql AS 'SELECT noted($1)';
CREATE FUNCTION noted_behind_a_flush(text) RETURNS bigint LANGUAGE sql AS 'SELECT noted($1)';
CREATE FUNCTION noted_in_a_transaction(text) RETURNS bigint LANGUAGE sql AS 'SELECT noted($1)';
CREATE FUNCTION slow(seconds float) RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_sleep(seconds); RETURN 1; END $$
"""


WHERE = "/* trimaran: replica */ SELECT pg_is_in_recovery()"
"""Asked in a transaction, it leaves that where it is."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("learning"), replicas=1) as group:
        with group.connect() as connection:
            for statement in OBJECTS.split(";\n"):
                connection.execute(statement.encode())
        until_replayed(group)
        yield group


@pytest.fixture
def connection(running: Cluster) -> Iterator[psycopg.Connection]:
    with running.connect() as connection:
        yield connection


def plan_of(running: Cluster, part: str) -> PlanFacts:
    return next(plan for plan in running.service.plans(NAME) if part in plan.statement)


def count(running: Cluster, name: str) -> int:
    return running.facts().counts[name]


def reads_on_replica(running: Cluster, connection: psycopg.Connection, statement: str) -> bool:
    before = count(running, "replica_reads_total")
    connection.execute(statement.encode())
    return count(running, "replica_reads_total") > before


def until_replicas_may_serve(running: Cluster, connection: psycopg.Connection) -> None:
    """What this session has written has been replayed."""
    eventually(lambda: reads_on_replica(running, connection, "SELECT count(*) FROM t"), "reads go to the replica")


@pytest.mark.parametrize(
    ("function", "parameters", "prepare"),
    [("noted", False, False), ("noted_too", True, False), ("noted_prepared", True, True)],
)
def test_a_function_that_writes_is_known_by_the_catalogue(
    running: Cluster, connection: psycopg.Connection, function: str, parameters: bool, prepare: bool
) -> None:
    until_replicas_may_serve(running, connection)
    refused = count(running, "refused_writes_total")
    for number in range(1, 9):
        statement = f"SELECT {function}({'%s' if parameters else repr(function)})".encode()
        values = (function,) if parameters else None
        assert connection.execute(statement, values, prepare=prepare).fetchone() == (number,), "run once, and not twice"
        assert count(running, "refused_writes_total") == refused, "none of them goes to a replica"
    plan = plan_of(running, f"SELECT {function}(")
    assert (plan.goes_to, plan.learnt) == ("primary", False)
    assert plan.executions == 8, "preparing it is not running it"
    assert "calls noted()" in plan.reason


def test_its_own_writes_through_a_function_are_seen(running: Cluster, connection: psycopg.Connection) -> None:
    for number in range(1, 30):
        connection.execute("SELECT noted('mine')")
        assert connection.execute("SELECT count(*) FROM log WHERE note = 'mine'").fetchone() == (number,)


def test_a_pipeline_that_may_write_goes_to_the_primary_at_once(
    running: Cluster, connection: psycopg.Connection
) -> None:
    """Its first answers would have been passed on when a replica refuses the second."""
    until_replicas_may_serve(running, connection)
    refused = count(running, "refused_writes_total")
    with connection.pipeline():
        first = connection.execute("SELECT count(*) FROM t WHERE x > %s", (0,))
        second = connection.execute("SELECT noted_in_a_pipeline(%s)", ("pipeline",))
        third = connection.execute("SELECT count(*) FROM t WHERE x > %s", (50,))
        assert (first.fetchone(), second.fetchone(), third.fetchone()) == ((100,), (1,), (50,))
    assert count(running, "refused_writes_total") == refused
    assert not plan_of(running, "SELECT count(*) FROM t WHERE x > $1").learnt


def test_asyncpg_which_asks_for_the_description_of_a_statement_before_it_runs_it(running: Cluster) -> None:
    async def work() -> list[int]:
        connection = await asyncpg.connect(running.dsn)
        try:
            return [await connection.fetchval("SELECT noted_by_asyncpg($1)", "asyncpg") for _ in range(3)]
        finally:
            await connection.close()

    assert asyncio.run(work()) == [1, 2, 3]


def test_what_is_bound_before_a_flush_and_run_behind_it(running: Cluster) -> None:
    """A replica could refuse it only when it is too late to take it elsewhere."""
    with session(running.dsn) as client:
        client.send(parse("", "SELECT noted_behind_a_flush('flush')") + bind("", "") + FLUSH)
        assert [client.receive()[0] for _ in range(2)] == [b"1", b"2"]
        client.send(execute() + SYNC)
        assert rows(client.until_ready()) == [("1",)]
    assert plan_of(running, "noted_behind_a_flush").executions == 1


def test_a_write_behind_a_read_whose_answer_was_asked_for(running: Cluster, connection: psycopg.Connection) -> None:
    """The batch goes on where it began, so it does not begin on a replica."""
    connection.execute("CREATE TABLE behind (x int)")
    until_replicas_may_serve(running, connection)
    with connection.pipeline():
        assert connection.execute("SELECT count(*) FROM t WHERE x > %s", (0,)).fetchone() == (100,)
        connection.execute("INSERT INTO behind VALUES (%s)", (1,))
    assert connection.execute("SELECT count(*) FROM behind").fetchone() == (1,)
    with session(running.dsn) as client:
        client.send(parse("", "SELECT count(*) FROM t") + bind("", "") + execute() + FLUSH)
        assert [client.receive()[0] for _ in range(4)] == [b"1", b"2", b"D", b"C"]
        client.send(parse("", "INSERT INTO behind VALUES (2)") + bind("", "") + execute() + SYNC)
        assert [tag for tag, _ in client.until_ready()] == [b"1", b"2", b"C", b"Z"]


def test_what_a_replica_would_refuse_too_late_to_be_repeated_never_goes_there(
    running: Cluster, connection: psycopg.Connection
) -> None:
    """Rows of the same query would have been passed on already."""
    until_replicas_may_serve(running, connection)
    query = "SELECT repeat('x', 10000), CASE WHEN x = 100 THEN noted_late('late') END FROM t"
    assert len(connection.execute(query).fetchall()) == 100
    assert not plan_of(running, "noted_late('late')").learnt


def test_an_unlogged_table_is_read_on_the_primary(running: Cluster, connection: psycopg.Connection) -> None:
    for prepare, comparison in ((False, ">"), (True, ">=")):
        until_replicas_may_serve(running, connection)
        refused = count(running, "refused_writes_total")
        for _ in range(3):
            query = f"SELECT count(*) FROM quick WHERE x + 0.5 {comparison} %s".encode()
            assert connection.execute(query, (5.7,), prepare=prepare).fetchone() == (5,)
        assert count(running, "refused_writes_total") == refused + 1
    plan = plan_of(running, "FROM quick")
    assert (plan.goes_to, plan.learnt) == ("primary", True)
    assert "unlogged" in plan.reason


def test_what_is_not_supported_for_another_reason_is_no_lesson(
    running: Cluster, connection: psycopg.Connection
) -> None:
    until_replicas_may_serve(running, connection)
    refused = count(running, "refused_writes_total")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        connection.execute("SELECT x FROM other_database.public.t")
    assert count(running, "refused_writes_total") == refused


def test_hints_are_followed(running: Cluster, connection: psycopg.Connection) -> None:
    until_replicas_may_serve(running, connection)
    assert not reads_on_replica(running, connection, "/* trimaran: primary */ SELECT count(*) FROM t")
    assert reads_on_replica(running, connection, "SELECT count(*) FROM t")
    assert not reads_on_replica(running, connection, "SELECT pg_is_in_recovery()")
    until_replicas_may_serve(running, connection)
    assert reads_on_replica(running, connection, "/* trimaran: replica */ SELECT pg_is_in_recovery()")
    hinted = connection.execute("/* trimaran: replica */ SELECT pg_is_in_recovery()").fetchone()
    assert hinted == (True,)


def test_a_transaction_that_only_reads_is_on_one_replica(running: Cluster, connection: psycopg.Connection) -> None:
    until_replicas_may_serve(running, connection)
    for begin in ("BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
        connection.execute(begin)
        assert connection.execute(WHERE).fetchone() == (True,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("SELECT noted_in_a_transaction('never')")
        connection.execute("ROLLBACK")
    connection.execute("BEGIN")
    assert connection.execute(WHERE).fetchone() == (False,)
    connection.execute("COMMIT")
    connection.execute("SET default_transaction_read_only = on")
    until_replicas_may_serve(running, connection)
    connection.execute("BEGIN")
    assert connection.execute(WHERE).fetchone() == (True,)
    connection.execute("COMMIT")
    connection.execute("BEGIN READ WRITE")
    assert connection.execute(WHERE).fetchone() == (False,)
    connection.execute("COMMIT")
    assert connection.execute("SELECT count(*) FROM log WHERE note = 'never'").fetchone() == (0,)


@pytest.fixture
def impatient(running: Cluster) -> Iterator[None]:
    """Replay on the replica waits for no reader."""
    with running.superuser(running.replicas()[0].name) as replica:
        replica.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        replica.execute("SELECT pg_reload_conf()")
        yield
        replica.execute("ALTER SYSTEM RESET max_standby_streaming_delay")
        replica.execute("SELECT pg_reload_conf()")


@pytest.mark.usefixtures("impatient")
def test_a_read_in_the_way_of_replay_is_repeated_on_the_primary(
    running: Cluster, connection: psycopg.Connection
) -> None:
    with connection.cursor() as cursor, running.connect() as other:
        cursor.execute("CREATE TABLE locked AS SELECT 1 AS x")
        eventually(lambda: reads_on_replica(running, connection, "SELECT count(*) FROM locked"), "it is there")
        conflicts = count(running, "conflicts_total")
        answers: list[object] = []
        thread = threading.Thread(
            target=lambda: answers.append(other.execute("SELECT slow(1), (SELECT count(*) FROM locked)").fetchone())
        )
        thread.start()
        replica = running.replicas()[0].name
        with running.superuser(replica) as seen:
            busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT slow%' AND state = 'active'"
            eventually(lambda: seen.execute(busy.encode()).fetchone() == (1,), "it reads on the replica")
        cursor.execute("ALTER TABLE locked ADD y int")
        thread.join(30)
        assert answers == [(1, 1)]
        assert count(running, "conflicts_total") == conflicts + 1
        assert not plan_of(running, "SELECT slow(1)").learnt, "it says nothing about the statement"


@pytest.mark.usefixtures("impatient")
def test_a_transaction_in_the_way_of_replay_is_told_so_and_goes_on(
    running: Cluster, connection: psycopg.Connection
) -> None:
    connection.execute("CREATE TABLE in_the_way AS SELECT 1 AS x")
    with running.connect() as reader:
        eventually(lambda: reads_on_replica(running, reader, "SELECT count(*) FROM t"), "it reads there")
        until_replayed(running)
        reader.execute("BEGIN READ ONLY")
        assert reader.execute("SELECT count(*) FROM in_the_way").fetchone() == (1,)
        connection.execute("ALTER TABLE in_the_way ADD y int")
        until_replayed(running)
        with pytest.raises(psycopg.errors.SerializationFailure):
            reader.execute("SELECT count(*) FROM in_the_way")
        reader.execute("ROLLBACK")
        assert reader.execute("SELECT count(*) FROM in_the_way").fetchone() == (1,)
