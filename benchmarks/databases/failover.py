"""How long a failed primary is felt, and what it costs: `python -m benchmarks.databases.failover [RUNS [KIND ...]]`.

Each kind is done RUNS times in a row to a group of one primary and two replicas behind its gateway, while 16 clients in
a process of their own, which retry nothing, use it: 6 write, 6 read, 4 run transactions. The time is from the event to the
end of the longest pause without an acknowledged write. Then the group becomes whole again, and the next run begins. Prints
a Markdown table, one line a kind:

    kill        the postmaster is killed (SIGKILL)
    suspend     every process of the primary is stopped (SIGSTOP)
    postmaster  only its postmaster is stopped: sessions go on, nobody new gets in
    network     the primary is somebody else's, and everybody reaches it by a TCP forwarder that stops to forward: what is
                sent to it arrives nowhere, and nothing is closed (as with dropped packets)
    disk        the primary's disk (a tmpfs of 400 MB, which takes root to mount) is filled up but for 8 MiB
    promote     `trimaran db promote` of a replica
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from benchmarks.databases.failover_clients import Clients, Said
from tests.support.cluster import NAME, Cluster
from tests.support.disks import fill, small_disk
from tests.support.homes import data_of, remove_homes
from tests.support.others import Others, others
from tests.support.processes import suspend_all
from tests.support.waiting import eventually

RUNS = 5
EMBEDDED = ("kill", "suspend", "postmaster", "promote")
KINDS = (*EMBEDDED[:3], "network", "disk", "promote")


@dataclass(frozen=True, slots=True)
class Run:
    """One event."""

    outage_s: float
    whole_s: float
    """Until two replicas have every commit again."""


@dataclass(frozen=True, slots=True)
class Event:
    """What is done to the primary, and what has to be done so that it can come back."""

    happen: Callable[[Cluster], float]
    """Answers with the monotonic time of the event."""
    mend: Callable[[str, Cluster], None] = lambda old, cluster: None
    """Called with the name of the old primary when another has taken over."""


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    kinds = sys.argv[2:] or list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        sys.exit(f"there is no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    directory = Path(tempfile.mkdtemp(prefix="trimaran-failover-"))
    directory.chmod(0o755)
    lines: dict[str, str] = {}
    try:
        # What the nodes report goes beside the table, not into it.
        with redirect_stdout(sys.stderr):
            lines.update(_embedded(directory, runs, [kind for kind in kinds if kind in EMBEDDED]))
            if "network" in kinds:
                lines["network"] = _network(directory, runs)
            if "disk" in kinds:
                lines["disk"] = _disk(directory, runs)
    finally:
        for state in directory.iterdir():
            remove_homes(state)
        shutil.rmtree(directory, ignore_errors=True)
    print(
        f"| {runs} runs each, 16 clients | first write, median | worst | whole again, median | writes acknowledged"
        " | of them lost | reads | of them failed | outcome unknown (08007) | transactions rolled back (40001) | other failures |"
    )
    print("|---" + "|--:" * 10 + "|")
    for kind in kinds:
        print(lines[kind])


def _embedded(directory: Path, runs: int, kinds: list[str]) -> Iterator[tuple[str, str]]:
    """One group for all of them."""
    if not kinds:
        return
    with Cluster(_state(directory, "embedded"), replicas=2) as cluster:
        cluster.whole()
        for kind in kinds:
            yield kind, _measure(cluster, kind, _events()[kind], runs)


def _events() -> dict[str, Event]:
    def at_once(do: Callable[[Cluster], object]) -> Callable[[Cluster], float]:
        def happen(cluster: Cluster) -> float:
            began = time.monotonic()
            do(cluster)
            return began

        return happen

    return {
        "kill": Event(at_once(lambda cluster: os.kill(_pid(cluster), signal.SIGKILL))),
        "suspend": Event(at_once(lambda cluster: suspend_all(_pid(cluster)))),
        "postmaster": Event(at_once(lambda cluster: os.kill(_pid(cluster), signal.SIGSTOP))),
        "promote": Event(
            at_once(lambda cluster: cluster.call(cluster.service.promote(cluster.replicas()[0].name))),
        ),
    }


def _network(directory: Path, runs: int) -> str:
    state = _state(directory, "network")
    with others(state) as theirs, Cluster(state / "ours", nodes=theirs.dsns(), failover=True) as cluster:
        cluster.whole()

        def cut(cluster: Cluster) -> float:
            cable = theirs.cables[_index(cluster.primary.name)]
            began = time.monotonic()
            cable.cut()
            return began

        return _measure(cluster, "network", Event(cut, lambda old, cluster: _rejoin(theirs, old, cluster)), runs)


def _rejoin(theirs: Others, old: str, cluster: Cluster) -> None:
    """What the person does whose nodes they are."""
    theirs.cables[_index(old)].mend()
    eventually(lambda: "not the group's" in cluster.states()[old].reason, "the old one is seen, and not used")
    theirs.rejoin(_index(old), _index(cluster.primary.name))


def _disk(directory: Path, runs: int) -> str:
    state = _state(directory, "disk")
    with Cluster(state, replicas=2) as cluster:
        cluster.whole()
    with _small_disks(state), Cluster(state, replicas=2) as cluster:
        cluster.whole()
        filled: list[Path] = []

        def happen(cluster: Cluster) -> float:
            filled.append(fill(data_of(state, cluster.primary.name)))
            return time.monotonic()

        return _measure(cluster, "disk", Event(happen, lambda old, cluster: filled[-1].unlink()), runs)


@contextmanager
def _small_disks(state: Path) -> Iterator[None]:
    with ExitStack() as disks:
        for node in ("main-1", "main-2", "main-3"):
            disks.enter_context(small_disk(data_of(state, node)))
        yield


def _measure(cluster: Cluster, kind: str, event: Event, runs: int) -> str:
    """All runs of a kind; its line of the table."""
    with Clients(cluster.dsn) as clients:
        measured = [_once(cluster, clients, kind, event) for _ in range(runs)]
        with cluster.superuser(cluster.primary.name) as connection:
            said = clients.stop(connection.info.dsn, connection.info.password)
    return _line(kind, measured, said)


def _once(cluster: Cluster, clients: Clients, kind: str, event: Event) -> Run:
    old = cluster.primary.name
    began = event.happen(cluster)
    eventually(lambda: cluster.service.groups[NAME].writable not in (None, old), cluster.told(), 60)
    outage_s = clients.outage_s(began)
    event.mend(old, cluster)
    cluster.whole()
    whole_s = time.monotonic() - began
    clients.more()
    print(f"{kind}: {outage_s:.2f} s without a write, whole after {whole_s:.1f} s", file=sys.stderr)
    return Run(outage_s, whole_s)


def _line(kind: str, runs: list[Run], said: Said) -> str:
    outages = [run.outage_s for run in runs]
    values = [
        kind,
        f"{statistics.median(outages):.2f} s",
        f"{max(outages):.2f} s",
        f"{statistics.median(run.whole_s for run in runs):.1f} s",
        f"{said.acknowledged:,}",
        str(said.lost),
        f"{said.reads:,}",
        str(said.failed_reads),
        str(said.unknown),
        str(said.rolled_back),
        str(len(said.others)),
    ]
    for other in said.others[:5]:
        print(f"{kind}: {other}", file=sys.stderr)
    return f"| {' | '.join(values)} |"


def _state(directory: Path, name: str) -> Path:
    state = directory / name
    state.mkdir()
    state.chmod(0o755)
    return state


def _pid(cluster: Cluster) -> int:
    pid = cluster.primary.pid
    assert pid is not None
    return pid


def _index(node: str) -> int:
    return int(node.rpartition("-")[2]) - 1


if __name__ == "__main__":
    main()
