"""What plans claim, compared with what statements do: every change that a real session shows has been announced.

Each statement runs on a connection of its own, in a database with everything of `schema`; the session is then looked at from
within: settings, advisory locks, temporary objects, held cursors, channels and statements prepared in SQL.
"""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from trimaran.databases.catalogue import Catalogue, load
from trimaran.databases.planner import Plan, plan

from tests.databases.planner import test_catalogue as table

_CUSTOM = (
    "app.tenant",
    "app.made",
    "app.atomic",
    "app.hidden",
    "app.done",
    "app.textual",
    "app.row",
    "app.a0",
    "app.a1",
)
_STATE = """SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
 (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
 (SELECT count(*) FROM pg_cursors WHERE is_holdable), (SELECT count(*) FROM pg_listening_channels()),
 (SELECT count(*) FROM pg_prepared_statements WHERE from_sql)"""


def _settings(connection: psycopg.Connection[Any]) -> dict[str, str]:
    rows = connection.execute("SELECT name, setting FROM pg_settings WHERE source = 'session'", prepare=False)
    return dict(rows.fetchall())


def _customs(connection: psycopg.Connection[Any], names: tuple[str, ...]) -> set[str]:
    found = connection.execute(
        "SELECT n FROM unnest(%s::text[]) n WHERE current_setting(n, true) IS NOT NULL", (list(names),), prepare=False
    )
    return {name for (name,) in found.fetchall()}


def check(dsn: str, text: str, made: Plan, customs: tuple[str, ...] = _CUSTOM) -> bool:
    """Whether the statement ran; asserts that what it changed was announced."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        before = _settings(connection)
        try:
            connection.execute(text.encode(), prepare=False)
        except psycopg.Error:
            ran = False
        else:
            ran = True
        if connection.closed:
            return False
        connection.rollback()
        state = connection.execute(_STATE, prepare=False).fetchone()
        shown = {name.lower() for name, value in _settings(connection).items() if before.get(name) != value}
        custom = _customs(connection, customs)
    followed = {dict(effect.detail).get("name") for effect in made.effects if effect.kind == "set"}
    if state is not None and any(state):
        assert made.audit in ("state", "settings") or made.pins, (text, state, made)
    if shown - followed:
        assert made.audit == "settings" or made.pins, (text, shown, made)
    if custom - followed:
        assert made.audit == "settings", (text, custom, made)
        assert made.unknown_settings or custom - followed <= set(made.custom), (text, custom, made)
    return ran


@pytest.mark.parametrize(
    "text",
    [
        text
        for text in (*table.CLEAN_READS, *table.CLEAN_WRITES, *table.SETTINGS, *table.OPAQUE, *table.STATE)
        if not text.startswith(("COPY", "DROP", "CREATE EXTENSION", "ALTER TABLE"))
    ],
)
def test_what_a_statement_changes_was_announced(database: str, catalogue: Catalogue, text: str) -> None:
    check(database, text, plan(text, catalogue))


_ACTIONS = st.sampled_from(
    [
        "PERFORM set_config('app.a0', 'x', false);",
        "PERFORM set_config('app.' || 'a1', 'x', true);",
        "SET app.a0 TO 'x';",
        "SET LOCAL app.a1 = 'x';",
        "SET statement_timeout = 90000;",
        "SET LOCAL work_mem = '1MB';",
        "EXECUTE 'SET app.a0 = 1';",
        "EXECUTE 'SET ' || 'app.a1 = 1';",
        "EXECUTE 'LISTEN c';",
        "PERFORM pg_advisory_lock_shared(5);",
        "PERFORM pg_advisory_xact_lock(5);",
        "CREATE TEMP TABLE IF NOT EXISTS made_here (a int);",
        "LISTEN c;",
        "NOTIFY c;",
        "PREPARE here AS SELECT 1;",
        "EXECUTE 'DECLARE kept CURSOR WITH HOLD FOR SELECT 1';",
        "INSERT INTO plain VALUES (1);",
        "UPDATE plain SET a = a + 1 WHERE a > 3;",
        "PERFORM count(*) FROM plain; -- SET app.a0 = 1",
        "IF random() < 0 THEN RAISE NOTICE 'SET app.a0 = 1'; END IF;",
        "NULL;",
    ]
)
_WRAPPERS = st.sampled_from(
    [
        ("", "SELECT {f}()"),
        ("", "SELECT * FROM {f}() x, plain"),
        ("", "DO $o$ BEGIN PERFORM {f}(); END $o$"),
        ("CREATE VIEW {f}_view AS SELECT {f}()", "SELECT * FROM {f}_view"),
        ("CREATE FUNCTION {f}_sql() RETURNS int LANGUAGE sql AS 'SELECT {f}()'", "SELECT {f}_sql()"),
        ("CREATE FUNCTION {f}_atomic() RETURNS int LANGUAGE sql RETURN {f}()", "SELECT {f}_atomic()"),
        ("CREATE TABLE {f}_table (a int, b int DEFAULT {f}())", "INSERT INTO {f}_table (a) VALUES (1)"),
        ("CREATE TABLE {f}_check (a int CHECK ({f}() > 0))", "INSERT INTO {f}_check VALUES (1)"),
        ("CREATE DOMAIN {f}_domain AS int CHECK ({f}() > 0)", "SELECT 1::{f}_domain"),
        ("CREATE PROCEDURE {f}_proc() LANGUAGE plpgsql AS 'BEGIN PERFORM {f}(); END'", "CALL {f}_proc()"),
        (
            "CREATE TABLE {f}_t (a int); CREATE FUNCTION {f}_tg() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM {f}(); RETURN NEW; END'; CREATE TRIGGER t AFTER INSERT ON {f}_t EXECUTE FUNCTION {f}_tg()",
            "INSERT INTO {f}_t VALUES (1)",
        ),
        (
            "CREATE TABLE {f}_r (a int); CREATE RULE r AS ON INSERT TO {f}_r DO ALSO SELECT {f}()",
            "INSERT INTO {f}_r VALUES (1)",
        ),
    ]
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_ACTIONS, min_size=1, max_size=4), _WRAPPERS)
def test_generated_functions_by_every_way_to_call_them(
    generated: str, actions: list[str], wrapper: tuple[str, str]
) -> None:
    body = "\n".join(actions)
    ddl, text = (part.format(f="made") for part in wrapper)
    with psycopg.connect(generated, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE plain (a int)")
        connection.execute(
            sql.SQL("CREATE FUNCTION made() RETURNS int LANGUAGE plpgsql AS {}").format(f"BEGIN {body}\nRETURN 1; END")
        )
        if ddl:
            connection.execute(ddl.encode())
        catalogue = load(connection)
    check(generated, text, plan(text, catalogue))
