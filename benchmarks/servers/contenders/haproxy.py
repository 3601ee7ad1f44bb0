"""HAProxy: idle connections to servers are shared by all requests, and kept however many clients there are.

Without the two ratios it would open a new one for each request as soon as a fifth of its descriptors is in use.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from benchmarks.servers.contenders.process import answers, free_port, program, proxy_cores, running
from benchmarks.servers.contenders.work import CLIENTS_MAX, Contender, Running, Work

BALANCES = {"round_robin": "roundrobin", "least_requests": "leastconn", "power_of_two": "random(2)", "random": "random"}


@contextlib.contextmanager
def start(directory: Path, work: Work) -> Iterator[Running]:
    """One process of `threads` threads."""
    port = free_port()
    limit = f" maxconn {work.queueing.at_once}" if work.queueing else ""
    servers = "\n".join(
        f"  server s{number} {address.replace('unix:', 'unix@')}{limit}" for number, address in enumerate(work.servers)
    )
    encryption = f" ssl crt {work.certificate.both} alpn h2,http/1.1" if work.certificate else ""
    file = directory / f"haproxy-{work.balance}.cfg"
    file.write_text(
        f"""global
  nbthread {work.threads}
  tune.pool-low-fd-ratio 100
  tune.pool-high-fd-ratio 100
  maxconn {min(CLIENTS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 100)}
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue {work.queueing.timeout_ms if work.queueing else 60_000}ms
  option forwardfor
  http-reuse always
frontend in
  bind 127.0.0.1:{port} backlog 4096{encryption}{" proto h2" if work.http2 else ""}
  default_backend servers
backend servers
  balance {BALANCES[work.balance]}
{servers}
"""
    )
    command = [*proxy_cores(work.threads), program("haproxy"), "-db", "-q", "-f", str(file)]
    with running(command, log=directory / "haproxy.log") as process:
        answers(port)
        yield Running("haproxy", port, [process.pid], work)


CONTENDER = Contender("haproxy", start, "haproxy", ("-v",), BALANCES)
