"""How long a kill -9 of the primary is felt, and what it costs: `python -m benchmarks.databases.failover [RUNS]`.

A group of one primary and two replicas behind its gateway, and 16 clients that retry nothing: 6 write, 6 read, 4 run
transactions. In each run the primary's postmaster is killed; the time is from there to the end of the longest pause without
an acknowledged write. Then the group becomes whole again, and the next run begins. Prints a Markdown table.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from tests.support.checker import Checker
from tests.support.cluster import NAME, Cluster
from tests.support.waiting import eventually

RUNS = 20


@dataclass(frozen=True, slots=True)
class Run:
    """One kill."""

    outage_s: float
    whole_s: float
    """Until two replicas have every commit again."""


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    directory = Path(tempfile.mkdtemp(prefix="trimaran-failover-"))
    directory.chmod(0o755)
    try:
        # What the nodes report goes beside the table, not into it.
        with redirect_stdout(sys.stderr), Cluster(directory, replicas=2) as cluster:
            cluster.whole()
            with Checker(cluster.connect) as checker:
                measured = [_kill(cluster, checker) for _ in range(runs)]
                checker.stop()
            with cluster.superuser(cluster.primary.name) as connection:
                lost = len(checker.lost(connection)) + len(checker.halves(connection))
        _print(measured, checker, lost)
    finally:
        for record in directory.glob("databases/*/node.json"):
            if home := json.loads(record.read_text())["home"]:
                shutil.rmtree(Path(home).parent, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


def _kill(cluster: Cluster, checker: Checker) -> Run:
    old = cluster.primary
    assert old.pid is not None
    began = time.monotonic()
    os.kill(old.pid, signal.SIGKILL)
    eventually(lambda: cluster.service.groups[NAME].writable not in (None, old.name), cluster.told(), 60)
    checker.more(50)
    outage_s = checker.outage_s(began)
    cluster.whole()
    whole_s = time.monotonic() - began
    checker.more(50)
    print(f"{outage_s:.2f} s without a write, whole after {whole_s:.1f} s", file=sys.stderr)
    return Run(outage_s, whole_s)


def _print(runs: list[Run], checker: Checker, lost: int) -> None:
    outages, wholes = [run.outage_s for run in runs], [run.whole_s for run in runs]
    failed = Counter(f"{failure.kind} {failure.sqlstate}" for failure in checker.failures)
    rows = [
        ("kill -9 to the first successful write, median", f"{statistics.median(outages):.2f} s"),
        ("the same, worst", f"{max(outages):.2f} s"),
        ("kill -9 to two replicas with every commit, median", f"{statistics.median(wholes):.1f} s"),
        ("the same, worst", f"{max(wholes):.1f} s"),
        ("acknowledged writes", f"{len(checker.acknowledged):,}"),
        ("of them lost", str(lost)),
        ("reads", f"{checker.reads:,}"),
        ("of them failed", str(len(checker.failed("read")))),
        ("writes in flight, outcome unknown (08007)", str(failed["write 08007"])),
        ("commits in flight, outcome unknown (08007)", str(failed["transaction 08007"])),
        ("transactions rolled back with their server (40001)", str(failed["transaction 40001"])),
        ("other failures", str(len(checker.wrong) + sum(
            count for kind, count in failed.items() if kind not in ("write 08007", "transaction 08007", "transaction 40001")
        ))),
    ]  # fmt: skip
    print(f"| {len(runs)} runs, 16 clients | |\n|---|--:|")
    for name, value in rows:
        print(f"| {name} | {value} |")
    for wrong in checker.wrong[:5]:
        print(f"\n{wrong}")


if __name__ == "__main__":
    main()
