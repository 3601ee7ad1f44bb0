"""How long to wait before a crashed server is started again: pure, so that it can be read and tested by itself."""

from __future__ import annotations

from dataclasses import dataclass

_STEADY_S = 10.0
"""A server that ran for this long was well; its crash is a first one."""
FAILED_AFTER = 3
"""Crashes in a row, after which the server is shown as failed."""


@dataclass(frozen=True, slots=True)
class Crashes:
    """Crashes in a row of one place in a pool."""

    in_a_row: int = 0

    def after(self, uptime_s: float) -> Crashes:
        """One more crash, of a server that was up for `uptime_s` (0 when it never was)."""
        return Crashes(1 if uptime_s >= _STEADY_S else self.in_a_row + 1)

    def delay_ms(self, first_ms: int, most_ms: int) -> int:
        """The pause before the next start: doubles with each crash in a row, up to `most_ms`."""
        if self.in_a_row == 0:
            return 0
        return min(first_ms << min(self.in_a_row - 1, 30), max(first_ms, most_ms))

    @property
    def is_loop(self) -> bool:
        return self.in_a_row >= FAILED_AFTER
