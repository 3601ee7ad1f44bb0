"""Making a data directory: once, and whole or not at all.

It is made beside its place and renamed when it is complete and on disk, so an initialisation that was killed
half-way leaves nothing that looks like a database.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from trimaran.databases.postgres import passwords, settings
from trimaran.databases.postgres.account import Account
from trimaran.databases.postgres.files import make_directory, sync_directory, write_private
from trimaran.databases.postgres.find import Binaries
from trimaran.databases.postgres.passwords import APP_DATABASE, APP_ROLE, SUPERUSER, Passwords
from trimaran.databases.postgres.place import Place
from trimaran.databases.postgres.programs import Outcome, run
from trimaran.errors import DatabaseError

# Both are among the last things a whole data directory gets or loses.
_SIGNS_OF_WHOLENESS = ("PG_VERSION", "global/pg_control")


def version_of(data: Path) -> int:
    """The major version of the data directory, 0 when there is none yet.

    Raises DatabaseError for a directory that is neither: it is for a person to decide what to do with it.
    """
    if not data.exists() or not any(data.iterdir()):
        return 0
    missing = [sign for sign in _SIGNS_OF_WHOLENESS if not (data / sign).exists()]
    if missing:
        raise DatabaseError(
            f"{data}: this is not a complete PostgreSQL data directory: {' and '.join(missing)} missing."
            " Trimaran removes nothing here by itself. If it holds nothing you need, remove it"
            f" (rm -r '{data}') and start again; else bring it back from a backup"
        )
    said = (data / "PG_VERSION").read_text(encoding="utf-8", errors="replace").strip()
    if not said.isdigit():
        raise DatabaseError(
            f"{data / 'PG_VERSION'}: says {said[:40]!r}; expected a version like 18. Bring {data} back from a backup"
        )
    return int(said)


async def initialise(
    binaries: Binaries, place: Place, account: Account, keep: Passwords, report: Callable[[str], None]
) -> None:
    """Make `place.data`: the cluster, the superuser, the app's role and database.

    Raises DatabaseError with PostgreSQL's last lines; nothing is left behind then.
    """
    report(f"making a PostgreSQL {binaries.version} database in {place.data}")
    remove_unfinished(place, report)
    try:
        make_directory(place.unfinished, 0o700, account)
        await _run_initdb(binaries, place, account)
        await _tell(binaries, place.unfinished, account, _creation(keep))
        if place.data.exists():
            place.data.rmdir()  # it is empty: see version_of
        place.unfinished.rename(place.data)
        sync_directory(place.home)
    finally:
        shutil.rmtree(place.unfinished, ignore_errors=True)
        _first_password(place).unlink(missing_ok=True)


async def set_passwords(binaries: Binaries, place: Place, account: Account, keep: Passwords) -> None:
    """Give both roles these passwords while the node is down: the way back when `secrets.json` is lost.

    Whoever may do this owns the data directory, so no protection is lost. Raises DatabaseError.
    """
    await _tell(binaries, place.data, account, _alteration(keep))


def remove_unfinished(place: Place, report: Callable[[str], None]) -> None:
    """Remove a data directory that an earlier start did not complete: it has never been one."""
    if place.unfinished.exists():
        report(f"an earlier start was ended before {place.unfinished} was complete; making it anew")
        shutil.rmtree(place.unfinished)


async def _run_initdb(binaries: Binaries, place: Place, account: Account) -> None:
    # initdb wants a password in a file. This one is replaced a moment later, so the file never held a secret.
    first_password = _first_password(place)
    write_private(first_password, secrets.token_urlsafe(24), account)
    outcome = await run(
        [
            binaries.program("initdb"),
            f"--pgdata={place.unfinished}",
            f"--username={SUPERUSER}",
            f"--pwfile={first_password}",
            "--auth=scram-sha-256",
            "--data-checksums",
            "--encoding=UTF8",
            *_locale(binaries.major),
            "--no-instructions",
            *settings.as_options(settings.lasting()),
        ],
        account,
    )
    check(outcome, "initdb", place.home)


def _first_password(place: Place) -> Path:
    return place.home / "initial-password"


def _locale(major: int) -> list[str]:
    """Text sorted by code point: the same on every machine, and indexes stay good when the system is upgraded."""
    if major >= 17:
        return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    return ["--locale=C.UTF-8"]


def _creation(keep: Passwords) -> list[str]:
    return [
        f"ALTER ROLE {SUPERUSER} PASSWORD '{keep.superuser}';",
        # CREATEDB: test runners of Django and others make databases of their own.
        f"CREATE ROLE {APP_ROLE} LOGIN CREATEDB PASSWORD '{keep.app}';",
        f"CREATE DATABASE {APP_DATABASE} OWNER {APP_ROLE};",
    ]


def _alteration(keep: Passwords) -> list[str]:
    return [
        f"ALTER ROLE {SUPERUSER} PASSWORD '{keep.superuser}';",
        f"ALTER ROLE {APP_ROLE} PASSWORD '{keep.app}';",
    ]


async def _tell(binaries: Binaries, data: Path, account: Account, statements: list[str]) -> None:
    """Run statements in a single-user PostgreSQL, which listens nowhere and needs no password."""
    for statement in statements:
        if not set(statement) <= _PLAIN:
            raise DatabaseError(f"{passwords.__name__}: a name or password has characters that SQL would need quoted")
    options = settings.as_options(
        {
            "exit_on_error": "on",
            "log_min_error_statement": "panic",
            "log_checkpoints": "off",
            "logging_collector": "off",
        }
    )
    outcome = await run(
        [binaries.program("postgres"), "--single", *options, "-D", str(data), "postgres"],
        account,
        says="\n".join(statements) + "\n",
    )
    check(outcome, "postgres --single", data)


_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_- ';")


def check(outcome: Outcome, program: str, place: Path) -> None:
    """Raise DatabaseError with the last words of a program that has failed at this place."""
    if outcome.status == 0:
        return
    hint = hint_for(outcome.output, place)
    raise DatabaseError(
        f"{place}: {program} ended with status {outcome.status}{f' ({hint})' if hint else ''}:\n{outcome.last_lines()}"
    )


def hint_for(output: str, place: Path) -> str:
    """What a person can do about the common reasons in PostgreSQL's messages; empty for others."""
    if "No space left on device" in output:
        free_mib = shutil.disk_usage(place).free // 1024 // 1024
        return f"the disk is full: {free_mib} MiB are free at {place}; make room or move the state directory"
    if "Permission denied" in output:
        return f"the user that runs PostgreSQL may not read or write there; look at the owner and mode of {place}"
    if "could not create shared memory segment" in output or "could not resize shared memory" in output:
        return (
            "the machine grants too little shared memory; lower shared_buffers in postgresql.conf or enlarge /dev/shm"
        )
    if "postmaster.pid" in output and "already exists" in output:
        return f"a PostgreSQL that Trimaran did not start uses this data; stop it: pg_ctl -D '{os.fspath(place)}' stop"
    return ""
