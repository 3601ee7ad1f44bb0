"""Whatever a client sends, there is a plan: no text raises, hangs or ends the process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trimaran.databases.planner import plan
from trimaran.databases.planner.parse import DIRECT_BYTES, LARGEST_BYTES

EXPRESSIONS = st.recursive(
    st.sampled_from(
        ["1", "'a'", "$1", "a.b", "NULL", "now()", "nextval('s')", "current_user", "*", "''", "U&'\\0041'"]
    ),
    lambda inner: st.one_of(
        st.builds("({} + {})".format, inner, inner),
        st.builds("{}::text".format, inner),
        st.builds("f({}, {})".format, inner, inner),
        st.builds("CASE WHEN {} THEN {} END".format, inner, inner),
        st.builds("(SELECT {} FROM t WHERE {} FOR UPDATE)".format, inner, inner),
        st.builds("ARRAY[{}, {}]".format, inner, inner),
        st.builds("set_config({}, {}, false)".format, inner, inner),
        st.builds("{} IN ({}, {})".format, inner, inner, inner),
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["t", "s.t", "pg_stat_activity", '"T t"', "pg_temp.x", "a.b.c", "timezone", "all", "search_path"]
)
STATEMENTS = st.one_of(
    st.builds("SELECT {} FROM {} ORDER BY {}".format, EXPRESSIONS, NAMES, EXPRESSIONS),
    st.builds("WITH x AS (DELETE FROM {} RETURNING {}) SELECT {} FROM x".format, NAMES, EXPRESSIONS, EXPRESSIONS),
    st.builds("INSERT INTO {} VALUES ({}) ON CONFLICT DO NOTHING".format, NAMES, EXPRESSIONS),
    st.builds("EXPLAIN (ANALYZE {}) SELECT {}".format, EXPRESSIONS, EXPRESSIONS),
    st.builds("SET {} {} = {}".format, st.sampled_from(["", "LOCAL", "SESSION"]), NAMES, EXPRESSIONS),
    st.builds("{} {}".format, st.sampled_from(["RESET", "SHOW", "LISTEN", "DISCARD", "DEALLOCATE", "CLOSE"]), NAMES),
    st.builds("COPY ({}) TO STDOUT".format, st.builds("SELECT {}".format, EXPRESSIONS)),
    st.builds("CREATE TEMP {} {} AS SELECT {}".format, st.sampled_from(["TABLE", "VIEW"]), NAMES, EXPRESSIONS),
    st.builds("BEGIN {}".format, st.sampled_from(["", "READ ONLY", "ISOLATION LEVEL SERIALIZABLE", "NOT DEFERRABLE"])),
    st.builds("EXECUTE p({})".format, EXPRESSIONS),
    st.builds("CALL {}({})".format, NAMES, EXPRESSIONS),
    st.sampled_from(["COMMIT", "ROLLBACK TO a", "VACUUM", "DO 'x'", "LOAD 'x'", "", "/* trimaran: x */", "SELEC", "'"]),
)


@given(st.lists(STATEMENTS, max_size=4).map("; ".join))
def test_statements_of_every_kind_have_a_plan(text: str) -> None:
    made = plan(text)
    assert made == plan(text)
    assert json.loads(made.to_json())["access"] == made.access
    assert made.reason
    if made.access == "read":
        assert not made.pins
        assert "for update" not in text.lower()
        assert "nextval" not in text.replace("'nextval", "")


@given(st.text(max_size=200) | st.text(alphabet="selct '\"$;/*-()1,.E\\\n", max_size=200))
def test_any_characters_have_a_plan(text: str) -> None:
    made = plan(text)
    assert made.access == "write" or text.strip().lower().lstrip("( ").startswith(
        ("select", "table", "values", "show", "/*", "-")
    )


@given(st.lists(STATEMENTS, min_size=2, max_size=3))
@settings(max_examples=50)
def test_a_text_is_a_read_only_if_all_of_its_statements_are(texts: list[str]) -> None:
    if plan("; ".join(texts)).access == "read":
        assert all(
            plan(text).access == "read" or "COMMIT" in text or "ROLLBACK" in text or not plan(text).statements
            for text in texts
        )


LONG = "x" * LARGEST_BYTES
DEEP = {
    "operators": ("SELECT ", "1+", "1", ""),
    "casts": ("SELECT 1", "::int", "", ""),
    "parentheses": ("SELECT ", "(", "1", ")"),
    "subqueries": ("SELECT ", "(SELECT ", "1", ")"),
    "unions": ("SELECT 1", " UNION SELECT 1", "", ""),
    "conditions": ("SELECT ", "NOT ", "true", ""),
    "subscripts": ("SELECT a", "[1]", "", ""),
    "cases": ("SELECT ", "CASE WHEN true THEN ", "1", " END"),
}
SHAPE = """
import sys
from trimaran.databases.planner import plan
head, repeated, middle, tail = sys.argv[1:5]
for count in (5, 500, 3_000, 15_000, 300_000):
    made = plan(head + repeated * count + middle + tail * count)
    print(made.access, made.doubtful, made.pins, made.reason)
"""


@pytest.mark.parametrize("shape", DEEP)
def test_nesting_of_any_depth_has_a_plan(shape: str) -> None:
    # In a process of its own, because the defect this guards against ends the process.
    ran = subprocess.run(
        [sys.executable, "-c", SHAPE, *DEEP[shape]], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 5
    assert ran.stdout.splitlines()[0].startswith("read False")
    assert ran.stdout.splitlines()[-1].startswith("write True")


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("SELECT " + "1 + " * 1000 + "1", False),
        (f"INSERT INTO t VALUES ('{LONG}')", False),
        (f"/* a */ -- b\n (SELECT '{LONG};')", False),
        (f"INSERT INTO t VALUES ('{LONG}'); INSERT INTO u VALUES ('{LONG}')", False),
        (f"SELECT pg_advisory_lock(length('{LONG}'))", True),
        (f"SELECT '{LONG}' AS a INTO TEMP t", True),
        (f"DO '{LONG}'", True),
        (f"/* /* */ insert */ DO '{LONG}'", True),
        (f"INSERT INTO t VALUES ('{LONG}'); LISTEN a", True),
        ("LISTEN a; SELECT " + "1 + " * 1000 + "1", True),
        (f"INSERT INTO t VALUES ('{LONG}", True),
    ],
)
def test_what_was_not_parsed_keeps_its_connection_only_if_it_may_have_changed_it(text: str, pinned: bool) -> None:
    made = plan(text)
    assert (made.access, made.doubtful) == ("write", True)
    assert "cannot be analysed" in made.reason or text.startswith("LISTEN")
    assert bool(made.pins) == pinned


def test_the_parts_of_a_long_text_have_their_effects() -> None:
    made = plan(f"BEGIN; INSERT INTO t VALUES ('{LONG}'); SET a.b = 1; COMMIT")
    assert [effect.kind for effect in made.effects] == ["begin", "set", "commit"]
    assert (made.statements, made.pins) == (4, ())


def test_texts_up_to_the_limit_are_analysed() -> None:
    rows = ", ".join(f"({number}, 'a')" for number in range(DIRECT_BYTES // 4))
    made = plan(f"INSERT INTO t VALUES {rows}")
    assert len(rows) > DIRECT_BYTES
    assert (made.access, made.tables, made.doubtful) == ("write", ("t",), False)
    assert plan(f"SELECT * FROM t WHERE id IN ({', '.join(map(str, range(DIRECT_BYTES // 3)))})").access == "read"
