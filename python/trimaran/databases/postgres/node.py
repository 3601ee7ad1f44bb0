"""`EmbeddedNode`: one PostgreSQL server that Trimaran runs by itself, as a primary or as a replica of another."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from trimaran.databases.postgres import account as accounts
from trimaran.databases.postgres import (
    control_data,
    copying,
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
    standby,
)
from trimaran.databases.postgres.control_data import ControlData
from trimaran.databases.postgres.files import make_directory
from trimaran.databases.postgres.standby import Upstream
from trimaran.errors import DatabaseError

_READY_S = 60.0
_RECOVERY_S = 900.0
"""A replica with much to replay takes connections when it is consistent."""
_FAST_S, _IMMEDIATE_S = 5.0, 2.0
_SOCKET_PATH_MAX = 90
_LOOK_S = 0.01

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Ground:
    """What a node stands on, settled before each start."""

    at: place.Place
    account: accounts.Account
    binaries: find.Binaries
    record: place.Record
    major: int
    """Version of the data; 0 when there is none yet."""


class EmbeddedNode:
    """A PostgreSQL on a loopback port with generated passwords, kept under the state directory.

    What starts a process must be called from the main thread: the server ends when that thread does.
    """

    def __init__(
        self,
        name: str,
        state_directory: Path,
        wanted_port: int = 0,
        binaries: Path | None = None,
        *,
        secrets: Path | None = None,
    ) -> None:
        """`wanted_port` 0 takes a free one and remembers it. `binaries` names the directory of PostgreSQL's programs.

        `secrets` is the file of the passwords, where it is not the node's own: all nodes of a group share one.
        """
        self.name = name
        self._own = place.directory_of(state_directory, name)
        self._wanted_port = wanted_port
        self._binaries = binaries
        self._secrets = secrets or self._own / "secrets.json"
        self._process: subprocess.Popen[str] | None = None
        self._passwords: passwords.Passwords | None = None
        self._ground: _Ground | None = None
        self._port = 0
        self._stopped = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def port(self) -> int:
        """Where it listens on the loopback address; 0 before the first start."""
        return self._port

    @property
    def address(self) -> str:
        return f"{port.ADDRESS}:{self._port}"

    @property
    def sockets(self) -> Path | None:
        """The directory of its Unix socket, for processes of its own account. None before the first start."""
        return self._ground.at.run if self._ground else None

    @property
    def upstream(self) -> Upstream:
        """This node as one that others follow."""
        return Upstream(port.ADDRESS, self._port)

    @property
    def passwords(self) -> passwords.Passwords:
        """Those of the roles. Only after the database's first start."""
        self._passwords = self._passwords or passwords.read(self._secrets)
        if self._passwords is None:
            raise DatabaseError(f"the database {self.name} has not been started")
        return self._passwords

    @property
    def dsn(self) -> str:
        """The address of the app's database with its role and password. Only after `start`."""
        return f"postgresql://{passwords.APP_ROLE}:{self.passwords.app}@{self.address}/{passwords.APP_DATABASE}"

    @property
    def pass_file(self) -> Path:
        """What it logs in with at the node it follows. Only after `start`."""
        if self._ground is None:
            raise DatabaseError(f"the database {self.name} has not been started")
        return self._ground.at.pass_file

    # Start

    def start(self, report: Report) -> None:
        """`bring_up` for callers without an event loop."""
        asyncio.run(self.bring_up(report))

    async def bring_up(self, report: Report) -> None:
        """Finds PostgreSQL, makes the data directory once, starts the server, waits until it takes connections.

        Data that is a replica's starts as one. Raises DatabaseError that says what to do; then nothing is left running.
        """
        ground = await self._prepare(report)
        known = passwords.read(self._secrets)
        self._passwords = known or passwords.Passwords()
        self._passwords.write(self._secrets)
        if not ground.major:
            await initialise.initialise(ground.binaries, ground.at, ground.account, self._passwords, report)
        elif known is None and not standby.is_standby(ground.at.data):
            await initialise.set_passwords(ground.binaries, ground.at, ground.account, self._passwords)
        await self._listen(ground, report)

    async def follow(
        self, name: str, upstream: Upstream, report: Report, *, diverged: bool = False, copy: bool = False
    ) -> None:
        """Runs as a replica of `upstream`, which knows it as `name`: copies it when there is no data yet.

        Data of a node that was a primary is rewound first, as is that of a replica that may have `diverged`; it is set
        aside and copied anew when that is not possible. `copy` replaces a replica's data by a whole new copy. The
        upstream runs and has the slot. Raises DatabaseError; then nothing is left running.
        """
        ground = await self._prepare(report)
        kept = passwords.read(self._secrets)
        if kept is None:
            raise DatabaseError(f"{self._secrets}: the passwords of the primary are not there")
        self._passwords = kept
        at = ground.at
        standby.write_pass_file(at.pass_file, kept, ground.account)
        steps = (ground.binaries, at, ground.account, name, upstream, report)
        was_replica = standby.is_standby(at.data)
        if not ground.major or (copy and was_replica):
            await copying.base_backup(*steps)
        elif was_replica and not diverged:
            standby.follow(at.data, name, upstream, at.pass_file, ground.account)
        elif not await copying.rewind(*steps):
            if not was_replica:
                copying.set_aside(at, report)
            await copying.base_backup(*steps)
        await self._listen(ground, report)

    async def control_data(self, report: Report) -> ControlData | None:
        """What the data says while the server is down; None when there is none yet. Raises DatabaseError."""
        ground = await self._prepare(report)
        return await control_data.read(ground.binaries, ground.at, ground.account) if ground.major else None

    async def _prepare(self, report: Report) -> _Ground:
        """Settles where the data is, who runs it and with what, and waits for what is left of an earlier run."""
        record = place.read_record(self._own)
        account = accounts.choose(Path(record.home or self._own) / "data", self._own.parent.parent)
        make_directory(self._own, 0o711 if account.dropped else 0o700)
        settled, record = place.settle(self._own, record, account, report)
        place.write_record(self._own, record)
        major = initialise.version_of(settled.data)
        binaries = relocate.readable(find.find(self._binaries, os.environ, major), account, report)
        await occupant.clear(settled, account, report)
        self._ground = _Ground(settled, account, binaries, record, major)
        return self._ground

    async def _listen(self, ground: _Ground, report: Report) -> None:
        self._port = self._choose_port(ground.record.port, report)
        place.write_record(self._own, replace(ground.record, port=self._port, major=ground.binaries.major))
        await self._launch(ground.at, ground.binaries, ground.account)
        self._stopped = False
        report(f"PostgreSQL {ground.binaries.version} listens on {self.address} (data in {ground.at.data})")

    # Watch and end

    def restart_if_dead(self, report: Report) -> None:
        """Starts the server again when it has ended without being asked to. Raises DatabaseError."""
        if self.poll() == "failed":
            self.start(report)

    def poll(self) -> str:
        """running, stopped, or failed: it has ended without being asked to."""
        if self._process is None or self._stopped:
            return "stopped"
        return "running" if self._process.poll() is None else "failed"

    def is_suspended(self) -> bool:
        """Whether somebody has stopped the server's process (SIGSTOP): it accepts nobody, and does not end either."""
        try:
            said = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return said.rpartition(")")[2].split()[0] in ("T", "t")

    def free_bytes(self) -> int | None:
        """Room on the disk of the data; None where that cannot be told."""
        if self._ground is None:
            return None
        try:
            found = os.statvfs(self._ground.at.data)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize

    def is_gone(self) -> bool:
        """Whether no process is on the data, so that nothing more can be written or acknowledged."""
        return self._ground is None or not occupant.processes(self._ground.at, self._ground.account)

    async def kill(self) -> bool:
        """Ends every process on the data at once, without a chance to write; whether they are all gone."""
        gone = self._ground is None or await occupant.kill(self._ground.at, self._ground.account)
        if self._process is not None:
            self._process.poll()
        return gone

    def stop(self) -> None:
        """`shut_down` for callers without an event loop."""
        asyncio.run(self.shut_down())

    async def shut_down(self, fast_s: float = _FAST_S) -> bool:
        """Ends the server: sessions are cut off and their transactions rolled back, nothing committed is lost.

        Replicas that follow get everything before it ends. Whether it ended by itself, within `fast_s` seconds.
        """
        self._stopped = True
        process, self._process = self._process, None
        if process is None:
            return True
        for number, limit_s in ((signal.SIGINT, fast_s), (signal.SIGQUIT, _IMMEDIATE_S), (signal.SIGKILL, 5.0)):
            if process.poll() is None:
                process.send_signal(number)
            if await programs.ended(process, limit_s):
                return number == signal.SIGINT
        return False

    def remove_copy(self) -> Path | None:
        """Remove the data of a replica that has ended, and what is remembered of it.

        Data that is not a plain replica's is kept; the answer is where.
        """
        ground = self._ground
        if ground is None or not ground.at.data.exists():
            return None
        if not standby.is_standby(ground.at.data):
            return ground.at.data
        shutil.rmtree(ground.at.data)
        for each in (ground.at.log, ground.at.run):
            shutil.rmtree(each, ignore_errors=True)
        ground.at.pass_file.unlink(missing_ok=True)
        (self._own / "node.json").unlink(missing_ok=True)
        self._ground = None
        for each in {ground.at.home, self._own}:
            with suppress(OSError):  # It holds more: of the first node, what belongs to the group.
                each.rmdir()
        return None

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

    async def _launch(self, settled: place.Place, binaries: find.Binaries, account: accounts.Account) -> None:
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
        limit_s = _RECOVERY_S if standby.is_standby(settled.data) else _READY_S
        deadline = time.monotonic() + limit_s
        try:
            while not _is_ready(settled.data, self._process.pid):
                if self._process.poll() is not None:
                    ended = f"ended with status {self._process.returncode}"
                elif time.monotonic() < deadline:
                    await asyncio.sleep(_LOOK_S)
                    continue
                else:
                    ended = f"was not ready within {limit_s:.0f} s"
                    await self.shut_down()
                self._process = None
                hint = initialise.hint_for(log.text(), settled.data)
                raise DatabaseError(
                    f"{settled.data}: PostgreSQL {ended}{f' ({hint})' if hint else ''}:\n{log.last_lines()}"
                )
        except asyncio.CancelledError:
            await self.shut_down()
            raise


def _is_ready(data: Path, pid: int) -> bool:
    """Whether the server says in its lock file that it takes connections (PostgreSQL's `pidfile.h`, line 8).

    A replica says `standby` from the moment it reads its WAL; it takes read-only connections once it is consistent,
    which its followers find out by asking.
    """
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() in ("ready", "standby")
