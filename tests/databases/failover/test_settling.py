"""Commits that the primary did not live to answer are found out on the next one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from tests.databases.failover.conftest import cluster, kill, pid_of
from tests.support.cluster import NAME, Cluster
from tests.support.processes import children, exist, of_kind
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=["transactions", "all"])
def group(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp(f"settling_{request.param}")
    with cluster(directory, replicas=2, settle_commits=request.param) as group:
        with group.connect() as connection:
            connection.execute("CREATE TABLE settled (number bigint PRIMARY KEY, client int)")
            connection.execute("CREATE TABLE parent (x int PRIMARY KEY)")
        yield group


@pytest.fixture
def running(group: Cluster) -> Iterator[Cluster]:
    group.whole()
    yield group
    group.whole()


class Committer:
    """Clients that commit one transaction after the other, retry nothing, and note what they are told of each."""

    def __init__(self, running: Cluster, clients: int) -> None:
        self.told: dict[int, str] = {}
        self.went_on: set[int] = set()
        """Clients whose connection was good for another commit after a settled answer that was an error."""
        self._running = running
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(client,)) for client in range(clients)]

    def __enter__(self) -> Committer:
        for thread in self._threads:
            thread.start()
        eventually(lambda: len(self.told) > 100, "a hundred commits")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _run(self, client: int) -> None:
        number = client * 1_000_000 + os.getpid() * 1_000_000_000
        last = "COMMIT"
        with self._running.connect() as connection:
            while not self._over.is_set():
                number += 1
                last, before = self._commit(connection, client, number), last
                self.told[number] = last
                if last == "COMMIT" and before == "40001":
                    self.went_on.add(client)

    @staticmethod
    def _commit(connection: psycopg.Connection[Any], client: int, number: int) -> str:
        step = "BEGIN"
        try:
            connection.execute("BEGIN")
            step = "INSERT"
            connection.execute("INSERT INTO settled VALUES (%s, %s)", (number, client))
            step = "COMMIT"
            return str(connection.execute("COMMIT").statusmessage)
        except psycopg.Error as error:
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
            return str(error.sqlstate) if step == "COMMIT" else f"{step} {error.sqlstate}"


def there(running: Cluster) -> dict[int, int]:
    with running.superuser(running.primary.name) as connection:
        rows = connection.execute("SELECT number, count(*) FROM settled GROUP BY 1").fetchall()
    return dict(rows)


def settled(running: Cluster) -> tuple[int, int, int]:
    counts = running.facts().counts
    return counts["settled_committed_total"], counts["settled_aborted_total"], counts["outcome_unknown_total"]


def test_what_clients_are_told_of_their_commits_is_true(running: Cluster) -> None:
    before = settled(running)
    with Committer(running, 12) as committer:
        for _ in range(3):
            old = running.primary.name
            kill(running)
            eventually(lambda: running.service.groups[NAME].writable not in (None, old), "another primary", 60)  # noqa: B023
            commits = len(committer.told)
            eventually(lambda: len(committer.told) > commits + 50, "fifty more commits")  # noqa: B023
            running.whole()
    found = there(running)
    for number, told in committer.told.items():
        if told == "COMMIT":
            assert found.get(number) == 1, number
        elif told != "08007":
            assert number not in found, (number, told)
    committed, aborted, unknown = (after - at for after, at in zip(settled(running), before, strict=True))
    assert committed + aborted > 0, committer.told
    assert unknown == sum(told == "08007" for told in committer.told.values())
    print(f"settled: {committed} committed, {aborted} aborted, {unknown} in doubt")


def begin(running: Cluster, number: int) -> psycopg.Connection[Any]:
    connection = running.connect()
    connection.execute("BEGIN")
    connection.execute("SET work_mem = '6MB'")
    connection.execute("INSERT INTO settled VALUES (%s, 0)", (number,))
    return connection


def wait_for_nobody(running: Cluster) -> None:
    """Commits reach the replicas, and are never acknowledged."""
    with running.superuser(running.primary.name) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        connection.execute("SELECT pg_reload_conf()")
        eventually(
            lambda: connection.execute("SHOW synchronous_standby_names").fetchone() == ("nobody",),
            "it waits for nobody",
        )


def waiting(running: Cluster, count: int = 1) -> None:
    """Returns when so many commits wait for a replica."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query !~ 'emit_message'"
    with running.superuser(running.primary.name) as connection:
        eventually(lambda: connection.execute(query).fetchone() == (count,), "commits wait")


def stop_sending(running: Cluster) -> None:
    """Nothing reaches the replicas any more."""
    pids = of_kind(pid_of(running, running.primary.name), "walsender")
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def end(running: Cluster) -> None:
    """The primary is killed, and everything of it is gone, also what stands still."""
    old = pid_of(running, running.primary.name)
    pids = [old, *children(old)]
    for pid in (old, *of_kind(old, "walsender")):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not exist(pids), "the primary has ended", 60)


def test_a_commit_that_had_arrived_is_answered_as_if_nothing_had_been(running: Cluster) -> None:
    before = settled(running)
    with begin(running, 1) as connection, ThreadPoolExecutor(1) as pool:
        wait_for_nobody(running)
        answer: Future[Any] = pool.submit(connection.execute, "COMMIT")
        waiting(running)
        for replica in running.replicas():
            with psycopg.connect(running.direct(replica.name)) as direct:
                query = "SELECT count(*) FROM settled WHERE number = 1"
                eventually(lambda: direct.execute(query).fetchone() == (1,), "it is on the replica")  # noqa: B023
        end(running)
        assert answer.result(60).statusmessage == "COMMIT"
        assert connection.info.transaction_status == TransactionStatus.IDLE
        assert connection.execute("SELECT count(*) FROM settled WHERE number = 1").fetchone() == (1,)
        assert connection.execute("SHOW work_mem").fetchone() == ("6MB",), "what the transaction has set is kept"
        connection.execute("INSERT INTO settled VALUES (2, 0)")
    after = settled(running)
    assert (after[0] - before[0], after[1] - before[1], after[2] - before[2]) == (1, 0, 0)


def test_a_commit_that_had_not_arrived_can_be_repeated(running: Cluster) -> None:
    before = settled(running)
    with begin(running, 11) as connection, ThreadPoolExecutor(1) as pool:
        stop_sending(running)
        answer = pool.submit(connection.execute, "COMMIT")
        waiting(running)
        end(running)
        with pytest.raises(psycopg.errors.SerializationFailure, match="nothing of it was committed"):
            answer.result(60)
        assert connection.info.transaction_status == TransactionStatus.IDLE
        assert connection.execute("SHOW work_mem").fetchone() != ("6MB",)
        connection.execute("INSERT INTO settled VALUES (11, 0)")
    after = settled(running)
    assert (after[0] - before[0], after[1] - before[1], after[2] - before[2]) == (0, 1, 0)


def test_a_single_statement_is_settled_where_that_is_asked_for(running: Cluster) -> None:
    """By the extended protocol, which drivers use for statements with parameters."""
    is_settled = running.settings.settle_commits == "all"
    insert = "INSERT INTO settled VALUES (%s, 0)"
    with running.connect() as arrived, running.connect() as simple, ThreadPoolExecutor(2) as pool:
        wait_for_nobody(running)
        answer = pool.submit(arrived.execute, insert, (21,))
        other = pool.submit(simple.execute, "INSERT INTO settled VALUES (22, 0)")
        waiting(running, 2)
        end(running)
        with pytest.raises(psycopg.OperationalError) as raised:
            other.result(60)
        assert raised.value.sqlstate == "08007", "the simple protocol has no place for the question"
        if is_settled:
            assert answer.result(60).statusmessage == "INSERT 0 1"
        else:
            with pytest.raises(psycopg.OperationalError) as raised:
                answer.result(60)
            assert raised.value.sqlstate == "08007"
        assert arrived.execute("SELECT count(*) FROM settled WHERE number = 21").fetchone() == (1,)
    running.whole()
    with running.connect() as lost, ThreadPoolExecutor(1) as pool:
        stop_sending(running)
        answer = pool.submit(lost.execute, insert, (23,))
        waiting(running)
        end(running)
        with pytest.raises(psycopg.OperationalError) as raised:
            answer.result(60)
        assert raised.value.sqlstate == ("40001" if is_settled else "08007")
        assert lost.execute("SELECT count(*) FROM settled WHERE number = 23").fetchone() == (0,)
