"""Rates and times from counters that only grow."""

from __future__ import annotations

import dataclasses

import pytest
from trimaran.facts import PoolFacts, ServerFacts
from trimaran.servers.autoscaling.signals import Window


def _server(state: str = "up", **changes: int) -> ServerFacts:
    facts = ServerFacts("s", state, "", 0, 0, 4, 0, 0, 0)
    return dataclasses.replace(facts, **changes)  # type: ignore[arg-type]


def _pool(arrivals: int, served: int = 0, service_us: int = 0, *servers: ServerFacts) -> PoolFacts:
    return PoolFacts("app", 0, 0, 100, arrivals, served, service_us, 0, 0, 0, 0, {}, servers or (_server(),))


def test_rates_over_the_window() -> None:
    window = Window(5.0)
    for second in range(20):
        signals = window.add(second * 1000, _pool(second * 30, second * 10, second * 10 * 20_000))
    assert signals.arrivals_per_s == pytest.approx(30)
    assert signals.service_s == pytest.approx(0.02)
    assert signals.demand == pytest.approx(0.6)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window = Window(5.0)
    window.add(0, _pool(0))
    window.add(1000, _pool(1000))
    for second in range(2, 10):
        signals = window.add(second * 1000, _pool(1000))
    assert signals.arrivals_per_s == 0


def test_the_first_reading_knows_no_rates() -> None:
    signals = Window(5.0).add(1000, _pool(500, 500, 500))
    assert (signals.arrivals_per_s, signals.service_s) == (0, 0)


def test_counters_that_began_anew() -> None:
    window = Window(5.0)
    window.add(0, _pool(1000))
    assert window.add(1000, _pool(3)).arrivals_per_s == 0


def test_slots_are_those_of_servers_that_are_up() -> None:
    servers = (_server(), _server("draining", in_flight=2), _server("up", in_flight_max=8, in_flight=3))
    signals = Window(5.0).add(0, _pool(0, 0, 0, *servers))
    assert (signals.slots_per_server, signals.in_flight) == (6, 5)
