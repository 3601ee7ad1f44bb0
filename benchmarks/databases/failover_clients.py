"""The clients of the failover measurement, in a process of their own: as an app's are, beside the one that decides.

In one process they would wait for each other and for the failover loop (Python runs one thread at a time).
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import psycopg

from tests.support.checker import Checker

_MORE = 50
"""Writes and reads that show that all goes on."""
_ANSWER_S = 120.0


@dataclass(frozen=True, slots=True)
class Said:
    """What the clients were told, all in all."""

    acknowledged: int
    lost: int
    """Acknowledged and not there, and transactions of which a part is."""
    reads: int
    failed_reads: int
    unknown: int
    """Writes and commits in flight of which nobody knows (08007)."""
    rolled_back: int
    """Transactions that went down with their server (40001)."""
    others: tuple[str, ...]
    """All other failures: of these there should be none, as no server had been given what failed."""


class Clients:
    """Run while this is entered. One caller at a time; each call waits for the answer, and raises RuntimeError for none."""

    def __init__(self, dsn: str) -> None:
        start = multiprocessing.get_context("spawn")
        self._ours, theirs = start.Pipe()
        self._process = start.Process(target=_run, args=(theirs, dsn), daemon=True)

    def __enter__(self) -> Clients:
        self._process.start()
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def more(self) -> None:
        """Returns when more writes have been acknowledged, and reads been answered."""
        self._ask("more")

    def outage_s(self, since: float) -> float:
        """From `since` (monotonic) to the end of the longest pause without an acknowledged write, when all goes on."""
        outage_s = self._ask("outage", since)
        assert isinstance(outage_s, float)
        return outage_s

    def stop(self, dsn: str, password: str) -> Said:
        """Ends them. `dsn` is where to look for what was acknowledged, past the gateway."""
        said = self._ask("stop", dsn, password)
        assert isinstance(said, Said)
        return said

    def _ask(self, *question: object) -> object:
        self._ours.send(question)
        return self._answer()

    def _answer(self) -> object:
        if not self._ours.poll(_ANSWER_S):
            raise RuntimeError(f"the clients do not answer within {_ANSWER_S:g} s")
        answer = self._ours.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


def _run(ours: Connection, dsn: str) -> None:
    try:
        with Checker(partial(psycopg.connect, dsn, autocommit=True)) as checker:
            ours.send(None)
            while True:
                ours.send(_do(checker, *ours.recv()))
    except EOFError:
        pass
    except Exception as error:  # Whoever asked is to see it.
        ours.send(f"the clients have failed: {error!r}")


def _do(checker: Checker, what: str, *values: Any) -> object:
    if what == "stop":
        checker.stop()
        with psycopg.connect(values[0], password=values[1]) as connection:
            return _said(checker, len(checker.lost(connection)) + len(checker.halves(connection)))
    checker.more(_MORE)
    return checker.outage_s(values[0]) if what == "outage" else None


def _said(checker: Checker, lost: int) -> Said:
    failed = Counter((failure.kind, failure.sqlstate) for failure in checker.failures)
    expected = {("write", "08007"), ("transaction", "08007"), ("transaction", "40001")}
    others = [
        f"{failure.kind} {failure.sqlstate} {failure.statement}: {failure.message}"
        for failure in checker.failures
        if (failure.kind, failure.sqlstate) not in expected
    ]
    return Said(
        acknowledged=len(checker.acknowledged),
        lost=lost,
        reads=checker.reads,
        failed_reads=len(checker.failed("read")),
        unknown=failed["write", "08007"] + failed["transaction", "08007"],
        rolled_back=failed["transaction", "40001"],
        others=(*checker.wrong, *others),
    )
