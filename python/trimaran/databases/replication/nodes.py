"""The nodes of a group as they run: ours, with processes and directories, and those that others run, by DSN."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from psycopg import ProgrammingError, conninfo

from trimaran.databases.postgres import EmbeddedNode
from trimaran.databases.postgres.passwords import APP_DATABASE, APP_ROLE, SUPERUSER
from trimaran.databases.postgres.standby import conninfo as make_conninfo
from trimaran.databases.postgres.standby import replication_conninfo, slot_of
from trimaran.errors import DatabaseError

from . import operations
from .line import Unanswered
from .probe import Probe, Sight
from .topology import Promotion

Report = Callable[[str], None]
Process = Literal["running", "exited", "unknown"]

_NOWHERE = {"host": "127.0.0.1", "port": "1"}
"""Where nobody listens: a replica that is told to follow this one gets nothing, and keeps the rest of its settings."""
_LIMITS = {"connect_timeout": "2", "tcp_user_timeout": "2000", "application_name": "trimaran"}
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """The logins of a group, the same on all its nodes. Never printed."""

    database: str
    monitor_user: str
    monitor_password: str
    """Of a role that may see how replication is; a superuser where nodes are promoted here."""
    app_user: str
    app_password: str

    def __repr__(self) -> str:
        return (
            f"Credentials(database={self.database!r}, monitor_user={self.monitor_user!r}, app_user={self.app_user!r})"
        )


class Node:
    """What is the same for both kinds. Belongs to one event loop."""

    own = False
    _knock_s = 1.0
    """Of ours /proc tells when it is suspended; the door is for all other ways to hang."""

    def __init__(self, name: str, timeout_s: float, stall_s: float) -> None:
        self.name = name
        self.busy = ""
        """An operation that is under way."""
        self.sight: Sight | None = None
        """What it said when it last answered."""
        self.moved_at_s = 0.0
        """When its position was last seen to change."""
        self.trouble = "was not asked yet"
        """Why it did not answer the last time; empty when it did."""
        self.timeline = 0
        """The highest that this node was seen on since it was started."""
        self.promotion: Promotion | None = None
        """How it became the primary, if that was here."""
        self.probe = Probe(self.conninfo, timeout_s, stall_s, self._knock_s)

    async def look(self, limit_s: float | None = None) -> bool:
        """Asks the node how it is; whether it answered in time, which `limit_s` makes shorter for this once."""
        before = self.sight
        try:
            self._may_be_asked()
            self.sight = await self.probe.look(limit_s)
        except Unanswered as unanswered:
            self.trouble = str(unanswered)
            return False
        if before is None or before.position != self.sight.position:
            self.moved_at_s = time.monotonic()
        self.trouble = ""
        self.timeline = max(self.timeline, self.sight.timeline)
        return True

    async def forget(self) -> None:
        """What was known is of no use: the server has ended or is another one now."""
        await self.probe.close()
        self.sight, self.timeline = None, 0
        self.trouble = "was not asked yet"

    @property
    def process(self) -> Process:
        return "unknown"

    @property
    def pid(self) -> int | None:
        return None

    def conninfo(self) -> str:
        """How it is asked and told what to do."""
        raise NotImplementedError

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host (or directory of a Unix socket) and port."""
        raise NotImplementedError

    @property
    def sockets(self) -> str:
        """The directory of its Unix socket, where it is our own: half the way of a loopback address. Else empty."""
        return ""

    @property
    def dsn(self) -> str:
        """The app's address of this node."""
        raise NotImplementedError

    @property
    def credentials(self) -> Credentials:
        raise NotImplementedError

    def follow_conninfo(self, primary: Node) -> str:
        """The primary_conninfo with which this node follows another."""
        raise NotImplementedError

    @property
    def slot(self) -> str | None:
        """The slot that it uses at its primary, where that is ours to name."""
        return None

    @property
    def stream_name(self) -> str:
        """What its primary knows it as (application_name)."""
        return self.name

    @property
    def upstream_endpoint(self) -> tuple[str, int] | None:
        """Whom it is told to follow, as it says itself."""
        if self.sight is None or not self.sight.primary_conninfo:
            return None
        parts = _parts(self.sight.primary_conninfo)
        return parts.get("host", ""), int(parts.get("port") or 5432)

    def is_gone(self) -> bool:
        """Whether it is certain that no process of it is left."""
        return False

    def disk_full(self) -> bool:
        return False

    def is_suspended(self) -> bool:
        """Whether it is certain, and not only because it does not answer, that it stands still."""
        return False

    def _may_be_asked(self) -> None:
        """Raises Unanswered when it is known without asking that there would be no answer."""


class OwnNode(Node):
    """An embedded node."""

    own = True

    def __init__(
        self, name: str, embedded: EmbeddedNode, timeout_s: float, stall_s: float, disk_free_min_mb: int
    ) -> None:
        super().__init__(name, timeout_s, stall_s)
        self.embedded = embedded
        self._disk_free_min_mb = disk_free_min_mb

    @property
    def process(self) -> Process:
        return "running" if self.embedded.poll() == "running" else "exited"

    @property
    def pid(self) -> int | None:
        return self.embedded.pid

    def conninfo(self) -> str:
        return make_conninfo(
            host=self.endpoint[0],
            port=self.endpoint[1],
            user=SUPERUSER,
            password=self.embedded.passwords.superuser,
            dbname="postgres",
            **_LIMITS,
        )

    @property
    def endpoint(self) -> tuple[str, int]:
        return self.embedded.upstream.host, self.embedded.port

    @property
    def sockets(self) -> str:
        return str(self.embedded.sockets or "")

    @property
    def dsn(self) -> str:
        return self.embedded.dsn

    @property
    def credentials(self) -> Credentials:
        keep = self.embedded.passwords
        return Credentials(APP_DATABASE, SUPERUSER, keep.superuser, APP_ROLE, keep.app)

    def follow_conninfo(self, primary: Node) -> str:
        assert isinstance(primary, OwnNode)
        return replication_conninfo(self.name, primary.embedded.upstream, self.embedded.pass_file)

    @property
    def slot(self) -> str | None:
        return slot_of(self.name)

    def is_gone(self) -> bool:
        return self.process == "exited" and self.embedded.is_gone()

    def disk_full(self) -> bool:
        free = self.embedded.free_bytes()
        return free is not None and free < self._disk_free_min_mb * _MIB

    def is_suspended(self) -> bool:
        return self.embedded.is_suspended()

    def _may_be_asked(self) -> None:
        if self.busy:
            raise Unanswered(f"is {self.busy}")
        if self.process == "exited":
            raise Unanswered("does not run")
        if self.is_suspended():
            raise Unanswered("is suspended (SIGSTOP)")


class ForeignNode(Node):
    """A node that others run; it is reached by its DSN, whose role is used for everything."""

    _knock_s = 0.3

    def __init__(self, name: str, dsn: str, timeout_s: float, stall_s: float) -> None:
        super().__init__(name, timeout_s, stall_s)
        self._dsn = dsn
        try:
            self._told = _parts(dsn)
        except ProgrammingError as error:
            raise DatabaseError(f"{name}: its DSN cannot be read: {error}") from error

    def conninfo(self) -> str:
        return conninfo.make_conninfo(**{**_LIMITS, **self._told})

    @property
    def endpoint(self) -> tuple[str, int]:
        return self._told.get("host") or "/var/run/postgresql", int(self._told.get("port") or 5432)

    @property
    def dsn(self) -> str:
        return self._dsn

    @property
    def credentials(self) -> Credentials:
        user, password = self._told.get("user", ""), self._told.get("password", "")
        return Credentials(self._told.get("dbname") or user, user, password, user, password)

    def follow_conninfo(self, primary: Node) -> str:
        host, port = primary.endpoint
        return self._conninfo_with({"host": host, "port": str(port)})

    def nowhere_conninfo(self) -> str:
        """Lets go of its primary, and keeps how it logs in."""
        return self._conninfo_with(_NOWHERE)

    @property
    def stream_name(self) -> str:
        if self.sight is None:
            return self.name
        said = _parts(self.sight.primary_conninfo).get("application_name", "")
        return said or self.sight.cluster_name or "walreceiver"

    def _conninfo_with(self, changed: dict[str, str]) -> str:
        parts = _parts(self.sight.primary_conninfo) if self.sight else {}
        if not parts:
            raise DatabaseError(f"{self.name}: its primary_conninfo cannot be seen; the DSN's role must be a superuser")
        parts.pop("hostaddr", None)
        # PostgreSQL keeps the text as it is, so it has to name a replica as before, also where the default did.
        return conninfo.make_conninfo(**{**parts, "application_name": self.stream_name, **changed})


async def refuse_writes(node: Node, within_s: float) -> None:
    """Asks a primary of others to take no writes. Raises DatabaseError when it cannot be reached."""
    async with operations.connected(
        conninfo.make_conninfo(node.conninfo(), connect_timeout=max(int(within_s), 2))
    ) as line:
        await operations.refuse_writes(line)


def _parts(text: str) -> dict[str, str]:
    return {name: str(value) for name, value in conninfo.conninfo_to_dict(text).items() if value is not None}
