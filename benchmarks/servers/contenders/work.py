"""What a proxy is asked to do, and one that does it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLIENTS_MAX = 20_000
UPSTREAM_MAX = 8_192
"""Connections kept to one server, and requests in flight there when nothing else is said: more than any row has."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files: the chain, the key, and both in one as HAProxy wants it."""

    chain: Path
    key: Path
    both: Path


@dataclass(frozen=True, slots=True)
class Queueing:
    """How a proxy holds back what its servers cannot take: requests at once for each, and waits in its queue."""

    at_once: int
    timeout_ms: int = 60_000
    target_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Work:
    """One arrangement, the same for all proxies."""

    servers: Sequence[str]
    """Addresses: `127.0.0.1:8001` or `unix:/path`."""
    certificate: Certificate | None = None
    """TLS 1.3 for clients, with HTTP/2 and HTTP/1.1 by ALPN."""
    http2: bool = False
    """HTTP/2 in the clear, for clients that begin with it."""
    threads: int = 1
    balance: str = "least_requests"
    """A policy by our name for it."""
    queueing: Queueing | None = None

    @property
    def encrypted(self) -> bool:
        return self.certificate is not None


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy at work."""

    name: str
    port: int
    pids: list[int]
    work: Work = field(repr=False)

    @property
    def url(self) -> str:
        return f"{'https' if self.work.encrypted else 'http'}://127.0.0.1:{self.port}/"


Start = Callable[[Path, Work], contextlib.AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True)
class Contender:
    """How to start one proxy, and what it can do."""

    name: str
    start: Start
    program: str | None
    """What must be installed; None for ours."""
    version: tuple[str, ...] = ()
    """Arguments that make the program tell its version."""
    balances: dict[str, Any] = field(default_factory=dict)
    """Its policies by our names."""
    unix: bool = True
    """Whether its servers may be on Unix sockets."""
