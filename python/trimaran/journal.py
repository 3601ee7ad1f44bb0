"""What Trimaran tells the person who runs it: log lines on standard output, and the decisions that `status` shows."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import suppress
from datetime import datetime

from trimaran.control import DecisionStatus

_KEPT = 50
_NAME_WIDTH = 10


class Journal:
    """Writes lines and keeps the latest decisions. A closed standard output is no reason to stop serving."""

    def __init__(self) -> None:
        self._decisions: deque[DecisionStatus] = deque(maxlen=_KEPT)

    def say(self, name: str, message: str) -> None:
        """One line, under the name of who has something to say."""
        with suppress(OSError, ValueError):
            sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {name:<{_NAME_WIDTH}} {message}\n")
            sys.stdout.flush()

    def decide(self, pool: str, action: str, reason: str) -> None:
        """A decision is a log line and stays visible in `status`."""
        at = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self._decisions.append(DecisionStatus(at, pool, action, reason))
        self.say(pool, f"{action}: {reason}")

    def decisions(self) -> tuple[DecisionStatus, ...]:
        return tuple(self._decisions)
