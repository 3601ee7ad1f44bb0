"""What a session keeps when its server goes, and what it is told of the rest."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from tests.databases.failover.conftest import cluster, kill, pid_of, promote
from tests.support.cluster import NAME, Cluster
from tests.support.processes import children, exist
from tests.support.snapshots import pool, snapshot
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("sessions"), replicas=1) as group:
        with group.connect() as connection:
            connection.execute("CREATE TABLE t (x int)")
        yield group


@pytest.fixture
def running(group: Cluster) -> Iterator[Cluster]:
    group.whole()
    yield group
    group.whole()


def kill_and_wait(running: Cluster) -> None:
    old = running.primary.name
    kill(running)
    eventually(lambda: running.service.groups[NAME].writable not in (None, old), "another primary", 60)


def test_state_that_only_the_server_had_ends_its_session_with_the_reason(running: Cluster) -> None:
    pinned = [
        ("CREATE TEMP TABLE mine (x int)", "temporary table"),
        ("LISTEN news", "LISTEN"),
        ("SELECT pg_advisory_lock(1)", "advisory lock"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "cursor"),
    ]
    sessions = [(running.connect(), part) for _, part in pinned]
    for (connection, _), (statement, _) in zip(sessions, pinned, strict=True):
        connection.execute(statement.encode())
    kill_and_wait(running)
    for connection, part in sessions:
        with pytest.raises(psycopg.OperationalError) as raised:
            connection.execute("SELECT 1")
        told = str(raised.value)
        assert raised.value.sqlstate == "57P01"
        # What a server says at its end reaches the client; one that ends without a word is spoken for.
        says_why = "the server that held the state of this session has gone" in told and part.lower() in told.lower()
        assert says_why or "terminating connection" in told
        assert connection.closed


def test_everything_else_survives(running: Cluster) -> None:
    with running.connect() as connection:
        connection.execute("SET work_mem = '5MB'")
        connection.execute("SET application_name = 'survivor'")
        for _ in range(7):  # Prepared by the driver after five.
            connection.execute("SELECT count(*) FROM t WHERE x = %s", (1,))
        kill_and_wait(running)
        assert connection.execute("SHOW work_mem").fetchone() == ("5MB",)
        assert connection.execute("SHOW application_name").fetchone() == ("survivor",)
        assert connection.execute("SELECT count(*) FROM t WHERE x = %s", (1,)).fetchone() is not None


@pytest.mark.parametrize("how", [kill, promote])
def test_a_transaction_that_went_down_is_failed_until_it_is_rolled_back(running: Cluster, how: object) -> None:
    with running.connect() as connection:
        before = connection.execute("SELECT count(*) FROM t").fetchone()
        connection.execute("BEGIN")
        connection.execute("SET LOCAL work_mem = '6MB'")
        connection.execute("SET statement_timeout = '77s'")
        connection.execute("INSERT INTO t VALUES (1)")
        if how is kill:
            kill_and_wait(running)
        else:
            promote(running)
        with pytest.raises(psycopg.errors.SerializationFailure, match="rolled back, because its server went away"):
            connection.execute("INSERT INTO t VALUES (2)")
        assert connection.info.transaction_status == TransactionStatus.INERROR
        for _ in range(2):
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                connection.execute("SELECT 1")
        connection.execute("ROLLBACK")
        assert connection.info.transaction_status == TransactionStatus.IDLE
        assert connection.execute("SELECT count(*) FROM t").fetchone() == before
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",), "a setting of the transaction is gone"


def test_a_commit_of_a_transaction_that_went_down_is_refused(running: Cluster) -> None:
    """What was lost before the COMMIT was sent is known to be lost."""
    with running.connect() as connection:
        before = connection.execute("SELECT count(*) FROM t").fetchone()
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (1)")
        kill_and_wait(running)
        with pytest.raises(psycopg.errors.SerializationFailure):
            connection.execute("COMMIT")
        assert connection.info.transaction_status == TransactionStatus.IDLE
        assert connection.execute("SELECT count(*) FROM t").fetchone() == before


def test_statements_wait_for_the_next_primary(running: Cluster) -> None:
    """Nothing that comes while there is none fails."""
    sessions = [running.connect() for _ in range(4)]
    for connection in sessions:
        connection.execute("SELECT 1")
    held = running.facts().counts["held_total"]
    old = pid_of(running, running.primary.name)
    answers: list[object] = []

    def insert(connection: psycopg.Connection) -> None:
        try:
            answers.append(connection.execute("INSERT INTO t VALUES (3)").statusmessage)
        except psycopg.Error as error:
            answers.append(error)

    threads = [threading.Thread(target=insert, args=(connection,)) for connection in sessions]
    group = running.service.groups[NAME]
    running.call(group.stop_watching())  # Nobody takes over before they all wait.
    pids = [old, *children(old)]
    os.kill(old, signal.SIGKILL)
    eventually(lambda: not exist(pids), "the primary has ended")
    requests = running.facts().counts["requests_total"]
    for thread in threads:
        thread.start()
    eventually(lambda: running.facts().counts["requests_total"] == requests + 4, "they have arrived")
    assert answers == []
    running.call(_watch_again(running))
    for thread in threads:
        thread.join(30)
    assert answers == ["INSERT 0 1"] * 4
    assert running.facts().counts["held_total"] >= held + 4
    for connection in sessions:
        connection.close()


def test_a_wait_has_an_end_that_says_why(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        cluster(tmp_path_factory.mktemp("alone"), replicas=0, hold_timeout_ms=700) as running,
        running.connect() as connection,
    ):
        connection.execute("CREATE TABLE t (x int)")
        running.call(running.service.groups[NAME].stop_watching())
        primary = pid_of(running, running.primary.name)
        running.call(_hold(running))
        began = time.monotonic()
        with pytest.raises(psycopg.errors.CannotConnectNow, match="no server can take writes") as raised:
            connection.execute("INSERT INTO t VALUES (1)")
        assert time.monotonic() - began >= 0.7
        assert "trimaran db status" in str(raised.value)
        assert not connection.closed
        assert primary == pid_of(running, running.primary.name)


async def _watch_again(running: Cluster) -> None:
    group = running.service.groups[NAME]
    assert group._loop is not None
    group._watch = asyncio.create_task(group._loop.run())


async def _hold(running: Cluster) -> None:
    loop = running.service.groups[NAME]._loop
    assert loop is not None
    async with loop.exclusive:
        await loop.hold()


@pytest.mark.parametrize("change", [{"role": "out"}, {"address": "127.0.0.1:1"}])
def test_sessions_begin_and_read_while_only_a_replica_is_up(running: Cluster, change: dict[str, str]) -> None:
    """No primary is known, or the one that is known cannot be reached: writes are held, and refused in the end."""
    assert running.plane is not None
    with running.connect() as connection:
        plain = connection.info.parameter_status("TimeZone")
    databases = copy.deepcopy(running.service.snapshot())
    databases[0]["hold_timeout_ms"] = 1_500
    next(node for node in databases[0]["nodes"] if node["role"] == "primary").update(change)
    running.plane.apply(snapshot(pool(), databases=databases))
    try:
        for options in ("", "-c work_mem=1MB -c TimeZone=Asia/Tokyo"):
            with psycopg.connect(running.dsn, autocommit=True, options=options) as connection:
                assert connection.info.parameter_status("in_hot_standby") == "off"
                assert connection.info.parameter_status("TimeZone") == ("Asia/Tokyo" if options else plain)
                assert connection.execute("SELECT count(*) >= 0 FROM t").fetchone() == (True,)
                assert connection.execute("SHOW work_mem").fetchone() == ("1MB" if options else "4MB",)
        with (
            psycopg.connect(running.dsn, autocommit=True) as connection,
            pytest.raises(psycopg.errors.CannotConnectNow, match="no server can take writes"),
        ):
            connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(psycopg.OperationalError, match='invalid value for parameter "work_mem": "much"'):
            psycopg.connect(running.dsn, options="-c work_mem=much")
    finally:
        running.plane.apply(snapshot(pool(), databases=running.service.snapshot()))
