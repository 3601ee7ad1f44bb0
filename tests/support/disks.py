"""Small disks for nodes, and how they are filled. Only root can."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = "400m"
LEFT_BYTES = 8 * 1024 * 1024


@contextmanager
def small_disk(data: Path) -> Iterator[None]:
    """Moves a data directory to a disk of its own, until the end. Raises PermissionError where nobody may mount."""
    kept = data.with_name("kept")
    data.rename(kept)
    data.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(data)]
    if subprocess.run(command, check=False).returncode != 0:
        raise PermissionError("this machine lets nobody mount")
    try:
        owner = kept.stat()
        subprocess.run(["cp", "-a", f"{kept}/.", str(data)], check=True)
        os.chown(data, owner.st_uid, owner.st_gid)
        data.chmod(0o700)
        shutil.rmtree(kept)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)


def fill(data: Path) -> Path:
    """Leaves 8 MiB on the disk of a data directory; the file that makes room again when it is removed."""
    found = os.statvfs(data)
    rubbish = data / "rubbish"
    with rubbish.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - LEFT_BYTES)
    return rubbish
