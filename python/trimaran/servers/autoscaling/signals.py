"""What the scaler knows: rates and times over a window, taken from counters that only grow."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from trimaran.facts import PoolFacts


@dataclass(frozen=True, slots=True)
class Signals:
    """One pool at one moment."""

    arrivals_per_s: float
    service_s: float
    """Mean time a request holds a slot; 0 while none was served."""
    in_flight: int
    queue_length: int
    queue_oldest_ms: int
    slots_per_server: float
    """Requests that one server takes at once."""

    @property
    def demand(self) -> float:
        """Slots that the arriving requests keep busy, by Little's law: arrival rate times service time."""
        return self.arrivals_per_s * self.service_s


class Window:
    """Turns facts into signals. Arrivals and service times are averaged over the last `length_s` seconds."""

    def __init__(self, length_s: float) -> None:
        self._length_ms = length_s * 1000
        self._seen: deque[tuple[int, PoolFacts]] = deque()

    def add(self, at_ms: int, facts: PoolFacts) -> Signals:
        """Takes in the facts of time `at_ms`; times must not go back."""
        if self._seen and facts.arrivals_total < self._seen[-1][1].arrivals_total:
            self._seen.clear()
        self._seen.append((at_ms, facts))
        # One reading from before the window stays, so that the window is covered whole.
        while len(self._seen) > 2 and self._seen[1][0] <= at_ms - self._length_ms:
            self._seen.popleft()
        first_ms, first = self._seen[0]
        seconds = (at_ms - first_ms) / 1000
        served = facts.completed_total - first.completed_total
        up = [server for server in facts.servers if server.state == "up"]
        slots = sum(server.in_flight_max for server in up)
        return Signals(
            arrivals_per_s=(facts.arrivals_total - first.arrivals_total) / seconds if seconds else 0.0,
            service_s=(facts.service_us_total - first.service_us_total) / served / 1e6 if served else 0.0,
            in_flight=sum(server.in_flight for server in facts.servers),
            queue_length=facts.queue_length,
            queue_oldest_ms=facts.queue_oldest_ms,
            slots_per_server=slots / len(up) if up else 1.0,
        )
