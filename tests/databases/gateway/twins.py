"""Sessions that do everything twice, on a connection of their own and through the gateway, and must be answered the same.

Through the gateway they share two server connections with a crowd: before every statement another session takes the server
connection that was used last, so that the statement runs on the other one, where the crowd has been with other settings."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from tests.databases.gateway.raw import SYNC, Ended, Message, Raw, Refused, bind, execute, fields, parse, query, rows

Line: TypeAlias = tuple[object, ...]


class Batch(NamedTuple):
    """Messages of the extended protocol up to a Sync."""

    shown: tuple[str, ...]
    data: bytes


Step: TypeAlias = str | Batch
"""A simple query's text, or a batch."""


def batch(*parts: tuple[str, bytes]) -> Batch:
    return Batch(tuple(shown for shown, _ in parts), b"".join(data for _, data in parts) + SYNC)


def run(sql: str, *values: str, name: str = "") -> tuple[str, bytes]:
    """A statement that is parsed, bound and executed."""
    given = [value.encode() for value in values]
    data = parse(name, sql) + bind("", name, *given) + execute()
    return f"parse {name or 'unnamed'} {sql!r}, bind {list(values)}, execute", data


def only_bind(sql: str) -> tuple[str, bytes]:
    """A statement that is parsed and bound, and never executed."""
    return f"parse unnamed {sql!r}, bind", parse("", sql) + bind("", "")


def only_parse(sql: str, name: str) -> tuple[str, bytes]:
    return f"parse {name} {sql!r}", parse(name, sql)


def again(name: str, *values: str) -> tuple[str, bytes]:
    """A statement that was parsed before."""
    data = bind("", name, *(value.encode() for value in values)) + execute()
    return f"bind {name} {list(values)}, execute", data


def first_row(sql: str) -> tuple[str, bytes]:
    """A statement of which only the first row is fetched."""
    return f"parse unnamed {sql!r}, bind, execute 1 row", parse("", sql) + bind("", "") + execute("", 1)


@dataclass
class Side:
    """One of the two connections of a session, and what its client knows."""

    raw: Raw
    believes: dict[str, str] = field(default_factory=dict)
    status: str = "I"
    last: str = ""
    """Which server connection was not free when it said something last."""
    ended: bool = False

    def told(self, messages: Sequence[Message]) -> list[Line]:
        """What the client sees of an answer. Where reports of parameters stand is not compared, their values are."""
        seen: list[Line] = []
        for tag, contents in messages:
            if tag == b"S":
                name, value = contents.decode("latin1").split("\0")[:2]
                self.believes[name] = value
            elif tag in (b"E", b"N"):
                report = fields(contents)
                seen.append((report["S"], report["C"], report["M"]))
            elif tag == b"D":
                seen.append(("row", *rows([(tag, contents)])[0]))
            elif tag == b"T":
                seen.append(("columns", int.from_bytes(contents[:2])))
            elif tag == b"Z":
                self.status = contents.decode()
                seen.append(("ready", self.status))
            elif tag != b"K":
                seen.append((tag.decode(), contents.rstrip(b"\0").decode("latin1")))
        return seen

    def log_in(self, **parameters: str) -> list[Line]:
        try:
            self.raw.begin(3 << 16, **parameters)
        except Refused as refused:
            self.ended = True
            return self.told([(b"E", refused.args[0])])
        return self.answer()

    def ask(self, data: bytes) -> list[Line]:
        self.raw.send(data)
        return self.answer()

    def answer(self) -> list[Line]:
        """Everything up to where the server waits for the client, or to the connection's end."""
        messages: list[Message] = []
        try:
            while not messages or messages[-1][0] != b"Z":
                messages.append(self.raw.receive())
        except Ended:
            self.ended = True
            return [*self.told(messages), *([] if messages else [("the connection ended",)])]
        return self.told(messages)


class NotServed(Exception):
    """A session of the crowd fails, which has done nothing to deserve it."""


class Crowd:
    """Other sessions of the same login, with other settings, that take server connections out of the way.

    Of two server connections one is always taken by the transaction of a session of the crowd."""

    def __init__(self, dsn: str, states: Sequence[str], more: Callable[[], None]) -> None:
        self._sessions = [Side(Raw(dsn)) for _ in states]
        self._more = more
        for session, state in zip(self._sessions, states, strict=True):
            session.log_in()
            self._do(session, state)
        self._next = 0
        self._holder: Side | None = None
        self._held = ""

    def _do(self, session: Side, sql: str) -> str:
        answer = session.ask(query(sql))
        if any(line[1] == "53300" for line in answer if line[0] == "ERROR"):
            self._more()
            answer = session.ask(query(sql))
        errors = [line for line in answer if line[0] in ("ERROR", "FATAL", "the connection ended")]
        if errors:
            raise NotServed(f"another session, which says {sql!r}: {errors}")
        return next((str(line[1]) for line in answer if line[0] == "row"), "")

    def _another(self) -> Side:
        one = self._sessions[self._next]
        self._next = (self._next + 1) % len(self._sessions)
        return one

    def move(self, last: str) -> str:
        """Lets the next statement run on another server connection than the one that was free when `last` was held. Gives
        what is held now."""
        for _ in range(4):
            one = self._another()
            pid = self._do(one, "BEGIN; SELECT pg_backend_pid()")
            held, self._holder, self._held = self._holder, one, pid
            if held is not None:
                self._do(held, "COMMIT")
            if pid != last:
                break
        return self._held

    def use(self) -> None:
        """Somebody else uses what is free."""
        self.let_go()
        self._do(self._another(), "SELECT 1")

    def let_go(self) -> None:
        held, self._holder = self._holder, None
        if held is not None and not held.ended:
            self._do(held, "COMMIT")

    def close(self) -> None:
        for session in self._sessions:
            session.raw.close()


class Difference(AssertionError):
    """The gateway's answer is not PostgreSQL's."""


_RESETS = re.compile(rb"\b(RESET|DISCARD|DEFAULT)\b", re.IGNORECASE)


class Stage:
    """Sessions by name, each with its two connections."""

    def __init__(self, direct: str, through: str, crowd: Crowd) -> None:
        self._dsns = (direct, through)
        self._crowd = crowd
        self._twins: dict[str, tuple[Side, Side]] = {}
        self._said: list[str] = []
        self._begins_with_settings = False

    def open(self, name: str, **parameters: str) -> None:
        """Both connections of a session, with these start-up parameters."""
        self._said.append(f"{name}: connects {parameters or ''}")
        self._begins_with_settings |= bool(parameters)
        one, other = (Side(Raw(dsn)) for dsn in self._dsns)
        self._make_way(other)
        self._twins[name] = (one, other)
        self._compare("answers to connecting", one.log_in(**parameters), other.log_in(**parameters))
        self._compare("parameters after connecting", _known(one), _known(other))

    def in_a_block(self, but: str = "") -> bool:
        """Whether any session is, other than this one."""
        return any(twin[0].status != "I" for name, twin in self._twins.items() if name != but and not twin[0].ended)

    def status(self, name: str) -> str:
        """`I`, `T` or `E`, or nothing when the session has ended."""
        one, _ = self._twins[name]
        return "" if one.ended else one.status

    def say(self, name: str, step: Step, shown: str = "") -> None:
        """A step of a session, both ways; `shown` stands for it where it fails."""
        one, other = self._twins[name]
        if one.ended:
            return
        data = query(step) if isinstance(step, str) else step.data
        self._said.append(f"{name}: {shown or _shown(step)}")
        self._make_way(other)
        one.raw.send(data)
        other.raw.send(data)
        self._compare("answers", one.answer(), other.answer())
        if not (self._begins_with_settings and _RESETS.search(data)):
            # What comes from the start-up packet is reported again with the statement behind a RESET; that is documented.
            self._compare("parameters as the client knows them", _known(one), _known(other))

    def note(self, what: str) -> None:
        """Something that happened once, elsewhere."""
        self._said.append(f"elsewhere: {what}")

    def _make_way(self, side: Side) -> None:
        try:
            if self.in_a_block():
                self._crowd.use()
            else:
                side.last = self._crowd.move(side.last)
        except NotServed as refused:
            raise Difference(f"others are disturbed before this is sent:\n{self._all()}\n  {refused}") from None

    def _all(self) -> str:
        return "\n".join(f"  {number}. {line}" for number, line in enumerate(self._said, 1))

    def _compare(self, what: str, direct: Sequence[Line], gateway: Sequence[Line]) -> None:
        if direct == gateway:
            return
        at = next((n for n, (a, b) in enumerate(zip(direct, gateway, strict=False)) if a != b), None)
        at = min(len(direct), len(gateway)) if at is None else at
        first = [_line(side[at]) if at < len(side) else "(nothing)" for side in (direct, gateway)]
        raise Difference(f"{what} differ\n{self._all()}\n  PostgreSQL: {first[0]}\n  gateway:    {first[1]}")

    def close(self) -> None:
        with contextlib.suppress(NotServed):
            self._crowd.let_go()
        for twin in self._twins.values():
            for side in twin:
                side.raw.close()


def _line(line: Line) -> str:
    """A line for people, with long values part by part."""
    return " | ".join("NULL" if value is None else str(value) or "''" for value in line)


def _shown(step: Step) -> str:
    return step if isinstance(step, str) else " + ".join([*step.shown, "sync"])


def _known(side: Side) -> list[Line]:
    return [] if side.ended else sorted(side.believes.items())


@contextlib.contextmanager
def stage(direct: str, through: str, crowd: Crowd) -> Iterator[Stage]:
    made = Stage(direct, through, crowd)
    try:
        yield made
    finally:
        made.close()
