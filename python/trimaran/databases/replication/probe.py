"""Asking a node how it is: often, cheaply, and without ever waiting longer than the limit.

Three questions, because each finds out something that the others do not:

- **A query** over a kept connection, every round: role, timeline, WAL positions, who follows. It writes nothing.
- **A commit**, every second, on the primary only: an empty transactional message in the WAL
  (`pg_logical_emit_message`, no table, about a hundred bytes), with `synchronous_commit = local`. It fails when the disk
  is full or does not answer, however well queries go; a slow replica is not blamed on the primary.
- **The door**, every second: a new connection that asks for TLS and leaves when it got its answer, which proves that the
  postmaster still takes people in. It costs one fork and no authentication.

A question that is not answered in time stays open and is not asked again before it is: a node that hangs is not
piled with connections, and one that comes back is noticed by its late answer.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import conninfo as libpq

from .line import Line, Question, Unanswered, row

_COMMIT_EVERY_S = 1.0
_DOOR_S = 0.6
"""How long a newcomer may wait at the door. A process is made for it, which a busy machine does late: that is no failure."""
_SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)
_BROKEN_CLASSES = ("53", "58", "XX")
"""SQLSTATE classes: insufficient resources, system error, internal error."""
_READ_ONLY = "25006"

_FACTS = """
WITH me AS MATERIALIZED (SELECT pg_is_in_recovery() AS standby)
SELECT me.standby,
  (CASE WHEN me.standby
     THEN greatest(coalesce(pg_last_wal_receive_lsn(), '0/0'), coalesce(pg_last_wal_replay_lsn(), '0/0'))
     ELSE pg_current_wal_flush_lsn() END - '0/0')::bigint,
  (CASE WHEN me.standby THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_insert_lsn() END - '0/0')::bigint,
"""
_FULL = (
    _FACTS
    + """
  CASE WHEN me.standby THEN greatest(
      (SELECT timeline_id FROM pg_control_checkpoint()),
      (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
      coalesce((SELECT received_tli FROM pg_stat_wal_receiver), (
        SELECT max(('x' || substr(name, 1, 8))::bit(32)::int) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$')))
    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,
  NOT me.standby OR pg_last_wal_receive_lsn() IS NOT NULL,
  CASE WHEN me.standby THEN current_setting('primary_conninfo') ELSE '' END, current_setting('cluster_name'),
  (SELECT coalesce(json_agg(json_build_array(application_name, state, sync_state,
     coalesce(flush_lsn - '0/0', 0)::bigint, coalesce(replay_lsn - '0/0', 0)::bigint)), '[]')
   FROM pg_stat_replication WHERE application_name <> 'trimaran_backup'),
  EXISTS (SELECT FROM pg_stat_wal_receiver)
FROM me
"""
)
"""Needs a superuser, or a member of pg_monitor."""
_PLAIN = (
    _FACTS
    + """
  CASE WHEN me.standby THEN (SELECT timeline_id FROM pg_control_checkpoint())
    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,
  true, '', '', '[]'::json, false
FROM me
"""
)
"""What everybody may ask."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A replica in pg_stat_replication."""

    application_name: str
    state: str
    waited_for: bool
    flushed: int
    replayed: int


@dataclass(frozen=True, slots=True)
class Sight:
    """What a node said. Positions are bytes of WAL."""

    in_recovery: bool
    position: int
    """A primary: WAL on its disk. A replica: WAL received, on its disk."""
    applied: int
    """A primary: WAL written. A replica: WAL that its readers see."""
    timeline: int
    settled: bool
    """False for a replica that has got no WAL since its start: it may have more on its disk than it says."""
    primary_conninfo: str
    """Whom a replica is told to follow; empty on a primary, and where the login may not see it."""
    cluster_name: str
    streams: tuple[Connected, ...]
    receiving: bool
    """Whether a replica has a WAL receiver, which may hold more than it has written."""


class Probe:
    """The questions to one node. Belongs to one event loop."""

    def __init__(self, conninfo: Callable[[], str], timeout_s: float, stall_s: float, knock_s: float = 1.0) -> None:
        """`conninfo` is called for each new connection: a node may come back on another port.

        `knock_s` is between two knocks at the door, each of which makes the node start a process.
        """
        self._timeout_s = timeout_s
        self._stall_s = stall_s
        self._knock_s = knock_s
        self._conninfo = conninfo
        self._queries, self._commits = Line(conninfo), Line(conninfo)
        self._query = Question(self._ask)
        self._commit = Question(self._emit)
        self._door = Question(self._knock)
        self._statement = _FULL
        self._next_commit_s = self._next_knock_s = 0.0
        self.write_failure = ""
        """Why the node cannot commit; empty when it can, or was not asked."""

    async def look(self, limit_s: float | None = None) -> Sight:
        """What the node says now. Raises Unanswered with the reason when it does not answer in time.

        `limit_s` is for this look alone, where the usual limit is too long.
        """
        now = time.monotonic()
        if now >= self._next_knock_s:
            self._next_knock_s = now + self._knock_s
            self._door.begin()
        sight = await self._query.fresh(self._timeout_s if limit_s is None else limit_s)
        await self._watch_door(now)
        if sight.in_recovery:
            self.write_failure = ""
        else:
            self._watch_commit(now)
        return sight

    async def close(self) -> None:
        """Drops the connections without waiting for a node that hangs."""
        self._queries.drop()
        self._commits.drop()
        for question in (self._query, self._commit, self._door):
            await question.drop()
        self.write_failure = ""
        self._next_commit_s = self._next_knock_s = 0.0

    async def _ask(self) -> Sight:
        connection = await self._queries.connection()
        try:
            said = await row(connection, self._statement)
        except psycopg.errors.InsufficientPrivilege:
            self._statement = _PLAIN
            said = await row(connection, self._statement)
        streams = tuple(
            Connected(name, state, sync in ("sync", "quorum"), int(flushed), int(replayed))
            for name, state, sync, flushed, replayed in said[7]
        )
        return Sight(said[0], said[1], said[2], said[3], said[4], said[5], said[6], streams, said[8])

    async def _emit(self) -> None:
        connection = await self._commits.connection()
        async with connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = local")
            await connection.execute("SELECT pg_logical_emit_message(true, 'trimaran', '')")

    def _watch_commit(self, now: float) -> None:
        """Begins a commit each second, and looks how the last one went."""
        if self._commit.is_open:
            waited_s = now - self._commit.since_s
            if waited_s > self._stall_s:
                self.write_failure = f"cannot write: a commit has waited for {waited_s:.1f} s"
            return
        try:
            self._commit.result()
            self.write_failure = ""
        except psycopg.Error as error:
            if (error.sqlstate or "").startswith(_BROKEN_CLASSES) or error.sqlstate == _READ_ONLY:
                self.write_failure = f"cannot write: {str(error).strip()}"
        except (OSError, Unanswered):
            pass  # Whether it can be reached is the query's to find out.
        if now >= self._next_commit_s:
            self._next_commit_s = now + _COMMIT_EVERY_S
            self._commit.begin()

    async def _watch_door(self, now: float) -> None:
        """Raises Unanswered when a newcomer has not been let in for the limit, or was turned away."""
        if self._door.is_open:
            left_s = max(self._timeout_s, _DOOR_S) - (now - self._door.since_s)
            # Only a knock that has been waiting for long is waited for: the others are looked at in the next round.
            if left_s > 0:
                return
            raise Unanswered("takes no new connections in (its postmaster hangs)")
        try:
            self._door.result()
        except (OSError, asyncio.IncompleteReadError) as error:
            self._next_knock_s = 0.0
            raise Unanswered(f"takes no new connections in ({error})") from error

    async def _knock(self) -> None:
        parts = libpq.conninfo_to_dict(self._conninfo())
        host, port = str(parts.get("hostaddr") or parts.get("host") or "127.0.0.1"), int(parts.get("port") or 5432)
        if host.startswith("/"):
            reader, writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(_SSL_REQUEST)
            await reader.readexactly(1)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
