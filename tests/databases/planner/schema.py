"""Objects of a database through which statements can run code that their text does not show."""

from __future__ import annotations

SCHEMA = r"""
CREATE SCHEMA app;
-- Ordinary tables, as an app has them.
CREATE TABLE customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL DEFAULT 'x',
  token uuid DEFAULT gen_random_uuid(), made timestamptz DEFAULT now(), total numeric CHECK (total >= 0),
  lower_name text GENERATED ALWAYS AS (lower(name)) STORED);
CREATE INDEX ON customer (lower(name)) WHERE total > 0;
CREATE TABLE orders (id serial PRIMARY KEY, customer bigint REFERENCES customer ON DELETE CASCADE, note text,
  updated_at timestamptz, words tsvector);
CREATE TABLE audit_log (at timestamptz DEFAULT now(), who text DEFAULT current_user, operation text, old jsonb, new jsonb);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER words BEFORE INSERT OR UPDATE ON orders FOR EACH ROW
  EXECUTE FUNCTION tsvector_update_trigger(words, 'pg_catalog.english', note);
CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    INSERT INTO audit_log (operation, old) VALUES (TG_OP, to_jsonb(OLD));
    RETURN OLD;
  ELSIF TG_OP = 'UPDATE' THEN
    INSERT INTO audit_log (operation, old, new) VALUES (TG_OP, to_jsonb(OLD), to_jsonb(NEW));
  ELSE
    INSERT INTO audit_log (operation, new) VALUES (TG_OP, row_to_json(NEW)::jsonb);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER log_change AFTER INSERT OR UPDATE OR DELETE ON customer FOR EACH ROW EXECUTE FUNCTION log_change();
CREATE VIEW customer_names AS SELECT id, name FROM customer WHERE total > 0;
CREATE MATERIALIZED VIEW customer_totals AS SELECT count(*) FROM customer;
-- Functions that only compute or look.
CREATE FUNCTION double(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i * 2';
CREATE FUNCTION names() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT name FROM customer';
CREATE FUNCTION names_volatile() RETURNS SETOF text LANGUAGE sql AS 'SELECT name FROM customer ORDER BY 1';
CREATE FUNCTION count_them(lowest numeric DEFAULT 0) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE found bigint := 0; r record;
BEGIN
  -- SET nothing, EXECUTE nothing
  FOR r IN SELECT * FROM customer WHERE total >= lowest LOOP found := found + 1; END LOOP;
  IF found > 10 THEN RAISE NOTICE 'SET or EXECUTE or set_config(''a'')'; END IF;
  RETURN found;
END $$;
CREATE FUNCTION atomic_read(i int) RETURNS int LANGUAGE sql STABLE RETURN i + (SELECT count(*)::int FROM customer);
CREATE AGGREGATE total_of (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE FUNCTION full_name(c customer) RETURNS text LANGUAGE sql STABLE AS 'SELECT c.name || c.id';
-- Functions that change the session.
CREATE FUNCTION set_tenant(t text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', t, false) $$;
CREATE FUNCTION set_tenant_lying(t text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT set_tenant(t) $$;
CREATE FUNCTION set_tenant_body(t text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM set_config('app.tenant', t, false); END $$;
CREATE FUNCTION set_tenant_atomic(t text) RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT set_config('app.atomic', t, false); END;
CREATE FUNCTION set_any(n text, v text) RETURNS text LANGUAGE sql AS $$ SELECT set_config(n, v, false) $$;
CREATE FUNCTION set_zone() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET TimeZone = 'Asia/Tokyo'; END $$;
CREATE FUNCTION set_zone_local() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET LOCAL TimeZone = 'Asia/Tokyo'; END $$;
CREATE FUNCTION set_custom() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET app.made = 'Asia/Tokyo'; END $$;
CREATE FUNCTION set_zone_sql() RETURNS void LANGUAGE sql AS $$ SET TimeZone = 'Asia/Tokyo' $$;
CREATE FUNCTION reset_all() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RESET ALL; END $$;
CREATE FUNCTION with_settings() RETURNS text LANGUAGE sql SET TimeZone = 'Asia/Tokyo' AS 'SELECT now()::text';
CREATE FUNCTION try_lock(k bigint) RETURNS boolean LANGUAGE sql AS 'SELECT pg_try_advisory_lock(k)';
CREATE FUNCTION try_lock_body(k bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE got boolean; BEGIN got := pg_catalog.pg_try_advisory_lock(k); RETURN got; END $$;
CREATE FUNCTION lock_briefly(k bigint) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(k)';
CREATE FUNCTION make_temp() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE IF NOT EXISTS accounts (a int); END $$;
CREATE FUNCTION make_temp_sql() RETURNS void LANGUAGE sql AS 'CREATE TEMPORARY TABLE IF NOT EXISTS accounts (a int)';
CREATE FUNCTION make_table() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE IF NOT EXISTS made (a int); END $$;
CREATE FUNCTION alter_table() RETURNS void LANGUAGE plpgsql AS $$ BEGIN ALTER TABLE orders ADD IF NOT EXISTS more int; END $$;
CREATE FUNCTION do_listen() RETURNS void LANGUAGE plpgsql AS $$ BEGIN LISTEN secrets; END $$;
CREATE FUNCTION do_notify() RETURNS void LANGUAGE plpgsql AS $$ BEGIN NOTIFY secrets; END $$;
CREATE FUNCTION do_prepare() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PREPARE stolen AS SELECT 1; END $$;
CREATE FUNCTION do_deallocate() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DEALLOCATE ALL; END $$;
CREATE FUNCTION hold_cursor() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT 1'; END $$;
CREATE FUNCTION run(q text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE q; END $$;
CREATE FUNCTION count_of(t text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint; BEGIN EXECUTE format('SELECT count(*) FROM %I', t) INTO n; RETURN n; END $$;
CREATE FUNCTION set_by_text(v text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('SET app.textual = %L', v); END $$;
CREATE FUNCTION set_name_by_text(n text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SET ' || n || ' = 1'; END $$;
CREATE FUNCTION save_order(c bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders (customer) VALUES (c); END $$;
CREATE FUNCTION lock_rows() RETURNS SETOF customer LANGUAGE sql AS 'SELECT * FROM customer FOR UPDATE';
CREATE FUNCTION as_xml(q text) RETURNS xml LANGUAGE sql STABLE AS 'SELECT query_to_xml(q, true, true, '''')';
CREATE FUNCTION even(n int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN n = 0 THEN true ELSE odd(n - 1) END; END $$;
CREATE FUNCTION odd(n int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN n = 0 THEN false ELSE even(n - 1) END; END $$;
CREATE FUNCTION defaulted(a int DEFAULT length(set_tenant('d'))) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a';
CREATE FUNCTION tenant() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('app.tenant', true) $$;
CREATE FUNCTION app.hidden() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.hidden', 'x', false) $$;
CREATE FUNCTION row_tenant(o orders) RETURNS text LANGUAGE sql AS $$ SELECT set_tenant(o.note) $$;
CREATE PROCEDURE set_by_call() LANGUAGE plpgsql AS $$ BEGIN PERFORM set_tenant('p'); COMMIT; END $$;
CREATE PROCEDURE clean_call() LANGUAGE plpgsql AS $$ BEGIN UPDATE customer SET name = 'y'; COMMIT; END $$;
CREATE FUNCTION lying_sum(a int, b int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM set_tenant('s'); RETURN a + b; END $$;
CREATE AGGREGATE evil_sum (int) (SFUNC = lying_sum, STYPE = int, INITCOND = '0');
-- The ways to run them.
CREATE FUNCTION evil_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_tenant('t'); RETURN NEW; END $$;
CREATE TABLE with_trigger (a int);
CREATE TRIGGER evil AFTER INSERT ON with_trigger FOR EACH STATEMENT EXECUTE FUNCTION evil_trigger();
CREATE TABLE with_default (a int, t text DEFAULT set_tenant('d'));
CREATE TABLE with_check (a int CHECK (set_tenant('c') IS NOT NULL));
CREATE TABLE with_rule (a int);
CREATE RULE evil AS ON INSERT TO with_rule DO ALSO SELECT set_tenant('r');
CREATE TABLE with_policy (a int, tenant text);
ALTER TABLE with_policy ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON with_policy USING (tenant = current_setting('app.policy', true));
CREATE TABLE with_evil_policy (a int);
CREATE POLICY p ON with_evil_policy USING (set_tenant('p') IS NOT NULL);
CREATE FUNCTION index_it(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM set_tenant('i'); RETURN a; END $$;
CREATE TABLE with_index (a int);
CREATE INDEX evil_index ON with_index (index_it(a));
CREATE VIEW evil_view AS SELECT set_tenant('v') AS t;
CREATE VIEW view_of_view AS SELECT * FROM evil_view;
CREATE VIEW lock_view AS SELECT try_lock(1);
CREATE VIEW updatable AS SELECT * FROM with_trigger;
CREATE VIEW locking_view AS SELECT * FROM customer FOR UPDATE;
CREATE MATERIALIZED VIEW evil_totals AS SELECT set_tenant('m');
CREATE FUNCTION evil_view_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_tenant('o'); RETURN NULL; END $$;
CREATE VIEW instead AS SELECT 1 AS a;
CREATE TRIGGER instead INSTEAD OF INSERT ON instead FOR EACH ROW EXECUTE FUNCTION evil_view_trigger();
CREATE TABLE parted (a int) PARTITION BY LIST (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TRIGGER evil AFTER INSERT ON parted_1 FOR EACH ROW EXECUTE FUNCTION evil_trigger();
CREATE TABLE referenced (a int PRIMARY KEY);
CREATE TABLE referencing (a int REFERENCES referenced ON DELETE CASCADE);
CREATE TRIGGER evil AFTER DELETE ON referencing FOR EACH ROW EXECUTE FUNCTION evil_trigger();
CREATE TABLE kept (a int PRIMARY KEY);
CREATE TABLE keeping (a int REFERENCES kept);
CREATE TRIGGER evil AFTER DELETE OR TRUNCATE ON keeping FOR EACH STATEMENT EXECUTE FUNCTION evil_trigger();
CREATE FUNCTION evil_plus(a customer, b int) RETURNS int LANGUAGE sql AS $$ SELECT length(set_tenant('+')) $$;
CREATE OPERATOR +@ (LEFTARG = customer, RIGHTARG = int, FUNCTION = evil_plus);
CREATE FUNCTION is_good(t text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM set_tenant('g'); RETURN true; END $$;
CREATE DOMAIN good AS text CHECK (is_good(VALUE));
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE with_domain (a good);
CREATE TABLE with_positive (a positive);
CREATE TYPE pair AS (x int, y int);
CREATE FUNCTION to_pair(t text) RETURNS pair LANGUAGE sql AS $$ SELECT ROW(length(set_tenant('t')), 1)::pair $$;
CREATE CAST (text AS pair) WITH FUNCTION to_pair(text) AS ASSIGNMENT;
CREATE TABLE with_pair (p pair);
CREATE TABLE with_generated (a int, b int GENERATED ALWAYS AS (index_it(a)) STORED);
CREATE TABLE reads_setting (a text DEFAULT current_setting('app.default', true));
CREATE SEQUENCE counter;
CREATE TABLE app.plain (a int);
"""

EVENT_TRIGGER = """
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.ddl', 'x', false); END $$;
CREATE EVENT TRIGGER on_ddl ON ddl_command_end EXECUTE FUNCTION on_ddl();
"""
