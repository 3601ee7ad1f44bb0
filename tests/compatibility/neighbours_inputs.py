"""What is done to PostgreSQL and to the poolers before it: session A changes something, and session B of the same login looks."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg

from tests.databases.gateway.raw import (
    FLUSH,
    SYNC,
    Message,
    Raw,
    bind,
    errors,
    execute,
    fields,
    message,
    parse,
    query,
    rows,
    session,
    tags,
    text,
)
from tests.support.waiting import eventually

READER = "neighbours_reader"
"""A role that the app's role is a member of."""

SCHEMA = """
CREATE TABLE notes (tenant text, note text);
INSERT INTO notes VALUES ('A', 'of A');
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (tenant = current_setting('app.tenant', true));
CREATE TABLE accounts (id int, owner text);
CREATE FUNCTION set_tenant(name text) RETURNS void LANGUAGE plpgsql
    AS $$ BEGIN PERFORM set_config('app.tenant', name, false); END $$;
CREATE FUNCTION try_lock(key bigint) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN RETURN pg_try_advisory_lock(key); END $$;
"""

NOT_KNOWN = "not known"

SET_CONFIG = 2078
"""The oid of set_config, for FunctionCall."""

_NOTIFY_S = 5.0
"""PostgreSQL sends a notification to a session that waits within milliseconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an input is tried."""

    dsn: str
    owner: str
    """The superuser's address of the same database, past all poolers."""

    @contextlib.contextmanager
    def sessions(self, count: int) -> Iterator[tuple[Raw, ...]]:
        """So many, all of the app's login."""
        with contextlib.ExitStack() as opened:
            yield tuple(opened.enter_context(session(self.dsn)) for _ in range(count))

    def past(self, sql: str) -> list[tuple[object, ...]]:
        """As the superuser, past the pooler."""
        with psycopg.connect(self.owner, autocommit=True) as connection:
            return list(connection.execute(sql.encode()).fetchall())


@dataclass(frozen=True, slots=True)
class Input:
    """One row of the table."""

    title: str
    show: Callable[[Place], str]
    split: bool = False
    """Whether it is about reads that go to a replica."""
    pgdog: str = NOT_KNOWN
    """What PgDog's public source and issues say about it; nothing that was run."""


def _value(value: str | None) -> str:
    if value is None:
        return "NULL"
    return f"`{value}`" if value else "`''`"


def _said(messages: list[Message]) -> str:
    """Rows and the first error, or `ok` when there is neither."""
    found = [", ".join(map(_value, row)) for row in rows(messages)]
    reports = [fields(contents) for tag, contents in messages if tag == b"E"]
    found.extend(f"{report['C']} {report['M']}" for report in reports[:1])
    if "Z" not in tags(messages):
        found.append("the session ends")
    return ", ".join(found) or "ok"


def _looks(place: Place, does: str, look: str) -> str:
    """What B sees that A has done."""
    with place.sessions(2) as (a, b):
        done = a.ask(does)
        wrong = [f"A: {_said(done)}"] if errors(done) else []
        return "; ".join([*wrong, f"B: {_said(b.ask(look))}"])


def _keeps(place: Place, does: tuple[str, ...], look: str) -> str:
    """What B sees that A has done, and what A has itself when its last server connection is busy."""
    with place.sessions(3) as (a, b, c):
        for sql in does:
            a.ask(sql)
        others = _said(b.ask(look))
        c.ask("BEGIN")
        c.ask("SELECT 1")
        own = _said(a.ask(look))
        c.ask("COMMIT")
        return f"A: {own}; B: {others}"


def looking(does: str, look: str) -> Callable[[Place], str]:
    return lambda place: _looks(place, does, look)


def keeping(look: str, *does: str) -> Callable[[Place], str]:
    return lambda place: _keeps(place, does, look)


def _hidden_table(place: Place) -> str:
    temporary = "CREATE TEMP TABLE accounts (id int, owner text); INSERT INTO accounts VALUES (1, ''of A'')"
    with place.sessions(2) as (a, b):
        a.ask(f"DO $$ BEGIN EXECUTE '{temporary}'; END $$")
        seen = _said(b.ask("SELECT count(*) FROM accounts"))
        acknowledged = _said(b.ask("INSERT INTO accounts VALUES (2, 'of B')"))
    kept = place.past("SELECT count(*) FROM accounts")[0][0]
    return f"B sees {seen} rows; its INSERT: {acknowledged}, {'kept' if kept == 1 else '**lost**'}"


def _locks(place: Place) -> str:
    with place.sessions(3) as clients:
        return ", ".join(_said(client.ask("SELECT try_lock(77)")) for client in clients)


def _function_call(place: Place) -> str:
    values = (b"app.tenant", b"A", b"f")
    arguments = b"".join(struct.pack("!i", len(value)) + value for value in values)
    call = struct.pack("!ihh", SET_CONFIG, 0, len(values)) + arguments + struct.pack("!h", 0)
    with place.sessions(2) as (a, b):
        a.send(message(b"F", call))
        done = a.until_ready_or_end()
        look = _said(b.ask("SELECT current_setting('app.tenant', true)"))
        return f"A: {'ok' if tags(done) == 'VZ' else _said(done)}; B: {look}"


def _listens(place: Place) -> str:
    with place.sessions(2) as (a, b):
        a.ask("LISTEN events")
        others = _said(b.ask("SELECT pg_listening_channels()"))
        place.past("SELECT pg_notify('events', 'now')")
        listens = f"B listens to: {'nothing' if others == 'ok' else others}"
        a.socket.settimeout(_NOTIFY_S)
        try:
            heard = a.receive()[0] == b"A"
        except TimeoutError:
            heard = False
        return f"A hears a NOTIFY while it waits: {'yes' if heard else '**no**'}; {listens}"


def _ran(raw: Raw, batch: bytes) -> list[Message]:
    raw.send(batch)
    return raw.until_ready_or_end()


def _use(name: str) -> bytes:
    return bind("", name) + execute() + SYNC


def _deallocates(place: Place, does: str) -> str:
    with place.sessions(2) as (a, b):
        _ran(b, parse("s", "SELECT 'of B'") + SYNC)
        a.ask(does)
        return f"B uses what it prepared: {_said(_ran(b, _use('s')))}"


def _same_name(place: Place) -> str:
    with place.sessions(2) as (a, b):
        first = _ran(a, parse("s", "SELECT 'of A'") + SYNC)
        second = _ran(b, parse("s", "SELECT 'of B'") + SYNC)
        ready = f"A: {_said(first)}; B: {_said(second)}"
        return f"{ready}; then A: {_said(_ran(a, _use('s')))}; B: {_said(_ran(b, _use('s')))}"


def _prepared_elsewhere(place: Place) -> str:
    with place.sessions(2) as (a, c):
        _ran(a, parse("s", "SELECT 'of A'") + SYNC)
        c.ask("BEGIN")
        c.ask("SELECT 1")
        own = _said(_ran(a, _use("s")))
        c.ask("COMMIT")
        return f"A: {own}"


def _copies(place: Place) -> str:
    with place.sessions(1) as (a,):
        a.send(parse("", "COPY accounts FROM STDIN") + bind("", "") + execute() + FLUSH)
        begun = [a.receive()]
        while begun[-1][0] not in (b"G", b"E"):
            begun.append(a.receive())
        if begun[-1][0] == b"E":
            return _said(begun)
        ended = _ran(a, message(b"d", b"1\tof A\n") + message(b"c") + SYNC)
        complete = [contents.rstrip(b"\0").decode() for tag, contents in ended if tag == b"C"]
        return " ".join(f"`{each}`" for each in complete) or _said(ended)


def _order(place: Place, batch: bytes) -> str:
    """The kinds of the answers to the same batch, by two sessions in turn, and of the same session again."""
    with place.sessions(2) as (a, b):
        found = [tags(_ran(each, batch)) for each in (a, b, a)]
        return ", ".join(f"`{' '.join(kinds)}`" for kinds in dict.fromkeys(found))


def _describe(name: str) -> bytes:
    return message(b"D", b"S" + text(name))


def _close(name: str) -> bytes:
    return message(b"C", b"S" + text(name))


def _idle(place: Place) -> str:
    with place.sessions(1) as (a,):
        a.ask("BEGIN")
        a.ask("SET LOCAL idle_in_transaction_session_timeout = '100ms'")
        waits = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"
        eventually(lambda: not place.past(waits), "PostgreSQL ends the transaction")
        found = _ran(a, query("COMMIT"))
        reports = [fields(contents) for tag, contents in found if tag == b"E"]
        said = ", ".join(f"{report['S']} {report['C']}" for report in reports)
        return f"{said or 'no error'}; the session {'goes on' if 'Z' in tags(found) else 'ends'}"


def _serializable(place: Place) -> str:
    with place.sessions(1) as (a,):
        a.ask("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY")
        return _said(a.ask("SELECT count(*) FROM accounts"))


_TENANT = "SELECT current_setting('app.tenant', true), (SELECT count(*) FROM notes)"
_WRITE = "INSERT INTO accounts VALUES (2, 'of B')"

INPUTS: tuple[Input, ...] = (
    Input(
        "`set_config('app.tenant', 'A', false)` in `DO`; B: the setting, and how many rows row-level security shows",
        looking("DO $$ BEGIN PERFORM set_config('app.tenant', 'A', false); END $$", _TENANT),
        pgdog="sees settings in SET and in `SELECT set_config` of constants, not in DO; cleans a connection only after a pin",
    ),
    Input(
        "the same in a function, `SELECT set_tenant('A')`",
        looking("SELECT set_tenant('A')", _TENANT),
        pgdog="as above: not in functions",
    ),
    Input(
        "a temporary table `accounts` in `DO`, which hides the permanent one",
        _hidden_table,
        pgdog="pins for CREATE TEMP TABLE as a statement; in DO: not known",
    ),
    Input(
        "`default_transaction_read_only` in `DO`; B writes",
        looking("DO $$ BEGIN PERFORM set_config('default_transaction_read_only', 'on', false); END $$", _WRITE),
        pgdog="takes over what ParameterStatus reports, for A; for B: not known",
    ),
    Input(
        "`SET work_mem = '5MB'`, without LOCAL",
        keeping("SHOW work_mem", "SET work_mem = '5MB'"),
        pgdog="A: `5MB`; B: `4MB`: settings move with the session",
    ),
    Input(
        f"`SET ROLE {READER}; RESET ALL`: current_user",
        keeping("SELECT current_user", f"SET ROLE {READER}", "RESET ALL"),
        pgdog="RESET ALL drops the role too; after a pin B keeps A's role (issue 1341)",
    ),
    Input(
        "`SET datestyle = 'SQL, DMY'`, then `= 'ISO'`: `'01/02/2024'::date`",
        keeping("SELECT '01/02/2024'::date", "SET datestyle = 'SQL, DMY'", "SET datestyle = 'ISO'"),
        pgdog="keeps the last value of each name, so only `ISO` moves to another connection",
    ),
    Input(
        "`SET app.x = '1'; RESET app.x`: `current_setting('app.x', true)`",
        keeping("SELECT current_setting('app.x', true)", "SET app.x = '1'", "RESET app.x"),
        pgdog="answers SET and RESET itself while A has no server connection",
    ),
    Input(
        "`pg_try_advisory_lock(77)` in a function, by three clients",
        _locks,
        pgdog="pins for the built-in functions where the statement's text calls them, not in functions",
    ),
    Input(
        "the same with a replica",
        _locks,
        split=True,
        pgdog="sends `nextval`, `setval` and advisory locks to the primary by name; other functions: not known",
    ),
    Input(
        "FunctionCall of `set_config('app.tenant', 'A', false)`",
        _function_call,
        pgdog="passes the message on; what it changes: not known",
    ),
    Input(
        "`DECLARE c CURSOR WITH HOLD`: `FETCH ALL FROM c`",
        keeping("FETCH ALL FROM c", "DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT 'of A'"),
    ),
    Input("`LISTEN events`", _listens, pgdog="listens itself, on a connection of its own for all clients"),
    Input(
        "A and B prepare different statements `s` by the protocol, then use them",
        _same_name,
        pgdog="each gets its own: names are unique inside",
    ),
    Input(
        "A prepares `s` by the protocol, and uses it when its last server connection is busy",
        _prepared_elsewhere,
        pgdog="A: `of A`: prepares it where it is missing",
    ),
    Input(
        "`DEALLOCATE ALL`",
        lambda place: _deallocates(place, "DEALLOCATE ALL"),
        pgdog="answers itself and passes nothing on",
    ),
    Input(
        "the same in `DO`",
        lambda place: _deallocates(place, "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"),
        pgdog="notices DEALLOCATE by its command tag, which DO does not have",
    ),
    Input(
        "`COPY ... FROM STDIN` as Parse Bind Execute Flush, then the data",
        _copies,
        pgdog="not known; with Sync after Execute the connection did not return to the pool (pull request 885)",
    ),
    Input(
        "Parse(a) Describe(a) Close(a) Sync: the order of the answers",
        lambda place: _order(place, parse("a", "SELECT 1") + _describe("a") + _close("a") + SYNC),
        pgdog="answers Close and known Parse itself, in a queue with the server's answers",
    ),
    Input(
        "Parse(a) Describe(a) Parse(b) Describe(b) Close(a) Close(b) Sync",
        lambda place: _order(
            place,
            parse("a", "SELECT 1")
            + _describe("a")
            + parse("b", "SELECT 2")
            + _describe("b")
            + _close("a")
            + _close("b")
            + SYNC,
        ),
        pgdog="as above",
    ),
    Input(
        "`idle_in_transaction_session_timeout` ends a transaction, then `COMMIT`",
        _idle,
        pgdog="passes a FATAL on and ends the session; has a timeout of its own too",
    ),
    Input(
        "`BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY`, a read, with a replica",
        _serializable,
        split=True,
        pgdog="READ ONLY makes it a read at any isolation level; what the replica's refusal becomes: not known",
    ),
)
