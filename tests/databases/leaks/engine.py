"""Runs a way to change a session, with other sessions that look for what reaches them, and tells everybody's answers."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from tests.databases.gateway import raw
from tests.databases.leaks.documented import is_documented
from tests.databases.leaks.probes import PROBES, SEPARATOR, Probe
from tests.databases.leaks.world import World

_LIMIT_S, _GONE_S = 8.0, 1.0

Answers = dict[tuple[str, str], str]
"""What was answered, by who asked and what."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text that always goes by the simple protocol."""

    sql: str


@dataclass(frozen=True, slots=True)
class Send:
    """Messages as they are, and how many ReadyForQuery they are answered by."""

    data: bytes
    ready: int = 1


@dataclass(frozen=True, slots=True)
class Copy:
    """A COPY FROM STDIN and its data."""

    sql: str
    data: str


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """What an administrator does between two statements, past the gateway."""

    sql: str


@dataclass(frozen=True, slots=True)
class Vanish:
    """The client goes away without a word."""


Step = str | Text | Send | Copy | Meanwhile | Vanish


def call(oid: int, *values: str) -> Send:
    """A FunctionCall message with its arguments as text."""
    given = b"".join(struct.pack("!i", len(value.encode())) + value.encode() for value in values)
    return Send(raw.message(b"F", struct.pack("!ihh", oid, 0, len(values)) + given + struct.pack("!h", 0)))


@dataclass(frozen=True, slots=True)
class Way:
    """A way in which a client changes its session or leaves something behind."""

    name: str
    steps: tuple[Step, ...]
    login: str = "app"
    options: dict[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    """What else the session asks about itself when others have been at work."""


def way(name: str, *steps: Step, login: str = "app", after: tuple[str, ...] = (), **options: str) -> Way:
    return Way(name, steps, login, options, after)


Context = Callable[[tuple[Step, ...]], tuple[Step, ...]]


def _as_one_text_that_fails(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    plain = [step for step in steps if isinstance(step, str)]
    return (Text("; ".join([*plain, "SELECT 1/0"])),)


CONTEXTS: dict[str, tuple[bool, Context]] = {
    "simple": (False, lambda steps: steps),
    "extended": (True, lambda steps: steps),
    "in a transaction": (True, lambda steps: ("BEGIN", *steps, "COMMIT")),
    "rolled back": (False, lambda steps: ("BEGIN", *steps, "ROLLBACK")),
    "rolled back to a savepoint": (True, lambda steps: ("BEGIN", "SAVEPOINT a", *steps, "ROLLBACK TO a", "COMMIT")),
    "followed by an error in a transaction": (False, lambda steps: ("BEGIN", *steps, "SELECT 1/0", "COMMIT")),
    "in one text that fails": (False, _as_one_text_that_fails),
    "left in an open transaction": (True, lambda steps: ("BEGIN", *steps, Vanish())),
}
"""What surrounds the steps, each with whether it speaks the extended protocol."""


def contexts_of(number: int) -> list[str]:
    """The contexts of the way of this number: one of them in turn; all of them with LEAKS=all (`make leaks`)."""
    every = list(CONTEXTS)
    return every if os.environ.get("LEAKS") == "all" else [every[number % len(every)]]


class Session:
    """A client. Its answers are text that can be compared."""

    def __init__(self, dsn: str, options: dict[str, str] | None = None) -> None:
        self._dsn, self._options = dsn, options or {}
        self.reported: dict[str, str] = {}
        self._connect()

    def _connect(self) -> None:
        self._raw = raw.Raw(self._dsn)
        self._raw.socket.settimeout(_LIMIT_S)
        self.alive = True
        self._answer(self._raw.log_in(3 << 16, **self._options))

    def prepare(self, name: str, sql: str) -> str:
        return self.messages(raw.parse(name, sql) + raw.SYNC)

    def execute(self, sql: str, extended: bool) -> str:
        if not extended:
            return self.messages(raw.query(sql))
        return self.messages(raw.parse("", sql) + raw.bind("", "") + raw.execute() + raw.SYNC)

    def messages(self, data: bytes, ready: int = 1) -> str:
        """What is answered to these messages."""
        if not self.alive:
            return "the session has ended"
        found: list[raw.Message] = []
        try:
            self._raw.send(data)
            for _ in range(ready):
                found += self._raw.until_ready_or_end()
        except TimeoutError:
            self.end()
            return "no answer"
        return self._answer(found)

    def _answer(self, messages: list[raw.Message]) -> str:
        told: list[str] = []
        for tag, contents in messages:
            if tag == b"S":
                name, value, _ = contents.decode().split("\0")
                self.reported[name] = value
            elif tag == b"E":
                told.append("error " + raw.fields(contents)["C"])
            elif tag == b"A":
                told.append("notified of " + contents[4:].decode().replace("\0", " ").strip())
            elif tag == b"D":
                told.append(str(raw.rows([(tag, contents)])[0]))
            elif tag in (b"C", b"Z", b"d", b"V"):
                told.append(contents.decode(errors="replace").strip("\0"))
        if not messages or messages[-1][0] != b"Z":
            self.end()
            told.append("the session has ended")
        return " | ".join(told)

    def step(self, step: Step, extended: bool, world: World) -> str:
        match step:
            case str():
                return self.execute(step, extended)
            case Text(sql):
                return self.execute(sql, extended=False)
            case Send(data, ready):
                return self.messages(data, ready)
            case Copy(sql, data):
                rows = raw.message(b"d", data.encode()) + raw.message(b"c")
                return self.messages(raw.query(sql) + rows)
            case Meanwhile(sql):
                world.administer(sql)
                return ""
            case Vanish():
                self.end()
                return ""

    def probe(self, who: str, answers: Answers, extended: bool = False) -> None:
        """Answers all probes. A session that has ended says so once, and then begins anew."""
        for probe in PROBES:
            answer = self._probe(probe, extended)
            if probe.columns and len(values := answer.removeprefix("(").split(SEPARATOR)) == len(probe.columns):
                answers.update({(who, column): value for column, value in zip(probe.columns, values, strict=True)})
            else:
                answers[who, probe.name] = answer
        answers[who, "what the server has reported"] = str(sorted(self.reported.items()))

    def _probe(self, probe: Probe, extended: bool) -> str:
        if probe.prepared:
            return self.messages(raw.bind("", probe.name) + raw.execute() + raw.SYNC)
        return self.execute(probe.sql, extended)

    def look_anew(self, who: str, answers: Answers) -> None:
        """What a session reads that prepares the texts of others for itself."""
        for probe in PROBES:
            if probe.prepared:
                answers[who, f"Parse of {probe.name}"] = self.prepare(probe.name, probe.sql)
                answers[who, probe.name] = self._probe(probe, extended=True)

    def prepare_probes(self) -> None:
        for probe in PROBES:
            if probe.prepared:
                self.prepare(probe.name, probe.sql)

    def end(self) -> None:
        if self.alive:
            self.alive = False
            self._raw.close()

    def terminate(self) -> None:
        if self.alive:
            self._raw.send(raw.TERMINATE)
            self.end()


class Room:
    """One door to the database, and the sessions that are there all the while: two of the same login, one of another."""

    _OTHERS: ClassVar = ("B", "C", "D")

    def __init__(self, world: World, door: Callable[[str], str]) -> None:
        self.world = world
        self._dsns = {
            "app": door(world.app),
            "superuser": door(world.superuser),
        }
        self._sessions: dict[tuple[str, str], Session] = {}

    def _session(self, login: str, who: str) -> Session:
        if who == "D":
            login = "superuser" if login == "app" else "app"
        found = self._sessions.get((login, who))
        if found is None or not found.alive:
            found = self._sessions[login, who] = Session(self._dsns[login])
            found.prepare_probes()
        return found

    def run(self, way: Way, context: str) -> Answers:
        """Everybody's answers when a session goes this way."""
        self.world.begin()
        extended, surround = CONTEXTS[context]
        answers: Answers = {}
        others = [self._session(way.login, who) for who in self._OTHERS]
        b, c, d = others
        session = Session(self._dsns[way.login], way.options)
        session.prepare_probes()
        for number, step in enumerate(surround(way.steps)):
            answers["A", f"step {number}: {str(step)[:60]}"] = session.step(step, extended, self.world)
        if session.alive:
            b.probe("B while A is there", answers, not extended)
            session.probe("A afterwards", answers, extended)
            answers["B holds", "BEGIN"] = b.execute("BEGIN", extended)
            session.probe("A while B holds a connection", answers, not extended)
            for sql in way.after:
                answers["A", f"after: {sql}"] = session.execute(sql, extended)
            answers["B holds", "COMMIT"] = b.execute("COMMIT", extended)
            session.terminate()
        self._until_gone()
        b = self._session(way.login, "B")
        c = self._session(way.login, "C")
        answers["B holds", "BEGIN again"] = b.execute("BEGIN", extended)
        b.probe("B after A, in a transaction", answers, extended)
        c.probe("C after A", answers, not extended)
        answers["B holds", "ROLLBACK"] = b.execute("ROLLBACK", extended)
        d = self._session(way.login, "D")
        d.probe("D, another login, after A", answers, extended)
        e = Session(self._dsns[way.login])
        e.look_anew("E, a new session after A", answers)
        e.terminate()
        return answers

    def _until_gone(self) -> None:
        """Until the server has seen that A has gone; a lock that stays is then found by the probes."""
        limit = time.monotonic() + _GONE_S
        while self.world.busy() and time.monotonic() < limit:
            pass

    def close(self) -> None:
        for session in self._sessions.values():
            session.terminate()
        self._sessions.clear()


def differences(
    way: Way, direct: Room, gateway: Room, contexts: list[str] | None = None, alone: bool = True
) -> list[str]:
    """What a gateway answers otherwise than PostgreSQL, a line each."""
    found = []
    for context in contexts or list(CONTEXTS):
        expected, got = direct.run(way, context), gateway.run(way, context)
        if expected != got and alone:
            # The next run must show its own leaks, not this one's.
            direct.close()
            gateway.close()
            direct.world.end_all_sessions()
        for place in expected.keys() | got.keys():
            who, probe = place
            if expected.get(place) != got.get(place) and not is_documented(way.name, who, probe):
                one, other = _where_they_differ(expected.get(place, "not asked"), got.get(place, "not asked"))
                found.append(f"{way.name}, {context}: {who}, {probe}: {one!r} directly, {other!r} here")
    return sorted(found)


def _where_they_differ(one: str, other: str) -> tuple[str, str]:
    """Two answers without the settings that are the same in both."""
    both = set(one.split(", ")) & set(other.split(", "))

    def rest(text: str) -> str:
        return ", ".join(part for part in text.split(", ") if part not in both)

    return rest(one), rest(other)
