"""Locks, channels, prepared statements and transactions, and clients that end in the middle."""

from __future__ import annotations

from tests.databases.gateway import raw
from tests.databases.leaks.engine import Send, Text, Vanish, call, way

_COUNT = ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",)

WAYS = (
    way("an advisory lock", "SELECT pg_advisory_lock(77)", after=_COUNT),
    way("an advisory lock, tried", "SELECT pg_try_advisory_lock(77)", after=_COUNT),
    way("an advisory lock, shared", "SELECT pg_advisory_lock_shared(78)", after=_COUNT),
    way("an advisory lock of two numbers", "SELECT pg_advisory_lock(0, 77)", after=_COUNT),
    way("an advisory lock in DO", "DO $$BEGIN PERFORM pg_advisory_lock(77); END$$", after=_COUNT),
    way("an advisory lock in a function in SQL", "SELECT try_lock(77)", after=_COUNT),
    way("an advisory lock in a plpgsql function", "SELECT try_lock_plain(77)", after=_COUNT),
    way("an advisory lock by a computed name", "SELECT run('SELECT pg_advisory' || '_lock(77)')", after=_COUNT),
    way("an advisory lock, released", "SELECT try_lock(77)", "SELECT pg_advisory_unlock(77)", after=_COUNT),
    way(
        "an advisory lock, all released in DO",
        "SELECT pg_advisory_lock(77)",
        "DO $$BEGIN PERFORM pg_advisory_unlock_all(); END$$",
    ),
    way(
        "an advisory lock of one transaction in DO", "DO $$BEGIN PERFORM pg_advisory_xact_lock(77); END$$", after=_COUNT
    ),
    way("FunctionCall of pg_try_advisory_lock", call(2882, "77"), after=_COUNT),
    way("FunctionCall of pg_advisory_lock", call(2880, "77"), after=_COUNT),
    way("a lock and an error in one text", Text("SELECT try_lock(77); SELECT 1/0"), after=_COUNT),
    way("LISTEN", "LISTEN news", "NOTIFY news, 'x'"),
    way("LISTEN in DO", "DO $$BEGIN LISTEN news; END$$", "NOTIFY news, 'x'"),
    way("LISTEN in a function", "SELECT run('LISTEN news')", "SELECT pg_notify('news', 'x')"),
    way("UNLISTEN in DO", "LISTEN news", "DO $$BEGIN UNLISTEN *; END$$", "NOTIFY news, 'x'"),
    way("PREPARE", "PREPARE theirs AS SELECT 'A'", after=("EXECUTE theirs",)),
    way("PREPARE in DO", "DO $$BEGIN EXECUTE 'PREPARE theirs AS SELECT ''A'''; END$$", after=("EXECUTE theirs",)),
    way("PREPARE in a function", "SELECT run('PREPARE theirs AS SELECT 1')", after=("EXECUTE theirs",)),
    way("DEALLOCATE ALL", "DEALLOCATE ALL"),
    way("DEALLOCATE ALL in DO", "DO $$BEGIN EXECUTE 'DEALLOCATE ALL'; END$$"),
    way("DEALLOCATE ALL in a function", "SELECT run('DEALLOCATE ALL')"),
    *(way(f'DEALLOCATE "_trimaran_{n}"', f'DEALLOCATE "_trimaran_{n}"') for n in range(3)),
    way(
        "DEALLOCATE of the gateway's names in DO",
        "DO $$DECLARE n text; BEGIN FOR n IN SELECT name FROM pg_prepared_statements WHERE name LIKE '%trimaran%' LOOP"
        " EXECUTE format('DEALLOCATE %I', n); END LOOP; END$$",
    ),
    way(
        "other statements under the gateway's names in DO",
        "DO $$DECLARE n text; BEGIN FOR n IN SELECT name FROM pg_prepared_statements WHERE name LIKE '%trimaran%' LOOP"
        " EXECUTE format('DEALLOCATE %I', n); EXECUTE format('PREPARE %I AS SELECT ''theirs'', 666::bigint', n);"
        " END LOOP; END$$",
    ),
    way(
        "new statements under the gateway's names in DO",
        "DO $$BEGIN FOR i IN 0..300 LOOP BEGIN EXECUTE format('PREPARE %I AS SELECT 666', '_trimaran_' || i);"
        " EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END$$",
        "DEALLOCATE ALL",
    ),
    way("PREPARE under a name of the gateway", 'PREPARE "_trimaran_9" AS SELECT 666'),
    way("Parse under a name of the gateway", Send(raw.parse("_trimaran_9", "SELECT 666") + raw.SYNC)),
    way("DISCARD ALL", "SET app.tenant = 'A'", "DISCARD ALL"),
    way("DISCARD PLANS", "SELECT change()", "DISCARD PLANS"),
    way("a client that vanishes", "SELECT change()", Vanish()),
    way(
        "a client that vanishes in a transaction",
        "BEGIN",
        "SELECT change()",
        "INSERT INTO accounts VALUES (3, 'A')",
        Vanish(),
    ),
    way("a client that vanishes after a lock", "SELECT try_lock(77)", Vanish()),
    way(
        "a client that vanishes in a batch",
        Send(raw.parse("", "SELECT change()") + raw.bind("", "") + raw.execute() + raw.FLUSH, 0),
        Vanish(),
    ),
    way(
        "a client that vanishes in COPY",
        Send(raw.query("COPY before_row FROM STDIN") + raw.message(b"d", b"1\n"), 0),
        Vanish(),
    ),
    way(
        "a batch that fails",
        Send(
            raw.parse("", "SELECT change()")
            + raw.bind("", "")
            + raw.execute()
            + raw.parse("", "SELECT 1/0")
            + raw.bind("", "")
            + raw.execute()
            + raw.SYNC
        ),
    ),
    way("an aborted transaction", "BEGIN", "SELECT change_then_fail()", "SELECT 1"),
    way("an open transaction", "BEGIN", "SELECT change()"),
    way("COMMIT AND CHAIN", "BEGIN", "SELECT change()", "COMMIT AND CHAIN", "SET LOCAL app.local = 'A'"),
    way(
        "a timeout within code",
        "SET statement_timeout = '500ms'",
        "DO $$BEGIN PERFORM set_config('app.tenant', 'A', false); COMMIT; PERFORM pg_sleep(9); END$$",
    ),
    way("PREPARE TRANSACTION", "BEGIN", "SELECT change()", "PREPARE TRANSACTION 'x'", "ROLLBACK"),
    way("LOCK", "BEGIN", "LOCK accounts IN SHARE MODE", "ROLLBACK"),
)
