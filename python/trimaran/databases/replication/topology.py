"""What is known about a group of nodes: facts of one moment, and what is remembered from moment to moment.

WAL positions are numbers of bytes. Within one timeline WAL is one line: of two replicas, the one with the higher
position has everything that the other has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Promotion:
    """Which transactions a node had when it became the primary: what settles commits that were not answered.

    The primary before it may have given out ids that never arrived here, and this node gives them out anew. An id below
    `seen_xid` is of a transaction that it knew before; one at or above `next_xid` never arrived. Between the two nobody
    can tell, and mostly there is nothing between.
    """

    former_timeline: int
    seen_xid: int
    """The next id, with 64 bits, when last seen before the promotion."""
    next_xid: int
    """The same when first seen after it."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A replica as its primary sees it (pg_stat_replication)."""

    node: str
    streaming: bool
    """Whether it has caught up and gets WAL as it is written."""
    waited_for: bool
    """Whether commits wait for it, or for another like it."""
    flushed: int
    """WAL that it has on its disk."""
    behind_ms: int = 0
    """For how long it has lacked something that the primary had."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node at one moment."""

    name: str
    process: Literal["running", "exited", "unknown"]
    """unknown: a node that others run."""
    reachable: bool | None
    """Whether the last probe was answered in time. None when this machine itself was too late to say."""
    in_recovery: bool | None = None
    """True for a replica, False for a primary, None when it was never reached."""
    timeline: int = 0
    position: int = 0
    """A primary: WAL on its disk. A replica: WAL that it has received, on its disk."""
    settled: bool = True
    """False for a replica that was started lately and may have more on its disk than it says."""
    receiving: bool = False
    """Whether a replica may still be taking in WAL: its position is not final."""
    moving: bool = False
    """Whether its position has changed within the last seconds."""
    upstream: str | None = None
    """Which node it is told to follow; None for another address or none."""
    streams: tuple[Stream, ...] = ()
    write_failure: str = ""
    """Why the primary cannot commit; empty when it can."""
    fenced: bool = False
    """Whether it is certain that this node acknowledges nothing more."""
    disk_full: bool = False
    busy: str = ""
    """An operation that is under way on it, such as a base backup; it is left alone meanwhile."""
    trouble: str = ""
    """Why it does not answer."""


UNKNOWN = frozenset({"?"})
"""In `Memory.told`: an order to wait was given and not confirmed, so it is given again."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one decision leaves to the next. The first five are kept on disk (`memory.py`)."""

    primary: str
    timeline: int = 0
    """The highest timeline that a primary of this group had; one on a lower is never used again."""
    promoting: bool = False
    """Whether `primary` is to be promoted and may still be a replica."""
    told: frozenset[str] = frozenset()
    """For which replicas the primary is told to wait: each commit for any one of them."""
    guard: frozenset[str] | None = None
    """Replicas of which the most advanced has every acknowledged commit. None when none can be sure to."""
    mark: int | None = None
    """When one of `told` has this position, they guard all commits."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failed probes in a row."""
    adrift_since_s: Mapping[str, float] = field(default_factory=dict)
    """Replicas that run and do not get on with the primary's WAL."""
    absent_since_s: Mapping[str, float] = field(default_factory=dict)
    """Replicas of `told` that get no WAL from the primary at this moment."""
    fenced_since_s: float | None = None
    """Since when nothing new comes from the failed primary."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Starts of a node in a row that did not help."""
    attempt_at_s: Mapping[str, float] = field(default_factory=dict)
