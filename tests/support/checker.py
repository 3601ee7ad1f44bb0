"""Clients of a database that retry nothing, and note everything that they are told: what failovers are checked with."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg.pq import TransactionStatus

from .waiting import eventually

Kind = Literal["read", "write", "transaction"]
READ_ROWS = 995
"""What every read must see."""
_JOIN_S = 60.0
_TABLES = """
CREATE TABLE IF NOT EXISTS checked (number bigint PRIMARY KEY, pair bigint, load bytea);
DROP TABLE IF EXISTS steady;
CREATE TABLE steady AS SELECT generate_series(1, 1000) AS a
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """One statement that failed."""

    client: int
    kind: Kind
    sqlstate: str | None
    message: str
    statement: str
    began: float
    """Monotonic seconds, when the client gave it to the driver."""
    ended: float
    closed: bool
    """The connection was of no use afterwards."""


class Checker:
    """Runs while it is entered. The connections are made at the start and never made again."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        writers: int = 6,
        readers: int = 6,
        transactions: int = 4,
        row_bytes: int = 0,
    ) -> None:
        """`row_bytes` of noise are in each row: to have more WAL than fits anywhere on the way."""
        self._connect = connect
        self._after = ""
        self._row_bytes = row_bytes
        kinds: list[tuple[Kind, Callable[[int, psycopg.Connection[Any]], None]]] = [
            *[("write", self._write)] * writers,
            *[("read", self._read)] * readers,
            *[("transaction", self._transact)] * transactions,
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(number, kind, step), daemon=True)
            for number, (kind, step) in enumerate(kinds)
        ]
        self._numbers = itertools.count(int(time.time() * 1000) * 1_000_000)
        self._over = threading.Event()
        self.acknowledged: list[tuple[float, int]] = []
        """When which number was acknowledged."""
        self.pairs: list[int] = []
        """Transactions whose COMMIT was acknowledged."""
        self.reads = 0
        self._last: dict[int, str | None] = {}
        self.failures: list[Failure] = []
        self.wrong: list[str] = []
        """What must never be, and is no error."""

    def __enter__(self) -> Checker:
        with self._connect() as connection:
            connection.execute(_TABLES)
            position = connection.execute("SHOW trimaran.position").fetchone()
        assert position is not None
        self._after = str(position[0])
        for thread in self._threads:
            thread.start()
        self.more(50)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Lets every client end what it has begun. Raises AssertionError when one is not answered."""
        self._over.set()
        deadline = time.monotonic() + _JOIN_S
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        hanging = [thread for thread in self._threads if thread.is_alive()]
        assert not hanging, f"{len(hanging)} clients were not answered within {_JOIN_S:g} s"

    def more(self, count: int, within_s: float = 60.0) -> None:
        """Returns when so many further writes have been acknowledged, and reads been answered."""
        writes, reads = len(self.acknowledged) + count, self.reads + count
        has_readers = any(thread.is_alive() for thread in self._threads)
        assert has_readers, "no client runs any more"
        eventually(lambda: len(self.acknowledged) >= writes, f"{count} more writes; {self.failures[-3:]}", within_s)
        eventually(lambda: self.reads >= reads or not self._reads_at_all, f"{count} more reads", within_s)

    @property
    def _reads_at_all(self) -> bool:
        return self.reads > 0

    def outage_s(self, since: float) -> float:
        """From `since` to the end of the longest time without an acknowledged write after it."""
        times = [since, *sorted(at for at, _ in self.acknowledged if at >= since)]
        gaps = [(later - earlier, later) for earlier, later in itertools.pairwise(times)]
        return max(gaps)[1] - since if gaps else float("inf")

    def failed(self, kind: Kind) -> list[Failure]:
        return [failure for failure in self.failures if failure.kind == kind]

    def lost(self, connection: psycopg.Connection[Any]) -> set[int]:
        """Numbers that were acknowledged and are not there."""
        rows = connection.execute("SELECT number FROM checked").fetchall()
        return {number for _, number in self.acknowledged} - {row[0] for row in rows}

    def halves(self, connection: psycopg.Connection[Any]) -> list[int]:
        """Transactions of which there is one half, or that were acknowledged and are not there."""
        rows = connection.execute("SELECT pair, count(*) FROM checked WHERE pair IS NOT NULL GROUP BY 1").fetchall()
        there = dict(rows)
        return [pair for pair, count in rows if count != 2] + [pair for pair in self.pairs if pair not in there]

    # The clients

    def _run(self, number: int, kind: Kind, step: Callable[[int, psycopg.Connection[Any]], None]) -> None:
        try:
            with self._connect() as connection:
                # The tables are another session's work, which replicas may not have yet.
                connection.execute(f"SET trimaran.after = '{self._after}'")
                while not self._over.is_set() and not connection.closed:
                    step(number, connection)
        except Exception as error:  # A client that dies without a word would make the check pass.
            self.wrong.append(f"client {number} ({kind}) died: {error!r}")

    def _try(self, client: int, kind: Kind, connection: psycopg.Connection[Any], statement: str, *values: Any) -> Any:
        """The cursor, or None when it failed."""
        began = time.monotonic()
        try:
            # Prepared, a COMMIT would be two messages after some time, and told of a loss at the first, which ends nothing.
            prepare = False if statement == "COMMIT" else None
            return connection.execute(statement.encode(), values or None, prepare=prepare)
        except psycopg.Error as error:
            text = str(error).strip() or type(error).__name__
            now = time.monotonic()
            self._last[client] = error.sqlstate
            self.failures.append(Failure(client, kind, error.sqlstate, text, statement, began, now, connection.closed))
            return None

    def _load(self) -> bytes | None:
        return os.urandom(self._row_bytes) if self._row_bytes else None

    def _write(self, client: int, connection: psycopg.Connection[Any]) -> None:
        number = next(self._numbers)
        statement = "INSERT INTO checked (number, load) VALUES (%s, %s)"
        if self._try(client, "write", connection, statement, number, self._load()) is not None:
            self.acknowledged.append((time.monotonic(), number))

    def _read(self, client: int, connection: psycopg.Connection[Any]) -> None:
        simple = self.reads % 3 == 0
        statement = "SELECT count(*) FROM steady WHERE a > " + ("5" if simple else "%s")
        cursor = self._try(client, "read", connection, statement, *(() if simple else (5,)))
        if cursor is not None:
            self.reads += 1
            if (seen := cursor.fetchone()) != (READ_ROWS,):
                self.wrong.append(f"a read saw {seen}")

    def _transact(self, client: int, connection: psycopg.Connection[Any]) -> None:
        first, second = next(self._numbers), next(self._numbers)
        insert = "INSERT INTO checked (number, pair) VALUES (%s, %s)"
        steps = [("BEGIN", ()), (insert, (first, first)), (insert, (second, first)), ("COMMIT", ())]
        for statement, values in steps:
            if self._try(client, "transaction", connection, statement, *values) is None:
                self._after_failure(client, connection, statement)
                return
        self.pairs.append(first)
        now = time.monotonic()
        self.acknowledged += [(now, first), (now, second)]

    def _after_failure(self, client: int, connection: psycopg.Connection[Any], statement: str) -> None:
        """A transaction that went down stays failed until it is rolled back, and then all is well. A COMMIT ends it."""
        if connection.closed or self._last[client] == "08007":
            return
        if statement == "COMMIT":
            if connection.info.transaction_status != TransactionStatus.IDLE:
                self.wrong.append(
                    f"a COMMIT has failed ({self._last[client]}), and the transaction is {connection.info.transaction_status.name}"
                )
            return
        if connection.info.transaction_status != TransactionStatus.INERROR:
            self.wrong.append(f"after its failure a transaction is {connection.info.transaction_status.name}")
        try:
            connection.execute("SELECT 1")
            self.wrong.append("a failed transaction has run a statement")
        except psycopg.errors.InFailedSqlTransaction:
            pass
        except psycopg.Error as error:
            if error.sqlstate != "40001":
                self.wrong.append(f"a failed transaction says {error.sqlstate}: {error}")
        if self._try(client, "transaction", connection, "ROLLBACK") is None:
            self.wrong.append("a failed transaction cannot be rolled back")
        elif connection.info.transaction_status != TransactionStatus.IDLE:
            self.wrong.append("after its rollback a transaction goes on")
