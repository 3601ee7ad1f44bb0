"""The proxies that are compared, each with the same work to do: one file a proxy, one list here.

Every one keeps connections open on both sides, adds X-Forwarded-For and writes no access log. HAProxy and nginx come from
Debian, the others from the dependency group `bench`. A peer that is not installed is left out, and named in the report.
"""

from __future__ import annotations

from benchmarks.servers.contenders import caddy, envoy, haproxy, nginx, traefik, trimaran
from benchmarks.servers.contenders.process import installed
from benchmarks.servers.contenders.work import Certificate, Contender, Queueing, Running, Start, Work

__all__ = ["ALL", "Certificate", "Contender", "Queueing", "Running", "Start", "Work", "missing", "present"]

ALL: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        trimaran.CONTENDER,
        haproxy.CONTENDER,
        nginx.CONTENDER,
        envoy.CONTENDER,
        caddy.CONTENDER,
        traefik.CONTENDER,
    )
}


def present(*names: str) -> list[Contender]:
    """Those that are installed here, of `names` or of all."""
    chosen = [ALL[name] for name in names or ALL]
    return [contender for contender in chosen if contender.program is None or installed(contender.program)]


def missing() -> list[str]:
    """Names of those that are not."""
    return [name for name in ALL if not present(name)]
