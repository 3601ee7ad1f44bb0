"""The passwords of a database's roles: generated once, kept in `secrets.json` with mode 600, the same on all nodes."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from trimaran.databases.postgres.files import write_private
from trimaran.errors import DatabaseError

SUPERUSER = "trimaran"
APP_ROLE = "app"
APP_DATABASE = "app"
REPLICATION_ROLE = "trimaran_replication"
"""What replicas log in as: may read the WAL and nothing else."""


def _generate() -> str:
    """192 random bits in characters that need no quoting in SQL, URLs and shells."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class Passwords:
    """One password per role. Never printed."""

    superuser: str = field(default_factory=_generate, repr=False)
    app: str = field(default_factory=_generate, repr=False)
    replication: str = field(default_factory=_generate, repr=False)

    def write(self, path: Path) -> None:
        """Keep them. Only the owner of the file can read it."""
        roles = {
            "superuser_name": SUPERUSER,
            "app_name": APP_ROLE,
            "app_database": APP_DATABASE,
            "replication_name": REPLICATION_ROLE,
        }
        write_private(path, json.dumps({**roles, **asdict(self)}, indent=2) + "\n")


def read(path: Path) -> Passwords | None:
    """What was kept, or None when there is no file. Raises DatabaseError on a file that says something else."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        passwords = Passwords(superuser=str(kept["superuser"]), app=str(kept["app"]))
        # Files from before there were replicas know no password of theirs; the role gets it at the next start.
        return replace(passwords, replication=str(kept["replication"])) if "replication" in kept else passwords
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatabaseError(
            f"{path}: cannot be read: {error.strerror}; it belongs to who started the database first"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DatabaseError(
            f"{path}: expected JSON with superuser and app; remove it and new passwords are set at the next start"
        ) from error
