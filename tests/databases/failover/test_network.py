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
                index = _index(old)
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
                theirs.rejoin(index, _index(running.primary.name))
                running.whole()
                print(f"{outage_s:.2f} s without a write")
            check(running, checker, events=TIMES)


@pytest.mark.parametrize(
    ("word", "delivered"),
    [(b"synchronous_standby_names", False), (b"pg_reload_conf", False), (b"pg_reload_conf", True)],
    ids=["before it arrives", "half way", "before its answer"],
)
def test_a_network_that_is_cut_while_the_primary_is_told_whom_to_wait_for(
    tmp_path: Path, word: bytes, delivered: bool
) -> None:
    """Commits were on one of two replicas; one ends, and whether the primary waits for the other alone is not known.

    So nobody may take over before both are there: the one that has ended may have acknowledged a commit by itself.
    """
    with (
        others(tmp_path) as theirs,
        Cluster(tmp_path / "ours", nodes=theirs.dsns(), failover=True) as running,
    ):
        running.whole()
        with Checker(running.connect) as checker:
            group = running.service.groups[NAME]
            old = running.primary.name
            ended = running.replicas()[0].name
            cable = theirs.cables[_index(old)]
            cable.cut_at(word, delivered=delivered)
            theirs.nodes[_index(ended)].stop()
            eventually(lambda: not cable.is_whole, "the order is under way", 60)
            eventually(lambda: group.writable is None, running.told(), 60)
            eventually(lambda: names_it(running, ended), f"the missing one is named: {running.told()}")
            assert not any(state.role == "primary" for state in running.states().values() if state.name != old)
            theirs.nodes[_index(ended)].start(lambda line: None)
            eventually(lambda: group.writable not in (None, old), running.told(), 60)
            checker.more(30)
            cable.mend()
            eventually(lambda: "not the group's" in running.states()[old].reason, "the old one is seen, and not used")
            checker.more(10)
            check(running, checker, events=2)


def names_it(running: Cluster, ended: str) -> bool:
    """The decision that stands is to wait for the one that has ended."""
    last = running.journal.decisions()[-1]
    return last.action == "hold writes" and ended in last.reason


def _index(name: str) -> int:
    return int(name[-1]) - 1
