"""nginx, with buffers for bodies of 64 KiB, so that none goes to a file."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.servers.contenders.process import answers, free_port, program, proxy_cores, running
from benchmarks.servers.contenders.work import CLIENTS_MAX, UPSTREAM_MAX, Contender, Running, Work
from benchmarks.servers.processes import children
from tests.support.waiting import eventually

BALANCES = {
    "round_robin": "",
    "least_requests": "least_conn;",
    "power_of_two": "random two least_conn;",
    "random": "random;",
}
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextlib.contextmanager
def start(directory: Path, work: Work) -> Iterator[Running]:
    """As many workers as threads are asked for."""
    port = free_port()
    servers = "\n".join(f"    server {address};" for address in work.servers)
    listen = f"{port} backlog=4096" + (" ssl http2" if work.certificate else " http2" if work.http2 else "")
    files = ""
    if work.certificate:
        files = f"ssl_certificate {work.certificate.chain}; ssl_certificate_key {work.certificate.key};"
    http = f"""upstream servers {{
    {BALANCES[work.balance]}
{servers}
    keepalive {UPSTREAM_MAX};
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{listen};
    {files}
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_buffer_size 16k;
    proxy_buffers 16 16k;
    proxy_busy_buffers_size 64k;
    location / {{
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}"""
    with nginx_process(directory / f"nginx-{port}", http, work.threads, proxy_cores(work.threads)) as process:
        answers(port)
        eventually(lambda: len(children(process.pid)) == work.threads, "nginx has its workers")
        yield Running("nginx", port, [process.pid, *children(process.pid)], work)


@contextlib.contextmanager
def nginx_process(directory: Path, http: str, workers: int, cores: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """An nginx in the foreground, with everything it writes below `directory`."""
    directory.mkdir()
    file = directory / "nginx.conf"
    paths = "\n  ".join(f"{kind}_temp_path {directory}/{kind};" for kind in TEMPORARY)
    # Workers of a master that is root would otherwise be somebody who may not enter the directory.
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    file.write_text(
        f"""daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile {CLIENTS_MAX};
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections {CLIENTS_MAX}; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 100000000;
  keepalive_timeout 1h;
  {paths}
  {http}
}}
"""
    )
    command = [*cores, program("nginx"), "-e", str(directory / "error.log"), "-c", str(file)]
    with running(command, log=directory / "output.log") as process:
        yield process


CONTENDER = Contender("nginx", start, "nginx", ("-v",), BALANCES)
