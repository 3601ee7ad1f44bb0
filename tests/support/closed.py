"""An address at which nobody answers."""

from __future__ import annotations

import socket


def closed_address() -> str:
    """A loopback address that refuses connections: it was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"
