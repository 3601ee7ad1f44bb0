"""The primary's disk fills up, and a replica on another disk takes over."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from tests.databases.replication.conftest import Writers, data_of, running

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give the primary a disk of its own"),
]


def test_a_primary_without_room_hands_over_and_loses_nothing(empty: Path) -> None:
    async def prepare() -> Path:
        async with running(empty, replicas=2) as watched:
            await watched.whole(replicas=2)
        return data_of(empty, "main")

    async def run(data: Path) -> None:
        async with running(empty, replicas=2) as watched:
            await watched.whole(replicas=2)
            assert watched.group.writable == "main-1"
            async with Writers(watched) as writers:
                _fill(data / "rubbish")
                await watched.until(lambda: watched.group.writable in ("main-2", "main-3"), "a replica takes over")
                await writers.more(20)
            assert await writers.lost() == set()
            assert any("the disk of main-1 is full" in line for line in watched.decisions())

    data = asyncio.run(prepare())
    kept = data.with_name("kept")
    data.rename(kept)
    data.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(data)], check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount")
    try:
        owner = kept.stat()
        subprocess.run(["cp", "-a", f"{kept}/.", str(data)], check=True)
        os.chown(data, owner.st_uid, owner.st_gid)
        data.chmod(0o700)
        asyncio.run(run(data))
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)


def _fill(file: Path) -> None:
    """Leaves a few MiB."""
    found = os.statvfs(file.parent)
    with file.open("wb") as rubbish:
        os.posix_fallocate(rubbish.fileno(), 0, found.f_bavail * found.f_frsize - 8 * 1024 * 1024)
