"""Servers that are unwell get no requests, and come back when they are well."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.closed import closed_address
from tests.support.gate import Gate
from tests.support.snapshots import pool, server, snapshot
from tests.support.waiting import eventually
from tests.support.wire import Message, Peer, Wire, answering, respond

from .conftest import Gateway, Serve, Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def _check(kind: str = "http", **changes: Any) -> dict[str, Any]:
    active = {"kind": kind, "path": "/healthz", "expect": [[200, 399]], "interval_ms": 50, "timeout_ms": 500}
    return {**active, "rise": 2, "fall": 2, **changes}


def _states(gateway: Gateway) -> list[str]:
    return [server.state for server in gateway.pool().servers]


class Patient:
    """A server that can fall ill: its health check and its pages answer apart."""

    def __init__(self) -> None:
        self.status = "200 OK"
        self.checks = 0

    def __call__(self, wire: Wire, peer: Peer) -> None:
        answering(self._answer)(wire, peer)

    def _answer(self, message: Message) -> bytes:
        if message.target == "/healthz":
            self.checks += 1
            return respond(b"", self.status)
        return respond(b"page")


def test_an_active_check_takes_a_server_down_and_brings_it_back(serve: Serve, start: Start) -> None:
    patient = Patient()
    ill, well = serve(patient), serve(Patient())
    gateway = start(ill, well, active=_check())
    eventually(lambda: patient.checks > 0, "the first check")
    patient.status = "500 Internal Server Error"
    eventually(lambda: _states(gateway) == ["down", "up"], "one server is down")
    assert "500" in gateway.server(1).reason
    before = gateway.server(1).requests_total
    assert [gateway.ask().body for _ in range(6)] == [b"page"] * 6
    assert gateway.server(1).requests_total == before
    patient.status = "204 No Content"
    eventually(lambda: _states(gateway) == ["up", "up"], "it is back")
    for _ in range(6):
        gateway.ask()
    assert gateway.server(1).requests_total > before


def test_changes_are_told_as_events(serve: Serve, start: Start) -> None:
    patient = Patient()
    gateway = start(serve(patient), serve(Patient()), active=_check())
    patient.status = "503 Service Unavailable"
    told: list[dict[str, Any]] = []

    def has_told() -> bool:
        told.extend(map(json.loads, gateway.plane.events(100)))
        return any(event["kind"] == "health" and (event["server"], event["state"]) == ("s1", "down") for event in told)

    eventually(has_told, "an event about s1")


def test_a_tcp_check(serve: Serve, start: Start) -> None:
    sound = serve(respond())
    gateway = start(sound, closed_address(), active=_check("tcp"))
    eventually(lambda: _states(gateway) == ["up", "down"], "nobody answers at the second")
    assert [gateway.ask().status for _ in range(4)] == [200] * 4


def test_a_server_that_is_not_known_to_be_ready_waits_for_its_checks(serve: Serve, start: Start) -> None:
    patient = Patient()
    patient.status = "503 Service Unavailable"
    gateway = start(serve(patient), serve(Patient()), each={"ready": False}, active=_check())
    eventually(lambda: _states(gateway)[1] == "up", "the well one is up")
    assert [gateway.ask().body for _ in range(4)] == [b"page"] * 4
    assert gateway.server(1).requests_total == 0
    patient.status = "200 OK"
    eventually(lambda: _states(gateway) == ["up", "up"], "both are up")


def test_a_check_that_is_not_answered_in_time_fails(serve: Serve, start: Start) -> None:
    gateway = start(serve(Gate()), serve(Patient()), active=_check(timeout_ms=50))
    eventually(lambda: _states(gateway) == ["down", "up"], "the silent one is down")


def test_failures_in_a_row_eject_a_server_for_a_while(serve: Serve, start: Start) -> None:
    def hangs_up(wire: Wire, peer: Peer) -> None:
        peer.request(wire)

    passive = {"failures": 2, "base_ms": 300, "max_ms": 300}
    bad = serve(hangs_up)
    gateway = start(bad, serve(respond()), policy={"name": "first"}, passive=passive)
    assert [gateway.ask().status for _ in range(4)] == [200] * 4
    assert len(bad.requests) == 2
    assert gateway.server(1).state == "ejected"
    eventually(lambda: gateway.ask().status == 200 and len(bad.requests) > 2, "it is tried again after a while")


def test_errors_of_the_app_itself_do_not_eject(serve: Serve, start: Start) -> None:
    gateway = start(serve(respond(b"oops", "500 Internal Server Error")))
    assert [gateway.ask().status for _ in range(6)] == [500] * 6
    assert _states(gateway) == ["up"]


def test_when_too_few_are_healthy_all_are_used(serve: Serve, start: Start) -> None:
    patient = Patient()
    patient.status = "500 Internal Server Error"
    gateway = start(serve(patient), serve(patient), active=_check(), panic_share=0.5)
    eventually(lambda: _states(gateway) == ["down", "down"], "all are down")
    assert gateway.ask().body == b"page"


@pytest.mark.parametrize("in_flight", [0, 1])
def test_a_draining_server_gets_nothing_new_and_finishes(serve: Serve, start: Start, in_flight: int) -> None:
    gate = Gate(respond(b"held"))
    leaving, staying = serve(gate), serve(respond(b"stays"))
    gateway = start(leaving, staying, policy={"name": "first"})
    held = [gateway.connect().send(GET) for _ in range(in_flight)]
    eventually(lambda: gateway.server(1).in_flight == in_flight, "the request is in flight")
    servers = [server("s1", leaving.address, draining=True), server("s2", staying.address)]
    gateway.plane.apply(snapshot(pool(*servers, policy={"name": "first"})))
    assert [gateway.ask().body for _ in range(4)] == [b"stays"] * 4
    assert _states(gateway)[0] == "draining"
    gate.open()
    assert [client.message().body for client in held] == [b"held"] * in_flight
    assert gateway.server(1).requests_total == in_flight
