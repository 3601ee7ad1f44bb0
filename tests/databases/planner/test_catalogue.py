"""What a statement is known to reach in a real catalogue: everything that may change its session, and nothing more."""

from __future__ import annotations

import json

import pytest
from trimaran.databases.catalogue import Catalogue
from trimaran.databases.planner import plan

CLEAN_READS = [
    "SELECT 1",
    "SELECT * FROM customer WHERE total > 1 ORDER BY name",
    "SELECT count(*), max(made) FROM customer JOIN orders ON orders.customer = customer.id GROUP BY lower(name)",
    "WITH c AS (SELECT * FROM customer) SELECT * FROM c",
    "SELECT * FROM customer_names",
    "SELECT * FROM customer_totals",
    "SELECT * FROM evil_totals",
    "SELECT double(2), total_of(1)",
    "SELECT * FROM names()",
    "SELECT names_volatile()",
    "SELECT count_them(), count_them(1)",
    "SELECT atomic_read(1)",
    "SELECT c.full_name FROM customer c",
    "SELECT even(4)",
    "SELECT with_settings()",
    "SELECT tenant()",
    "SELECT * FROM with_policy",
    "SELECT * FROM with_trigger, with_default, with_check, with_rule, parted, referenced, with_index",
    "SELECT 1::positive, gen_random_uuid(), random(), clock_timestamp(), pg_sleep(0)",
    "SELECT * FROM pg_class, information_schema.tables",
    "SELECT * FROM app.plain",
    "EXPLAIN ANALYZE SELECT * FROM customer_names",
    "COPY customer TO STDOUT",
    "SHOW timezone",
    "BEGIN READ ONLY; SELECT * FROM customer; COMMIT",
]

CLEAN_WRITES = [
    "INSERT INTO customer (name) VALUES ('a') RETURNING id",
    "INSERT INTO customer (name) VALUES ('a') ON CONFLICT (id) DO UPDATE SET name = excluded.name",
    "UPDATE customer SET name = upper(name), total = total + 1 WHERE id = 1",
    "DELETE FROM customer WHERE id = 1",
    "INSERT INTO orders (customer, note) VALUES (1, 'n')",
    "UPDATE orders SET note = 'x'",
    "MERGE INTO orders o USING customer c ON o.customer = c.id WHEN MATCHED THEN UPDATE SET note = c.name",
    "COPY customer (name) FROM STDIN",
    "TRUNCATE orders",
    "INSERT INTO with_positive VALUES (1)",
    "SELECT save_order(1)",
    "SELECT nextval('counter')",
    "CALL clean_call()",
    "DO $$ BEGIN UPDATE customer SET name = 'x'; END $$",
    "SELECT lock_rows()",
    "SELECT * FROM locking_view",
    "SELECT lock_briefly(1)",
    "SELECT do_notify()",
    "SELECT set_zone_local()",
    "SELECT * FROM customer FOR UPDATE",
    "REFRESH MATERIALIZED VIEW customer_totals",
    "CREATE TABLE other (a int)",
    "CREATE INDEX ON customer (name)",
    "ALTER TABLE customer ADD more int",
    "DROP TABLE orders",
    "DELETE FROM kept",
    "INSERT INTO app.plain VALUES (1)",
    "LOCK TABLE customer",
    "SET timezone = 'UTC'",
    "BEGIN",
    "COMMIT",
    "SAVEPOINT a",
    "SELECT set_config('app.tenant', 'A', false)",
]

TENANT = ("app.tenant",)
SETTINGS: dict[str, tuple[str, ...]] = {
    "SELECT set_tenant('A')": TENANT,
    "SELECT public.set_tenant('A')": TENANT,
    "SELECT \"set_tenant\"('A')": TENANT,
    "SELECT set_tenant_lying('A')": TENANT,
    "SELECT set_tenant_body('A')": TENANT,
    "SELECT set_tenant_atomic('A')": ("app.atomic",),
    "SELECT set_zone()": (),
    "SELECT set_custom()": ("app.made",),
    "SELECT set_zone_sql()": (),
    "SELECT reset_all()": (),
    "SELECT app.hidden()": ("app.hidden",),
    "SELECT hidden()": ("app.hidden",),
    "SELECT defaulted()": TENANT,
    "SELECT evil_sum(1)": TENANT,
    "SELECT evil_sum(1) OVER ()": TENANT,
    "SELECT o.row_tenant FROM orders o": TENANT,
    "SELECT (o).row_tenant FROM orders o": TENANT,
    "SELECT * FROM set_tenant('A')": TENANT,
    "SELECT * FROM customer, LATERAL set_tenant(name) t": TENANT,
    "SELECT * FROM ROWS FROM (set_tenant('a'), generate_series(1, 2)) r": TENANT,
    "VALUES (set_tenant('A'))": TENANT,
    "WITH t AS MATERIALIZED (SELECT set_tenant('A')) SELECT 1 FROM t": TENANT,
    "SELECT 1 FROM customer ORDER BY set_tenant(name)": TENANT,
    "SELECT 1 LIMIT length(set_tenant('abc'))": TENANT,
    "SELECT 1 FROM customer WHERE set_tenant(name) = 'x'": TENANT,
    "SELECT * FROM evil_view": TENANT,
    "SELECT * FROM view_of_view": TENANT,
    "SELECT * FROM with_evil_policy": TENANT,
    "INSERT INTO with_trigger VALUES (1)": TENANT,
    "INSERT INTO updatable VALUES (1)": TENANT,
    "INSERT INTO instead VALUES (1)": TENANT,
    "INSERT INTO with_default (a) VALUES (1)": TENANT,
    "INSERT INTO with_check VALUES (1)": TENANT,
    "INSERT INTO with_rule VALUES (1)": TENANT,
    "INSERT INTO with_index VALUES (1)": TENANT,
    "INSERT INTO with_generated (a) VALUES (1)": TENANT,
    "INSERT INTO parted VALUES (1)": TENANT,
    "INSERT INTO with_domain VALUES ('a')": TENANT,
    "INSERT INTO with_pair VALUES ('a'::text)": TENANT,
    "DELETE FROM referenced": TENANT,
    "TRUNCATE kept CASCADE": TENANT,
    "WITH i AS (INSERT INTO with_trigger VALUES (1) RETURNING a) SELECT * FROM i": TENANT,
    "INSERT INTO customer (name) VALUES ('a') RETURNING set_tenant(name)": TENANT,
    "UPDATE customer SET name = set_tenant(name)": TENANT,
    "COPY with_trigger FROM STDIN": TENANT,
    "COPY (SELECT set_tenant('a')) TO STDOUT": TENANT,
    "SELECT 'a'::good": TENANT,
    "SELECT CAST('a' AS good)": TENANT,
    "SELECT good('a')": TENANT,
    "SELECT c +@ 1 FROM customer c": TENANT,
    "SELECT c OPERATOR(public.+@) 1 FROM customer c": TENANT,
    "SELECT 'a'::text::pair": TENANT,
    "EXPLAIN ANALYZE SELECT set_tenant('a')": TENANT,
    "CREATE TABLE t AS SELECT set_tenant('a')": TENANT,
    "SELECT set_tenant('a') INTO t": TENANT,
    "REFRESH MATERIALIZED VIEW evil_totals": TENANT,
    "CREATE INDEX ON customer (index_it(id::int))": TENANT,
    "REINDEX TABLE with_index": TENANT,
    "DECLARE c CURSOR FOR SELECT set_tenant('a')": TENANT,
    "CALL set_by_call()": TENANT,
    "DO $$ BEGIN PERFORM set_config('app.done', 'A', false); END $$": ("app.done",),
    "DO $$ BEGIN PERFORM pg_catalog.set_config('app.done', 'A', false); END $$": ("app.done",),
    "DO $$ BEGIN PERFORM \"set_config\"('app.done', 'A', false); END $$": ("app.done",),
    "DO $$ BEGIN SET SESSION app.done TO 'x'; END $$": ("app.done",),
    "DO $$ DECLARE x text := set_tenant('a'); BEGIN END $$": TENANT,
    "DO $$ <<l>> BEGIN IF true THEN SET app.done = 'x'; END IF; END $$": ("app.done",),
    "DO $$ BEGIN NULL; EXCEPTION WHEN OTHERS THEN SET LOCAL app.done = 'x'; END $$": ("app.done",),
    "DO 'BEGIN PERFORM set_tenant(''A''); END'": TENANT,
    "DO $$ BEGIN SET TimeZone = 'Asia/Tokyo'; END $$": (),
    "DO $$ BEGIN PERFORM set_config('default_transaction_read_only', 'on', false); END $$": (),
    "SELECT set_config('app.row', name, true) FROM customer": ("app.row",),
    "ALTER TABLE customer ADD t text DEFAULT set_tenant('a')": TENANT,
    "ALTER TABLE customer ADD CHECK (is_good(name))": TENANT,
    "MERGE INTO with_trigger w USING customer c ON w.a = c.id WHEN NOT MATCHED THEN INSERT VALUES (1)": TENANT,
}

OPAQUE = [
    "SELECT run('SELECT 1')",
    "SELECT count_of('customer')",
    "SELECT as_xml('SELECT 1')",
    "SELECT query_to_xml('SELECT 1', true, true, '')",
    "SELECT table_to_xml('evil_view', true, true, '')",
    "SELECT ts_stat('SELECT 1')",
    "SELECT hold_cursor()",
    "SELECT set_by_text('a')",
    "SELECT set_name_by_text('a')",
    "EXECUTE stolen",
    "DO $$ BEGIN EXECUTE 'SELECT 1'; END $$",
    "SELECT new_function(1)",
    "SELECT * FROM new_table",
    "INSERT INTO new_table VALUES (1)",
    "CREATE EXTENSION hstore",
]

STATE = [
    "SELECT try_lock(77)",
    "SELECT try_lock_body(77)",
    "SELECT * FROM lock_view",
    "SELECT pg_try_advisory_lock(1)",
    "SELECT make_temp()",
    "SELECT make_temp_sql()",
    "SELECT make_table()",
    "SELECT do_listen()",
    "SELECT do_prepare()",
    "SELECT do_deallocate()",
    "DO $$ BEGIN PERFORM pg_advisory_lock(1); END $$",
    "DO $$ BEGIN CREATE TEMP TABLE accounts (a int); END $$",
    "DO $$ BEGIN LISTEN secrets; END $$",
    "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
    "CREATE TABLE pg_temp.t (a int)",
    "SET search_path = pg_temp; CREATE TABLE t (a int)",
    "BEGIN; SET LOCAL search_path = pg_temp; CREATE TABLE t (a int); COMMIT",
    "SET search_path = nosuch, pg_temp; CREATE VIEW v AS SELECT 1",
    "SELECT set_config('search_path', 'pg_temp', true); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SET search_path = nosuch, pg_temp; SELECT 1 AS a INTO t",
    "SET search_path = nosuch, pg_temp; CREATE TYPE pair2 AS (x int)",
    "SET search_path = nosuch, pg_temp; CREATE SEQUENCE s",
]


@pytest.mark.parametrize("text", CLEAN_READS)
def test_what_only_reads_is_a_read_and_leaves_nothing(catalogue: Catalogue, text: str) -> None:
    made = plan(text, catalogue)
    assert (made.access, made.audit, made.custom) == ("read", "none", ()), made
    assert not (made.may_write)
    assert not (made.may_define)
    assert not (made.unknown_settings)
    assert not (made.temp)


@pytest.mark.parametrize("text", CLEAN_WRITES)
def test_writes_to_ordinary_tables_leave_nothing(catalogue: Catalogue, text: str) -> None:
    made = plan(text, catalogue)
    assert (made.access, made.audit, made.custom) == ("write", "none", ()), made
    assert not (made.may_write)
    assert not (made.may_define)
    assert not (made.unknown_settings)
    assert not (made.temp)


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_made_by_code_are_named(catalogue: Catalogue, text: str) -> None:
    made = plan(text, catalogue)
    assert (made.access, made.audit, made.custom) == ("write", "settings", SETTINGS[text]), made
    assert not made.unknown_settings


@pytest.mark.parametrize("text", OPAQUE)
def test_code_that_is_not_known_may_do_anything(catalogue: Catalogue, text: str) -> None:
    made = plan(text, catalogue)
    assert (made.access, made.audit, made.reads_custom) == ("write", "settings", None), made
    assert {"app.tenant", "app.policy", "app.default", "app.made", "app.textual", "app.atomic"} <= set(made.custom)


@pytest.mark.parametrize("text", STATE)
def test_state_that_code_leaves_is_looked_for(catalogue: Catalogue, text: str) -> None:
    made = plan(text, catalogue)
    assert (made.access, made.audit, made.custom) == ("write", "state", ()), made


@pytest.mark.parametrize("text", ["SELECT new_function()", "SELECT * FROM new_table", "INSERT INTO new_table VALUES (1)"])
def test_what_names_something_new_is_planned_again_soon(catalogue: Catalogue, text: str) -> None:
    assert plan(text, catalogue).provisional
    assert not plan("SELECT 1", catalogue).provisional


@pytest.mark.parametrize(
    ("text", "unknown"),
    {
        "SELECT set_any('a.b', 'c')": True,
        "SELECT run('SET a.b = 1')": True,
        "SELECT set_name_by_text('a.b')": True,
        "DO $$ BEGIN EXECUTE 'SET ' || 'a.b = 1'; END $$": True,
        "SELECT set_config('a' || '.b', 'c', true)": True,
        "SELECT new_function()": False,
        "SELECT count_of('customer')": False,
        "SELECT set_by_text('a')": False,
        "SELECT set_tenant('a')": False,
    }.items(),
)
def test_settings_whose_name_is_computed_are_said_to_be(catalogue: Catalogue, text: str, unknown: bool) -> None:
    made = plan(text, catalogue)
    assert (made.audit, made.unknown_settings) == ("settings", unknown), made


@pytest.mark.parametrize(
    ("text", "reads"),
    {
        "SELECT * FROM with_policy": ("app.policy",),
        "UPDATE with_policy SET a = 1": ("app.policy",),
        "INSERT INTO reads_setting DEFAULT VALUES": ("app.default",),
        "SELECT tenant()": ("app.tenant",),
        "SELECT current_setting('App.Text', true)": ("app.text",),
        "SHOW app.shown": ("app.shown",),
        "SELECT current_setting(name) FROM customer": None,
        "SELECT run('SELECT 1')": None,
        "SELECT * FROM customer": (),
        "SELECT current_setting('timezone')": (),
    }.items(),
)
def test_custom_settings_that_are_read_are_named(
    catalogue: Catalogue, text: str, reads: tuple[str, ...] | None
) -> None:
    assert plan(text, catalogue).reads_custom == reads


@pytest.mark.parametrize(
    ("text", "defines"),
    {
        "SELECT make_table()": True,
        "SELECT alter_table()": True,
        "SELECT make_temp_sql()": True,
        "SELECT run('x')": True,
        "SELECT count_of('x')": True,
        "DO $$ BEGIN ALTER TABLE customer ADD more int; END $$": True,
        "DO $$ BEGIN UPDATE customer SET name = 'drop'; END $$": False,
        "CALL clean_call()": False,
        "SELECT set_tenant('x')": False,
        "INSERT INTO customer (name) VALUES ('x')": False,
    }.items(),
)
def test_definitions_that_the_text_does_not_show(catalogue: Catalogue, text: str, defines: bool) -> None:
    assert plan(text, catalogue).may_define is defines


@pytest.mark.parametrize(
    ("text", "temp"),
    {
        "CREATE TEMP TABLE t (a int)": True,
        "CREATE TEMP TABLE t (a int) ON COMMIT DROP": True,
        "SELECT 1 AS a INTO TEMP t": True,
        "CREATE TEMP VIEW v AS SELECT 1": True,
        "SELECT * FROM pg_temp.t": True,
        "SET search_path = nosuch, pg_temp": True,
        'SET LOCAL search_path TO "pg_temp", public': True,
        "SET search_path = 'pg_temp_3'": True,
        "SELECT set_config('search_path', 'pg_temp, public', false)": True,
        "SELECT make_temp()": True,
        "SET search_path = app, public": False,
        "RESET search_path": False,
        "SELECT * FROM customer": False,
    }.items(),
)
def test_the_use_of_temporary_objects_is_said(catalogue: Catalogue, text: str, temp: bool) -> None:
    assert plan(text, catalogue).temp is temp


def test_every_definition_runs_event_triggers(catalogue_with_event_trigger: Catalogue) -> None:
    for text in (
        "CREATE TABLE other (a int)",
        "ALTER TABLE customer ADD more int",
        "SELECT make_table()",
        "SELECT 1 INTO t",
    ):
        made = plan(text, catalogue_with_event_trigger)
        assert (made.audit, made.custom) == ("settings", ("app.ddl",)), text
    assert plan("INSERT INTO customer (name) VALUES ('a')", catalogue_with_event_trigger).audit == "none"


def test_the_reason_names_the_path(catalogue: Catalogue) -> None:
    assert plan("SELECT * FROM view_of_view", catalogue).reason == (
        "reads view view_of_view, which reads view evil_view, which calls set_tenant(), which sets app.tenant"
    )


@pytest.mark.parametrize(
    ("table", "audit"),
    {"customer": "none", "orders": "none", "with_trigger": "settings", "with_rule": "settings"}.items(),
)
def test_a_statement_that_is_too_long_to_be_parsed_is_followed_by_its_words(
    catalogue: Catalogue, table: str, audit: str
) -> None:
    rows = ", ".join(f"('value {number}')" for number in range(4000))
    made = plan(f"INSERT INTO {table} (note) VALUES {rows}", catalogue)
    assert (made.doubtful, made.access, made.audit) == (True, "write", audit)


@pytest.mark.parametrize(
    ("text", "audit"),
    {
        "SELECT 1": "none",
        "SELECT lower(name) FROM pg_class": "none",
        "BEGIN": "none",
        "SELECT pg_advisory_lock(1)": "state",
        "SELECT * FROM customer": "settings",
        "INSERT INTO customer DEFAULT VALUES": "settings",
        "SELECT set_tenant('a')": "settings",
        "DO $$ BEGIN END $$": "settings",
        "CALL p()": "settings",
    }.items(),
)
def test_without_a_catalogue_everything_of_users_may_do_anything(text: str, audit: str) -> None:
    made = plan(text)
    assert made.audit == audit
    assert (made.reads_custom is None) is (audit == "settings")


def test_a_plan_with_a_catalogue_is_one_line_of_json(catalogue: Catalogue) -> None:
    made = json.loads(plan("SELECT set_tenant('A')", catalogue).to_json())
    assert made["audit"] == "settings"
    assert made["custom"] == ["app.tenant"]
    assert made["provisional"] is False
