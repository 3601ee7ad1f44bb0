"""The scaler's decision is a function: these are its promises, for all that may happen."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimaran.config.model import Count, Scaling
from trimaran.servers.autoscaling.policy import Memory, decide
from trimaran.servers.autoscaling.signals import Signals

SCALING = Scaling(target_share=0.5, queue_age_ms=200, idle_s=30.0)
RANGE = Count(2, 8)
IDLE = Signals(arrivals_per_s=0.0, service_s=0.0, in_flight=0, queue_length=0, queue_oldest_ms=0, slots_per_server=4.0)

signals = st.builds(
    Signals,
    arrivals_per_s=st.floats(0, 1e5),
    service_s=st.floats(0, 100),
    in_flight=st.integers(0, 10_000),
    queue_length=st.integers(0, 10_000),
    queue_oldest_ms=st.integers(0, 60_000),
    slots_per_server=st.floats(1, 512),
)
ranges = st.tuples(st.integers(1, 50), st.integers(1, 50)).map(lambda pair: Count(min(pair), max(pair)))


@given(signals, st.integers(0, 60), ranges, st.none() | st.floats(0, 1000))
def test_the_count_stays_in_its_range_and_has_a_reason(
    seen: Signals, current: int, allowed: Count, since: float | None
) -> None:
    decision = decide(1000.0, seen, current, allowed, SCALING, Memory(since))
    assert allowed.least <= decision.count <= allowed.most
    assert decision.reason


@given(signals, ranges, st.none() | st.floats(0, 1000), st.data())
def test_it_gives_up_one_server_at_a_time_and_none_while_requests_wait(
    seen: Signals, allowed: Count, since: float | None, data: st.DataObject
) -> None:
    current = data.draw(st.integers(allowed.least, allowed.most))
    decision = decide(1000.0, seen, current, allowed, SCALING, Memory(since))
    assert decision.count >= current - 1
    if seen.queue_length:
        assert decision.count >= current


@given(signals, st.integers(2, 8))
def test_more_arrivals_never_mean_fewer_servers(seen: Signals, current: int) -> None:
    more = dataclasses.replace(seen, arrivals_per_s=seen.arrivals_per_s * 2)
    one, two = (decide(0.0, each, current, RANGE, SCALING, Memory()) for each in (seen, more))
    assert two.count >= one.count


@pytest.mark.parametrize(
    ("arrivals_per_s", "service_s", "expected"),
    [(10.0, 0.1, 2), (100.0, 0.1, 5), (100.0, 0.16, 8), (1000.0, 1.0, 8)],
)
def test_demand_decides(arrivals_per_s: float, service_s: float, expected: int) -> None:
    # Half of four slots may be busy, so two busy slots need one server.
    seen = dataclasses.replace(IDLE, arrivals_per_s=arrivals_per_s, service_s=service_s)
    assert decide(0.0, seen, 2, RANGE, SCALING, Memory()).count == expected


def test_an_old_queue_is_an_emergency() -> None:
    waiting = dataclasses.replace(IDLE, in_flight=8, queue_length=4, queue_oldest_ms=199)
    assert decide(0.0, waiting, 2, RANGE, SCALING, Memory()).count == 2
    old = dataclasses.replace(waiting, queue_oldest_ms=200)
    decision = decide(0.0, old, 2, RANGE, SCALING, Memory())
    assert decision.count == 6
    assert "4 requests wait" in decision.reason


def test_down_only_after_a_quiet_time_without_a_break() -> None:
    memory, count, downs = Memory(), 4, []
    busy = dataclasses.replace(IDLE, in_flight=8)
    for second in range(100):
        decision = decide(float(second), busy if second == 20 else IDLE, count, RANGE, SCALING, memory)
        memory = decision.memory
        if decision.count < count:
            downs.append(second)
        count = decision.count
    # The quiet begins anew after the busy second, and after each server that went.
    assert downs == [51, 81]
    assert count == 2


def test_a_changed_range_is_entered_at_once() -> None:
    assert decide(0.0, IDLE, 1, RANGE, SCALING, Memory()).count == 2
    assert decide(0.0, IDLE, 9, RANGE, SCALING, Memory()).count == 8


def test_at_the_upper_end_it_says_so() -> None:
    seen = dataclasses.replace(IDLE, arrivals_per_s=1e4, service_s=1.0)
    decision = decide(0.0, seen, 8, RANGE, SCALING, Memory())
    assert (decision.count, decision.reason.startswith("at the upper end of 2..8")) == (8, True)
