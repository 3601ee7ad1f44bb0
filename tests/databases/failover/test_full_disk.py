"""The primary's disk fills up, twice in a row: each node has a small disk of its own."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.databases.failover.conftest import cluster, go_through
from tests.databases.failover.test_events import TIMES, check
from tests.support.checker import Checker
from tests.support.cluster import Cluster
from tests.support.disks import fill, small_disk
from tests.support.homes import data_of, remove_homes
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give nodes disks of their own"),
]


def test_a_full_disk_costs_only_what_was_under_way(tmp_path: Path) -> None:
    nodes = ("main-1", "main-2", "main-3")

    def fill_and_clear(running: Cluster) -> None:
        """Room is made as soon as another has taken over, so that the old one can come back."""
        old = running.primary.name
        rubbish = fill(data_of(tmp_path, old))
        group = running.service.groups["main"]
        eventually(lambda: group.writable not in (None, old), f"another primary: {running.told()}", 60)
        rubbish.unlink()

    tmp_path.chmod(0o755)
    try:
        with Cluster(tmp_path, replicas=2) as running:
            running.whole()
        with ExitStack() as disks:
            try:
                for node in nodes:
                    disks.enter_context(small_disk(data_of(tmp_path, node)))
            except PermissionError as refused:
                pytest.skip(str(refused))
            with cluster(tmp_path, replicas=2) as running, Checker(running.connect) as checker:
                for _ in range(TIMES):
                    go_through(running, checker, fill_and_clear)
                check(running, checker, events=TIMES)
                assert any("is full" in each.reason for each in running.journal.decisions())
    finally:
        remove_homes(tmp_path)
