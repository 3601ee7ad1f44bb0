"""Functions that must run on the primary although the statement that calls them reads.

Listed are functions of PostgreSQL and of its contributed extensions that act on the session or on the server, or whose
answer depends on the node. A function of the user may go to a replica: a replica cannot write, so the worst outcome is
SQLSTATE 25006, after which the gateway repeats the statement on the primary and remembers it.
"""

from __future__ import annotations

ADVISORY_LOCK = "advisory lock"
SEQUENCE_POSITION = "sequence position"
SETTING = "setting made by a function"
RANDOM_SEED = "random seed"
CONNECTION = "connection made by an extension"

PINS = {
    "pg_advisory_lock": ADVISORY_LOCK,
    "pg_advisory_lock_shared": ADVISORY_LOCK,
    "pg_try_advisory_lock": ADVISORY_LOCK,
    "pg_try_advisory_lock_shared": ADVISORY_LOCK,
    # They answer for the `nextval` of the same session, which later ones must find again.
    "currval": SEQUENCE_POSITION,
    "lastval": SEQUENCE_POSITION,
    "set_limit": SETTING,
    "setseed": RANDOM_SEED,
    "dblink_connect": CONNECTION,
    "dblink_connect_u": CONNECTION,
}
"""Functions after which the session must keep its server connection, and why. `set_config` is decided by its arguments."""

_NAMES = frozenset(
    {
        "brin_desummarize_range",
        "brin_summarize_new_values",
        "brin_summarize_range",
        "currval",
        "gin_clean_pending_list",
        "inet_server_addr",
        "inet_server_port",
        "lastval",
        "loread",
        "lowrite",
        "nextval",
        "pg_backend_pid",
        "pg_blocking_pids",
        "pg_conf_load_time",
        "pg_control_checkpoint",
        "pg_control_recovery",
        "pg_control_system",
        "pg_cursor",
        "pg_export_snapshot",
        "pg_get_backend_memory_contexts",
        "pg_get_replication_slots",
        "pg_get_sequence_data",
        "pg_get_shmem_allocations",
        "pg_get_shmem_allocations_numa",
        "pg_get_wal_replay_pause_state",
        "pg_get_wal_summarizer_state",
        "pg_hba_file_rules",
        "pg_ident_file_mappings",
        "pg_import_system_collations",
        "pg_is_in_recovery",
        "pg_is_other_temp_schema",
        "pg_is_wal_replay_paused",
        "pg_isolation_test_session_is_blocked",
        "pg_listening_channels",
        "pg_lock_status",
        "pg_my_temp_schema",
        "pg_nextoid",
        "pg_notification_queue_usage",
        "pg_notify",
        "pg_postmaster_start_time",
        "pg_prepared_statement",
        "pg_prepared_xact",
        "pg_prewarm",
        "pg_promote",
        "pg_safe_snapshot_blocking_pids",
        "pg_sequence_last_value",
        "pg_show_all_file_settings",
        "pg_show_all_settings",
        "pg_show_replication_origin_status",
        "pg_start_backup",
        "pg_stop_backup",
        "pg_stop_making_pinned_objects",
        "pg_xact_commit_timestamp",
        "pg_xact_commit_timestamp_origin",
        "pg_xact_status",
        "postgres_fdw_disconnect",
        "postgres_fdw_disconnect_all",
        "postgres_fdw_get_connections",
        "set_config",
        "set_limit",
        "setseed",
        "setval",
        "show_limit",
    }
)

_PREFIXES = (
    "binary_upgrade_",
    "dblink",
    "lo_",
    "pg_advisory_",
    "pg_backup_",
    "pg_cancel_",
    "pg_clear_",
    "pg_copy_",
    "pg_create_",
    "pg_current_",
    "pg_drop_",
    "pg_last_",
    "pg_log_",
    "pg_logical_",
    "pg_ls_",
    "pg_read_",
    "pg_reload_",
    "pg_replication_",
    "pg_restore_",
    "pg_rotate_",
    "pg_stat_",
    "pg_switch_",
    "pg_sync_",
    "pg_terminate_",
    "pg_try_advisory_",
    "pg_wal_replay_",
    "pg_walfile_",
    "txid_current",
    "txid_status",
)

_READING_NAMES = """
abs acos age any_value area array_agg array_append array_cat array_dims array_length array_lower array_ndims
array_position array_positions array_prepend array_remove array_replace array_sample array_shuffle array_to_json
array_to_string array_upper ascii asin atan atan2 avg bit_and bit_count bit_length bit_or bit_xor bool_and bool_or
broadcast btrim cardinality cbrt ceil ceiling center char_length character_length chr circle clock_timestamp
col_description concat concat_ws convert convert_from convert_to corr cos cosh cot count covar_pop covar_samp crc32
crc32c cume_dist current_database current_schema current_schemas current_setting date_add date_bin date_part
date_subtract date_trunc decode degrees dense_rank diameter div encode enum_first enum_last enum_range erf erfc every
exp extract factorial family first_value floor format format_type gamma gcd gen_random_uuid generate_series
generate_subscripts get_bit get_byte grouping has_column_privilege has_database_privilege has_function_privilege
has_schema_privilege has_sequence_privilege has_table_privilege has_type_privilege height host hostmask initcap
inet_client_addr inet_client_port inet_merge inet_same_family isclosed isempty isfinite isopen justify_days justify_hours
justify_interval lag last_value lcm lead least left length lgamma line ln log log10 lower lower_inc lower_inf lpad
lseg ltrim macaddr8_set7bit make_date make_interval make_time make_timestamp make_timestamptz masklen max md5 min
min_scale mod mode multirange netmask network normalize now nth_value ntile num_nonnulls num_nulls numnode
obj_description octet_length overlaps overlay parse_ident path percent_rank percentile_cont percentile_disc
phraseto_tsquery pi plainto_tsquery point polygon popen position power querytree quote_ident quote_literal
quote_nullable radians radius random random_normal range_agg range_intersect_agg range_merge rank regr_avgx regr_avgy
regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy repeat replace reverse right round row_number
row_to_json rpad rtrim scale session_user setweight sha224 sha256 sha384 sha512 shobj_description sign sin sinh slope
split_part sqrt starts_with statement_timestamp stddev stddev_pop stddev_samp string_agg string_to_array
string_to_table strip strpos substr substring sum tan tanh text timeofday timezone to_ascii to_char to_date to_hex to_json
to_jsonb to_number to_oct to_bin to_regclass to_regtype to_timestamp to_tsquery to_tsvector transaction_timestamp
translate trim trim_array trim_scale trunc ts_delete ts_filter ts_headline ts_rank ts_rank_cd ts_rewrite
tsquery_phrase tsvector_to_array array_to_tsvector unicode_assigned unistr unnest upper upper_inc upper_inf uuid_extract_timestamp
uuid_extract_version uuidv4 uuidv7 var_pop var_samp variance version websearch_to_tsquery width width_bucket
xmlagg xmlcomment xmlconcat xmlelement xmlforest xpath xpath_exists
"""
_READING = frozenset(_READING_NAMES.split())
_READING_PREFIXES = ("json_", "jsonb_", "regexp_", "pg_get_", "pg_table_is_", "pg_type_is_", "pg_size_", "pg_typeof")

_EXTENSION_PREFIXES = ("dblink", "pg_stat_", "postgres_fdw_", "pg_prewarm", "set_limit", "show_limit")
"""Of these the schema is the user's choice."""

NODE_SETTINGS = frozenset(
    {
        "all",
        "cluster_name",
        "config_file",
        "data_directory",
        "default_transaction_read_only",
        "external_pid_file",
        "hba_file",
        "ident_file",
        "in_hot_standby",
        "listen_addresses",
        "port",
        "primary_conninfo",
        "primary_slot_name",
        "synchronous_standby_names",
        "transaction_isolation",
        "transaction_read_only",
        "unix_socket_directories",
    }
)
"""Settings that a replica answers in another way; drivers ask some to find the primary."""

_NODE_VIEWS = frozenset(
    {
        "pg_aios",
        "pg_backend_memory_contexts",
        "pg_cursors",
        "pg_file_settings",
        "pg_hba_file_rules",
        "pg_ident_file_mappings",
        "pg_locks",
        "pg_prepared_statements",
        "pg_prepared_xacts",
        "pg_replication_origin_status",
        "pg_replication_slots",
        "pg_sequences",
        "pg_settings",
        "pg_shmem_allocations",
        "pg_shmem_allocations_numa",
    }
)


def is_builtin(schema: str) -> bool:
    """Whether a name with this schema may be one of PostgreSQL itself; without a schema it may."""
    return schema in ("", "pg_catalog")


def is_known(schema: str, name: str) -> bool:
    """Whether a function is one of PostgreSQL's own that cannot write. One that is not in the list may be the user's."""
    return schema == "pg_catalog" or (not schema and (name in _READING or name.startswith(_READING_PREFIXES)))


def needs_primary(schema: str, name: str) -> bool:
    """Whether a call of this function must run on the primary. Names are as the parser folds them."""
    if is_builtin(schema):
        return name in _NAMES or name.startswith(_PREFIXES)
    return name.startswith(_EXTENSION_PREFIXES)


def differs_by_node(schema: str, relation: str) -> bool:
    """Whether a relation's content is that of the node or the session rather than of the database."""
    if schema.startswith("pg_temp"):
        return True
    if relation.startswith(("pg_stat_", "pg_statio_")):
        return True
    return is_builtin(schema) and relation in _NODE_VIEWS
