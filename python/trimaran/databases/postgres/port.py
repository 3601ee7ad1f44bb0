"""The node's TCP port: chosen once, so that people can keep a client configured for it."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

from trimaran.errors import DatabaseError

ADDRESS = "127.0.0.1"
# Outside the ranges the kernels hand out to outgoing connections, so that none of those takes the port.
_FIRST, _LAST = 25_432, 28_431


def choose(own: Path, *, but_not: frozenset[int] = frozenset()) -> int:
    """A free port. Where the search begins depends on the directory, so that projects rarely meet.

    Raises DatabaseError when all are taken.
    """
    count = _LAST - _FIRST + 1
    start = int.from_bytes(hashlib.sha256(str(own).encode()).digest()[:4]) % count
    for step in range(count):
        port = _FIRST + (start + step) % count
        if port not in but_not and is_free(port):
            return port
    raise DatabaseError(
        f"no free port between {_FIRST} and {_LAST} on {ADDRESS}; set databases.<name>.port to another one"
    )


def is_free(port: int) -> bool:
    """Whether PostgreSQL could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
        return True
