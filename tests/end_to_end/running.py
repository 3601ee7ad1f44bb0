"""`trimaran run` in a directory of its own, and load that counts every failed request."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.waiting import eventually

APP = """
import asyncio
import os

VERSION = {version!r}
{extra}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            step = (await receive())["type"]
            await send({{"type": step + ".complete"}})
            if step == "lifespan.shutdown":
                return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.2)
    body = f"{{VERSION}} {{os.getpid()}}".encode()
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}})
    await send({{"type": "http.response.body", "body": body}})
"""

SETTINGS = """
app = "site_under_test:app"
[servers]
count = "{count}"
in_flight_max = {in_flight_max}
[servers.health]
interval_ms = 200
[scaling]
interval_ms = 100
idle_s = 1
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Running:
    """A running `trimaran run` on free ports. Its output is in `log`, its state in `state`."""

    def __init__(self, directory: Path, state: Path, *arguments: str) -> None:
        """`directory` is where the command is given; `arguments` are further ones."""
        self.directory, self.state = directory, state
        self.log = state.parent / "log"
        self.port, self.admin = free_port(), free_port()
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TRIMARAN_")},
            "TRIMARAN_GATEWAY_BIND": f"127.0.0.1:{self.port}",
            "TRIMARAN_ADMIN_BIND": f"127.0.0.1:{self.admin}",
            "TRIMARAN_DATABASES_MAIN_BIND": f"127.0.0.1:{free_port()}",
            "TRIMARAN_STATE_DIRECTORY": str(state),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command("run", *arguments), cwd=directory, env=self.environ, stdout=log, stderr=log
            )
        eventually(self._is_ready, f"Trimaran is up; it said: {self.log}", within_s=60)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "trimaran", *arguments]

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return all(server["state"] == "up" for server in self.status()["servers"])
        except OSError:
            return False

    def get(self, path: str = "/") -> str:
        return _get(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20), path)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(_get(http.client.HTTPConnection("127.0.0.1", self.admin, timeout=20), "/api/status")))

    def up(self) -> list[dict[str, Any]]:
        return [server for server in self.status()["servers"] if server["state"] == "up"]

    def tell(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs another command, such as `reload`, against this Trimaran."""
        command = self._command(*arguments)
        return subprocess.run(command, cwd=self.directory, env=self.environ, capture_output=True, text=True, timeout=90)

    def family(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        supervisor = psutil.Process(self.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def sockets(self) -> list[Path]:
        return [path for path in self.state.rglob("*") if path.is_socket()]

    def close(self) -> None:
        family = self.family() if self.process.poll() is None else []
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            for process in family:
                if process.is_running():
                    process.kill()
            self.process.wait(20)


class Trimaran(Running):
    """An app of one file, which a test may replace, behind Trimaran."""

    def __init__(self, directory: Path, count: str = "2", in_flight_max: int = 0, more: str = "") -> None:
        self.site = directory / "site_under_test.py"
        self.write_app("one")
        (directory / "trimaran.toml").write_text(SETTINGS.format(count=count, in_flight_max=in_flight_max) + more)
        super().__init__(directory, directory / ".trimaran")

    def write_app(self, version: str, extra: str = "") -> None:
        """Puts a version of the app in place; `extra` runs when it is imported."""
        self.site.write_text(APP.format(version=version, extra=extra))


def _get(connection: http.client.HTTPConnection, path: str) -> str:
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        if response.status != 200:
            raise OSError(f"{response.status} {body[:200]}")
        return body
    finally:
        connection.close()


@dataclass
class Load:
    """GET requests on kept connections until it is stopped. Every request that is not answered by 200 is a failure."""

    port: int
    connections: int = 16
    path: str = "/"
    tls: ssl.SSLContext | None = None
    answers: Counter[str] = field(default_factory=Counter)
    """How often each body came."""
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(self.connections)]
        for thread in self._threads:
            thread.start()
        self.more(200)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def more(self, count: int) -> None:
        """Returns when `count` further requests have ended."""
        goal = self.done() + count
        eventually(lambda: self.done() >= goal, f"{count} more requests", within_s=60)

    def done(self) -> int:
        with self._lock:
            return sum(self.answers.values()) + len(self.failures)

    def _run(self) -> None:
        if self.tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        else:
            connection = http.client.HTTPSConnection("localhost", self.port, context=self.tls, timeout=20)
        while not self._over.is_set():
            try:
                connection.request("GET", self.path)
                response = connection.getresponse()
                body = response.read().decode()
                failure = "" if response.status == 200 else f"{response.status} {body[:100]}"
            except (OSError, http.client.HTTPException) as error:
                failure = repr(error)
                connection.close()
            with self._lock:
                if failure:
                    self.failures.append(failure)
                else:
                    self.answers[body] += 1
        connection.close()


def end(pid: int, how: signal.Signals) -> None:
    os.kill(pid, how)
