"""A copy of PostgreSQL's programs where the node's account can read them.

As root from a clone below a private home, the wheel is in a virtual environment the account cannot enter. The
programs find their libraries and support files relative to themselves, so the trees are copied as they are.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from trimaran.databases.postgres.account import Account
from trimaran.databases.postgres.files import make_directory
from trimaran.databases.postgres.find import Binaries
from trimaran.databases.postgres.place import SHARED_DIRECTORY
from trimaran.errors import DatabaseError

_NOT_NEEDED = shutil.ignore_patterns("include", "*.a", "pkgconfig", "doc", "man", "__pycache__")


def readable(binaries: Binaries, account: Account, report: Callable[[str], None]) -> Binaries:
    """The programs themselves where the account can read them, else a copy made once per version and build."""
    if not account.dropped or _can_use(binaries, account):
        return binaries
    copy = SHARED_DIRECTORY / f"postgres-{binaries.version}-{_build(binaries)}"
    if not copy.exists():
        report(f"copying PostgreSQL {binaries.version} to {copy}, where the user {account.name} can read it")
        _copy(binaries, copy)
    return replace(binaries, root=copy, bin=copy / binaries.bin.relative_to(binaries.root))


def _can_use(binaries: Binaries, account: Account) -> bool:
    trees = [binaries.root / tree for tree in binaries.trees]
    inner = [directory / part for directory in trees for part in ("lib", "share")]
    needed = [Path(binaries.program("postgres")), *(each for each in (*trees, *inner) if each.is_dir())]
    return all(account.may_read(each) for each in needed)


def _build(binaries: Binaries) -> str:
    """Tells builds of the same version apart."""
    with open(binaries.program("postgres"), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def _copy(binaries: Binaries, target: Path) -> None:
    missing = [tree for tree in binaries.trees if not (binaries.root / tree).is_dir()]
    if missing:
        raise DatabaseError(
            f"{binaries.bin}: the user that runs PostgreSQL cannot read it, and it cannot be copied without"
            f" {', '.join(missing)} in {binaries.root}; install PostgreSQL where every user can read it"
        )
    make_directory(target.parent, 0o755)
    unfinished = Path(tempfile.mkdtemp(prefix="copying-", dir=target.parent))
    try:
        for tree in binaries.trees:
            shutil.copytree(binaries.root / tree, unfinished / tree, symlinks=True, ignore=_NOT_NEEDED)
        _open_to_all(unfinished)
        unfinished.rename(target)
    except OSError as error:
        if not target.exists():  # else another Trimaran was faster, with the same build
            raise DatabaseError(f"{target}: PostgreSQL cannot be copied there: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _open_to_all(root: Path) -> None:
    """Root's, readable by everyone; what could be run stays so."""
    for directory, _, files in os.walk(root):
        os.chmod(directory, 0o755)
        os.chown(directory, 0, 0)
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
                os.chown(path, 0, 0)
