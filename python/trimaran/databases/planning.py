"""The loop that plans for the gateway: distinct statements come up, plans go down."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Protocol

from trimaran.databases.catalogue import Catalogue
from trimaran.databases.catalogue.watch import Catalogues, Connect, Place
from trimaran.databases.planner import NOT_ANALYSED, Plan, plan

logger = logging.getLogger(__name__)

WAIT_MS = 60_000
"""How long one wait for statements lasts. An end is not waited for: it ends the wait."""
LONGEST_PAUSE_S = 1.0
"""The longest pause after the gateway itself failed; it begins with a hundredth of that."""
LOOK_S = 1.0
"""Time between two questions whether the catalogue of a database in use has changed."""
CATALOGUE_WAIT_S = 1.0
"""How long a statement waits for its database's catalogue. Clients wait for the plan."""


class PlanExchange(Protocol):
    """What the gateway offers to the planner."""

    def plans_wanted(self, timeout_ms: int) -> list[tuple[int, str, str, str, int]]:
        """Statements without a plan: an id, the text, the group, the database, and how often that database's catalogue is
        known to have changed; empty when none came in time. Waits without holding the GIL; called from one thread."""

    def planned(self, id: int, plan: str) -> None:  # noqa: A002
        """Give the plan of a statement, as `Plan.to_json` writes it. An id that is no longer wanted is ignored."""

    def databases_in_use(self) -> list[tuple[str, str, int]]:
        """Group, database and number of changes of those with statements planned or asked for since the last call."""

    def catalogue_changed(self, group: str, database: str) -> None:
        """The plans of a database's statements hold no longer."""

    def stop_planning(self) -> None:
        """End the wait of `plans_wanted`, and every later one at once."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    id: int
    text: str
    version: int
    until: float


class Planning:
    """Threads that answer every statement with a plan, whatever the statement is.

    Clients wait for these plans, so one that cannot be made becomes "write" (the primary), never an answer that does
    not come. Statements are planned where they come from the gateway when the catalogue is at hand; else they wait for it, at
    most `CATALOGUE_WAIT_S`, while others are planned.
    """

    def __init__(self, exchange: PlanExchange, connect: Connect) -> None:
        self._exchange = exchange
        self._ended = threading.Event()
        self._catalogues = Catalogues(connect, self._changed, self._settled)
        self._waiting: dict[Place, list[_Waiting]] = {}
        self._lock = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="planning", daemon=True)
        self._looking = threading.Thread(target=self._look, name="catalogues", daemon=True)

    def start(self) -> None:
        """Begin to answer. Raises RuntimeError when called twice."""
        self._thread.start()
        self._looking.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End after the statements in hand; whether it has ended within `timeout_s`."""
        self._ended.set()
        self._exchange.stop_planning()
        with self._lock:
            self._lock.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in (self._thread, self._looking):
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        ended = self._catalogues.stop(max(0.0, deadline - time.monotonic()))
        return ended and not self._thread.is_alive() and not self._looking.is_alive()

    # Statements

    def _run(self) -> None:
        pause_s = 0.0
        while not self._ended.wait(pause_s):
            try:
                wanted = self._exchange.plans_wanted(WAIT_MS)
                pause_s = 0.0
            except Exception:
                logger.exception("the gateway did not say which statements need a plan")
                pause_s = min(max(2 * pause_s, LONGEST_PAUSE_S / 100), LONGEST_PAUSE_S)
                continue
            for id_, text, group, database, version in wanted:
                self._take((group, database), _Waiting(id_, text, version, time.monotonic() + CATALOGUE_WAIT_S))

    def _take(self, place: Place, statement: _Waiting) -> None:
        """Plans a statement, or lets it wait for the catalogue."""
        watched = self._catalogues.of(place)
        catalogue = watched.get(statement.version)
        if catalogue is not None or watched.has_failed():
            self._give(statement, catalogue)
            return
        with self._lock:
            self._waiting.setdefault(place, []).append(statement)
            self._lock.notify_all()
        watched.request(statement.version)

    def _settled(self, place: Place) -> None:
        """The catalogue has been read, or could not be."""
        watched = self._catalogues.of(place)
        with self._lock:
            waiting = self._waiting.pop(place, [])
        for statement in waiting:
            if not watched.has_failed() and watched.get(statement.version) is None:
                # It came while an older catalogue was read.
                with self._lock:
                    self._waiting.setdefault(place, []).append(statement)
                watched.request(statement.version)
            else:
                self._give(statement, watched.get(statement.version))

    def _give(self, statement: _Waiting, catalogue: Catalogue | None) -> None:
        try:
            self._exchange.planned(statement.id, answer(statement.text, catalogue))
        except Exception:
            logger.exception("the gateway did not take the plan of statement %d", statement.id)

    # Catalogues

    def _changed(self, place: Place) -> None:
        try:
            self._exchange.catalogue_changed(*place)
        except Exception:
            logger.exception("the gateway did not hear that the catalogue of %s changed", place[1])

    def _look(self) -> None:
        """Once a second the question about changes; in between, statements that have waited long enough."""
        next_look = 0.0
        while not self._ended.is_set():
            now = time.monotonic()
            if now >= next_look:
                next_look = now + LOOK_S
                try:
                    self._catalogues.look((group, database) for group, database, _ in self._exchange.databases_in_use())
                except Exception:
                    logger.exception("the catalogues of the databases in use were not asked about")
            for statement in self._overdue(time.monotonic()):
                self._give(statement, None)
            with self._lock:
                untils = [each.until for waiting in self._waiting.values() for each in waiting]
                pause_s = min([next_look, *untils]) - time.monotonic()
                if pause_s > 0 and not self._ended.is_set():
                    self._lock.wait(pause_s)

    def _overdue(self, now: float) -> list[_Waiting]:
        """Takes out those that have waited long enough."""
        overdue: list[_Waiting] = []
        with self._lock:
            for place, waiting in list(self._waiting.items()):
                overdue += [each for each in waiting if each.until <= now]
                self._waiting[place] = [each for each in waiting if each.until > now]
                if not self._waiting[place]:
                    del self._waiting[place]
        return overdue


def answer(text: str, catalogue: Catalogue | None = None) -> str:
    """The plan of a statement as JSON; a defect of the planner costs the statement a replica, nothing more. Without a
    catalogue, or with one that lacks what the statement names, the plan is provisional."""
    try:
        made = plan(text, catalogue)
        return replace(made, provisional=made.provisional or catalogue is None).to_json()
    except Exception as error:
        logger.exception("a statement of %d characters could not be planned", len(text))
        reason = f"could not be planned: {type(error).__name__}: {error}"
        made = Plan("write", reason, pins=(NOT_ANALYSED,), doubtful=True, audit="settings", unknown_settings=True)
        return replace(made, reads_custom=None, may_define=True).to_json()
