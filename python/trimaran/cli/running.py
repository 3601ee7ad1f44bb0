"""Talking to the running Trimaran of a configuration, over its control socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any

from trimaran.config.load import Loaded
from trimaran.errors import NotRunning, TrimaranError

_TIMEOUT_S = 150.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Running:
    """The Trimaran that runs with the given configuration. Raises NotRunning when there is none."""

    def __init__(self, loaded: Loaded) -> None:
        self._state = loaded.state_directory
        try:
            run = json.loads((self._state / "run.json").read_text())
            os.kill(run["pid"], 0)
            self._socket = str(Path(run["control_socket"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise self._not_running() from None

    def get(self, path: str) -> dict[str, Any]:
        """The JSON at `path`."""
        return self._ask("GET", path, None)

    def command(self, name: str, **arguments: Any) -> str:
        """Has a command carried out and returns what was done. Raises TrimaranError with why not."""
        return str(self._ask("POST", f"/api/{name}", arguments)["message"])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        connection = _UnixConnection(self._socket)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = json.loads(answer.read())
        except (ConnectionError, FileNotFoundError):
            raise self._not_running() from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise TrimaranError(f"no proper answer from the running Trimaran: {error}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise TrimaranError(str(said.get("error", f"status {answer.status}")))
        return dict(said)

    def _not_running(self) -> NotRunning:
        return NotRunning(f"no Trimaran runs here (looked at {self._state}/run.json); `trimaran run` starts one")
