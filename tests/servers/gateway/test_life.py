"""Starting, changing and stopping the data plane."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import ExitStack

import pytest
from trimaran._core import BindError, DataPlane, SnapshotError

from tests.support.gate import Gate
from tests.support.snapshots import pool, server, snapshot
from tests.support.waiting import eventually
from tests.support.wire import answering, respond

from .conftest import Serve, Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BAD = {
    "not json": ("{", "EOF"),
    "unknown key": (json.dumps({**json.loads(snapshot(pool())), "colour": "red"}), "colour"),
    "missing key": (json.dumps({"listeners": []}), "missing"),
    "unknown policy": (snapshot(pool(policy={"name": "telepathy"})), "telepathy"),
    "unknown pool": (snapshot(pool(), routes=[{"host": "*", "path": "/", "pool": "nowhere"}]), "nowhere"),
    "bad address": (snapshot(pool(server("s1", "somewhere"))), "somewhere"),
    "bad network": (snapshot(pool(), http={"trusted_proxies": ["10.0.0.0/99"]}), "10.0.0.0/99"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_snapshot_is_refused_and_changes_nothing(serve: Serve, start: Start, name: str) -> None:
    text, word = BAD[name]
    with pytest.raises(SnapshotError, match=word):
        DataPlane(text)
    gateway = start(serve(respond()))
    with pytest.raises(SnapshotError, match=word):
        gateway.plane.apply(text)
    assert gateway.ask().status == 200


def test_a_taken_address_is_named_and_nothing_listens(stack: ExitStack) -> None:
    taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(BindError, match=address):
        DataPlane(snapshot(pool(), listeners=["127.0.0.1:0", address]))


def test_servers_come_and_go_and_keep_their_counters(serve: Serve, start: Start) -> None:
    first, second = serve(respond(b"1")), serve(respond(b"2"))
    gateway = start(first)
    assert [gateway.ask().body for _ in range(5)] == [b"1"] * 5
    gateway.plane.apply(snapshot(pool(server("s1", first.address), server("s2", second.address))))
    assert {gateway.ask().body for _ in range(10)} == {b"1", b"2"}
    assert gateway.server(1).requests_total == 10
    gateway.plane.apply(snapshot(pool(server("s2", second.address))))
    assert {gateway.ask().body for _ in range(5)} == {b"2"}
    assert [known.name for known in gateway.pool().servers] == ["s2"]


def test_a_server_that_is_taken_away_finishes_what_it_has(serve: Serve, start: Start) -> None:
    gate = Gate(respond(b"old"))
    gateway = start(serve(gate))
    held = gateway.connect().send(GET)
    eventually(lambda: gateway.server(1).in_flight == 1, "the request is at the server")
    gateway.plane.apply(snapshot(pool(server("s2", serve(respond(b"new")).address))))
    assert gateway.ask().body == b"new"
    gate.open()
    assert held.message().body == b"old"


def test_requests_that_wait_get_a_server_that_comes_later(serve: Serve, start: Start) -> None:
    gateway = start()
    waiting = gateway.connect().send(GET)
    eventually(lambda: gateway.pool().queue_length == 1, "one waits")
    gateway.plane.apply(snapshot(pool(server("s1", serve(respond()).address))))
    assert waiting.message().status == 200


def test_stop_finishes_what_is_in_progress(serve: Serve, start: Start) -> None:
    gate = Gate()
    gateway = start(serve(gate))
    with gateway.connect() as idle:
        held = gateway.connect().send(GET)
        eventually(lambda: gateway.server(1).in_flight == 1, "the request is at the server")
        outcome: list[bool] = []
        stopping = threading.Thread(target=lambda: outcome.append(gateway.plane.stop(10_000)))
        stopping.start()
        assert idle.read_to_end() == b"", "an idle connection is closed at once"
        gate.open()
        answer = held.message()
        assert (answer.status, answer.get("connection")) == (200, "close")
        stopping.join(20)
    assert outcome == [True]
    with pytest.raises(ConnectionRefusedError):
        gateway.connect()


def test_stop_without_grace_cuts_off(serve: Serve, start: Start) -> None:
    gateway = start(serve(Gate()))
    held = gateway.connect().send(GET)
    eventually(lambda: gateway.server(1).in_flight == 1, "the request is at the server")
    assert gateway.plane.stop(0) is False
    assert held.read_to_end() == b""


def test_more_connections_than_allowed_wait_outside(serve: Serve, start: Start) -> None:
    gateway = start(serve(respond()), http={"connections_max": 2})
    first, second = gateway.connect(), gateway.connect()
    assert [client.send(GET).message().status for client in (first, second)] == [200, 200]
    third = gateway.connect().send(GET)
    eventually(lambda: gateway.facts().connections == 2, "two connections are open")
    first.close()
    assert third.message().status == 200


def test_counters_add_up(serve: Serve, start: Start) -> None:
    statuses = iter(["200 OK", "302 Found", "404 Not Found", "500 Internal Server Error"])
    gateway = start(serve(answering(lambda request: respond(b"x", next(statuses)))))
    with gateway.connect() as client:
        assert [client.send(GET).message().status for _ in range(4)] == [200, 302, 404, 500]
    # The last request is counted when its response has been sent.
    eventually(lambda: gateway.facts().connections == 0, "the connection has ended")
    facts = gateway.facts()
    assert facts.requests_total == 4
    classes = {name: count for name, count in facts.responses_total.items() if count}
    assert classes == {"2xx": 1, "3xx": 1, "4xx": 1, "5xx": 1}
    assert facts.bytes_in_total == 4 * len(GET)
    assert facts.pools[0].completed_total == facts.pools[0].arrivals_total == 4
