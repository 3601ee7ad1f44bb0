"""The gateway in front of gunicorn, uvicorn, granian and nginx: what it answers for is what they saw, and nothing else.

Every answer of the app names the record of the request that it answers. So for each conversation: the records are those of
the answers, in order; each is what RFC 9112 says the client sent there (`reference`); and a request that was hidden in
another never gets a record. DIFFERENTIAL_EXAMPLES explores with so many random conversations for each back end.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from trimaran._core import DataPlane

from tests.servers.gateway.conftest import Gateway
from tests.servers.gateway.differential import conversations, reference
from tests.servers.gateway.differential.backends import NAMES, Backend, backend
from tests.support.snapshots import pool, server, snapshot
from tests.support.wire import Message

CORPUS = [
    (f"{file.stem}: {case['name']}", [case["send"]] if isinstance(case["send"], str) else case["send"])
    for file in sorted((Path(__file__).parent.parent / "corpus").glob("*.toml"))
    for case in tomllib.loads(file.read_text())["case"]
]
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
"""Behind every conversation, so that each ends by itself."""
EXAMPLES = int(os.environ.get("DIFFERENTIAL_EXAMPLES", "0"))
explored = settings(
    max_examples=EXAMPLES or 80,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Pair:
    """A gateway and the server behind it."""

    def __init__(self, behind: Backend, buffering: str) -> None:
        self._behind = behind
        # Nothing is tried twice, and no server is given up: every request that reaches one has been sent once.
        only = pool(server("s1", behind.address, in_flight_max=64), retries_max=0, passive=_NEVER)
        impatient = {"head_timeout_ms": 100, "body_timeout_ms": 100}
        http = {"request_buffering": buffering, "body_max_bytes": 1_000_000}
        self.planes = [DataPlane(snapshot(only, http={**http, **waits}, threads=1)) for waits in ({}, impatient)]
        self._patient, self._impatient = map(Gateway, self.planes)

    def check(self, pieces: list[bytes], *, good: bool = False) -> None:
        """Sends one conversation; `good` when each of its requests has to be answered by the app."""
        sent = b"".join(pieces) + LAST
        expected = reference.requests(sent)
        assert not good or expected[-1].target == "/last", "it does not end as it should"
        answers = _converse(self._patient if good else self._impatient, [*pieces, LAST], expected)
        records = self._behind.records()
        serials = [answer.get("x-serial") for answer in answers]
        assert [record.serial for record in records] == [serial for serial in serials if serial]
        seen = {record.serial: record for record in records}
        for at, (answer, serial) in enumerate(zip(answers, serials, strict=True)):
            if serial is None:
                assert answer.status >= 400
                assert not good, f"request {at} was refused: {answer.raw_head!r} {answer.body!r}"
            else:
                assert at < len(expected), f"there are only {len(expected)} requests, but the server saw {records}"
                wanted, record = expected[at], seen[serial]
                assert (record.method, record.target, record.body) == (wanted.method, wanted.target, wanted.body)
                assert answer.body == (b"" if wanted.method == "HEAD" else serial.encode())
        assert not good or len(answers) == len(expected)
        self._fence()

    def _fence(self) -> None:
        """A stranger's request on the connection that was just used: what was left there would come in its place."""
        answer = self._patient.ask(b"GET /fence HTTP/1.1\r\nHost: a\r\n\r\n")
        other = self._impatient.ask(b"GET /fence HTTP/1.1\r\nHost: a\r\n\r\n")
        found = [(record.serial, record.target) for record in self._behind.records()]
        assert found == [(answer.get("x-serial"), "/fence"), (other.get("x-serial"), "/fence")]


_NEVER = {"failures": 1_000_000, "base_ms": 1, "max_ms": 1}


def _converse(gateway: Gateway, pieces: list[bytes], expected: list[reference.Request]) -> list[Message]:
    answers: list[Message] = []
    with gateway.connect() as client:
        for piece in pieces:
            try:
                client.send(piece)
            except ConnectionError:
                break
        while True:
            at = len(answers)
            answer = client.message(bodiless=at < len(expected) and expected[at].method == "HEAD")
            if not answer.start:
                return answers
            if answer.status >= 200:
                answers.append(answer)
            if answer.status >= 400 and answer.get("connection") == "close":
                # What could not be read as HEAD is refused with a body.
                client.read_to_end()


@pytest.fixture(scope="module", params=NAMES)
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with backend(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="module", params=["full", "off"])
def pair(request: pytest.FixtureRequest, behind: Backend) -> Iterator[Pair]:
    made = Pair(behind, request.param)
    yield made
    for plane in made.planes:
        plane.stop(0)


def test_the_corpus(pair: Pair) -> None:
    for name, pieces in CORPUS:
        try:
            pair.check([piece.encode("latin-1") for piece in pieces])
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


@explored
@given(sent=conversations.whole())
def test_good_requests_are_all_answered(pair: Pair, sent: bytes) -> None:
    pair.check([sent], good=True)


@explored
@given(sent=conversations.damaged())
def test_damaged_requests_are_never_read_in_two_ways(pair: Pair, sent: bytes) -> None:
    pair.check([sent])
