"""The data directory: made beside its final name and renamed when it is whole, so that half of one never counts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

from trimaran.databases.postgres.account import Account
from trimaran.databases.postgres.files import sync_directory, write_private
from trimaran.databases.postgres.find import Binaries
from trimaran.databases.postgres.passwords import APP_DATABASE, APP_ROLE, SUPERUSER, Passwords
from trimaran.databases.postgres.place import Place
from trimaran.errors import DatabaseError

_LIMIT_S = 120


def data_version(place: Place) -> int:
    """The major version of the data, 0 when there is none. Raises DatabaseError for a directory that is no whole one."""
    if not place.data.exists():
        return 0
    try:
        return int((place.data / "PG_VERSION").read_text())
    except (OSError, ValueError):
        raise DatabaseError(
            f"{place.data}: exists, but is not a whole data directory (no readable PG_VERSION)."
            " Restore it from a backup, or move it away to begin with an empty database; nothing was changed"
        ) from None


def initialise(
    place: Place, binaries: Binaries, account: Account, passwords: Passwords, report: Callable[[str], None]
) -> None:
    """Makes the data directory with the app's role and database. Raises DatabaseError; then there is none."""
    report(f"initialising PostgreSQL {binaries.version} in {place.data}")
    # An attempt that was broken off; it never had a database in it.
    shutil.rmtree(place.unfinished, ignore_errors=True)
    secret = place.run / "initial"
    write_private(secret, passwords.superuser, account)
    locale = (
        ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        if binaries.major >= 17
        else ["--locale=C.UTF-8"]
    )
    try:
        _run(
            [
                binaries.program("initdb"),
                f"--pgdata={place.unfinished}",
                f"--username={SUPERUSER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--data-checksums",
                "--no-instructions",
                *locale,
            ],
            account,
        )
        _run(
            [binaries.program("postgres"), "--single", "-D", str(place.unfinished), "-c", "log_min_messages=error", "postgres"],
            account,
            f"CREATE ROLE {APP_ROLE} LOGIN PASSWORD '{passwords.app}'\nCREATE DATABASE {APP_DATABASE} OWNER {APP_ROLE}\n",
        )
        place.unfinished.rename(place.data)
        sync_directory(place.home)
    finally:
        secret.unlink(missing_ok=True)
        shutil.rmtree(place.unfinished, ignore_errors=True)


def set_passwords(place: Place, binaries: Binaries, account: Account, passwords: Passwords) -> None:
    """Gives the roles new passwords, on data whose server is stopped: its secrets were lost."""
    _run(
        [binaries.program("postgres"), "--single", "-D", str(place.data), "-c", "log_min_messages=error", "postgres"],
        account,
        f"ALTER ROLE {SUPERUSER} PASSWORD '{passwords.superuser}'\nALTER ROLE {APP_ROLE} PASSWORD '{passwords.app}'\n",
    )


def _run(command: list[str], account: Account, said: str = "") -> None:
    become = {"user": account.uid, "group": account.gid, "extra_groups": list(account.groups)} if account.dropped else {}
    try:
        done = subprocess.run(
            command,
            input=said,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            timeout=_LIMIT_S,
            check=False,
            start_new_session=True,
            **become,  # type: ignore[call-overload]
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DatabaseError(f"{command[0]}: {error}") from error
    if done.returncode != 0 or "ERROR:" in done.stdout or "FATAL:" in done.stdout:
        last = "\n".join(f"    {line}" for line in done.stdout.strip().splitlines()[-8:])
        raise DatabaseError(f"{command[0]} failed with code {done.returncode}:\n{last}")
