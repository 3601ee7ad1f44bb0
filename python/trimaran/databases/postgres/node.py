"""`EmbeddedNode`: one PostgreSQL server that Trimaran runs by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from trimaran.databases.postgres import account as accounts
from trimaran.databases.postgres import (
    find,
    initialise,
    occupant,
    passwords,
    place,
    port,
    programs,
    relocate,
    server_log,
    settings,
)
from trimaran.databases.postgres.files import make_directory
from trimaran.errors import DatabaseError

_READY_S = 60.0
_FAST_S, _IMMEDIATE_S = 5.0, 2.0
_SOCKET_PATH_MAX = 90
_LOOK_S = 0.02

Report = Callable[[str], None]


class EmbeddedNode:
    """A PostgreSQL on a loopback port with generated passwords, kept under the state directory.

    `start` and `restart_if_dead` must be called from the main thread: the server ends when that thread does.
    """

    def __init__(self, name: str, state_directory: Path, wanted_port: int = 0, binaries: Path | None = None) -> None:
        """`wanted_port` 0 takes a free one and remembers it. `binaries` names the directory of PostgreSQL's programs."""
        self.name = name
        self._own = place.directory_of(state_directory, name)
        self._wanted_port = wanted_port
        self._binaries = binaries
        self._process: subprocess.Popen[str] | None = None
        self._passwords: passwords.Passwords | None = None
        self._port = 0
        self._stopped = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def address(self) -> str:
        return f"{port.ADDRESS}:{self._port}"

    @property
    def dsn(self) -> str:
        """The address of the app's database with its role and password. Only after `start`."""
        if self._passwords is None:
            raise DatabaseError(f"the database {self.name} has not been started")
        return f"postgresql://{passwords.APP_ROLE}:{self._passwords.app}@{self.address}/{passwords.APP_DATABASE}"

    def start(self, report: Report) -> None:
        """Finds PostgreSQL, makes the data directory once, starts the server, waits until it takes connections.

        Raises DatabaseError that says what to do; then nothing is left running.
        """
        record = place.read_record(self._own)
        account = accounts.choose(Path(record.home or self._own) / "data", self._own.parent.parent)
        make_directory(self._own, 0o711 if account.dropped else 0o700)
        settled, record = place.settle(self._own, record, account, report)
        place.write_record(self._own, record)
        major = initialise.version_of(settled.data)
        binaries = relocate.readable(find.find(self._binaries, os.environ, major), account, report)
        occupant.clear(settled, account, report)
        known = passwords.read(settled.secrets)
        self._passwords = known or passwords.Passwords()
        if known is None:
            self._passwords.write(settled.secrets)
        if not major:
            initialise.initialise(binaries, settled, account, self._passwords, report)
        elif known is None:
            initialise.set_passwords(binaries, settled, account, self._passwords)
        self._port = self._choose_port(record.port, report)
        place.write_record(self._own, replace(record, port=self._port, major=binaries.major))
        self._launch(settled, binaries, account)
        self._stopped = False
        report(f"PostgreSQL {binaries.version} listens on {self.address} (data in {settled.data})")

    def restart_if_dead(self, report: Report) -> None:
        """Starts the server again when it has ended without being asked to. Raises DatabaseError."""
        if self.poll() == "failed":
            self.start(report)

    def poll(self) -> str:
        """running, stopped, or failed: it has ended without being asked to."""
        if self._process is None or self._stopped:
            return "stopped"
        return "running" if self._process.poll() is None else "failed"

    def stop(self) -> None:
        """Ends the server: sessions are cut off and their transactions rolled back, nothing committed is lost."""
        self._stopped = True
        if self._process is None:
            return
        for number, limit_s in ((signal.SIGINT, _FAST_S), (signal.SIGQUIT, _IMMEDIATE_S), (signal.SIGKILL, None)):
            if self._process.poll() is not None:
                break
            self._process.send_signal(number)
            try:
                self._process.wait(limit_s)
            except subprocess.TimeoutExpired:
                continue
        self._process = None

    def _choose_port(self, remembered: int, report: Report) -> int:
        if self._wanted_port:
            if not port.is_free(self._wanted_port):
                raise DatabaseError(
                    f"databases.{self.name}.port = {self._wanted_port}: is taken; choose another, or 0 for a free one"
                )
            return self._wanted_port
        if remembered and port.is_free(remembered):
            return remembered
        chosen = port.choose(self._own)
        if remembered:
            report(f"port {remembered} is taken now, listening on {chosen} instead")
        return chosen

    def _launch(self, settled: place.Place, binaries: find.Binaries, account: accounts.Account) -> None:
        """Starts the server and waits until it takes connections. Raises DatabaseError with its last words."""
        imposed = settings.imposed(
            port=self._port,
            address=port.ADDRESS,
            sockets=settled.run,
            log=settled.log,
            marker=settled.marker,
        )
        if len(str(settled.run)) > _SOCKET_PATH_MAX:
            imposed["unix_socket_directories"] = ""
        argv = [binaries.program("postgres"), "-D", str(settled.data), *settings.as_options(imposed)]
        log = server_log.ServerLog(settled.start_log, settled.log)
        with settled.start_log.open("w") as output:
            self._process = programs.spawn(
                argv, account, signal=signal.SIGQUIT, stdin=subprocess.DEVNULL, output=output
            )
        deadline = time.monotonic() + _READY_S
        while not _is_ready(settled.data, self._process.pid):
            try:
                ended = f"ended with status {self._process.wait(_LOOK_S)}"
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                ended = f"was not ready within {_READY_S:.0f} s"
                self.stop()
            self._process = None
            hint = initialise.hint_for(log.text(), settled.data)
            raise DatabaseError(
                f"{settled.data}: PostgreSQL {ended}{f' ({hint})' if hint else ''}:\n{log.last_lines()}"
            )


def _is_ready(data: Path, pid: int) -> bool:
    """Whether the server says in its lock file that it takes connections (PostgreSQL's `pidfile.h`, line 8)."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"
