"""Settings and roles are PostgreSQL's: whatever sessions set, in whatever order and however it fails, each is answered as it
would be on a connection of its own, while all share two server connections with a crowd.

SETTINGS_EXAMPLES=N tries N new sequences, of another seed each time (SETTINGS_SEED=S repeats one)."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import HealthCheck, given, seed, settings
from trimaran.databases.postgres import EmbeddedNode

from tests.databases.gateway.settings_of_roles import LOGINS, OPTIONS, ROLES, SUPERUSER
from tests.databases.gateway.settings_of_transactions import TRANSACTIONS
from tests.databases.gateway.settings_of_values import VALUES
from tests.databases.gateway.settings_sequences import Sequence, play, sequences
from tests.databases.gateway.settings_steps import READER, WRITER, Case
from tests.databases.gateway.twins import Crowd, NotServed, Stage, stage
from tests.support.gateways import Gateway, remove, start_gateway, start_node, superuser

EXAMPLES = int(os.environ.get("SETTINGS_EXAMPLES", "0"))
SEED = int(os.environ.get("SETTINGS_SEED", "0")) or secrets.randbits(32)


def _explored(test: Callable[..., None]) -> Callable[..., None]:
    """A fixed number of the same sequences each time, or as many others as are asked for."""
    explored = settings(
        max_examples=EXAMPLES or 25,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )(test)
    return seed(SEED)(explored) if EXAMPLES else explored


ORDINARY = {**ROLES, **VALUES, **TRANSACTIONS}
KEEP = {
    "commits_that_fail",
    "prepared_by_sql",
    "temp_buffers_after_others_used_temporary_tables",
    "temp_buffers_after_ones_own",
    # standard_conforming_strings is off, setseed was called.
    "units_and_spellings",
    "settings_by_context",
}
"""Cases in which a session may keep its server connection: what it has cannot be made again on another one."""

_FUNCTIONS = """
    CREATE FUNCTION settings_inside(name text, value text, local bool) RETURNS text LANGUAGE plpgsql SET work_mem = '3MB'
        AS $$BEGIN RETURN set_config(name, value, local); END$$;
    CREATE FUNCTION settings_now(name text, value text, local bool) RETURNS text LANGUAGE plpgsql
        AS $$BEGIN RETURN set_config(name, value, local); END$$;
    CREATE FUNCTION settings_as(who text) RETURNS text LANGUAGE plpgsql
        AS $$BEGIN PERFORM set_config('role', who, true); RETURN current_user; END$$;
    SET work_mem = '11MB';
    CREATE FUNCTION settings_from_current() RETURNS text LANGUAGE plpgsql SET work_mem FROM CURRENT
        AS $$BEGIN RETURN current_setting('work_mem'); END$$;
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNode]:
    """A PostgreSQL with two roles that the logins may take on, one of which has settings of its own."""
    state = tmp_path_factory.mktemp("settings")
    started = start_node(state)
    with psycopg.connect(superuser(started), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {READER}; CREATE ROLE {WRITER}; GRANT {READER}, {WRITER} TO app")
        admin.execute(f"ALTER ROLE {WRITER} SET work_mem = '17MB'")
    with psycopg.connect(_as_admin(started), autocommit=True) as admin:
        admin.execute(_FUNCTIONS)
        admin.execute("CREATE TABLE settings_locked (a int); GRANT ALL ON settings_locked TO PUBLIC")
    yield started
    started.stop()
    remove(Path(state))


def _as_admin(of: EmbeddedNode) -> str:
    """The superuser in the app's database."""
    place = urlsplit(superuser(of))
    return urlunsplit(place._replace(path="/app"))


@pytest.fixture(scope="module")
def gateways(node: EmbeddedNode) -> Iterator[list[Gateway]]:
    """The gateway that is in use, if any is."""
    started: list[Gateway] = []
    yield started
    for gateway in started:
        gateway.stop()


@pytest.fixture
def gateway(node: EmbeddedNode, gateways: list[Gateway], request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """A gateway with two server connections for each login. After a failure there is a new one, so that what one test has
    spoiled is not another's failure."""
    failures = request.session.testsfailed
    if not gateways:
        gateways.append(_start(node))
    yield gateways[0]
    if request.session.testsfailed > failures:
        gateways.pop().stop()


def _start(node: EmbeddedNode) -> Gateway:
    return start_gateway(node, connections_max=2, checkout_timeout_ms=1000, hold_timeout_ms=1000)


CROWD = (
    "SELECT 1",
    "SET search_path = pg_catalog; SET datestyle = 'German'; SET app.crowd = '1'; SET work_mem = '33MB'",
    f"SET ROLE {READER}",
    "SET TIME ZONE 'Pacific/Apia'; SET default_transaction_isolation = 'repeatable read'; SET app.y = 'crowd'",
    f"SET statement_timeout = '55min'; SET extra_float_digits = 0; SET ROLE {WRITER}",
)
"""What the others of the login are like."""


@contextlib.contextmanager
def _staged(gateway: Gateway, dsn: str, *, keeps: bool = False) -> Iterator[Stage]:
    """A stage with a crowd of the same login. Where sessions may keep a server connection another one is allowed for each, so
    that two are shared in any case."""
    allowed = [2]

    def more() -> None:
        if not keeps or allowed[0] == 8:
            raise NotServed("a session keeps its server connection")
        allowed[0] += 1
        gateway.apply(connections_max=allowed[0])

    crowd = Crowd(gateway.through(dsn), CROWD, more)
    try:
        with stage(dsn, gateway.through(dsn), crowd) as on:
            yield on
    finally:
        crowd.close()
        if allowed[0] > 2:
            gateway.apply(connections_max=2)


def _perform(on: Stage, case: Case, admin: str, **parameters: str) -> None:
    """A case's steps, by sessions that all have these start-up parameters but B, which has none."""
    for name in ("A", *sorted({name for name, _ in case} & {"B", "C"})):
        on.open(name, **(parameters if name == "A" else {}))
    with psycopg.connect(admin) as locking:
        for name, step in case:
            if name == "lock":
                locking.rollback()
                locking.execute(str(step)) if step else None
                on.note(f"another session: {step or 'ROLLBACK'}")
            elif name == "admin":
                on.note(str(step))
                with psycopg.connect(admin, autocommit=True) as connection:
                    connection.execute(str(step))
            else:
                on.say(name, step)


@pytest.fixture(autouse=True)
def no_roles_left(node: EmbeddedNode) -> Iterator[None]:
    """Roles that a case has made and, failing, not dropped."""
    yield
    with psycopg.connect(_as_admin(node), autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS settings_gone, settings_other")


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_login(gateway: Gateway, node: EmbeddedNode, name: str) -> None:
    with _staged(gateway, gateway.direct, keeps=name in KEEP) as on:
        _perform(on, ORDINARY[name], _as_admin(node))


@pytest.mark.parametrize("name", SUPERUSER)
def test_superuser(gateway: Gateway, node: EmbeddedNode, name: str) -> None:
    with _staged(gateway, _as_admin(node)) as on:
        _perform(on, SUPERUSER[name], _as_admin(node))


@pytest.mark.parametrize("name", OPTIONS)
def test_start_up(gateway: Gateway, node: EmbeddedNode, name: str) -> None:
    parameters, case = OPTIONS[name]
    with _staged(gateway, gateway.direct) as on:
        _perform(on, case, _as_admin(node), **parameters)


@pytest.mark.parametrize("name", LOGINS)
def test_settings_for_logins(node: EmbeddedNode, name: str) -> None:
    """Settings that are made for whoever logs in, before the gateway has a connection of them."""
    made, case = LOGINS[name]
    with psycopg.connect(_as_admin(node), autocommit=True) as admin:
        admin.execute(made)
        gateway = _start(node)
        try:
            with _staged(gateway, gateway.direct) as on:
                _perform(on, case, _as_admin(node))
        finally:
            gateway.stop()
            admin.execute(
                "ALTER ROLE app RESET ALL; ALTER DATABASE app RESET ALL; ALTER ROLE app IN DATABASE app RESET ALL"
            )


@_explored
@given(sequence=sequences(superuser=False))
def test_any_sequence(gateway: Gateway, sequence: Sequence) -> None:
    with _staged(gateway, gateway.direct, keeps=True) as on:
        play(on, sequence, SEED if EXAMPLES else 0)


@_explored
@given(sequence=sequences(superuser=True))
def test_any_sequence_of_a_superuser(gateway: Gateway, node: EmbeddedNode, sequence: Sequence) -> None:
    with _staged(gateway, _as_admin(node), keeps=True) as on:
        play(on, sequence, SEED if EXAMPLES else 0)
