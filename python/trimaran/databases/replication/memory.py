"""What a group remembers while it does not run: who is its primary, and which replicas have every commit.

Written before anything is done that depends on it, so that a Trimaran that is killed between deciding on a primary and
promoting it carries the same decision through when it starts again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from trimaran.databases.postgres.files import write_private
from trimaran.errors import DatabaseError

from .topology import Memory


@dataclass(frozen=True, slots=True)
class Kept:
    """The content of `group.json`."""

    nodes: tuple[str, ...]
    """Names of the nodes of the group."""
    replicas: int
    """The setting `replicas` when it was last looked at."""
    memory: Memory = field(default_factory=lambda: Memory(primary=""))


def read(path: Path) -> Kept | None:
    """What was kept, or None when there is no file. Raises DatabaseError on a file that says something else."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        guard = said["guard"]
        memory = Memory(
            primary=str(said["primary"]),
            timeline=int(said["timeline"]),
            promoting=bool(said["promoting"]),
            told=frozenset(map(str, said["told"])),
            guard=None if guard is None else frozenset(map(str, guard)),
        )
        return Kept(tuple(map(str, said["nodes"])), int(said["replicas"]), memory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatabaseError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DatabaseError(
            f"{path}: expected what Trimaran wrote there ({error!r}): restore it; or remove it, and the primary is found"
            " out again from the data of the nodes"
        ) from error


def write(path: Path, kept: Kept) -> None:
    """Keep it: the old or the new is there whatever happens. Raises DatabaseError."""
    memory = kept.memory
    said = {
        "primary": memory.primary,
        "timeline": memory.timeline,
        "promoting": memory.promoting,
        "told": sorted(memory.told),
        "guard": None if memory.guard is None else sorted(memory.guard),
        "nodes": list(kept.nodes),
        "replicas": kept.replicas,
    }
    write_private(path, json.dumps(said, indent=2) + "\n")
