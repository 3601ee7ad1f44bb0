"""Waiting in tests of real processes: for a condition, with a limit, never for a fixed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.02


def eventually(condition: Callable[[], T], what: str, within_s: float = 20.0) -> T:
    """The first truthy value of `condition`; an AssertionError that names `what` when there is none in time."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what} (last: {value!r})")
        pause.wait(_POLL_S)
