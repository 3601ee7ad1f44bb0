"""The proxies that are compared: ours, HAProxy and nginx, each with one thread and the same work to do.

All choose the server with the fewest requests, keep connections open on both sides, add X-Forwarded-For and write no
access log. The two peers come from Debian.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers.processes import children
from tests.support.certificates import tls
from tests.support.snapshots import pool, server, snapshot
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
CONNECTIONS_MAX = 1024
CLIENTS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy at work."""

    name: str
    port: int
    pids: list[int]
    encrypted: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files: the chain, the key, and both in one as HAProxy wants it."""

    chain: Path
    key: Path
    both: Path


HTTP = {
    "connections_max": CLIENTS_MAX,
    "compression": {"encodings": ["zstd", "br", "gzip"], "types": ["text/*"], "min_bytes": 1_000},
}
"""Compression is there for clients that ask for it; those of the race do not."""


@dataclass(frozen=True, slots=True)
class Queueing:
    """How a proxy holds back what its servers cannot take: requests at once for each, and waits in its queue."""

    at_once: int
    timeout_ms: int
    target_ms: int


Start = Callable[..., contextlib.AbstractContextManager[Running]]


@contextlib.contextmanager
def trimaran(
    directory: Path, backends: Sequence[int], certificate: Certificate | None = None, queueing: Queueing | None = None
) -> Iterator[Running]:
    """Our data plane with one worker thread."""
    limit = queueing.at_once if queueing else CONNECTIONS_MAX
    servers = [server(f"s{port}", f"127.0.0.1:{port}", in_flight_max=limit) for port in backends]
    file = directory / "snapshot.json"
    queue = (
        {"queue_timeout_ms": queueing.timeout_ms, "queue_target_ms": queueing.target_ms, "queue_max": 10_000}
        if queueing
        else {}
    )
    settings = pool(*servers, policy={"name": "least_requests"}, idle_connections_max=CONNECTIONS_MAX, **queue)
    encrypted = {}
    if certificate is not None:
        encrypted["tls"] = tls({"certificate": str(certificate.chain), "key": str(certificate.key)})
    file.write_text(snapshot(settings, threads=1, http=HTTP, **encrypted))
    command = [sys.executable, "-m", "benchmarks.servers.gateway", str(file)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with _ending(process):
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        yield Running("trimaran", int(address.rpartition(":")[2]), [process.pid], certificate is not None)


@contextlib.contextmanager
def haproxy(
    directory: Path, backends: Sequence[int], certificate: Certificate | None = None, queueing: Queueing | None = None
) -> Iterator[Running]:
    """HAProxy, `balance leastconn`, idle connections shared by all requests."""
    port = free_port()
    limit = f" maxconn {queueing.at_once}" if queueing else ""
    servers = "\n".join(f"  server s{backend} 127.0.0.1:{backend}{limit}" for backend in backends)
    file = directory / "haproxy.cfg"
    file.write_text(
        f"""global
  nbthread 1
  maxconn {min(CLIENTS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 100)}
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue {queueing.timeout_ms if queueing else 60_000}ms
  option forwardfor
  http-reuse always
frontend in
  bind 127.0.0.1:{port}{f" ssl crt {certificate.both} alpn h2,http/1.1" if certificate else ""}
  default_backend servers
backend servers
  balance leastconn
{servers}
"""
    )
    process = subprocess.Popen([program("haproxy"), "-db", "-q", "-f", str(file)])
    with _ending(process):
        _answers(port)
        yield Running("haproxy", port, [process.pid], certificate is not None)


@contextlib.contextmanager
def nginx(directory: Path, backends: Sequence[int], certificate: Certificate | None = None) -> Iterator[Running]:
    """nginx, `least_conn`, one worker."""
    port = free_port()
    servers = "\n".join(f"    server 127.0.0.1:{backend};" for backend in backends)
    files = f"ssl_certificate {certificate.chain}; ssl_certificate_key {certificate.key};" if certificate else ""
    http = f"""upstream servers {{
    least_conn;
{servers}
    keepalive {CONNECTIONS_MAX};
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port}{" ssl http2" if certificate else ""};
    {files}
    location / {{
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}"""
    with nginx_process(directory / "nginx-proxy", http) as process:
        _answers(port)
        yield Running("nginx", port, [process.pid, *children(process.pid)], certificate is not None)


@contextlib.contextmanager
def one_kibibyte(directory: Path, count: int) -> Iterator[list[int]]:
    """The ports of `count` servers that answer every request with 1 KiB, all in one nginx worker."""
    ports = [free_port() for _ in range(count)]
    answer = f'default_type text/plain; location / {{ return 200 "{"x" * 1024}"; }}'
    servers = "\n".join(f"server {{ listen 127.0.0.1:{port}; {answer} }}" for port in ports)
    with nginx_process(directory / "nginx-servers", servers):
        for port in ports:
            _answers(port)
        yield ports


@contextlib.contextmanager
def nginx_process(directory: Path, http: str) -> Iterator[subprocess.Popen[bytes]]:
    """An nginx in the foreground, with everything it writes below `directory`."""
    directory.mkdir()
    file = directory / "nginx.conf"
    paths = "\n  ".join(f"{kind}_temp_path {directory}/{kind};" for kind in TEMPORARY)
    file.write_text(
        f"""daemon off;
worker_processes 1;
worker_rlimit_nofile {CLIENTS_MAX * 2};
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections {CLIENTS_MAX}; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 1h;
  {paths}
  {http}
}}
"""
    )
    process = subprocess.Popen([program("nginx"), "-e", str(directory / "error.log"), "-c", str(file)])
    with _ending(process):
        yield process


TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
ALL: dict[str, Start] = {"trimaran": trimaran, "haproxy": haproxy, "nginx": nginx}


def program(name: str) -> str:
    """The path of a peer or tool. Raises SystemExit that says how to get it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise SystemExit(f"{name} is not installed here; on Debian: apt-get install haproxy nginx wrk nghttp2-client")
    return found


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _answers(port: int) -> None:
    def connects() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    eventually(connects, f"something listens on port {port}")


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)
