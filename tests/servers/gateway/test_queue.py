"""The queue: requests wait in the gateway, in order and not for ever, and no server gets more than its limit."""

from __future__ import annotations

import select
import threading
from contextlib import ExitStack

import pytest

from tests.support.gate import Gate
from tests.support.waiting import eventually
from tests.support.wire import Peer, Wire, respond

from .conftest import Serve, Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ONE = {"in_flight_max": 1}


def test_what_exceeds_the_limit_waits_and_is_served(serve: Serve, start: Start) -> None:
    gate = Gate()
    backend = serve(gate)
    gateway = start(backend, each=ONE)
    clients = [gateway.connect().send(GET) for _ in range(4)]
    eventually(lambda: gateway.pool().queue_length == 3, "three requests wait")
    assert gateway.server(1).in_flight == 1
    eventually(lambda: gateway.pool().queue_oldest_ms > 0, "the queue has an age")
    gate.open()
    assert [client.message().status for client in clients] == [200] * 4
    eventually(lambda: gateway.pool().queue_length == 0, "the queue is empty")
    assert gateway.pool().queued_total == 3


def test_a_full_queue_refuses_at_once(serve: Serve, start: Start) -> None:
    gate = Gate()
    gateway = start(serve(gate), each=ONE, queue_max=1)
    clients = [gateway.connect().send(GET)]
    eventually(lambda: gateway.server(1).in_flight == 1, "one is served")
    clients.append(gateway.connect().send(GET))
    eventually(lambda: gateway.pool().queue_length == 1, "one waits")
    refused = gateway.ask()
    assert refused.status == 503
    assert int(refused.get("retry-after") or 0) >= 1
    assert gateway.pool().rejected_total == 1
    gate.open()
    assert [client.message().status for client in clients] == [200] * 2


def test_waiting_has_an_end(serve: Serve, start: Start) -> None:
    gate = Gate()
    gateway = start(serve(gate), each=ONE, queue_timeout_ms=50)
    served = gateway.connect().send(GET)
    eventually(lambda: gateway.server(1).in_flight == 1, "one is served")
    refused = gateway.ask()
    assert refused.status == 503
    assert refused.get("retry-after")
    gate.open()
    assert served.message().status == 200


def test_who_goes_away_waits_no_longer(serve: Serve, start: Start) -> None:
    gate = Gate()
    backend = serve(gate)
    gateway = start(backend, each=ONE)
    served = gateway.connect().send(GET)
    eventually(lambda: gateway.server(1).in_flight == 1, "one is served")
    impatient = gateway.connect().send(GET)
    eventually(lambda: gateway.pool().queue_length == 1, "one waits")
    impatient.close()
    eventually(lambda: gateway.pool().queue_length == 0, "nobody waits")
    gate.open()
    assert served.message().status == 200
    assert len(backend.requests) == 1


@pytest.mark.parametrize("waiting", [0, 3])
def test_without_a_usable_server(start: Start, waiting: int) -> None:
    gateway = start(queue_max=waiting, queue_timeout_ms=50)
    refused = gateway.ask()
    assert refused.status == 503
    assert refused.get("retry-after")


def test_servers_take_from_one_queue(serve: Serve, start: Start) -> None:
    slow, gate = serve(Gate()), Gate()
    gateway = start(slow, serve(gate), each=ONE)
    clients = [gateway.connect().send(GET) for _ in range(6)]
    eventually(lambda: gateway.pool().queue_length == 4, "four wait")
    gate.open()
    # The first server holds one for ever; everything else goes through the second.
    eventually(lambda: gateway.server(2).requests_total == 5, "five went through the second server")
    assert gateway.ask().status == 200
    for client in clients:
        client.close()


def test_a_kept_connection_does_not_hold_a_slot(serve: Serve, start: Start) -> None:
    gateway = start(serve(respond()), each=ONE)
    with gateway.connect() as idle, gateway.connect() as other:
        assert idle.send(GET).message().status == 200
        assert other.send(GET).message().status == 200


def test_who_would_wait_for_too_long_is_told_at_once(serve: Serve, start: Start) -> None:
    """The queue moves four times a second and may last half a minute: there is no use in being number 250."""
    served, stuck = threading.Semaphore(10), threading.Event()

    def behave(wire: Wire, peer: Peer) -> None:
        while peer.request(wire).start:
            if not served.acquire(blocking=False):
                assert stuck.wait(20)
            stuck.wait(0.25)
            wire.send(respond())

    gateway = start(serve(behave), each=ONE, queue_max=1000, queue_timeout_ms=30_000)
    with ExitStack() as stack:
        first = {client.socket: client for client in (stack.enter_context(gateway.connect()) for _ in range(13))}
        for client in first.values():
            client.send(GET)
        answered = 0
        while answered < 10:
            for ready in select.select(list(first), [], [], 20)[0]:
                assert first.pop(ready).message().status == 200
                answered += 1
        late = [stack.enter_context(gateway.connect()).send(GET) for _ in range(250)]
        eventually(lambda: gateway.pool().rejected_total >= 100, "those at the end of the line are refused")
        assert 50 <= gateway.pool().queue_length < 200
        refused = select.select([client.socket for client in late], [], [], 20)[0]
        answers = [client.message() for client in late if client.socket in refused]
        assert answers
        assert all(answer.status == 503 and answer.get("retry-after") for answer in answers)
        stuck.set()
        waiting = next(client for client in late if client.socket not in refused)
        assert waiting.message().status in (200, 503)
