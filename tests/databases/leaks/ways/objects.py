"""Temporary objects, cursors and sequences: what belongs to a session and lies in its server process."""

from __future__ import annotations

from tests.databases.leaks.engine import Step, Way, way

_MAKE = "CREATE TEMP TABLE accounts (id int, owner text)"


def _hides(name: str, *steps: Step, options: str = "") -> Way:
    """A temporary table that hides the permanent one of its name."""
    return way(name, *steps, after=("SELECT count(*) FROM accounts",), **({"options": options} if options else {}))


WAYS = (
    _hides("a temporary table", _MAKE),
    _hides("a temporary table in DO", f"DO $$BEGIN {_MAKE}; INSERT INTO accounts VALUES (9, 'A'); END$$"),
    _hides("a temporary table in a function", f"SELECT run('{_MAKE}')"),
    _hides("a temporary table of one transaction in DO", f"DO $$BEGIN {_MAKE} ON COMMIT DROP; END$$"),
    _hides("a temporary table that is emptied in DO", f"DO $$BEGIN {_MAKE} ON COMMIT DELETE ROWS; END$$"),
    _hides(
        "a temporary table by EXECUTE AS",
        "DO $$BEGIN CREATE TEMP TABLE accounts AS SELECT 9 AS id, 'A' AS owner; END$$",
    ),
    _hides("SELECT INTO TEMP", "SELECT 9 AS id, 'A'::text AS owner INTO TEMP accounts"),
    _hides("SELECT INTO pg_temp", "SELECT 9 AS id, 'A'::text AS owner INTO pg_temp.accounts"),
    _hides("CREATE TABLE pg_temp", "CREATE TABLE pg_temp.accounts (id int, owner text)"),
    _hides(
        "SET LOCAL search_path to pg_temp",
        "BEGIN",
        "SET LOCAL search_path = pg_temp",
        "CREATE TABLE accounts (id int, owner text)",
        "COMMIT",
    ),
    _hides(
        "search_path with a schema that is not there",
        "SET search_path = nosuch, pg_temp",
        "CREATE TABLE accounts (id int, owner text)",
        "SET search_path = public",
    ),
    _hides(
        "search_path by set_config",
        "SELECT set_config('search_path', 'pg_temp', false)",
        "CREATE TABLE accounts (id int, owner text)",
        "RESET search_path",
    ),
    _hides(
        "search_path of the start-up packet",
        "CREATE TABLE accounts (id int, owner text)",
        options="-c search_path=pg_temp,public",
    ),
    _hides("a temporary view", "CREATE TEMP VIEW accounts AS SELECT 9 AS id, 'A'::text AS owner"),
    _hides(
        "a temporary view in DO", "DO $$BEGIN CREATE TEMP VIEW accounts AS SELECT 9 AS id, 'A'::text AS owner; END$$"
    ),
    _hides("a view of a temporary table", f"{_MAKE}", "CREATE VIEW made AS SELECT * FROM accounts"),
    way("a temporary sequence in DO", "DO $$BEGIN CREATE TEMP SEQUENCE numbers; PERFORM nextval('numbers'); END$$"),
    way(
        "a temporary function in DO",
        "DO $$BEGIN CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; END$$",
    ),
    way("a temporary type in DO", "DO $$BEGIN CREATE TYPE pg_temp.kind AS (a int); END$$"),
    way("DISCARD TEMP after DO", f"DO $$BEGIN {_MAKE}; END$$", "DISCARD TEMP"),
    way("ALTER TABLE of a temporary one in DO", f"DO $$BEGIN {_MAKE}; ALTER TABLE accounts RENAME TO tenants; END$$"),
    way("a held cursor", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", after=("FETCH 1 FROM c",)),
    way(
        "a held cursor in DO",
        "DO $$BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'; END$$",
        after=("FETCH 1 FROM c",),
    ),
    way(
        "a held cursor in a function",
        "SELECT run('DECLARE c CURSOR WITH HOLD FOR SELECT 1')",
        after=("FETCH 1 FROM c",),
    ),
    way("a cursor in a transaction", "DECLARE c CURSOR FOR SELECT 1"),
    way("nextval", "SELECT nextval('public.numbers')", after=("SELECT currval('public.numbers'), lastval()",)),
    way(
        "nextval in DO",
        "DO $$BEGIN PERFORM nextval('public.numbers'); END$$",
        after=("SELECT currval('public.numbers'), lastval()",),
    ),
    way("setval", "SELECT setval('public.numbers', 5)", after=("SELECT currval('public.numbers')",)),
    way("DISCARD SEQUENCES", "SELECT nextval('public.numbers')", "DISCARD SEQUENCES"),
    way("a large object", "SELECT lo_create(4711)", "SELECT lo_open(4711, 131072)", "SELECT loread(0, 1)"),
    way(
        "a permanent table in another schema",
        "CREATE SCHEMA other",
        "CREATE TABLE other.accounts (id int)",
        "SET search_path = other",
    ),
    way("a permanent table in DO", "DO $$BEGIN CREATE TABLE made (a int); END$$", "SELECT * FROM made"),
)
