"""What a standby answers differently is in the planner's lists: found in PostgreSQL's own catalogue, by asking both nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from trimaran.databases.planner.functions import differs_by_node, needs_primary

from tests.databases.failover.conftest import cluster, until_replayed
from tests.support.cluster import Cluster

pytestmark = pytest.mark.timeout(240)

ARGUMENTS = {
    "bool": "true",
    "bytea": "'a'::bytea",
    "char": "'r'::\"char\"",
    "cstring": "'a'",
    "date": "'2026-01-01'::date",
    "float8": "1.0",
    "inet": "'::1'::inet",
    "int2": "1::int2",
    "int4": "1",
    "int8": "1",
    "interval": "'1s'::interval",
    "json": "'{}'::json",
    "jsonb": "'{}'::jsonb",
    "name": "'a'::name",
    "numeric": "1",
    "oid": "'t'::regclass::oid",
    "pg_lsn": "'0/3000000'::pg_lsn",
    "pg_snapshot": "'10:20:'::pg_snapshot",
    "regclass": "'numbers'::regclass",
    "regtype": "'int4'::regtype",
    "text": "'a'",
    "timestamp": "'2026-01-01'::timestamp",
    "timestamptz": "'2026-01-01'::timestamptz",
    "txid_snapshot": "'10:20:'::txid_snapshot",
    "xid": "'3'::xid",
    "xid8": "'3'::xid8",
    "_text": "ARRAY['a']",
}
"""A value of each type that functions are called with."""
NOT_CALLED = (
    "pg_promote",
    "pg_sleep",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_terminate_",
    "pg_cancel_",
    "pg_wal_replay_",
)
"""They act on the server itself, or wait."""
OF_THE_MOMENT = frozenset({"inet_client_port"})
"""They tell of the client or of the moment, and differ between any two calls."""
SAME_AND_LISTED = frozenset({"inet_server_addr", "pg_safe_snapshot_blocking_pids", "pg_walfile_name"})
"""Listed for what they answer elsewhere: with other addresses, or while something is under way."""
FUNCTIONS = """
SELECT p.proname, p.provolatile, array(
  SELECT t.typname FROM unnest(p.proargtypes) WITH ORDINALITY a(type, n) JOIN pg_type t ON t.oid = a.type ORDER BY n
)::text[] FROM pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.pronargs <= 4
AND p.prorettype::regtype::text NOT IN ('internal', 'trigger', 'event_trigger') ORDER BY 1, 3
"""
VIEWS = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('pg_catalog', 'information_schema') AND c.relkind IN ('v', 'r') ORDER BY 1, 2
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("answers"), replicas=1) as group:
        with group.superuser(group.primary.name) as connection:
            connection.execute("CREATE TABLE t AS SELECT generate_series(1, 5) AS x")
            connection.execute("CREATE SEQUENCE numbers")
            connection.execute("SELECT nextval('numbers')")
        until_replayed(group)
        yield group


@pytest.fixture
def nodes(running: Cluster) -> Iterator[tuple[psycopg.Connection[Any], psycopg.Connection[Any]]]:
    with running.superuser(running.primary.name) as primary, running.superuser(running.replicas()[0].name) as replica:
        for node in (primary, replica):
            node.prepare_threshold = None
        yield primary, replica


def answer(node: psycopg.Connection[Any], statement: str) -> str:
    """The rows in any order, or the error. Nothing of it stays."""
    try:
        node.execute("BEGIN")
        node.execute("SET LOCAL statement_timeout = '2s'")
        return "\n".join(sorted(str(row) for row in node.execute(statement.encode()).fetchall()))
    except psycopg.Error as error:
        return f"{error.sqlstate} {error.diag.message_primary}"
    finally:
        node.execute("ROLLBACK")


def compared(nodes: tuple[psycopg.Connection[Any], psycopg.Connection[Any]], statement: str) -> str:
    """ "same", "differs", or "moves" for what is different each time that it is asked."""
    primary, replica = nodes
    first, second, other = answer(primary, statement), answer(primary, statement), answer(replica, statement)
    is_refused = other.startswith(("25006 ", "55000 ", "XX000 ", "0A000 ")) and other != second
    if is_refused:
        return "differs"
    return "moves" if first != second else "same" if second == other else "differs"


def test_functions(nodes: tuple[psycopg.Connection[Any], psycopg.Connection[Any]]) -> None:
    missing, needless, asked = set(), {}, 0
    for name, volatility, types in nodes[0].execute(FUNCTIONS).fetchall():
        if name.startswith(NOT_CALLED) or not set(types) <= set(ARGUMENTS):
            continue
        asked += 1
        listed = needs_primary("pg_catalog", name)
        call = f'SELECT pg_catalog."{name}"({", ".join(ARGUMENTS[kind] for kind in types)})::text'
        match compared(nodes, f"SELECT * FROM ({call} AS answer) AS asked"):
            case "differs" if not listed and name not in OF_THE_MOMENT:
                missing.add(name)
            case "differs":
                needless[name] = False
            case "same" if listed and volatility == "i":
                needless.setdefault(name, True)
    assert asked > 1000
    assert missing == set()
    assert {name for name, is_needless in needless.items() if is_needless} - SAME_AND_LISTED == set()


def test_relations(nodes: tuple[psycopg.Connection[Any], psycopg.Connection[Any]]) -> None:
    missing, asked = set(), 0
    for schema, name in nodes[0].execute(VIEWS).fetchall():
        asked += 1
        if compared(nodes, f"SELECT * FROM {schema}.{name}") != "same" and not differs_by_node(schema, name):
            missing.add(name)
    assert asked > 200
    assert missing == set()


def test_plain_catalogues_are_not_listed(nodes: tuple[psycopg.Connection[Any], psycopg.Connection[Any]]) -> None:
    names = "SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'"
    rows = nodes[0].execute(names).fetchall()
    assert [name for (name,) in rows if differs_by_node("pg_catalog", name)] == []
