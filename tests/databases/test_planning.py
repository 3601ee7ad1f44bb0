"""The loop that plans for the gateway, against an exchange in memory with the gateway's methods."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from queue import Empty, Queue
from typing import Any

import psycopg
import pytest
from trimaran.databases import planning
from trimaran.databases.catalogue import Catalogue
from trimaran.databases.catalogue.watch import Connect
from trimaran.databases.planner import Plan
from trimaran.databases.planning import Planning, answer


class Exchange:
    """Statements go in, plans come out; `broken` calls of either kind fail first. `use` is what is said to be in use."""

    _END = (-1, "", "", "", 0)

    def __init__(self, broken: int = 0, refused: int = 0) -> None:
        self.asked: Queue[tuple[int, str, str, str, int]] = Queue()
        self.answered: Queue[tuple[int, str]] = Queue()
        self.changed: Queue[tuple[str, str]] = Queue()
        self.looks: Queue[None] = Queue()
        self.use: list[tuple[str, str, int]] = []
        self.broken = broken
        self.refused = refused
        self.waits = 0

    def ask(self, number: int, text: str, database: str = "app", version: int = 0) -> None:
        self.asked.put((number, text, "main", database, version))

    def answer(self) -> tuple[int, dict[str, Any]]:
        number, made = self.answered.get(timeout=20)
        return number, json.loads(made)

    def plans_wanted(self, timeout_ms: int) -> list[tuple[int, str, str, str, int]]:
        self.waits += 1
        if self.broken:
            self.broken -= 1
            raise RuntimeError("the gateway is gone")
        try:
            wanted = [self.asked.get(timeout=timeout_ms / 1000)]
        except Empty:
            return []
        while not self.asked.empty():
            wanted.append(self.asked.get())
        return [one for one in wanted if one != self._END]

    def databases_in_use(self) -> list[tuple[str, str, int]]:
        self.looks.put(None)
        return self.use

    def catalogue_changed(self, group: str, database: str) -> None:
        self.changed.put((group, database))

    def stop_planning(self) -> None:
        self.asked.put(self._END)

    def planned(self, id: int, plan: str) -> None:  # noqa: A002
        if self.refused:
            self.refused -= 1
            raise RuntimeError("that id is unknown")
        self.answered.put((id, plan))


def refuse(group: str, database: str) -> psycopg.Connection[Any]:
    """A database that nobody can connect to."""
    raise psycopg.OperationalError(f"{database} is not there")


@pytest.fixture
def running() -> Iterator[list[Planning]]:
    started: list[Planning] = []
    yield started
    for one in started:
        assert one.stop()


def start(exchange: Exchange, running: list[Planning], connect: Connect = refuse) -> None:
    one = Planning(exchange, connect)
    one.start()
    running.append(one)


def test_every_statement_is_answered_under_its_id(running: list[Planning]) -> None:
    exchange = Exchange()
    for number in range(50):
        exchange.ask(number, "SELECT 1" if number % 2 else "DELETE FROM t")
    start(exchange, running)
    answers = dict(exchange.answered.get(timeout=10) for _ in range(50))
    assert set(answers) == set(range(50))
    assert {json.loads(answers[number])["access"] for number in range(1, 50, 2)} == {"read"}
    assert {json.loads(answers[number])["access"] for number in range(0, 50, 2)} == {"write"}


def test_a_planner_that_fails_answers_with_the_primary_and_goes_on(
    running: list[Planning], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_once(text: str, catalogue: Catalogue | None) -> Plan:
        if text == "bad":
            raise KeyError("unheard of")
        return Plan("read", "fine")

    monkeypatch.setattr(planning, "plan", fail_once)
    exchange = Exchange()
    exchange.ask(1, "bad")
    exchange.ask(2, "good")
    start(exchange, running)
    first, second = (json.loads(exchange.answered.get(timeout=10)[1]) for _ in range(2))
    assert (first["access"], first["doubtful"]) == ("write", True)
    assert first["pins"]
    assert "KeyError: 'unheard of'" in first["reason"]
    assert second["access"] == "read"


def test_a_gateway_that_fails_is_asked_again(running: list[Planning]) -> None:
    exchange = Exchange(broken=3, refused=1)
    exchange.ask(1, "SELECT 1")
    exchange.ask(2, "SELECT 2")
    start(exchange, running)
    assert exchange.answered.get(timeout=10)[0] == 2
    assert exchange.waits >= 4


def test_it_ends_when_told_and_answers_what_it_has_in_hand() -> None:
    exchange = Exchange()
    one = Planning(exchange, refuse)
    before = threading.active_count()
    one.start()
    exchange.ask(1, "SELECT 1")
    assert exchange.answered.get(timeout=10)[0] == 1
    assert one.stop()
    assert threading.active_count() == before
    waits = exchange.waits
    exchange.ask(2, "SELECT 1")
    assert exchange.answered.empty()
    assert exchange.waits == waits


def test_it_may_end_before_it_began() -> None:
    assert Planning(Exchange(), refuse).stop()


def test_an_answer_is_the_plan_as_json() -> None:
    assert json.loads(answer("SELECT 1 FROM t"))["tables"] == ["t"]
