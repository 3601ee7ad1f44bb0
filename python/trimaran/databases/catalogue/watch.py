"""The catalogues of all databases in use: read when a statement needs one, and dropped when it has changed.

Each database has a thread and a connection of its own while it is in use, so that one that does not answer keeps nobody but
its own statements waiting. The connection is closed as soon as the database is not in use, because it would stand in the
way of DROP DATABASE.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import psycopg

from trimaran.databases.catalogue.facts import Catalogue
from trimaran.databases.catalogue.fingerprint import fingerprint
from trimaran.databases.catalogue.load import load

logger = logging.getLogger(__name__)

Place = tuple[str, str]
"""A group and a database of it."""
Connect = Callable[[str, str], psycopg.Connection[Any]]
"""Opens a connection to a database of a group, within two seconds; raises psycopg.Error or OSError."""

STATEMENT_TIMEOUT_S = 5.0
CUT_OFF_S = 7.0
"""A node that has not answered after this long is suspended or unreachable: the connection is cut."""
PAUSE_S = 0.5
"""After a failure, statements of the database are planned without a catalogue for this long."""
KEPT_IDLE_MAX = 32
"""Catalogues that are kept of databases that are not in use."""


class Watched:
    """One database. All but `_run` and what it calls may be called from any thread."""

    def __init__(
        self, place: Place, connect: Connect, changed: Callable[[Place], None], settled: Callable[[Place], None]
    ) -> None:
        self.place = place
        self._connect = connect
        self._changed = changed
        self._settled = settled
        self._lock = threading.Condition()
        self._thread: threading.Thread | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._catalogue: Catalogue | None = None
        self._fingerprint: str | None = None
        self._version = -1
        self._wanted: int | None = None
        self._check = False
        self._leave = False
        self._busy_since: float | None = None
        self._failed_at: float | None = None

    def get(self, version: int) -> Catalogue | None:
        """The catalogue, if it is as new as `version`."""
        with self._lock:
            return self._catalogue if self._version >= version else None

    def has_failed(self) -> bool:
        """Whether the last attempt to read it failed just now."""
        with self._lock:
            return self._failed_at is not None and time.monotonic() - self._failed_at < PAUSE_S

    def request(self, version: int) -> None:
        """Has the catalogue read, unless it is as new as `version`; `settled` is called afterwards in any case."""
        with self._lock:
            self._leave = False
            self._wanted = max(version, self._wanted if self._wanted is not None else version)
            self._wake()

    def use(self) -> None:
        """The database is in use: whether its catalogue has changed is asked."""
        with self._lock:
            self._leave = False
            if self._fingerprint is not None:
                self._check = True
                self._wake()

    def leave(self) -> None:
        """The database is not in use; its connection is closed."""
        with self._lock:
            if self._thread is not None:
                self._leave = True
                self._lock.notify()

    def forget(self) -> None:
        """Free the memory of the catalogue; it is read again when it is needed."""
        with self._lock:
            self._catalogue = None

    @property
    def is_kept_idle(self) -> bool:
        with self._lock:
            return self._thread is None and self._catalogue is not None

    def cut_off(self, limit_s: float = CUT_OFF_S) -> None:
        """Ends the connection if it has not answered for `limit_s`."""
        with self._lock:
            if self._busy_since is None or time.monotonic() - self._busy_since < limit_s or self._connection is None:
                return
            with suppress(OSError, psycopg.Error):
                # libpq waits without an end; from another thread its socket can only be shut down.
                other = socket.socket(fileno=os.dup(self._connection.fileno()))
                other.shutdown(socket.SHUT_RDWR)
                other.close()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of its thread."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _wake(self) -> None:
        self._lock.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"catalogue {self.place[1]}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._wanted is not None or self._check or self._leave)
                wanted, check = self._wanted, self._check
                self._wanted, self._check = None, False
                if wanted is None and not check:
                    self._leave, self._thread = False, None
                    connection, self._connection = self._connection, None
                    break
                self._busy_since = time.monotonic()
            try:
                self._work(wanted)
            finally:
                with self._lock:
                    self._busy_since = None
            if wanted is not None:
                self._settled(self.place)
        if connection is not None:
            connection.close()

    def _work(self, wanted: int | None) -> None:
        """Reads the catalogue if it is wanted, else asks whether it has changed."""
        try:
            if wanted is None:
                self._ask()
            elif self.get(wanted) is None:
                self._load(wanted)
        except Exception as error:
            # A node that fails or hands over is not worth more than a line; anything else is a defect.
            expected = isinstance(error, (psycopg.Error, OSError, TimeoutError))
            log = logger.info if expected else logger.exception
            log("the catalogue of the database %s of %s cannot be read: %s", self.place[1], self.place[0], error)
            with self._lock:
                self._failed_at = time.monotonic()
                connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            connection = self._connect(*self.place)
            with self._lock:
                self._connection, self._busy_since = connection, time.monotonic()
            connection.autocommit = True
            connection.execute(
                f"SELECT pg_catalog.set_config('statement_timeout', '{int(STATEMENT_TIMEOUT_S * 1000)}', false)"
            )
        return self._connection

    def _load(self, wanted: int) -> None:
        connection = self._open()
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        mark = fingerprint(connection)
        catalogue = load(connection)
        connection.execute("COMMIT")
        with self._lock:
            self._catalogue, self._fingerprint, self._version, self._failed_at = catalogue, mark, wanted, None

    def _ask(self) -> None:
        mark = fingerprint(self._open())
        with self._lock:
            same = mark == self._fingerprint
            if not same:
                self._catalogue, self._fingerprint = None, mark
        if not same:
            self._changed(self.place)


class Catalogues:
    """All of them, by group and database."""

    def __init__(self, connect: Connect, changed: Callable[[Place], None], settled: Callable[[Place], None]) -> None:
        self._connect = connect
        self._changed = changed
        self._settled = settled
        self._lock = threading.Lock()
        self._watched: dict[Place, Watched] = {}

    def of(self, place: Place) -> Watched:
        """What is known of a database."""
        with self._lock:
            if place not in self._watched:
                self._watched[place] = Watched(place, self._connect, self._changed, self._settled)
            return self._watched[place]

    def look(self, in_use: Iterable[Place]) -> None:
        """Ask about the databases in use, and leave the others."""
        used = set(in_use)
        with self._lock:
            known = list(self._watched.values())
        for each in known:
            each.cut_off()
            (each.use if each.place in used else each.leave)()
        idle = [each for each in known if each.is_kept_idle]
        for each in idle[: max(0, len(idle) - KEPT_IDLE_MAX)]:
            each.forget()

    def stop(self, timeout_s: float) -> bool:
        """Leave all; whether every thread ended in time."""
        with self._lock:
            known = list(self._watched.values())
        for each in known:
            each.cut_off(0.0)
            each.leave()
        deadline = time.monotonic() + timeout_s
        return all(each.join(max(0.0, deadline - time.monotonic())) for each in known)
