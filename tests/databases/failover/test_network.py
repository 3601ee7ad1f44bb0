"""The network to the primary is cut, twice in a row: nodes of others, each behind a path that can be cut."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.databases.failover.test_events import TIMES, check
from tests.support.checker import Checker
from tests.support.cluster import NAME, Cluster
from tests.support.others import others
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)


def test_a_network_that_is_cut_costs_only_what_was_under_way(tmp_path: Path) -> None:
    with (
        others(tmp_path) as theirs,
        Cluster(tmp_path / "ours", nodes=theirs.dsns(), failover=True) as running,
    ):
        running.whole()
        with Checker(running.connect) as checker:
            for _ in range(TIMES):
                group = running.service.groups[NAME]
                old = running.primary.name
                index = int(old[-1]) - 1
                began = time.monotonic()
                theirs.cables[index].cut()
                eventually(lambda old=old, group=group: group.writable not in (None, old), running.told(), 60)
                checker.more(30)
                outage_s = checker.outage_s(began)
                theirs.cables[index].mend()
                eventually(
                    lambda old=old: "not the group's" in running.states()[old].reason,
                    "the old one is seen, and not used",
                )
                checker.more(30)
                theirs.rejoin(index, int(running.primary.name[-1]) - 1)
                running.whole()
                print(f"{outage_s:.2f} s without a write")
            check(running, checker, events=TIMES)
