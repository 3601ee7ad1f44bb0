"""The Unix socket of an app server."""

from __future__ import annotations

import os
import socket
from pathlib import Path

BACKLOG = 2048
"""Connections that may wait to be accepted. The gateway owns the queue of requests, so this is only a safety margin."""


def listen(path: Path) -> socket.socket:
    """A socket listening at `path`, which only this user may connect to. Raises OSError when it cannot be bound.

    A socket left there by a dead process is replaced. The mode is set before the socket listens, so that there is no
    moment in which others may connect.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {path}: {error.strerror or error}") from error
    return listener
