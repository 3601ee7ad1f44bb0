"""Whose rights an embedded node runs with.

PostgreSQL refuses to run as root. A normal user runs it as itself. Root hands it to, in this order: who owns the
data already; who owns the state directory (a checkout of a person, or a mounted volume: the files stay theirs);
`trimaran`; `postgres`; `nobody`. The user must be in the password database, because PostgreSQL looks itself up.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trimaran.errors import DatabaseError

_CANDIDATES = ("trimaran", "postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, and whether becoming it needs a change of user."""

    uid: int
    gid: int
    groups: frozenset[int]
    name: str
    dropped: bool
    """True when this process is root and the node is handed to this account."""

    def may_read(self, path: Path) -> bool:
        """Whether the account can reach the path and read it (a directory: list and enter it)."""
        try:
            mode = path.stat()
        except OSError:
            return False
        needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode.st_mode) else 0)
        return self._allows(mode, needed) and self.may_reach(path.parent)

    def may_reach(self, directory: Path) -> bool:
        """Whether the account can enter the directory, through all directories above it.

        Computed from mode bits. Access control lists are not read: where they grant more, the node is placed
        elsewhere without need; where they grant less, PostgreSQL says so itself.
        """
        return all(self._enters(each) for each in _with_parents(directory.resolve()))

    def _enters(self, directory: Path) -> bool:
        try:
            return self._allows(directory.stat(), stat.S_IXOTH)
        except OSError:
            return False

    def _allows(self, found: os.stat_result, needed: int) -> bool:
        """`needed` is given as bits for others; the class that applies is chosen as the kernel does."""
        if self.uid == 0:
            return True
        if found.st_uid == self.uid:
            needed <<= 6
        elif found.st_gid == self.gid or found.st_gid in self.groups:
            needed <<= 3
        return found.st_mode & needed == needed


def choose(data: Path, state_directory: Path) -> Account:
    """The account for the data of one node. Raises DatabaseError when root finds nobody to hand it to."""
    if os.geteuid() != 0:
        return _of_this_process()
    for owned in (data, state_directory):
        account = _owner_of(owned)
        if account is not None:
            return account
    for name in _CANDIDATES:
        try:
            return _from_entry(pwd.getpwnam(name))
        except KeyError:
            continue
    raise DatabaseError(
        "PostgreSQL does not run as root, and this machine has no user to hand it to:"
        " create one with 'useradd --system trimaran', or start Trimaran as a normal user"
    )


def _of_this_process() -> Account:
    uid, gid = os.geteuid(), os.getegid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise DatabaseError(
            f"PostgreSQL needs its user in the password database, and uid {uid} is not in it:"
            " add an entry to /etc/passwd, or start Trimaran as another user"
        ) from None
    return Account(uid, gid, frozenset(os.getgroups()), name, dropped=False)


def _owner_of(path: Path) -> Account | None:
    try:
        uid = path.stat().st_uid
        return _from_entry(pwd.getpwuid(uid)) if uid != 0 else None
    except (OSError, KeyError):
        return None


def _from_entry(entry: pwd.struct_passwd) -> Account:
    groups = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_uid, entry.pw_gid, groups, entry.pw_name, dropped=True)


def _with_parents(directory: Path) -> Iterator[Path]:
    yield directory
    yield from directory.parents
