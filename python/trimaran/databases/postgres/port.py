"""The TCP port of a node: chosen once, remembered, given up only when somebody else has it."""

from __future__ import annotations

import socket
from collections.abc import Callable

from trimaran.errors import DatabaseError

HOST = "127.0.0.1"


def choose(wanted: int, remembered: int, report: Callable[[str], None]) -> int:
    """The port to listen on. Raises DatabaseError when the wanted one (from the settings) is taken."""
    if wanted:
        if not _is_free(wanted):
            raise DatabaseError(f"the database's port {wanted} is taken; choose another, or 0 for a free one")
        return wanted
    if remembered and _is_free(remembered):
        return remembered
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    if remembered:
        report(f"port {remembered} is taken now, listening on {port} instead")
    return port


def _is_free(port: int) -> bool:
    try:
        with socket.create_server((HOST, port)):
            return True
    except OSError:
        return False
