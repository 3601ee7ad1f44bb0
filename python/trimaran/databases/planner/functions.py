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
        "pg_cursor",
        "pg_export_snapshot",
        "pg_get_backend_memory_contexts",
        "pg_get_replication_slots",
        "pg_get_shmem_allocations",
        "pg_get_wal_replay_pause_state",
        "pg_get_wal_summarizer_state",
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
    "txid_",
)

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
        "pg_shmem_allocations",
        "pg_shmem_allocations_numa",
    }
)


def is_builtin(schema: str) -> bool:
    """Whether a name with this schema may be one of PostgreSQL itself; without a schema it may."""
    return schema in ("", "pg_catalog")


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
