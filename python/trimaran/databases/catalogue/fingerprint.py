"""One question whose answer changes with the code that a database holds."""

from __future__ import annotations

from typing import Any

import psycopg

_FIRST_USER_OID = 16384

_ROWS = ("pg_proc", "pg_rewrite", "pg_policy", "pg_event_trigger", "pg_operator", "pg_cast")
"""Rows that CREATE OR REPLACE and ALTER change in place: their versions (xmin) count, over the index by oid. It is seen at
once, and on a replica too, where there are no statistics of changes."""

_CHANGES = "pg_catalog.pg_stat_get_tuples_{}('pg_catalog.{}'::regclass)"

FINGERPRINT = f"""SELECT pg_catalog.concat_ws(' ', {
    ", ".join(
        f"(SELECT pg_catalog.count(*) || ':' || COALESCE(pg_catalog.sum(xmin::text::int8), 0)"
        f" FROM pg_catalog.{name} WHERE oid >= {_FIRST_USER_OID})"
        for name in _ROWS
    )
},
(SELECT pg_catalog.count(*) || ':' || COALESCE(pg_catalog.sum(xmin::text::int8), 0) FROM pg_catalog.pg_inherits),
(SELECT oid FROM pg_catalog.pg_trigger ORDER BY oid DESC LIMIT 1),
{", ".join(_CHANGES.format(kind, "pg_trigger") for kind in ("inserted", "updated", "deleted"))},
(SELECT oid FROM pg_catalog.pg_class WHERE relpersistence <> 't' AND relkind <> 'i' AND relkind <> 't'
 AND relnamespace <> 'pg_catalog'::regnamespace ORDER BY oid DESC LIMIT 1),
(SELECT d.oid FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_class c ON c.oid = d.adrelid
 WHERE c.relpersistence <> 't' ORDER BY d.oid DESC LIMIT 1),
(SELECT k.oid FROM pg_catalog.pg_constraint k LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
 WHERE c.relpersistence IS DISTINCT FROM 't' ORDER BY k.oid DESC LIMIT 1),
(SELECT oid FROM pg_catalog.pg_type WHERE typrelid = 0 AND typelem = 0 ORDER BY oid DESC LIMIT 1))"""
"""Objects that are only ever made anew count by their highest oid. Temporary ones do not: a session makes many of them, and
keeps its connection."""


def fingerprint(connection: psycopg.Connection[Any]) -> str:
    """Equal answers: no function, trigger, rule, policy, default, constraint, operator, cast, event trigger or inheritance
    was added or changed between them. A trigger that is replaced in place is seen when the server's statistics are, within
    seconds. Raises psycopg.Error."""
    row = connection.execute(FINGERPRINT).fetchone()
    assert row is not None
    return str(row[0])
