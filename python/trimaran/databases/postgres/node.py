"""`EmbeddedNode`: one PostgreSQL server that Trimaran runs by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from trimaran.databases.postgres import account as accounts
from trimaran.databases.postgres import find, initialise, occupant, passwords, place, port, relocate
from trimaran.databases.postgres.files import make_directory
from trimaran.errors import DatabaseError

_READY_S = 60.0
_FAST_S, _IMMEDIATE_S = 5.0, 2.0
_SOCKET_PATH_MAX = 90
_LOG_TAIL = 8

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
        self._process: subprocess.Popen[bytes] | None = None
        self._passwords: passwords.Passwords | None = None
        self._port = 0
        self._stopped = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def address(self) -> str:
        return f"{port.HOST}:{self._port}"

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
        major = initialise.data_version(settled)
        binaries = relocate.readable(find.find(self._binaries, os.environ, major), account, report)
        occupant.evict(settled, report)
        known = passwords.read(settled.secrets)
        self._passwords = known or passwords.Passwords()
        if known is None:
            self._passwords.write(settled.secrets)
        if not major:
            initialise.initialise(settled, binaries, account, self._passwords, report)
        elif known is None:
            initialise.set_passwords(settled, binaries, account, self._passwords)
        self._port = port.choose(self._wanted_port, record.port, report)
        place.write_record(self._own, replace(record, port=self._port, major=binaries.major))
        self._spawn(settled, binaries, account)
        self._wait_until_ready(settled)
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

    def _spawn(self, settled: place.Place, binaries: find.Binaries, account: accounts.Account) -> None:
        socket_directory = str(settled.run) if len(str(settled.run)) <= _SOCKET_PATH_MAX else ""
        options = {
            "listen_addresses": port.HOST,
            "port": self._port,
            "unix_socket_directories": socket_directory,
            "cluster_name": settled.marker,
            "max_connections": 200,
            "shared_buffers": "128MB",
            "wal_level": "replica",
            "logging_collector": "on",
            "log_directory": settled.log,
            "log_filename": "postgresql-%a.log",
            "log_truncate_on_rotation": "on",
            "log_rotation_age": "1d",
            "log_line_prefix": "%m [%p] %q%u@%d ",
        }
        tether = [sys.executable, "-P", "-m", "trimaran.tether", "--signal", "QUIT", "--parent", str(os.getpid())]
        user = ["--user", account.name] if account.dropped else []
        server = [binaries.program("postgres"), "-D", str(settled.data)]
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with settled.start_log.open("wb") as log:
            self._process = subprocess.Popen(
                [*tether, *user, "--", *server, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )

    def _wait_until_ready(self, settled: place.Place) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _READY_S
        while not (occupant.is_ready(settled.data) and occupant.postmaster_pid(settled.data) == self._process.pid):
            try:
                code = self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                self.stop()
                code = None
            ended = f"ended with code {code}" if code is not None else f"was not ready within {_READY_S:.0f} s"
            self._process = None
            raise DatabaseError(f"PostgreSQL {ended}; its last words:\n{_last_words(settled)}")


def _last_words(settled: place.Place) -> str:
    logs = sorted(settled.log.glob("*.log"), key=lambda path: path.stat().st_mtime)
    lines = settled.start_log.read_text(errors="replace").splitlines()
    if logs:
        lines += logs[-1].read_text(errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-_LOG_TAIL:])
