"""How many servers, and why: a pure function of what is known now and what was decided before.

Up: enough servers that the demand (arrival rate times service time) keeps no more than `target_share` of their slots busy.
When requests wait longer than `queue_age_ms`, the average is too slow a witness; then what is in flight and in the queue
right now is the demand. Down: one server at a time, when fewer would have sufficed without a break for `idle_s`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trimaran.config.model import Count, Scaling

from .signals import Signals

_MARGIN = 0.1
"""A server is given up only when the rest would still be this far below the target: else it would be back at once."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one decision leaves to the next."""

    surplus_since_s: float | None = None
    """Since when fewer servers would have sufficed."""


@dataclass(frozen=True, slots=True)
class Decision:
    count: int
    reason: str
    memory: Memory


def decide(now_s: float, signals: Signals, current: int, allowed: Count, scaling: Scaling, memory: Memory) -> Decision:
    """The wanted count for a pool that has `current` servers, booting ones included. `now_s` is monotonic."""
    if current < allowed.least:
        return Decision(allowed.least, f"{current} servers are below the range {allowed}", Memory())
    if current > allowed.most:
        return Decision(allowed.most, f"{current} servers are above the range {allowed}", Memory())
    usable_slots = signals.slots_per_server * scaling.target_share
    urgent = signals.queue_length > 0 and signals.queue_oldest_ms >= scaling.queue_age_ms
    if urgent:
        wanted = max(
            _servers(signals.in_flight + signals.queue_length, usable_slots), _servers(signals.demand, usable_slots)
        )
        reason = (
            f"{signals.queue_length} requests wait, the oldest for {signals.queue_oldest_ms} ms,"
            f" and {signals.in_flight} are in flight"
        )
    else:
        wanted = _servers(signals.demand, usable_slots)
        reason = (
            f"{signals.arrivals_per_s:.1f} requests/s x {signals.service_s * 1000:.1f} ms keep {signals.demand:.2f} slots busy;"
            f" {wanted} servers of {signals.slots_per_server:g} slots do that at {scaling.target_share:.0%}"
        )
    if wanted > current:
        if current == allowed.most:
            return Decision(current, f"at the upper end of {allowed}; {reason}", Memory())
        return Decision(min(wanted, allowed.most), reason, Memory())
    return _release(now_s, signals, current, allowed, scaling, memory, urgent)


def _release(
    now_s: float, signals: Signals, current: int, allowed: Count, scaling: Scaling, memory: Memory, urgent: bool
) -> Decision:
    usable_slots = signals.slots_per_server * scaling.target_share
    fewer = current - 1
    busy = max(signals.demand, signals.in_flight)
    suffices = not urgent and signals.queue_length == 0 and busy <= fewer * usable_slots * (1 - _MARGIN)
    if fewer < allowed.least or not suffices:
        return Decision(current, "the count fits", Memory())
    since = memory.surplus_since_s if memory.surplus_since_s is not None else now_s
    if now_s - since < scaling.idle_s:
        return Decision(current, f"{fewer} would do; waiting to be sure", Memory(since))
    reason = f"{fewer} servers have sufficed for {now_s - since:.0f} s: {busy:.2f} slots are busy"
    return Decision(fewer, reason, Memory(now_s))


def _servers(slots: float, usable_slots_per_server: float) -> int:
    # A hair of tolerance: 2.0000000001 servers are 2.
    return math.ceil(slots / usable_slots_per_server - 1e-9)
