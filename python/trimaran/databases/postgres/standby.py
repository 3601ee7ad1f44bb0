"""What makes a data directory a replica: whom it follows, written while the server is down.

PostgreSQL's chapter 26.2 "Log-Shipping Standby Servers". A running replica is pointed elsewhere by ALTER SYSTEM instead
(`replication/operations.py`), which writes the same file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from trimaran.databases.postgres.account import Account
from trimaran.databases.postgres.files import write_private
from trimaran.databases.postgres.passwords import REPLICATION_ROLE, SUPERUSER, Passwords
from trimaran.errors import DatabaseError

_OURS = re.compile(r"^\s*(primary_conninfo|primary_slot_name|synchronous_standby_names)\b")


@dataclass(frozen=True, slots=True)
class Upstream:
    """The node that a replica follows."""

    host: str
    port: int


def slot_of(node: str) -> str:
    """The replication slot of a node: its name in the letters that PostgreSQL allows there."""
    return re.sub(r"[^a-z0-9_]", "_", node.lower())


def conninfo(**parts: str | int | Path) -> str:
    """A libpq connection string with every value quoted."""
    return " ".join(f"{name}='{_quoted(str(value))}'" for name, value in parts.items())


def replication_conninfo(node: str, upstream: Upstream, pass_file: Path) -> str:
    """How the node's WAL receiver reaches its upstream. Its name there is what synchronous_standby_names waits for."""
    return conninfo(
        host=upstream.host,
        port=upstream.port,
        user=REPLICATION_ROLE,
        passfile=pass_file,
        application_name=node,
        connect_timeout=5,
        tcp_user_timeout=5_000,
        sslmode="prefer",
    )


def superuser_conninfo(upstream: Upstream, pass_file: Path) -> str:
    """How `pg_rewind` reaches the node it copies from: it reads any of its files."""
    return conninfo(
        host=upstream.host, port=upstream.port, user=SUPERUSER, dbname="postgres", passfile=pass_file, connect_timeout=5
    )


def write_pass_file(path: Path, keep: Passwords, account: Account) -> None:
    """The logins of a replica at its primary, which only the node's account can read. Raises DatabaseError."""
    lines = (f"127.0.0.1:*:*:{REPLICATION_ROLE}:{keep.replication}", f"127.0.0.1:*:*:{SUPERUSER}:{keep.superuser}")
    write_private(path, "\n".join(lines) + "\n", account)


def follow(data: Path, node: str, upstream: Upstream, pass_file: Path, account: Account) -> None:
    """Make the data directory, of a server that is down, one that follows `upstream`. Raises DatabaseError.

    `postgresql.auto.conf` keeps everything else that ALTER SYSTEM put there. Whom a primary waits for is not a
    replica's to remember: should it be promoted, it is told before it takes its first write.
    """
    file = data / "postgresql.auto.conf"
    try:
        kept = [line for line in file.read_text(encoding="utf-8").splitlines() if not _OURS.match(line)]
    except FileNotFoundError:
        kept = []
    except OSError as error:
        raise DatabaseError(f"{file}: cannot be read: {error.strerror}") from error
    said = replication_conninfo(node, upstream, pass_file).replace("\\", "\\\\").replace("'", "''")
    kept += [f"primary_conninfo = '{said}'", f"primary_slot_name = '{slot_of(node)}'"]
    write_private(file, "\n".join(kept) + "\n", account)
    write_private(data / "standby.signal", "", account)


def is_standby(data: Path) -> bool:
    """Whether the data directory is a replica's: it has not been a primary since it was made or rewound."""
    return (data / "standby.signal").exists()


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
