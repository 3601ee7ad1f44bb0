"""The loop that plans for the gateway: distinct statements come up, plans go down."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from trimaran.databases.planner import NOT_ANALYSED, Plan, plan

logger = logging.getLogger(__name__)

WAIT_MS = 60_000
"""How long one wait for statements lasts. An end is not waited for: it ends the wait."""
LONGEST_PAUSE_S = 1.0
"""The longest pause after the gateway itself failed; it begins with a hundredth of that."""


class PlanExchange(Protocol):
    """What the gateway offers to the planner. All but the last are called from one thread."""

    def plans_wanted(self, timeout_ms: int) -> list[tuple[int, str, str, str, int]]:
        """Statements without a plan, each with an id; empty when none came in time. Waits without holding the GIL."""

    def planned(self, id: int, plan: str) -> None:  # noqa: A002
        """Give the plan of a statement, as `Plan.to_json` writes it. An id that is no longer wanted is ignored."""

    def stop_planning(self) -> None:
        """End the wait of `plans_wanted`, and every later one at once."""


class Planning:
    """A thread that answers every statement with a plan, whatever the statement is.

    Clients wait for these plans, so one that cannot be made becomes "write" (the primary), never an answer that does
    not come.
    """

    def __init__(self, exchange: PlanExchange) -> None:
        self._exchange = exchange
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="planning", daemon=True)

    def start(self) -> None:
        """Begin to answer. Raises RuntimeError when called twice."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End after the statements in hand; whether it has ended within `timeout_s`."""
        self._ended.set()
        self._exchange.stop_planning()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

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
            for id_, text, *_ in wanted:
                self._give(id_, text)

    def _give(self, id_: int, text: str) -> None:
        try:
            self._exchange.planned(id_, answer(text))
        except Exception:
            logger.exception("the gateway did not take the plan of statement %d", id_)


def answer(text: str) -> str:
    """The plan of a statement as JSON; a defect of the planner costs the statement a replica, nothing more."""
    try:
        return plan(text).to_json()
    except Exception as error:
        logger.exception("a statement of %d characters could not be planned", len(text))
        reason = f"could not be planned: {type(error).__name__}: {error}"
        return Plan("write", reason, pins=(NOT_ANALYSED,), doubtful=True).to_json()
