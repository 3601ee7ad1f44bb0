"""How far replicas are behind, in time, without comparing clocks.

The primary's position is noted at every look; a replica is behind for as long as there has been something it lacks. The
answer is exact to one interval of looks, also for a database that nobody writes to, where PostgreSQL's own
`now() - pg_last_xact_replay_timestamp()` grows for ever.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

_KEPT = 4_000
"""Ten minutes at the default interval; whoever is further behind is at least that far behind."""


class Lag:
    """The primary's positions of the last minutes."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_KEPT)
        self._positions: deque[int] = deque(maxlen=_KEPT)

    def note(self, now_s: float, position: int) -> None:
        """The primary's position, where it has moved."""
        if not self._positions or position > self._positions[-1]:
            self._times.append(now_s)
            self._positions.append(position)

    def behind_ms(self, now_s: float, position: int) -> int:
        """For how long there has been something beyond this position."""
        at = bisect_right(self._positions, position)
        return 0 if at == len(self._positions) else round((now_s - self._times[at]) * 1000)

    def behind_bytes(self, position: int) -> int:
        """How much there is beyond this position."""
        return max(self._positions[-1] - position, 0) if self._positions else 0

    def forget(self) -> None:
        """Positions of another primary mean nothing here."""
        self._times.clear()
        self._positions.clear()
