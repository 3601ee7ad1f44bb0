"""Starts app servers for tests, as the supervisor does, and talks to them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from trimaran.servers.appserver import AppServerSpec, command

APPS = Path(__file__).parent / "apps"
BOOT_S = 30.0


def spec(app: str, socket_path: Path, **changes: Any) -> AppServerSpec:
    """A spec with the defaults of these tests."""
    values: dict[str, Any] = {
        "app": app,
        "interface": "auto",
        "engine": "auto",
        "socket": socket_path,
        "threads": 4,
        "name": "app-7",
        "directory": APPS,
        "parent_pid": os.getpid(),
    }
    return AppServerSpec(**{**values, **changes})


def read_line(descriptor: int, within_s: float = BOOT_S) -> str:
    """All that is written to the pipe until it is closed."""
    text = b""
    while True:
        readable, _, _ = select.select([descriptor], [], [], within_s)
        assert readable, f"no ready line within {within_s} s"
        part = os.read(descriptor, 65_536)
        if not part:
            return text.decode()
        text += part


@dataclass
class Running:
    """A child process and what it reported when it was ready, or why it is not."""

    process: subprocess.Popen[bytes]
    address: Path
    report: dict[str, Any]
    output: Path

    @classmethod
    def start(cls, app: str, place: Path, *, environ: Mapping[str, str] | None = None, **changes: Any) -> Self:
        socket_path = place / "s"
        output = place / "output"
        reader, writer = os.pipe()
        try:
            with output.open("wb") as sink:
                process = subprocess.Popen(
                    command(spec(app, socket_path, **changes), writer),
                    pass_fds=[writer],
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(environ or {})},
                )
            os.close(writer)
            lines = read_line(reader).splitlines()
        finally:
            os.close(reader)
        report = json.loads(lines[0]) if lines else {}
        assert len(lines) <= 1
        return cls(process, socket_path, report, output)

    def connect(self, timeout: float = 20.0) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        connection.connect(os.fspath(self.address))
        return connection

    def client(self) -> Client:
        return Client(self)

    def get(self, target: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
        with contextlib.closing(self.client()) as client:
            return client.ask(method, target, headers=headers)

    def log(self) -> str:
        return self.output.read_text()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(20)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client(http.client.HTTPConnection):
    """An HTTP/1.1 client connection on the server's socket."""

    def __init__(self, server: Running) -> None:
        super().__init__("app.test", timeout=20)
        self._server = server

    def connect(self) -> None:
        self.sock = self._server.connect()

    def ask(
        self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None, **kw: Any
    ) -> Answer:
        self.request(method, target, body=body, headers=headers or {}, **kw)
        response = self.getresponse()
        return Answer(response.status, response.headers, response.read())


@contextlib.contextmanager
def running(app: str, **options: Any) -> Iterator[Running]:
    """A server of its own for one test; ended whatever happens. It may have failed to start: see its report."""
    with tempfile.TemporaryDirectory(prefix="trimaran-test-") as place:
        server = Running.start(app, Path(place), **options)
        try:
            yield server
        finally:
            server.process.kill()
            server.process.wait()
