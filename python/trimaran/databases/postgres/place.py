"""Where an embedded node lives, settled once and remembered.

Everything is under `<state directory>/databases/<name>/` where the node's account can get there:

    node.json     what is remembered: the port, the version, where the data is
    secrets.json  the passwords
    lock          held by the Trimaran that runs the node
    start.log     what the last start said before logging began
    data/ log/ run/   the node's own: data directory, logs of a week, Unix socket
    upstream.pgpass   what a replica logs in with at its primary

The first node of the database `main` is in `databases/main`, its replicas in `databases/main-2` and so on. All share
the passwords and the memory of the group (`group.json`) in `databases/main`.

As root the node belongs to another user, who may not get below a private home. Then `data`, `log` and `run` are
in `/var/lib/trimaran/<id>/<name>/`, with an id made from the state directory's path.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trimaran.databases.postgres.account import Account
from trimaran.databases.postgres.files import make_directory, write_private
from trimaran.errors import DatabaseError

SHARED_DIRECTORY = Path("/var/lib/trimaran")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")


@dataclass(frozen=True, slots=True)
class Record:
    """What `node.json` remembers between runs."""

    path: str
    """The directory that holds the record, to notice that it was moved or copied."""
    home: str | None = None
    """Where the data is, when it is not beside the record."""
    port: int = 0
    major: int = 0
    """PostgreSQL's major version of the data; 0 until it is initialised."""


@dataclass(frozen=True, slots=True)
class Place:
    """The paths of one node."""

    own: Path
    """Trimaran's side: record, secrets, lock."""
    home: Path
    """The node's side: data, log, run. The same directory unless the account cannot get there."""

    @property
    def secrets(self) -> Path:
        return self.own / "secrets.json"

    @property
    def start_log(self) -> Path:
        return self.own / "start.log"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def unfinished(self) -> Path:
        """Where a data directory is made, to be renamed to `data` when it is whole."""
        return self.home / "data.new"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def pass_file(self) -> Path:
        """What the node logs in with at the node it follows (libpq's password file)."""
        return self.home / "upstream.pgpass"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def marker(self) -> str:
        """A word unique to the data, which PostgreSQL shows in the titles of all its processes (cluster_name)."""
        return f"trimaran-{hashlib.sha256(str(self.data).encode()).hexdigest()[:16]}"


def directory_of(state_directory: Path, name: str) -> Path:
    """The node's directory in the state directory. Raises DatabaseError for a name that is no file name."""
    if not _NAME.fullmatch(name):
        raise DatabaseError(f"databases.{name}: expected a name of a-z, 0-9, - and _, at most 31 characters")
    return state_directory.resolve() / "databases" / name


def read_record(own: Path) -> Record:
    """What was remembered, or an empty record. Raises DatabaseError on a file that says something else."""
    file = own / "node.json"
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        home = kept["home"]
        return Record(
            path=str(kept["path"]),
            home=None if home is None else str(home),
            port=int(kept["port"]),
            major=int(kept["major"]),
        )
    except FileNotFoundError:
        return Record(path=str(own))
    except OSError as error:
        raise DatabaseError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DatabaseError(
            f"{file}: expected what Trimaran wrote there: {error!r}; restore it, or remove {own}"
        ) from error


def write_record(own: Path, record: Record) -> None:
    """Remember it."""
    write_private(own / "node.json", json.dumps(asdict(record), indent=2) + "\n")


def settle(own: Path, record: Record, account: Account, report: Callable[[str], None]) -> tuple[Place, Record]:
    """Decide where the node lives and make its directories. A decision once made is kept.

    Raises DatabaseError when initialised data is gone: an unmounted disk must not look like a new database.
    """
    if record.home is not None and record.path != str(own):
        record = _moved_or_copied(own, record, report)
    if record.home is None and record.major == 0 and not account.may_reach(own):
        record = replace(record, home=str(_free_home(own, report)))
    record = replace(record, path=str(own))
    place = Place(own, own if record.home is None else Path(record.home))
    if record.major and not place.data.exists():
        raise DatabaseError(
            f"{place.data}: the data of this database is gone. Bring it back (an unmounted disk?);"
            f" to begin with an empty database instead, remove {own}"
        )
    if record.home is not None:
        _make_shared(SHARED_DIRECTORY)
        make_directory(place.home.parent, 0o755)
    make_directory(place.home, 0o711 if account.dropped else 0o700)
    for each in (place.log, place.run):
        make_directory(each, 0o700, account)
    if not account.may_reach(place.home):
        raise DatabaseError(
            f"{place.home}: the user {account.name}, who runs PostgreSQL, cannot get there;"
            f" allow it on the directories above (chmod o+x), or start Trimaran as who started it first"
        )
    return place, record


def _moved_or_copied(own: Path, record: Record, report: Callable[[str], None]) -> Record:
    """A state directory that was moved keeps its data; a copy of one gets its own."""
    original = Path(record.path)
    if (original / "node.json").exists() and read_record(original).home == record.home:
        report(
            f"{own} is a copy of {original}, whose data stays in {record.home}; the copy begins with an empty database"
        )
        return Record(path=str(own))
    return record


def _free_home(own: Path, report: Callable[[str], None]) -> Path:
    """A directory for this state directory that no other has. What a removed one left behind is kept."""
    state_directory = own.parent.parent
    digest = hashlib.sha256(str(state_directory).encode()).hexdigest()[:8]
    project = re.sub(r"[^a-z0-9]+", "-", state_directory.parent.name.lower()).strip("-")[:24]
    identifier = "-".join(filter(None, (project, digest)))
    home = SHARED_DIRECTORY / identifier / own.name
    number = 1
    while home.exists():
        report(f"{home} holds the data of an earlier {own}; it is kept, remove it when it is not needed")
        number += 1
        home = SHARED_DIRECTORY / f"{identifier}-{number}" / own.name
    return home


def _make_shared(directory: Path) -> None:
    make_directory(directory, 0o755)
    found = directory.stat()
    if found.st_uid != 0 or found.st_mode & 0o022:
        raise DatabaseError(f"{directory}: expected a directory that belongs to root and only root can write to")
