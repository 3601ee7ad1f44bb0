"""What the granian engines of both interfaces share: one worker in this process, on a socket that is listening already.

granian's own server runs its workers as further processes, which would give the supervisor a pid that is not the
server's. Its worker classes are not a public interface, therefore the version is checked here.
"""

from __future__ import annotations

import importlib
import socket
from typing import Any

import granian
from granian.http import HTTP1Settings

from ..listener import BACKLOG

FITTING = "2.8"
"""The releases that these engines were written for and are tested with."""

if not granian.__version__.startswith(FITTING + "."):
    raise ImportError(f"granian {granian.__version__} is installed, {FITTING}.x is needed")

# The stub of the extension module does not match it, and these modules have no types at all.
native: Any = importlib.import_module("granian._granian")
futures: Any = importlib.import_module("granian._futures")

CONNECTIONS_MAX = 1_000_000
"""Open connections at which granian would stop accepting: never, because the gateway limits what it sends."""

FOREVER = 10**12
"""Thirty years in milliseconds. granian's limit on reading a head also counts the time between two requests."""

IO_THREADS = 1
BLOCKING_IO_THREADS = 16
THREAD_IDLE_S = 10**9


def holder(listener: socket.socket) -> Any:
    """The listener as granian wants it; granian closes it."""
    return native.SocketHolder(listener.detach(), True, BACKLOG)


def http1_settings() -> HTTP1Settings:
    """No time limit on idle connections, and room for any head that the gateway lets through."""
    return HTTP1Settings(header_read_timeout=FOREVER, max_buffer_size=2 * 1024 * 1024)
