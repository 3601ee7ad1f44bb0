"""The objects that the leak suite works with, and how they are brought back to their beginning between two runs."""

from __future__ import annotations

import psycopg
from trimaran.databases.postgres import EmbeddedNode

from tests.support.gateways import superuser

READER = "leak_reader"
"""A role that the app may take on; it may read `accounts` and nothing else."""

_CHANGE = "PERFORM set_config('app.tenant', 'A', false); PERFORM set_config('work_mem', '7MB', false);"

_SCHEMA = f"""
CREATE ROLE {READER};
GRANT {READER} TO app;
CREATE ROLE leak_gone;
GRANT leak_gone TO app;
GRANT ALL ON SCHEMA public TO app, builder;
GRANT CREATE ON DATABASE app TO app;
SET ROLE app;
CREATE TABLE accounts (id int, owner text);
GRANT ALL ON accounts TO builder, {READER};
CREATE TABLE tenants (id int, tenant text);
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON tenants USING (tenant = current_setting('app.tenant', true));
GRANT ALL ON tenants TO builder, {READER};
CREATE SEQUENCE numbers;
GRANT ALL ON numbers TO builder;
CREATE TABLE wide (a int);
INSERT INTO wide VALUES (1);
GRANT ALL ON wide TO builder;

CREATE FUNCTION change() RETURNS int LANGUAGE plpgsql AS $$BEGIN {_CHANGE} RETURN 1; END$$;
CREATE FUNCTION change_arg(given int) RETURNS int LANGUAGE plpgsql AS $$BEGIN {_CHANGE} RETURN given; END$$;
CREATE FUNCTION change_in_sql() RETURNS text LANGUAGE sql AS $$SELECT set_config('app.tenant', 'A', false)$$;
CREATE FUNCTION change_nested() RETURNS int LANGUAGE sql AS $$SELECT change()$$;
CREATE FUNCTION change_row() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN {_CHANGE} IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END$$;
CREATE FUNCTION change_caught() RETURNS int LANGUAGE plpgsql AS
    $$BEGIN BEGIN {_CHANGE} PERFORM 1/0; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1; END$$;
CREATE FUNCTION change_after_caught() RETURNS int LANGUAGE plpgsql AS
    $$BEGIN BEGIN PERFORM 1/0; EXCEPTION WHEN OTHERS THEN {_CHANGE} END; RETURN 1; END$$;
CREATE FUNCTION change_then_fail() RETURNS int LANGUAGE plpgsql AS $$BEGIN {_CHANGE} RETURN 1/0; END$$;
CREATE FUNCTION change_with_clause() RETURNS int LANGUAGE plpgsql SET work_mem = '3MB' AS $$BEGIN {_CHANGE} RETURN 1; END$$;
CREATE FUNCTION change_labelled_stable() RETURNS int LANGUAGE plpgsql STABLE AS $$BEGIN {_CHANGE} RETURN 1; END$$;
CREATE FUNCTION change_labelled_immutable(given int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$BEGIN {_CHANGE} RETURN given; END$$;
CREATE FUNCTION change_by_name(a text, b text) RETURNS text LANGUAGE plpgsql AS
    $$DECLARE found text; BEGIN EXECUTE format('SELECT %I(%L, %L, false)', 'set_' || 'config', a, b) INTO found;
    RETURN found; END$$;
CREATE FUNCTION change_set() RETURNS SETOF int LANGUAGE plpgsql AS $$BEGIN {_CHANGE} RETURN NEXT 1; RETURN NEXT 2; END$$;
CREATE FUNCTION run(given text) RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE given; RETURN 1; END$$;
CREATE FUNCTION try_lock(key int) RETURNS bool LANGUAGE sql AS $$SELECT pg_try_advisory_lock(key)$$;
CREATE FUNCTION try_lock_plain(key int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RETURN pg_try_advisory_lock(key); END$$;
CREATE PROCEDURE proc_change() LANGUAGE plpgsql AS $$BEGIN {_CHANGE} END$$;
CREATE PROCEDURE proc_commit() LANGUAGE plpgsql AS $$BEGIN {_CHANGE} COMMIT; PERFORM set_config('app.tenant', 'C', false); END$$;
CREATE PROCEDURE proc_commit_fail() LANGUAGE plpgsql AS $$BEGIN {_CHANGE} COMMIT; PERFORM 1/0; END$$;
CREATE PROCEDURE proc_rollback() LANGUAGE plpgsql AS $$BEGIN {_CHANGE} ROLLBACK; END$$;

CREATE TABLE before_row (a int);
CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON before_row FOR EACH ROW EXECUTE FUNCTION change_row();
CREATE TABLE after_row (a int);
CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON after_row FOR EACH ROW EXECUTE FUNCTION change_row();
CREATE TABLE statement_level (a int);
CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON statement_level
    FOR EACH STATEMENT EXECUTE FUNCTION change_row();
CREATE TABLE deferred (a int);
CREATE CONSTRAINT TRIGGER t AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION change_row();
CREATE VIEW instead AS SELECT 1 AS a;
CREATE TRIGGER t INSTEAD OF INSERT ON instead FOR EACH ROW EXECUTE FUNCTION change_row();
CREATE TABLE parts (a int) PARTITION BY RANGE (a);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TRIGGER t BEFORE INSERT ON parts_1 FOR EACH ROW EXECUTE FUNCTION change_row();
CREATE TABLE parent (a int PRIMARY KEY);
CREATE TABLE child (a int REFERENCES parent ON DELETE CASCADE);
CREATE TRIGGER t BEFORE DELETE ON child FOR EACH ROW EXECUTE FUNCTION change_row();
CREATE TABLE inherited (a int);
CREATE TABLE inheriting () INHERITS (inherited);
CREATE TRIGGER t BEFORE UPDATE ON inheriting FOR EACH ROW EXECUTE FUNCTION change_row();
CREATE TABLE ruled (a int);
CREATE RULE r AS ON INSERT TO ruled DO ALSO SELECT change();
CREATE VIEW viewed AS SELECT change() AS a;
CREATE VIEW viewed_twice AS SELECT * FROM viewed;
CREATE TABLE defaulted (a int DEFAULT change(), b int);
CREATE TABLE computed (a int, b int GENERATED ALWAYS AS (change_labelled_immutable(a)) STORED);
CREATE TABLE checked (a int CHECK (change_arg(a) IS NOT NULL));
CREATE DOMAIN watched AS int CHECK (change_arg(VALUE) IS NOT NULL);
CREATE TABLE of_domain (a watched);
CREATE TABLE policed (a int);
ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
ALTER TABLE policed FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON policed USING (change() = 1);
CREATE TABLE indexed (a int);
CREATE INDEX ON indexed (change_labelled_immutable(a));
CREATE MATERIALIZED VIEW materialized AS SELECT 1 AS a WHERE change_arg(1) = 1;
CREATE OPERATOR ### (FUNCTION = change_arg, RIGHTARG = int);
CREATE TYPE boxed AS (a int);
CREATE FUNCTION box(given int) RETURNS boxed LANGUAGE plpgsql AS $$BEGIN {_CHANGE} RETURN ROW(given)::boxed; END$$;
CREATE CAST (int AS boxed) WITH FUNCTION box(int);
CREATE FUNCTION step(state int, given int) RETURNS int LANGUAGE plpgsql AS $$BEGIN {_CHANGE} RETURN state + given; END$$;
CREATE AGGREGATE changing_sum(int) (SFUNC = step, STYPE = int, INITCOND = '0');
RESET ROLE;
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS
    $$BEGIN IF TG_TAG = 'COMMENT' THEN {_CHANGE} END IF; END$$;
CREATE EVENT TRIGGER on_ddl ON ddl_command_end EXECUTE FUNCTION on_ddl();
"""

_BEGINNING = """
SET search_path = public;
SET row_security = off;
DELETE FROM accounts;
INSERT INTO accounts VALUES (1, 'everyone');
DELETE FROM tenants;
INSERT INTO tenants VALUES (1, 'A'), (2, 'B');
DELETE FROM child; DELETE FROM parent;
DELETE FROM inherited; INSERT INTO inheriting VALUES (1);
DELETE FROM policed; INSERT INTO policed VALUES (1);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1);
DO $$BEGIN
    -- Only what is there is removed: a change of the catalogue makes every session read it anew.
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'wide'::regclass AND attname = 'b' AND NOT attisdropped) THEN
        ALTER TABLE wide DROP COLUMN b;
    END IF;
    IF EXISTS (SELECT FROM pg_class WHERE relname = 'made' AND relkind = 'v') THEN DROP VIEW made; END IF;
    IF to_regclass('public.made') IS NOT NULL THEN DROP TABLE made CASCADE; END IF;
    IF to_regproc('public.made_function') IS NOT NULL THEN DROP FUNCTION made_function(); END IF;
    IF to_regnamespace('other') IS NOT NULL THEN DROP SCHEMA other CASCADE; END IF;
    IF (SELECT is_called FROM numbers) THEN ALTER SEQUENCE numbers RESTART; END IF;
    IF EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE rolname = 'app') THEN
        ALTER ROLE app RESET ALL;
    END IF;
    IF EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase <> 0) THEN
        ALTER DATABASE app RESET ALL;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'leak_gone') THEN
        CREATE ROLE leak_gone;
        GRANT leak_gone TO app;
    END IF;
END$$;
SELECT lo_unlink(oid) FROM pg_largeobject_metadata;
"""

_IN_USE = """
SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND (state LIKE 'idle in transaction%' OR locktype = 'advisory')
"""


class World:
    """The database of the suite, as its superuser sees it directly."""

    def __init__(self, node: EmbeddedNode) -> None:
        self.app = node.dsn
        self.superuser = superuser(node).rpartition("/")[0] + "/app"
        self._admin = psycopg.connect(self.superuser, autocommit=True)
        # On the first use the objects are made; a second gateway on the same node finds them.
        if self._admin.execute("SELECT to_regclass('public.accounts')").fetchone() == (None,):
            self._admin.execute(_SCHEMA)

    def begin(self) -> None:
        """Put every object back to its beginning."""
        self._admin.execute(_BEGINNING)

    def administer(self, sql: str) -> None:
        """What an administrator does meanwhile."""
        self._admin.execute(sql)

    def busy(self) -> bool:
        """Whether a transaction is open or an advisory lock is held, other than by whom asks."""
        row = self._admin.execute(_IN_USE).fetchone()
        assert row
        return bool(row[0])

    def end_all_sessions(self) -> None:
        """End every server process of a client but this one."""
        self._admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name NOT LIKE 'trimaran%'"
        )

    def close(self) -> None:
        self._admin.close()
