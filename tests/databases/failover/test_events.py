"""The primary fails in every way, twice in a row, under clients that retry nothing."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.databases.failover.conftest import (
    Event,
    cluster,
    go_through,
    kill,
    pid_of,
    promote,
    suspend,
    suspend_postmaster,
)
from tests.support.checker import Checker
from tests.support.cluster import Cluster
from tests.support.processes import children, exist, of_kind, resume
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)
TIMES = int(os.environ.get("TRIMARAN_FAILOVERS", "2"))
"""Events of each kind, in a row."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("events"), replicas=2) as group:
        yield group


def check(running: Cluster, checker: Checker, events: int) -> None:
    """What has to hold after events that nobody announced."""
    checker.stop()
    assert checker.wrong == []
    with running.superuser(running.primary.name) as connection:
        assert checker.lost(connection) == set(), "acknowledged writes are lost"
        assert checker.halves(connection) == []
    assert checker.failed("read") == []
    # Only what was with the server when it went: for each client one statement and event, and never the next one.
    writes, transactions = checker.failed("write"), checker.failed("transaction")
    assert {failure.sqlstate for failure in writes} <= {"08007"}, writes
    assert {failure.sqlstate for failure in transactions} <= {"40001", "08007"}, transactions
    assert {failure.statement for failure in transactions if failure.sqlstate == "08007"} <= {"COMMIT"}
    most = max(Counter(failure.client for failure in checker.failures).values(), default=0)
    assert most <= events, checker.failures
    assert not [failure for failure in checker.failures if failure.closed]


@pytest.mark.parametrize("event", [kill, suspend, suspend_postmaster])
def test_a_primary_that_fails_costs_only_what_it_was_doing(running: Cluster, event: Event) -> None:
    with Checker(running.connect) as checker:
        for _ in range(TIMES):
            go_through(running, checker, event)
        check(running, checker, events=TIMES)


def test_a_planned_promotion_costs_nothing(running: Cluster) -> None:
    with Checker(running.connect) as checker:
        for _ in range(TIMES):
            go_through(running, checker, promote)
        check(running, checker, events=0)
    assert checker.failures == []


def test_a_replica_that_stands_still_costs_nothing(running: Cluster) -> None:
    """Reads that it has taken are repeated elsewhere."""
    with Checker(running.connect, writers=3, readers=8, transactions=0) as checker:
        stopped = pid_of(running, running.replicas()[0].name)
        pids = [stopped, *children(stopped)]
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            eventually(lambda: len(running.replicas()) == 1, "it is out")
            checker.more(500)
            checker.stop()
        finally:
            resume(pids)
        running.whole()
        check(running, checker, events=0)
    assert checker.failures == []


def test_the_checker_notices_what_is_lost(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The control: without synchronous commit, a replica that is held back does not have what was acknowledged."""
    directory = tmp_path_factory.mktemp("control")
    with (
        cluster(directory, replicas=1, synchronous=False) as running,
        Checker(running.connect, writers=4, readers=0, transactions=0, row_bytes=200_000) as checker,
    ):
        old = running.primary.name
        replica = running.replicas()[0].name
        receivers = of_kind(pid_of(running, replica), "walreceiver")
        assert receivers
        for pid in receivers:
            os.kill(pid, signal.SIGSTOP)
        checker.more(250)  # 50 MB, more than all the buffers between the two have room for.
        primary = pid_of(running, old)
        pids = [primary, *children(primary)]
        os.kill(primary, signal.SIGKILL)
        eventually(lambda: not exist(pids), "the primary has ended")
        resume(receivers)
        eventually(lambda: running.service.groups["main"].writable == replica, "the replica takes over", 60)
        checker.stop()
        with running.superuser(replica) as connection:
            assert len(checker.lost(connection)) > 0
