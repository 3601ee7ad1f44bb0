"""Functions of PostgreSQL that matter to the session or run code, beyond those that `functions` lists for their node."""

from __future__ import annotations

import re

from trimaran.databases.planner.code import Audit, Code
from trimaran.databases.planner.functions import is_known, needs_primary

SETTING_FUNCTIONS = frozenset({"set_config", "current_setting"})
"""Their arguments decide."""

_SESSION_LOCKS = re.compile(r"pg_(?:try_)?advisory_lock(?:_shared)?")
_CHANGES_SETTINGS = frozenset({"setseed", "pg_backup_start", "pg_replication_origin_session_setup", "set_limit"})
_RUNS_TEXT = re.compile(
    r"(?:query|cursor|table|schema|database)_to_xml\w*|ts_stat|ts_rewrite"
    # Of extensions: tablefunc, xml2, dblink, file_fdw's and others' way to run a text is their language C.
    r"|crosstab\w*|connectby|xpath_table|dblink\w*"
)
_VOLATILE_READS = frozenset(
    [
        "array_sample",
        "array_shuffle",
        "clock_timestamp",
        "current_query",
        "gen_random_uuid",
        "pg_collation_actual_version",
        "pg_database_collation_actual_version",
        "pg_database_size",
        "pg_indexes_size",
        "pg_jit_available",
        "pg_partition_ancestors",
        "pg_partition_tree",
        "pg_relation_size",
        "pg_sleep",
        "pg_sleep_for",
        "pg_sleep_until",
        "pg_table_size",
        "pg_tablespace_size",
        "pg_total_relation_size",
        "random",
        "random_normal",
        "suppress_redundant_updates_trigger",
        "timeofday",
        "tsvector_update_trigger",
        "tsvector_update_trigger_column",
        "unique_key_recheck",
        "uuidv4",
        "uuidv7",
        "bernoulli",
        "system",
    ]
)
"""Volatile, but they only compute or look."""
_HARMLESS_OF_EXTENSIONS = frozenset(
    [
        "armor",
        "autoinc",
        "crypt",
        "dearmor",
        "digest",
        "encrypt",
        "encrypt_iv",
        "gen_random_bytes",
        "gen_random_uuid",
        "gen_salt",
        "hmac",
        "insert_username",
        "lo_manage",
        "moddatetime",
        "normal_rand",
        "pgp_key_id",
        "pgp_pub_decrypt",
        "pgp_pub_decrypt_bytea",
        "pgp_pub_encrypt",
        "pgp_pub_encrypt_bytea",
        "pgp_sym_decrypt",
        "pgp_sym_decrypt_bytea",
        "pgp_sym_encrypt",
        "pgp_sym_encrypt_bytea",
        "system_rows",
        "system_time",
        "uuid_generate_v1",
        "uuid_generate_v1mc",
        "uuid_generate_v3",
        "uuid_generate_v4",
        "uuid_generate_v5",
    ]
)
"""Volatile functions in C that change neither data nor session."""


def call_builtin(code: Code, name: str, *, volatile: bool) -> None:
    """Adds what a call of a function of PostgreSQL itself means; not of those whose arguments decide."""
    if _SESSION_LOCKS.fullmatch(name):
        code.leaves(Audit.STATE, f"calls {name}")
    elif _RUNS_TEXT.fullmatch(name):
        code.is_opaque(f"calls {name}, which runs a text", any_setting=True)
    elif name in _CHANGES_SETTINGS:
        code.leaves(Audit.SETTINGS, f"calls {name}")
    elif needs_primary("pg_catalog", name):
        code.writes(f"calls {name}")
    elif volatile and name not in _VOLATILE_READS and not is_known("", name):
        code.writes(f"calls {name}, which is VOLATILE")


def call_native(code: Code, name: str, *, volatile: bool) -> None:
    """Adds what a call of an extension's function in C means. What the catalogue says of its volatility is believed."""
    if _RUNS_TEXT.fullmatch(name):
        code.is_opaque(f"calls {name}, which runs a text", any_setting=True)
    elif name == "set_limit":
        code.sets("pg_trgm.similarity_threshold", local=False)
    elif needs_primary("extension", name):
        code.writes(f"calls {name}")
    elif volatile and name not in _HARMLESS_OF_EXTENSIONS:
        code.is_opaque("is VOLATILE and written in C", any_setting=True)
