"""The queries of `load`. Names in them are qualified: the search path is the role's choice."""

from __future__ import annotations

_OF_USERS = "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"

_SYSTEM = "('pg_catalog'::regnamespace, 'information_schema'::regnamespace) AND oid < 16384"

SYSTEM_FUNCTIONS = f"""SELECT oid::int8, proname::text, provolatile = 'v' FROM pg_catalog.pg_proc
WHERE pronamespace IN {_SYSTEM}"""

SYSTEM_RELATIONS = f"""SELECT oid::int8, relname::text FROM pg_catalog.pg_class
WHERE pronamespace IN {_SYSTEM} AND relkind IN ('r', 'v')""".replace("pronamespace", "relnamespace")

FUNCTIONS = """SELECT p.oid::int8, n.nspname::text, p.proname::text, p.provolatile::text, l.lanname::text,
CASE WHEN l.lanname IN ('sql', 'plpgsql') THEN p.prosrc ELSE '' END,
p.prosqlbody::text, p.proargdefaults::text, COALESCE(p.proargnames, '{}'),
p.pronargs - p.pronargdefaults <= 1 AND p.pronargs >= 1 AND EXISTS (
 SELECT FROM pg_catalog.pg_type t WHERE t.oid = p.proargtypes[0] AND (t.typtype IN ('c', 'p')
  OR t.typtype = 'd' AND EXISTS (SELECT FROM pg_catalog.pg_type b WHERE b.oid = t.typbasetype AND b.typtype = 'c'))),
ARRAY(SELECT t::int8 FROM pg_catalog.unnest(COALESCE(p.proallargtypes, p.proargtypes) || p.prorettype) t WHERE t >= 16384),
CASE WHEN p.prokind = 'a' THEN ARRAY(SELECT f::oid::int8 FROM pg_catalog.pg_aggregate a, pg_catalog.unnest(ARRAY[
 a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn,
 a.aggmfinalfn]) f WHERE a.aggfnoid = p.oid AND f::oid <> 0) ELSE '{}'::int8[] END
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE p.oid >= 16384"""

RELATIONS = f"""SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE {_OF_USERS} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'"""

TYPES = f"""SELECT t.oid::int8, n.nspname::text, t.typname::text
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid >= 16384 AND {_OF_USERS}
AND (t.typrelid = 0 AND t.typelem = 0 OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))"""

OPERATORS = """SELECT o.oid::int8, n.nspname::text, o.oprname::text, o.oprcode::oid::int8
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
WHERE o.oid >= 16384 AND o.oprcode::oid <> 0"""

_KINDS = [
    # Queries of views run when they are read, those of materialized views when they are refreshed.
    """SELECT CASE c.relkind WHEN 'm' THEN 'refresh' ELSE 'read' END, c.oid, '', NULL, NULL::oid, r.ev_action::text
    FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
    WHERE r.oid >= 16384 AND r.ev_type = '1'""",
    """SELECT 'write', r.ev_class, 'rule ' || r.rulename, NULL, NULL, r.ev_action::text || r.ev_qual::text
    FROM pg_catalog.pg_rewrite r WHERE r.oid >= 16384 AND r.ev_type <> '1'""",
    """SELECT 'write', t.tgrelid, 'trigger ' || t.tgname, 'function', t.tgfoid, NULL
    FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal""",
    """SELECT 'write', t.tgrelid, 'trigger ' || t.tgname, NULL, NULL, t.tgqual::text
    FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal AND t.tgqual IS NOT NULL""",
    # Policies count whether or not row security is switched on, so that switching it on changes nothing that is kept.
    """SELECT 'read', p.polrelid, 'policy ' || p.polname, NULL, NULL, p.polqual::text
    FROM pg_catalog.pg_policy p WHERE p.polqual IS NOT NULL""",
    """SELECT 'write', p.polrelid, 'policy ' || p.polname, NULL, NULL, p.polwithcheck::text
    FROM pg_catalog.pg_policy p WHERE p.polwithcheck IS NOT NULL""",
    """SELECT CASE a.attgenerated WHEN 'v' THEN 'read' ELSE 'write' END, d.adrelid, 'default of ' || a.attname, NULL, NULL,
    d.adbin::text FROM pg_catalog.pg_attrdef d
    JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    WHERE NOT ({harmless})""",
    """SELECT 'write', k.conrelid, 'constraint ' || k.conname, NULL, NULL, k.conbin::text
    FROM pg_catalog.pg_constraint k WHERE k.conrelid <> 0 AND k.oid >= 16384 AND k.conbin IS NOT NULL""",
    """SELECT 'type', k.contypid, 'constraint ' || k.conname, NULL, NULL, k.conbin::text
    FROM pg_catalog.pg_constraint k WHERE k.conbin IS NOT NULL AND k.contypid <> 0 AND k.oid >= 16384""",
    """SELECT 'write', k.conrelid, 'constraint ' || k.conname, 'function', o.oprcode::oid, NULL
    FROM pg_catalog.pg_constraint k, pg_catalog.unnest(k.conexclop) e JOIN pg_catalog.pg_operator o ON o.oid = e
    WHERE k.contype = 'x' AND o.oid >= 16384""",
    """SELECT 'write', i.indrelid, 'index ' || i.indexrelid::regclass, NULL, NULL,
    pg_catalog.concat_ws(' ', i.indexprs::text, i.indpred::text)
    FROM pg_catalog.pg_index i WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL""",
    """SELECT 'write', s.stxrelid, 'statistics ' || s.stxname, NULL, NULL, s.stxexprs::text
    FROM pg_catalog.pg_statistic_ext s WHERE s.stxexprs IS NOT NULL""",
    """SELECT 'write', p.partrelid, 'partition key', NULL, NULL, p.partexprs::text
    FROM pg_catalog.pg_partitioned_table p WHERE p.partexprs IS NOT NULL""",
    # What happens to referenced rows happens to those that reference them; TRUNCATE may cascade whatever the action is.
    """SELECT DISTINCT m.mode, k.confrelid, 'foreign key ' || k.conname, m.mode, k.conrelid, NULL
    FROM pg_catalog.pg_constraint k, (VALUES ('write'), ('truncate')) m(mode)
    WHERE k.contype = 'f' AND (m.mode = 'truncate' OR k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))""",
    """SELECT m.mode, i.inhparent, 'child ' || i.inhrelid::regclass, m.mode, i.inhrelid, NULL
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p', 'f'),
    (VALUES ('read'), ('write'), ('truncate')) m(mode)""",
    """SELECT DISTINCT 'columns', a.attrelid, 'column ' || a.attname, 'type', a.atttypid, NULL
    FROM pg_catalog.pg_attribute a WHERE a.atttypid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped""",
    # Values of a type: what it is made of, casts that need not be written, comparisons that ORDER BY and DISTINCT make.
    """SELECT 'type', t.oid, 'type ' || t.typname, 'type', b.base, NULL
    FROM pg_catalog.pg_type t, pg_catalog.unnest(ARRAY[t.typbasetype, t.typelem]) b(base)
    WHERE t.oid >= 16384 AND b.base >= 16384 AND (t.typtype = 'd' OR EXISTS (
     SELECT FROM pg_catalog.pg_type e LEFT JOIN pg_catalog.pg_class c ON c.oid = e.typrelid
     WHERE e.oid = t.typelem AND (e.typrelid = 0 OR c.relkind = 'c')))""",
    """SELECT 'type', t.oid, 'type ' || t.typname, 'columns', t.typrelid, NULL
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_class c ON c.oid = t.typrelid WHERE t.oid >= 16384 AND (c.relkind = 'c'
     OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.atttypid >= 16384))""",
    """SELECT 'type', r.oid, 'range', 'function', f.oid, NULL FROM (
     SELECT rngtypid, rngcanonical::oid, rngsubdiff::oid FROM pg_catalog.pg_range WHERE rngtypid >= 16384
    ) x(oid, canonical, subdiff) JOIN pg_catalog.pg_type r ON r.oid = x.oid,
    pg_catalog.unnest(ARRAY[x.canonical, x.subdiff]) f(oid) WHERE f.oid >= 16384""",
    """SELECT 'type', t.oid, 'default', NULL, NULL, t.typdefaultbin::text
    FROM pg_catalog.pg_type t WHERE t.typdefaultbin IS NOT NULL AND t.oid >= 16384""",
    """SELECT CASE WHEN s.oid < 16384 THEN 'ambient' ELSE 'type' END, s.oid, 'cast', 'function', c.castfunc, NULL
    FROM pg_catalog.pg_cast c, pg_catalog.unnest(CASE
     WHEN c.castsource < 16384 AND c.casttarget < 16384 THEN ARRAY[c.castsource] ELSE ARRAY[c.castsource, c.casttarget] END
    ) s(oid) WHERE c.oid >= 16384 AND c.castfunc >= 16384
    AND (s.oid >= 16384 OR c.castsource < 16384 AND c.casttarget < 16384)""",
    """SELECT 'type', o.opcintype, 'comparison', 'function', p.amproc::oid, NULL
    FROM pg_catalog.pg_amproc p JOIN pg_catalog.pg_opclass o ON o.opcfamily = p.amprocfamily
    WHERE p.amproc::oid >= 16384 AND o.opcintype >= 16384""",
    """SELECT 'ambient', 0::oid, 'comparison', 'function', p.amproc::oid, NULL
    FROM pg_catalog.pg_amproc p JOIN pg_catalog.pg_opclass o ON o.opcfamily = p.amprocfamily
    WHERE p.amproc::oid >= 16384 AND o.opcintype < 16384 AND o.opcdefault""",
    """SELECT 'event', 0::oid, e.evtname, 'function', e.evtfoid, NULL FROM pg_catalog.pg_event_trigger e
    WHERE e.evtevent <> 'login'""",
    """SELECT DISTINCT 'setting', 0::oid, pg_catalog.lower(pg_catalog.split_part(x, '=', 1)), NULL, NULL::oid, NULL
    FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) x WHERE x LIKE '%.%=%'""",
]

_HARMLESS = """d.adbin::text LIKE ANY (ARRAY['{CONST %', '{SQLVALUEFUNCTION %', '{NEXTVALUEEXPR %', '{FUNCEXPR :funcid 1299 %',
 '{FUNCEXPR :funcid 3432 %'])
 OR d.adbin::text LIKE '{FUNCEXPR :funcid 1574 %' AND d.adbin::text NOT LIKE '%funcid%funcid%'
 OR d.adbin::text LIKE '{FUNCEXPR :funcid 480 % :args ({FUNCEXPR :funcid 1574 %' AND d.adbin::text NOT LIKE '%funcid%funcid%funcid%'"""
"""Most defaults of most tables: constants, CURRENT_USER and the like, now(), gen_random_uuid(), and the next value of a sequence
(with a cast to integer)."""

PARTS = "SELECT kind, oid::int8, label, target_kind, target::int8, tree FROM (" + "\nUNION ALL ".join(_KINDS)
PARTS += ") x(kind, oid, label, target_kind, target, tree)"
PARTS = PARTS.replace("{harmless}", _HARMLESS)
