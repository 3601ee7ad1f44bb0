"""Groups with their gateways, and what is done to them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.checker import Checker
from tests.support.cluster import Cluster
from tests.support.homes import remove_homes
from tests.support.processes import suspend_all
from tests.support.waiting import eventually


@contextmanager
def cluster(directory: Path, **settings: Any) -> Iterator[Cluster]:
    """A whole group in a directory of its own, which PostgreSQL's account can get at."""
    directory.chmod(0o755)
    try:
        with Cluster(directory, **settings) as running:
            running.whole()
            yield running
    finally:
        remove_homes(directory)


def until_replayed(running: Cluster) -> None:
    """The replicas have all that is on the primary by now, by what the servers themselves say."""
    with running.superuser(running.primary.name) as primary:
        position = primary.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    for node in running.replicas():
        with running.superuser(node.name) as replica:
            eventually(
                lambda at=replica: at.execute(replayed, position).fetchone() == (True,), f"{node.name} has it all"
            )


def pid_of(running: Cluster, node: str) -> int:
    """The postmaster of a node that runs."""
    pid = running.states()[node].pid
    assert pid is not None, f"{node} does not run"
    return pid


def kill(running: Cluster) -> None:
    """The primary's postmaster ends without a word."""
    os.kill(pid_of(running, running.primary.name), signal.SIGKILL)


def suspend_postmaster(running: Cluster) -> None:
    """Nobody new gets in; those who are in go on."""
    os.kill(pid_of(running, running.primary.name), signal.SIGSTOP)


def suspend(running: Cluster) -> None:
    """Nothing of the primary moves any more."""
    suspend_all(pid_of(running, running.primary.name))


def promote(running: Cluster) -> None:
    running.call(running.service.promote(running.replicas()[0].name))


Event = Callable[[Cluster], None]


def go_through(running: Cluster, checker: Checker, event: Event) -> float:
    """One event, up to when the group is whole again. Answers with the time without an acknowledged write, in seconds."""
    old, began = running.primary.name, time.monotonic()
    event(running)
    _another_primary(running, old)
    checker.more(30)
    outage_s = checker.outage_s(began)
    running.whole()
    checker.more(10)
    return outage_s


def _another_primary(running: Cluster, old: str) -> None:
    eventually(
        lambda: running.service.groups["main"].writable not in (None, old), f"another primary: {running.told()}", 60
    )
