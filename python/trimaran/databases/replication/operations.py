"""What is done to nodes by SQL: promotion, whom to follow, whom to wait for, slots.

Everything runs with `synchronous_commit = local`: an order to stop waiting for a replica must not wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import psycopg
from psycopg import sql

from trimaran.databases.postgres.passwords import REPLICATION_ROLE
from trimaran.databases.postgres.standby import slot_of
from trimaran.errors import DatabaseError

from .line import Connection, row

_STATEMENT_MS = 10_000
_PROMOTE_S = 60.0
_POLL_S = 0.01
_PROMOTED_POLL_S = 0.004
"""`pg_promote` itself looks ten times a second: too coarse while everybody waits."""

_UNRESERVED = "none"
"""A slot that has never kept WAL has no status."""
_REPLAY_S = 1.0
_NEXT_XID = """(SELECT ended + ((3 + age('3'::xid)::bigint - ended) & 4294967295)
  FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS ended OFFSET 0) AS of_snapshot)"""


@asynccontextmanager
async def connected(conninfo: str) -> AsyncIterator[Connection]:
    """A connection for orders. Raises DatabaseError for whatever PostgreSQL refuses, or when it takes too long."""
    try:
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            await connection.execute(f"SET statement_timeout = {_STATEMENT_MS}")
            await connection.execute("SET synchronous_commit = local")
            yield connection
    except psycopg.Error as error:
        raise DatabaseError(str(error).strip() or type(error).__name__) from error


async def promote(connection: Connection) -> int:
    """Make the replica a primary; the timeline it has then. Raises DatabaseError when it does not become one."""
    asked, deadline = False, time.monotonic() + _PROMOTE_S
    while (await row(connection, "SELECT pg_is_in_recovery()"))[0]:
        if not asked:
            asked = bool((await row(connection, "SELECT pg_promote(false)"))[0])
        if time.monotonic() > deadline:
            raise DatabaseError(f"it has not become a primary within {_PROMOTE_S:g} s")
        await asyncio.sleep(_PROMOTED_POLL_S)
    said = await row(
        connection, "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int"
    )
    return int(said[0])


async def next_xid(connection: Connection) -> int:
    """The next transaction id, with its epoch: on a replica, the one behind all that have been replayed.

    A snapshot knows only what has ended; `age` of an id counts from the next one, on replicas too.
    """
    said = await row(connection, f"SELECT {_NEXT_XID}")
    return int(said[0])


async def next_xid_when_replayed(connection: Connection) -> int | None:
    """The same on a replica that has replayed what it has received, as far as that goes; None on a primary.

    WAL that breaks off within a record is never replayed to its end: then it is all when the replica waits for more.
    Promoting the node would take the same time.
    """
    deadline = time.monotonic() + _REPLAY_S
    while True:
        recovering, replayed, received, xid, waits = await row(
            connection,
            "SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() - '0/0', 0)::bigint,"
            f" coalesce(pg_last_wal_receive_lsn() - '0/0', 0)::bigint, {_NEXT_XID},"
            " EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup'"
            " AND wait_event IN ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval'))",
        )
        if not recovering:
            return None
        if replayed >= received or waits or time.monotonic() > deadline:
            return int(xid)
        await asyncio.sleep(_POLL_S)


async def wait_for(connection: Connection, names: Iterable[str]) -> None:
    """Have each commit wait for one of the replicas with these names; for none when there are none."""
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in sorted(names))
    await _set(connection, "synchronous_standby_names", f"ANY 1 ({quoted})" if quoted else "")
    await _reload(connection)


async def follow(connection: Connection, primary_conninfo: str, slot: str | None) -> None:
    """Have a running replica get its WAL from elsewhere; from nowhere when `primary_conninfo` is empty."""
    # Each setting is a file written to the disk: one that is as it should be costs a failover nothing.
    if slot is not None and (await row(connection, "SELECT current_setting('primary_slot_name')"))[0] != slot:
        await _set(connection, "primary_slot_name", slot)
    await _set(connection, "primary_conninfo", primary_conninfo)
    await _reload(connection)


async def receives_nothing(connection: Connection, within_s: float) -> bool:
    """Whether the replica has let go of the node it followed."""
    deadline = time.monotonic() + within_s
    while (await row(connection, "SELECT count(*) FROM pg_stat_wal_receiver"))[0]:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def has_received(connection: Connection, position: int, within_s: float) -> bool:
    """Whether the replica has all WAL up to this position on its disk."""
    deadline = time.monotonic() + within_s
    query = "SELECT (greatest(coalesce(pg_last_wal_receive_lsn(), '0/0'), pg_last_wal_replay_lsn()) - '0/0')::bigint"
    while (await row(connection, query))[0] < position:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def keep_slots(connection: Connection, group: str, nodes: Iterable[str], *, reserve: bool = True) -> None:
    """Have a node keep WAL for exactly these replicas: slots of the group that nobody needs are dropped.

    A slot whose WAL is gone is made anew, for the copy that its replica has to become. With `reserve` so is one that
    keeps nothing yet (`prepare_slots`).
    """
    wanted = {slot_of(node) for node in nodes}
    kept = set()
    for name, is_active, status in await _slots(connection):
        is_useless = status == "lost" or (reserve and status == _UNRESERVED)
        if not is_active and ((name in wanted and is_useless) or (name not in wanted and _is_ours(name, group))):
            await connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        else:
            kept.add(name)
    for name in sorted(wanted - kept):
        await connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", (name,))


async def prepare_slots(connection: Connection, group: str, nodes: Iterable[str]) -> None:
    """Have a replica ready for being followed by these nodes: slots that keep no WAL as long as nobody uses them.

    To make one takes several writes to the disk, for which a failover is no time. One from when it was a primary would
    keep its own disk filling.
    """
    wanted = {slot_of(node) for node in nodes}
    kept = set()
    for name, is_active, status in await _slots(connection):
        if not is_active and (status != _UNRESERVED or name not in wanted) and _is_ours(name, group):
            await connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        else:
            kept.add(name)
    for name in sorted(wanted - kept):
        await connection.execute("SELECT pg_create_physical_replication_slot(%s, false)", (name,))


async def _slots(connection: Connection) -> list[tuple[str, bool, str]]:
    """Physical slots: name, whether somebody uses it, and how its WAL is."""
    cursor = await connection.execute(
        "SELECT slot_name, active, coalesce(wal_status, %s) FROM pg_replication_slots WHERE slot_type = 'physical'",
        (_UNRESERVED,),
    )
    return [(name, active, status) for name, active, status in await cursor.fetchall()]


async def drop_slot(connection: Connection, node: str) -> None:
    """Keep no more WAL for the node."""
    await connection.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active",
        (slot_of(node),),
    )


async def keep_role(connection: Connection, password: str) -> None:
    """Have the role that replicas log in as, with this password. It never travels in clear, as SCRAM demands."""
    verifier = connection.pgconn.encrypt_password(password.encode(), REPLICATION_ROLE.encode(), b"scram-sha-256")
    found = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (REPLICATION_ROLE,))
    verb = "ALTER" if await found.fetchone() else "CREATE"
    statement = sql.SQL("{} ROLE {} LOGIN REPLICATION PASSWORD {}")
    await connection.execute(
        statement.format(sql.SQL(verb), sql.Identifier(REPLICATION_ROLE), sql.Literal(verifier.decode()))
    )


async def refuse_writes(connection: Connection) -> None:
    """Fence a primary that is not ours to end: it starts every new session read-only, and there are no old ones."""
    await _set(connection, "default_transaction_read_only", "on")
    await _reload(connection)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )


async def allow_writes(connection: Connection) -> None:
    """Undo `refuse_writes`; also on a node that copied the order from the one it followed."""
    await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await _reload(connection)


def _is_ours(slot: str, group: str) -> bool:
    """Slots are named after nodes, `main_2`; one that a person made has another name."""
    stem, _, number = slot.rpartition("_")
    return stem == slot_of(group) and number.isdigit()


async def _set(connection: Connection, name: str, value: str) -> None:
    await connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))


async def _reload(connection: Connection) -> None:
    await connection.execute("SELECT pg_reload_conf()")
