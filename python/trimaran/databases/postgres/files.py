"""Small files and directories with exact owners and modes, written so that a crash leaves the old or the new."""

from __future__ import annotations

import os
from pathlib import Path

from trimaran.databases.postgres.account import Account
from trimaran.errors import DatabaseError


def make_directory(path: Path, mode: int, owner: Account | None = None) -> None:
    """Make the directory, and missing ones above it, with this mode whatever the umask.

    One that exists keeps its mode. Raises DatabaseError when it cannot be made.
    """
    try:
        missing = [each for each in (path, *path.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            each.chmod(mode)
            _give(each, owner)
    except OSError as error:
        raise DatabaseError(f"{path}: cannot be made: {error.strerror}; check the permissions and the path") from error


def write_private(path: Path, text: str, owner: Account | None = None) -> None:
    """Replace the file by one of mode 600 with this text. Raises DatabaseError when that fails."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        _give(fresh, owner)
        fresh.replace(path)
    except OSError as error:
        raise DatabaseError(f"{path}: cannot be written: {error.strerror}") from error


def sync_directory(path: Path) -> None:
    """Make renames inside the directory survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give(path: Path, owner: Account | None) -> None:
    """Give the path to the account; without one, root gives it to the owner of the directory around it.

    The latter keeps a person's project theirs when it is run as root once.
    """
    if owner is not None:
        if owner.dropped:
            os.chown(path, owner.uid, owner.gid)
    elif os.geteuid() == 0:
        around = path.parent.stat()
        os.chown(path, around.st_uid, around.st_gid)
