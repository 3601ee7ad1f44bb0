"""The primary's disk fills up, twice in a row: each node has a small disk of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.databases.failover.conftest import cluster, go_through, remove_homes
from tests.databases.failover.test_events import TIMES, check
from tests.support.checker import Checker
from tests.support.cluster import Cluster
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give nodes disks of their own"),
]
SIZE = "400m"
LEFT_BYTES = 8 * 1024 * 1024


@contextmanager
def small_disk(data: Path) -> Iterator[None]:
    """Moves a data directory to a disk of its own, until the end."""
    kept = data.with_name("kept")
    data.rename(kept)
    data.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(data)]
    if subprocess.run(command, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount")
    try:
        owner = kept.stat()
        subprocess.run(["cp", "-a", f"{kept}/.", str(data)], check=True)
        os.chown(data, owner.st_uid, owner.st_gid)
        data.chmod(0o700)
        shutil.rmtree(kept)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)


def data_of(state: Path, node: str) -> Path:
    own = state / "databases" / ("main" if node == "main-1" else node)
    return Path(json.loads((own / "node.json").read_text())["home"] or own) / "data"


def test_a_full_disk_costs_only_what_was_under_way(tmp_path: Path) -> None:
    nodes = ("main-1", "main-2", "main-3")
    filled: list[Path] = []

    def fill(running: Cluster) -> None:
        data = data_of(tmp_path, running.primary.name)
        found = os.statvfs(data)
        rubbish = data / "rubbish"
        filled.append(rubbish)
        with rubbish.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - LEFT_BYTES)

    def fill_and_clear(running: Cluster) -> None:
        """Room is made as soon as another has taken over, so that the old one can come back."""
        old = running.primary.name
        fill(running)
        group = running.service.groups["main"]
        eventually(lambda: group.writable not in (None, old), f"another primary: {running.told()}", 60)
        filled[-1].unlink()

    tmp_path.chmod(0o755)
    try:
        with Cluster(tmp_path, replicas=2) as running:
            running.whole()
        with ExitStack() as disks:
            for node in nodes:
                disks.enter_context(small_disk(data_of(tmp_path, node)))
            with cluster(tmp_path, replicas=2) as running, Checker(running.connect) as checker:
                for _ in range(TIMES):
                    go_through(running, checker, fill_and_clear)
                check(running, checker, events=TIMES)
                assert any("is full" in each.reason for each in running.journal.decisions())
    finally:
        remove_homes(tmp_path)
