"""Getting a node's data from another node: a whole base backup, or a rewind of what has diverged.

A base backup is made beside its place and renamed when it is whole, as a new database is: one that was ended half-way
is ours and never was a database, so it is made again. Data that was a database is never removed here.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable

from trimaran.databases.postgres import standby
from trimaran.databases.postgres.account import Account
from trimaran.databases.postgres.files import make_directory, sync_directory
from trimaran.databases.postgres.find import Binaries
from trimaran.databases.postgres.initialise import check, remove_unfinished
from trimaran.databases.postgres.place import Place
from trimaran.databases.postgres.programs import run
from trimaran.databases.postgres.standby import Upstream
from trimaran.errors import DatabaseError

_BACKUP_S = 6 * 3600.0
_REWIND_S = 1800.0
_TOLD_EVERY_S = 5.0
_PROGRESS = re.compile(r"(\d+)/(\d+) kB \((\d+)%\)")


async def base_backup(
    binaries: Binaries, place: Place, account: Account, node: str, upstream: Upstream, report: Callable[[str], None]
) -> None:
    """Make `place.data` a copy of the upstream that follows it. The node's slot must be there already.

    Raises DatabaseError with the last lines of `pg_basebackup`; nothing is left behind then.
    """
    remove_unfinished(place, report)
    source = standby.replication_conninfo("trimaran_backup", upstream, place.pass_file)
    argv = [
        binaries.program("pg_basebackup"),
        f"--dbname={source}",
        f"--pgdata={place.unfinished}",
        "--wal-method=stream",
        f"--slot={standby.slot_of(node)}",
        "--checkpoint=fast",
        "--progress",
        "--no-password",
    ]
    report(f"copying {upstream.host}:{upstream.port} to {place.data}")
    try:
        make_directory(place.unfinished, 0o700, account)
        outcome = await run(argv, account, within_s=_BACKUP_S, on_output=_Progress(node, report))
        check(outcome, "pg_basebackup", place.home)
        standby.follow(place.unfinished, node, upstream, place.pass_file, account)
        _make_room(place)
        place.unfinished.rename(place.data)
        sync_directory(place.home)
    finally:
        shutil.rmtree(place.unfinished, ignore_errors=True)


async def rewind(
    binaries: Binaries, place: Place, account: Account, node: str, upstream: Upstream, report: Callable[[str], None]
) -> bool:
    """Take back what this node has and the upstream never had, so that it can follow it; whether that was possible.

    Raises DatabaseError when the data cannot be read or written at all.
    """
    argv = [
        binaries.program("pg_rewind"),
        f"--target-pgdata={place.data}",
        f"--source-server={standby.superuser_conninfo(upstream, place.pass_file)}",
    ]
    outcome = await run(argv, account, within_s=_REWIND_S)
    if outcome.status != 0:
        report(f"pg_rewind cannot take {node} back: {outcome.last_lines(2)}")
        return False
    standby.follow(place.data, node, upstream, place.pass_file, account)
    return True


def _make_room(place: Place) -> None:
    """A replica's data is a copy, and a newer whole copy takes its place. Anything else must be empty."""
    if not place.data.exists():
        return
    if standby.is_standby(place.data):
        shutil.rmtree(place.data)
    else:
        place.data.rmdir()


def set_aside(place: Place, report: Callable[[str], None]) -> None:
    """Keep data that cannot follow any more under another name. Raises DatabaseError."""
    kept = place.home / f"data.kept-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        place.data.rename(kept)
    except OSError as error:
        raise DatabaseError(f"{place.data}: cannot be renamed to {kept}: {error.strerror}") from error
    report(f"{place.data} cannot follow the primary any more; it is kept as {kept}, remove it when it is not needed")


class _Progress:
    """Tells how far `pg_basebackup` is, at most every five seconds."""

    def __init__(self, node: str, report: Callable[[str], None]) -> None:
        self._node = node
        self._report = report
        self._told_at = time.monotonic()

    def __call__(self, added: str) -> None:
        found = _PROGRESS.findall(added)
        now = time.monotonic()
        if found and now - self._told_at >= _TOLD_EVERY_S:
            self._told_at = now
            done, total, percent = found[-1]
            self._report(f"{self._node}: {percent} % of {int(total) // 1024} MiB copied ({int(done) // 1024} MiB)")
