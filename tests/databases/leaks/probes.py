"""What a session may look at to find out whether another session has reached it. No probe changes its own session."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """A question whose answer is another when something has leaked."""

    name: str
    sql: str
    prepared: bool = False
    """Whether the session has prepared it at its beginning, under its name."""
    columns: tuple[str, ...] = ()
    """What each part of its answer is, where it is one text of several parts."""


SEPARATOR = " ~ "

_COLUMNS = {
    "app.tenant": "current_setting('app.tenant', true)",
    "app.local": "current_setting('app.local', true)",
    "current_user": "current_user",
    "session_user": "session_user",
    "role": "current_setting('role')",
    "schemas": "replace(current_schemas(true)::text, pg_my_temp_schema()::regnamespace::text, 'mine')",
    "temporary relations": "(SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class"
    " WHERE relnamespace = pg_my_temp_schema() AND relkind IN ('r', 'v', 'S'))",
    "temporary functions": "(SELECT string_agg(proname, ',' ORDER BY proname) FROM pg_proc WHERE pronamespace = pg_my_temp_schema())",
    "cursors": "(SELECT string_agg(name, ',' ORDER BY name) FROM pg_cursors WHERE name NOT IN ('', 'p'))",
    "statements by SQL": "(SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements WHERE from_sql)",
    "channels": "(SELECT string_agg(c, ',' ORDER BY c) FROM pg_listening_channels() c)",
    "advisory locks": "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())",
}
_THE_SESSION = (
    f"SELECT concat_ws('{SEPARATOR}', "
    + ", ".join(f"coalesce(({asked})::text, 'NULL')" for asked in _COLUMNS.values())
    + ")"
)


PROBES = (
    Probe(
        "settings",
        "SELECT string_agg(name || '=' || setting, ', ' ORDER BY name) FROM pg_settings"
        " WHERE setting IS DISTINCT FROM boot_val AND context IN ('user', 'superuser', 'backend', 'superuser-backend')",
    ),
    Probe("the session", _THE_SESSION, columns=tuple(_COLUMNS)),
    Probe("rows under row-level security", "SELECT id, tenant FROM tenants ORDER BY id"),
    Probe("rows of a table", "SELECT owner FROM accounts WHERE owner <> 'probe'"),
    Probe(
        "where an INSERT lands",
        "INSERT INTO accounts VALUES (2, 'probe')"
        " RETURNING (SELECT relpersistence FROM pg_class WHERE oid = accounts.tableoid)",
    ),
    Probe("a lock", "SELECT pg_try_advisory_xact_lock(77), pg_try_advisory_xact_lock_shared(78)"),
    Probe("the last number of a sequence", "SELECT currval('public.numbers')"),
    Probe("columns", "SELECT * FROM wide", prepared=True),
    Probe("a prepared statement", "SELECT 'mine', count(*) FROM accounts WHERE owner <> 'probe'", prepared=True),
    Probe("EXECUTE of another's statement", "EXECUTE theirs"),
)
