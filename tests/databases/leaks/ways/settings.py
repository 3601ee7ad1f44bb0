"""Settings and roles: what a session changes by name, and what changes with them."""

from __future__ import annotations

from tests.databases.leaks.engine import Meanwhile, Step, Text, Way, way


def _by_code(name: str, value: str, login: str = "app") -> Way:
    return way(
        f"{name} in DO",
        f"DO $$BEGIN PERFORM set_config('{name}', '{value}', false); END$$",
        login=login,
        after=(f"SHOW {name}",),
    )


def _role(name: str, *steps: Step) -> Way:
    return way(name, *steps, after=("SELECT current_user, session_user",))


WAYS = (
    _by_code("default_transaction_read_only", "on"),
    _by_code("transaction_read_only", "on"),
    _by_code("default_transaction_isolation", "serializable"),
    _by_code("TimeZone", "Asia/Tokyo"),
    _by_code("DateStyle", "SQL, DMY"),
    _by_code("IntervalStyle", "iso_8601"),
    _by_code("client_encoding", "LATIN1"),
    _by_code("statement_timeout", "55s"),
    _by_code("lock_timeout", "55s"),
    _by_code("transaction_timeout", "55s"),
    _by_code("idle_in_transaction_session_timeout", "55s"),
    _by_code("row_security", "off"),
    _by_code("search_path", "pg_catalog"),
    way("an empty search_path in DO", "DO $$BEGIN PERFORM set_config('search_path', '', false); END$$"),
    _by_code("application_name", "somebody"),
    _by_code("role", "leak_reader"),
    _by_code("session_authorization", "app", login="superuser"),
    _by_code("session_replication_role", "replica", login="superuser"),
    _by_code("log_min_duration_statement", "55s", login="superuser"),
    _by_code("bytea_output", "escape"),
    _by_code("standard_conforming_strings", "off"),
    _by_code("temp_buffers", "4MB"),
    _by_code("plpgsql.extra_warnings", "all"),
    way("a custom setting", "SET app.tenant = 'A'"),
    way("a custom setting that is reset", "SET app.tenant = 'A'", "RESET app.tenant"),
    way("a custom setting of one transaction", "SET LOCAL app.local = 'A'"),
    way("RESET of an unknown custom setting", "RESET app.local"),
    way("RESET ALL after code", "SELECT change()", "RESET ALL"),
    way("DISCARD ALL after code", "SELECT change()", "DISCARD ALL"),
    way("SET SESSION CHARACTERISTICS", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
    way("SET SESSION CHARACTERISTICS in DO", "DO $$BEGIN SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; END$$"),
    way(
        "DateStyle by parts",
        "SET datestyle = 'SQL, DMY'",
        "SET datestyle = 'ISO'",
        after=("SELECT '01/02/2024'::date::text",),
    ),
    way("setseed", "SELECT setseed(0.5)", after=("SELECT random() = random()",)),
    way(
        "LOAD in DO",
        "DO $$BEGIN LOAD 'auto_explain'; SET auto_explain.log_min_duration = '55s'; END$$",
        login="superuser",
    ),
    way("a text that commits and fails", Text("BEGIN; SELECT change(); COMMIT; SELECT 1/0")),
    way("a text of code that fails", Text("SELECT change(); SELECT 1/0")),
    way("settings of the start-up packet", "SELECT 1", options="-c work_mem=7MB -c app.tenant=A"),
    way("RESET of the start-up packet's", "SELECT change()", "RESET ALL", options="-c work_mem=9MB -c app.tenant=B"),
    _role("SET ROLE", "SET ROLE leak_reader"),
    _role("SET ROLE in DO", "DO $$BEGIN SET ROLE leak_reader; END$$"),
    _role("SET LOCAL ROLE in DO", "DO $$BEGIN SET LOCAL ROLE leak_reader; END$$"),
    _role("SET ROLE and RESET ALL", "SET ROLE leak_reader", "RESET ALL"),
    _role("SET ROLE and RESET ALL in DO", "SET ROLE leak_reader", "DO $$BEGIN RESET ALL; END$$"),
    _role("RESET ROLE in DO", "SET ROLE leak_reader", "DO $$BEGIN RESET ROLE; END$$"),
    _role("a role that is dropped meanwhile", "SET ROLE leak_gone", Meanwhile("DROP ROLE leak_gone"), "SELECT 1"),
    way("a role of the start-up packet", "SELECT 1", options="-c role=leak_reader"),
    way("SET ROLE NONE over the start-up packet's", "SET ROLE NONE", options="-c role=leak_reader"),
    way("SET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION app", login="superuser"),
    way("SET SESSION AUTHORIZATION in DO", "DO $$BEGIN SET SESSION AUTHORIZATION app; END$$", login="superuser"),
    way(
        "a superuser's setting under a role",
        "SET session_replication_role = replica",
        "SET ROLE app",
        login="superuser",
    ),
    way("ALTER ROLE", "ALTER ROLE app SET work_mem = '6MB'"),
    way("ALTER DATABASE", "ALTER DATABASE app SET work_mem = '6MB'"),
    way("SET TRANSACTION", "SET TRANSACTION READ ONLY"),
)
