"""PostgreSQL's settings for an embedded node.

`lasting` is written to `postgresql.conf` once, when the data directory is made, and is the person's to change
afterwards (there, or with ALTER SYSTEM). `imposed` is given at each start and cannot be changed inside, because
Trimaran relies on it. What is in neither is PostgreSQL's default: `fsync`, `synchronous_commit` and
`full_page_writes` are on, `wal_level` is `replica` with ten WAL senders and slots, ready for replication. Data checksums
are on, which lets `pg_rewind` work without `wal_log_hints`.
"""

from __future__ import annotations

import os
from pathlib import Path

_MIB = 1024 * 1024


def lasting() -> dict[str, str]:
    """Sized for a machine that runs the app beside its database."""
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB
    return {
        # Eight servers with sixteen threads each, the scaler's new ones beside the old, and room for people.
        "max_connections": "200",
        "shared_buffers": f"{min(max(memory_mib // 16, 128), 1024)}MB",
        "effective_cache_size": f"{max(memory_mib // 2, 256)}MB",
        "random_page_cost": "1.1",  # the default supposes a spinning disk
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_lock_waits": "on",
        "log_checkpoints": "off",
    }


def imposed(*, port: int, address: str, sockets: Path, log: Path, marker: str) -> dict[str, str]:
    """Where it listens, where it logs, and the marker its processes are known by."""
    return {
        "listen_addresses": address,
        "port": str(port),
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "cluster_name": marker,
        "logging_collector": "on",
        "log_destination": "stderr",
        "log_directory": str(log),
        # One file per weekday, written over after a week: bounded without anybody's help.
        "log_filename": "postgresql-%a.log",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_truncate_on_rotation": "on",
        "log_file_mode": "0600",
        **_REPLICATION,
    }


_REPLICATION = {
    # A replica that is away keeps WAL alive through its slot, but never so much that it fills the primary's disk.
    "max_slot_wal_keep_size": "1GB",
    # After a failover slots are made anew; this much is there for replicas that come back to them.
    "wal_keep_size": "128MB",
    # Reads on a replica must not fail because the primary has removed rows that they still see. The price is the one
    # of a long read on the primary itself: vacuum waits for it.
    "hot_standby_feedback": "on",
    # A replica tries its primary this often while it is not there; the default of 5 s would be most of a failover.
    "wal_retrieve_retry_interval": "50ms",
    "wal_receiver_status_interval": "1s",
    "wal_receiver_timeout": "10s",
    "wal_sender_timeout": "10s",
}


def as_options(settings: dict[str, str]) -> list[str]:
    """As command-line options of `postgres` and `initdb`."""
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
