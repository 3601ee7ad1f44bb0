"""Random sequences of what sets and resets, for several sessions in turn."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st
from trimaran.databases.postgres.passwords import SUPERUSER

from tests.databases.gateway.settings_steps import READER, WRITER
from tests.databases.gateway.twins import Batch, Stage, Step, again, batch, first_row, only_bind, run

# Nothing is DEFERRABLE: such transactions wait for the others' serializable ones.
SETTINGS = {
    "work_mem": ("'5MB'", "6144", "'7MB'", "'much'"),
    "datestyle": ("'SQL, DMY'", "ISO", "German", "Postgres", "YMD", "European"),
    "timezone": ("'Asia/Tokyo'", "'PST8PDT'", "-7", "'Nowhere'"),
    "intervalstyle": ("iso_8601", "sql_standard"),
    "search_path": ("settings_a, public", "''", "'a, b'", '"A", pg_catalog'),
    "extra_float_digits": ("0", "-3", "99"),
    "bytea_output": ("escape", "'HEX'"),
    "enable_seqscan": ("off", "on", "of", "maybe"),
    "application_name": ("'one'", "'t''wo'"),
    "statement_timeout": ("'1h'", "'90min'"),
    "default_transaction_isolation": ("serializable", "'repeatable read'", "'read committed'"),
    "default_transaction_read_only": ("on", "off"),
    "client_encoding": ("LATIN1", "'utf8'"),
    "app.x": ("'1'", "two", "''"),
    "app.y": ("'1'", "3"),
    "nosuch": ("1",),
    "role": (READER, WRITER, "none", "nobody"),
}
ONLY_SUPERUSERS = {"session_replication_role": ("replica", "local"), "log_min_messages": ("error", "log")}
NAMES = sorted({*SETTINGS, *ONLY_SUPERUSERS} - {"app.x", "app.y", "nosuch", "role"})

STATE = f"""
    SELECT * FROM (VALUES
        ('current_user', current_user::text), ('session_user', session_user::text),
        ('role', current_setting('role')), ('app.x', current_setting('app.x', true)),
        ('app.y', current_setting('app.y', true)), ('app.crowd', current_setting('app.crowd', true)),
        ('transaction_isolation', current_setting('transaction_isolation')),
        ('transaction_read_only', current_setting('transaction_read_only'))) known
    UNION ALL SELECT name, setting || CASE WHEN source IN ('session', 'client') THEN ' (set)' ELSE '' END
        FROM pg_catalog.pg_settings WHERE lower(name) IN ({", ".join(map(repr, NAMES))})
    ORDER BY 1"""
"""All that a session can see of its settings, and whether it has set them, be it when it connected."""
LITERALS = "SELECT '02/03/04'::date, '2024-07-01 12:00'::timestamptz, '1 day 2 hours'::interval, 0.1::float8 + 0.2, '\\x00'::bytea"
"""What some of them do."""


def _statements(superuser: bool) -> st.SearchStrategy[str]:
    known = {**SETTINGS, **(ONLY_SUPERUSERS if superuser else {})}
    pairs = [(name, value) for name, values in known.items() for value in values]
    value = st.sampled_from(pairs)
    name = st.sampled_from(sorted(known))
    scope = st.sampled_from(["", "", "LOCAL ", "SESSION "])
    local = st.sampled_from(["false", "false", "true", "NULL"])
    who = [READER, WRITER, *(("app",) if superuser else ("NONE",))]
    roles = [f"SET ROLE {role}" for role in (*who, "NONE")] + [
        f"SET LOCAL ROLE {READER}",
        "RESET ROLE",
        "SET ROLE nobody",
    ]
    me = SUPERUSER if superuser else "app"
    authorizations = [f"SET SESSION AUTHORIZATION {name}" for name in ("app", READER, "DEFAULT", me)]
    authorizations += [f"SET LOCAL SESSION AUTHORIZATION {me}", f"SET LOCAL SESSION AUTHORIZATION {READER}"]
    modes = st.sampled_from(
        [
            "ISOLATION LEVEL SERIALIZABLE",
            "ISOLATION LEVEL REPEATABLE READ",
            "READ ONLY",
            "READ WRITE",
            "NOT DEFERRABLE",
            "ISOLATION LEVEL SERIALIZABLE, READ ONLY",
            "READ ONLY, ISOLATION LEVEL READ COMMITTED",
        ]
    )

    def unquoted(text: str) -> str:
        return text.strip("'").replace("''", "'").strip('"')

    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    def config(pair: tuple[str, str], how: str, kind: int) -> str:
        setting, given = quoted(pair[0]), quoted(unquoted(pair[1]))
        return (
            f"SELECT set_config({setting}, {given}, {how})",
            f"SELECT set_config({setting} || '', lower({given}), {how})",
            f"SELECT set_config({setting}, NULL, {how})",
            f"SELECT settings_now({setting}, {given}, {how})",
            f"DO $$BEGIN PERFORM set_config({setting}, {given}, {how}); END$$",
            f"DO $$BEGIN PERFORM set_config({setting}, {given}, {how}); PERFORM 1/0;"
            " EXCEPTION WHEN division_by_zero THEN NULL; END$$",
        )[kind]

    return st.one_of(
        st.builds(lambda s, p: f"SET {s}{p[0]} = {p[1]}", scope, value),
        st.builds(lambda s, p: f"SET {s}{p[0]} TO {p[1]}", scope, value),
        st.builds(lambda n: f"RESET {n}", name),
        st.builds(lambda s, n: f"SET {s}{n} TO DEFAULT", scope, name),
        st.builds(config, value, local, st.integers(0, 5)),
        st.builds(lambda n: f"SHOW {n}", name),
        st.sampled_from(["RESET ALL", "DISCARD ALL", "RESET ALL", "DEALLOCATE ALL", "DISCARD PLANS"]),
        st.sampled_from(roles),
        st.sampled_from(authorizations),
        st.builds(lambda kind, mode: kind + mode, st.sampled_from(["SET TRANSACTION ", "BEGIN "]), modes),
        st.builds(lambda mode: f"SET SESSION CHARACTERISTICS AS TRANSACTION {mode}", modes),
        st.sampled_from(["BEGIN", "BEGIN", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "COMMIT"]),
        st.builds(
            lambda verb, point: f"{verb} {point}",
            st.sampled_from(["SAVEPOINT", "SAVEPOINT", "ROLLBACK TO", "RELEASE"]),
            st.sampled_from("st"),
        ),
        st.sampled_from(["SELECT 1/0", "SELECT 1", "SELECT nothing", "SELEC 1", LITERALS]),
        st.sampled_from(
            [
                "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
                "SET TIME ZONE LOCAL",
                "SET NAMES 'LATIN1'",
                "SET NAMES DEFAULT",
            ]
        ),
    )


def _batches(statement: st.SearchStrategy[str]) -> st.SearchStrategy[Batch]:
    named = st.sampled_from(["s1", "s2"])
    given = st.sampled_from(
        [("work_mem", "8MB"), ("datestyle", "ISO"), ("app.x", "p"), ("role", READER), ("work_mem", "much")]
    )
    local = st.sampled_from(["t", "f", "f"])
    part = st.one_of(
        statement.map(run),
        statement.map(run),
        statement.map(only_bind),
        statement.map(first_row),
        st.builds(lambda sql, name: run(sql, name=name), statement, named),
        named.map(again),
        st.builds(lambda pair, how: run("SELECT set_config($1, $2, $3::bool)", *pair, how), given, local),
        st.builds(lambda pair, how: run("SELECT set_config($1, $2, $3::bool)", *pair, how, name="given"), given, local),
    )
    return st.lists(part, min_size=1, max_size=4).map(lambda parts: batch(*parts))


@dataclass(frozen=True)
class Sequence:
    """What each session starts with, and who says what in which order."""

    starts: tuple[dict[str, str], ...]
    steps: list[tuple[str, Step]] = field(default_factory=list)


def sequences(*, superuser: bool) -> st.SearchStrategy[Sequence]:
    statement = _statements(superuser)
    text = st.lists(statement, min_size=1, max_size=4).map("; ".join)
    step = st.one_of(statement, statement, statement, text, _batches(statement))
    start: st.SearchStrategy[dict[str, str]] = st.sampled_from(
        [
            {},
            {},
            {"options": "-c work_mem=6MB -c app.x=opt"},
            {"datestyle": "SQL, DMY", "TimeZone": "Asia/Tokyo"},
            {"options": f"-c role={READER}"},
            {"options": "-c default_transaction_isolation=serializable -c search_path=a"},
        ]
    )
    said = st.lists(st.tuples(st.sampled_from("ABC"), step), min_size=1, max_size=24)
    return st.builds(Sequence, st.tuples(start, start, st.just({})), said)


def _may_begin(step: Step) -> bool:
    text = step if isinstance(step, str) else " ".join(step.shown)
    return any(word in text for word in ("BEGIN", "CHAIN", "again", "bind s"))


def play(on: Stage, sequence: Sequence, seed: int) -> None:
    """All steps, what can be seen after each outside of transactions, and at the end everybody's state and a newcomer's.

    Only one session at a time is in a transaction: the others need the second server connection."""
    if seed:
        on.note(f"SETTINGS_SEED={seed}")
    for name, start in zip("ABC", sequence.starts, strict=True):
        on.open(name, **start)
    for name, step in sequence.steps:
        if _may_begin(step) and on.in_a_block(but=name):
            continue
        on.say(name, step)
        if on.status(name) == "I":
            on.say(name, STATE, "what is set")
    for name in "ABC":
        if on.status(name) in ("T", "E"):
            on.say(name, "ROLLBACK")
    on.open("D")
    for name in "ABCD":
        on.say(name, STATE, "what is set")
        on.say(name, LITERALS, "literals")
