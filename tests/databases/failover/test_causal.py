"""Reads on replicas whose replay is held back by half a second: nobody misses what they wrote."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg
import pytest
from trimaran.databases import after, position

from tests.databases.failover.conftest import cluster, until_replayed
from tests.databases.gateway.raw import FLUSH, SYNC, bind, errors, execute, parse, rows
from tests.databases.gateway.raw import session as raw_session
from tests.support.cluster import Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(240)
PAIRS = int(os.environ.get("TRIMARAN_CAUSAL_PAIRS", "1000"))
"""Writes followed by a read, over all connections."""
CONNECTIONS = 8
DELAY = "500ms"
TABLE = "CREATE TABLE seen (name int PRIMARY KEY, number int NOT NULL)"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("causal"), replicas=2) as running:
        with running.connect() as connection:
            connection.execute(TABLE)
        until_replayed(running)
        delay(running, DELAY)
        yield running


def delay(running: Cluster, by: str) -> None:
    for replica in running.replicas():
        with running.superuser(replica.name) as connection:
            connection.execute(f"ALTER SYSTEM SET recovery_min_apply_delay = '{by}'".encode())
            connection.execute("SELECT pg_reload_conf()")
            eventually(lambda c=connection: c.execute("SHOW recovery_min_apply_delay").fetchone() == (by,), "it is set")


@pytest.fixture
def session(group: Cluster) -> Cluster:
    group.set_reads(causal="session")
    return group


@pytest.fixture
def linear(group: Cluster) -> Cluster:
    group.set_reads(causal="linear")
    return group


@pytest.fixture
def off(group: Cluster) -> Cluster:
    group.set_reads(causal="off")
    return group


def stale_reads(running: Cluster, pairs: int) -> int:
    """How many reads did not see what their own session had written just before."""
    counts: list[int] = []
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            with running.connect() as connection:
                connection.execute(
                    "INSERT INTO seen VALUES (%s, 0) ON CONFLICT (name) DO UPDATE SET number = 0", (name,)
                )
                stale = 0
                for number in range(1, pairs // CONNECTIONS + 1):
                    how = number % 3
                    if how == 0:
                        connection.execute(f"UPDATE seen SET number = {number} WHERE name = {name}".encode())
                    elif how == 1:
                        connection.execute("UPDATE seen SET number = %s WHERE name = %s", (number, name))
                    else:
                        with connection.transaction():
                            connection.execute("UPDATE seen SET number = %s WHERE name = %s", (number, name))
                    row = connection.execute("SELECT number FROM seen WHERE name = %s", (name,)).fetchone()
                    stale += row != (number,)
                counts.append(stale)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    return sum(counts)


def count(running: Cluster, name: str) -> int:
    return running.facts().counts[name]


def test_a_session_sees_its_own_writes(session: Cluster) -> None:
    assert stale_reads(session, PAIRS) == 0


ENDS = {
    "a text that fails behind its COMMIT": ["BEGIN; INSERT INTO seen VALUES ({0}, 1); COMMIT; SELECT 1/0"],
    "a chained transaction that is rolled back": [
        "BEGIN; INSERT INTO seen VALUES ({0}, 1); COMMIT AND CHAIN; SELECT 1/0",
        "ROLLBACK",
    ],
    "a procedure that commits and fails": ["CALL insert_and_fail({0})"],
    "a block that commits and fails": [
        "DO $$ BEGIN INSERT INTO seen VALUES ({0}, 1); COMMIT; RAISE EXCEPTION 'no'; END $$"
    ],
    "a statement that is cancelled behind a COMMIT": [
        "SET statement_timeout = 200",
        "BEGIN; INSERT INTO seen VALUES ({0}, 1); COMMIT; SELECT pg_sleep(10)",
        "SET statement_timeout = 0",
    ],
}


@pytest.mark.parametrize("how", ENDS)
def test_what_a_unit_has_committed_before_it_failed_is_seen(session: Cluster, how: str) -> None:
    name = 100_000 + 1000 * list(ENDS).index(how)
    with session.connect() as connection:
        connection.execute(
            "CREATE OR REPLACE PROCEDURE insert_and_fail(name int) LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO seen VALUES (name, 1); COMMIT; RAISE EXCEPTION 'no'; END $$"
        )
        for number in range(name, name + 20):
            failed = 0
            for statement in ENDS[how]:
                try:
                    connection.execute(statement.replace("{0}", str(number)).encode())
                except psycopg.Error:
                    failed += 1
            assert failed == 1
            assert connection.execute("SELECT number FROM seen WHERE name = %s", (number,)).fetchone() == (1,)


def test_what_a_batch_has_committed_before_it_failed_is_seen(session: Cluster) -> None:
    with raw_session(session.dsn) as client:
        for number in range(110_000, 110_020):
            parts = ("BEGIN", f"INSERT INTO seen VALUES ({number}, 1)", "COMMIT", "SELECT 1/0")
            batch = [parse("", part) + bind("", "") + execute() for part in parts]
            client.send(b"".join(batch[:2]) + FLUSH + b"".join(batch[2:]) + SYNC)
            assert errors(client.until_ready()) == ["22012"]
            assert rows(client.ask(f"SELECT number FROM seen WHERE name = {number}")) == [("1",)]


def test_the_same_reads_are_stale_when_nobody_looks(off: Cluster) -> None:
    assert stale_reads(off, 80) > 0


def last_question(primary: psycopg.Connection) -> tuple[datetime, timedelta]:
    """When the gateway has last asked the primary how far it is, and how long ago that was."""
    row = primary.execute(
        "SELECT query_start, clock_timestamp() - query_start FROM pg_stat_activity "
        "WHERE application_name = 'trimaran monitor'"
    ).fetchone()
    assert row is not None, "the gateway asks nobody"
    return row


def test_a_write_after_a_rest_is_seen(session: Cluster) -> None:
    """Nobody has used the gateway for a while: its nodes are asked less often, and what it knows of them is old."""
    with session.connect() as connection, session.superuser(session.primary.name) as primary:
        connection.execute("INSERT INTO seen VALUES (700, 0)")
        for number in range(1, 4):
            eventually(lambda: last_question(primary)[1] > timedelta(seconds=0.6), "the gateway rests")
            connection.execute("UPDATE seen SET number = %s WHERE name = 700", (number,))
            assert connection.execute("SELECT number FROM seen WHERE name = 700").fetchone() == (number,)


def test_nodes_are_asked_often_again_after_a_rest(session: Cluster) -> None:
    with session.connect() as connection, session.superuser(session.primary.name) as primary:
        eventually(lambda: last_question(primary)[1] > timedelta(seconds=0.6), "the gateway rests")
        asked = [last_question(primary)[0]]

        def soon_after_one_another() -> bool:
            connection.execute("SELECT 1")
            if (last := last_question(primary)[0]) != asked[-1]:
                asked.append(last)
            return any(later - earlier < timedelta(seconds=0.4) for earlier, later in itertools.pairwise(asked))

        eventually(soon_after_one_another, "two questions in half a second")


def test_reads_return_to_replicas_when_those_have_caught_up(session: Cluster) -> None:
    with session.connect() as connection:
        connection.execute("INSERT INTO seen VALUES (1000, 1) ON CONFLICT DO NOTHING")
        behind = count(session, "not_yet_replayed_total")
        assert connection.execute("SELECT number FROM seen WHERE name = 1000").fetchone() == (1,)
        assert count(session, "not_yet_replayed_total") == behind + 1, "no replica has it so soon"
        before = count(session, "replica_reads_total")

        def reads_on_a_replica() -> bool:
            assert connection.execute("SELECT number FROM seen WHERE name = 1000").fetchone() == (1,)
            return count(session, "replica_reads_total") > before

        eventually(reads_on_a_replica, "a read goes to a replica again")


def test_linear_reads_see_what_others_have_committed(linear: Cluster) -> None:
    with linear.connect() as writer, linear.connect() as reader:
        writer.execute("INSERT INTO seen VALUES (900, 0)")
        for number in range(50):
            writer.execute("UPDATE seen SET number = %s WHERE name = 900", (number,))
            assert reader.execute("SELECT number FROM seen WHERE name = 900").fetchone() == (number,)


def test_session_reads_may_miss_what_others_have_committed(session: Cluster) -> None:
    """That linear makes the difference, and not chance."""
    with session.connect() as writer, session.connect() as reader:
        missed = 0
        for number in range(20):
            writer.execute("INSERT INTO seen VALUES (%s, 1)", (2000 + number,))
            missed += reader.execute("SELECT 1 FROM seen WHERE name = %s", (2000 + number,)).fetchone() is None
        assert missed > 0


def test_a_position_is_handed_over_between_psycopg_connections(session: Cluster) -> None:
    with session.connect() as writer, session.connect() as reader:
        for number in range(20):
            writer.execute("INSERT INTO seen VALUES (%s, 1)", (3000 + number,))
            after(position(writer), reader)
            assert reader.execute("SELECT 1 FROM seen WHERE name = %s", (3000 + number,)).fetchone() == (1,)


def test_a_position_of_one_who_only_reads_is_no_burden(session: Cluster) -> None:
    with session.connect() as idle, session.connect() as reader:
        after(position(idle), reader)
        before = count(session, "replica_reads_total")
        reader.execute("SELECT count(*) FROM seen")
        assert count(session, "replica_reads_total") == before + 1


def test_a_position_is_handed_over_with_sqlalchemy(session: Cluster) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    orm = pytest.importorskip("sqlalchemy.orm", reason="SQLAlchemy is not installed")
    engine = sqlalchemy.create_engine(session.dsn.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with orm.Session(engine) as writer, engine.connect().execution_options(isolation_level="AUTOCOMMIT") as reader:
            for number in range(10):
                writer.execute(sqlalchemy.text("INSERT INTO seen VALUES (:name, 1)"), {"name": 4000 + number})
                writer.commit()
                after(position(writer), reader)
                found = reader.execute(
                    sqlalchemy.text("SELECT 1 FROM seen WHERE name = :name"), {"name": 4000 + number}
                )
                assert found.scalar() == 1
    finally:
        engine.dispose()


def test_a_position_is_handed_over_with_django(session: Cluster) -> None:
    import django
    from django.conf import settings
    from django.db import DEFAULT_DB_ALIAS
    from django.db.utils import ConnectionHandler

    if not settings.configured:
        settings.configure(USE_TZ=True)
        django.setup()
    options = psycopg.conninfo.conninfo_to_dict(session.dsn)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": options["dbname"],
        "USER": options["user"],
        "PASSWORD": options["password"],
        "HOST": options["host"],
        "PORT": str(options["port"]),
        "TIME_ZONE": "UTC",
    }
    handler = ConnectionHandler({DEFAULT_DB_ALIAS: database, "other": dict(database)})
    writer, reader = handler[DEFAULT_DB_ALIAS], handler["other"]
    try:
        with writer.cursor() as writing, reader.cursor() as reading:
            for number in range(10):
                writing.execute("INSERT INTO seen VALUES (%s, 1)", (5000 + number,))
                after(position(writer), reader)
                reading.execute("SELECT 1 FROM seen WHERE name = %s", (5000 + number,))
                assert reading.fetchone() == (1,)
    finally:
        writer.close()
        reader.close()


def test_what_is_no_position_is_refused(session: Cluster) -> None:
    with session.connect() as connection:
        for wrong in ("", "0", "x/1", "1/0/0", "FFFFFFFFF/0"):
            with pytest.raises(ValueError, match="is no WAL position"):
                after(wrong, connection)


@pytest.mark.parametrize("limit", [{"lag_max_bytes": 100_000}, {"lag_max_ms": 300, "lag_max_bytes": 0}])
def test_a_replica_that_lags_gets_no_reads_until_it_has_caught_up(group: Cluster, limit: dict[str, int]) -> None:
    group.set_reads(causal="off", **limit)
    replicas = [replica.name for replica in group.replicas()]
    delay(group, "0")
    table = next(iter(limit))
    with group.connect() as connection, group.superuser(replicas[0]) as first, group.superuser(replicas[1]) as second:

        def goes_to_a_replica() -> bool:
            before = count(group, "replica_reads_total")
            connection.execute(f"SELECT count(*) FROM {table}".encode())
            return count(group, "replica_reads_total") > before

        connection.execute(f"CREATE TABLE {table} (x text)".encode())
        until_replayed(group)
        eventually(goes_to_a_replica, "it reads there while nothing is late")
        for replica in (first, second):
            replica.execute("SELECT pg_wal_replay_pause()")
        connection.execute(
            f"INSERT INTO {table} SELECT repeat(md5(g::text), 10) FROM generate_series(1, 1000) g".encode()
        )
        eventually(lambda: not goes_to_a_replica(), "they are left out")
        for _ in range(50):
            assert not goes_to_a_replica(), "they stay out while they do not move"
        first.execute("SELECT pg_wal_replay_resume()")
        eventually(goes_to_a_replica, "one is back")
        assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (1000,)
        second.execute("SELECT pg_wal_replay_resume()")
