"""PostgreSQL's settings for an embedded node.

`lasting` is written to `postgresql.conf` once, when the data directory is made, and is the person's to change
afterwards (there, or with ALTER SYSTEM). `imposed` is given at each start and cannot be changed inside, because
Trimaran relies on it. What is in neither is PostgreSQL's default: `fsync`, `synchronous_commit` and
`full_page_writes` are on, `wal_level` is `replica` with ten WAL senders and slots, ready for replication.
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
    }


def as_options(settings: dict[str, str]) -> list[str]:
    """As command-line options of `postgres` and `initdb`."""
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
