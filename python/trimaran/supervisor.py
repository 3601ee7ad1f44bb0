"""The life of a running Trimaran: start everything in order, keep it going, end it in order.

One event loop in the main thread owns all of it; processes are started from there, because their tether hangs on that
thread. The data plane has threads of its own, and the admin listener one, which comes in through `Steering`.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trimaran import __version__, facts, snapshot
from trimaran._core import BindError, DataPlane, SnapshotError
from trimaran.config.check import check
from trimaran.config.load import Loaded, declarations, load
from trimaran.config.model import Bind, Config
from trimaran.dashboard.server import AdminServer
from trimaran.errors import ConfigErrors, PortInUse, PrepareError, TrimaranError
from trimaran.events import describe
from trimaran.journal import Journal
from trimaran.processes import Process, describe_exit
from trimaran.servers.autoscaling import loop as scaler
from trimaran.servers.group import Group
from trimaran.servers.resolve import Remotes
from trimaran.servers.server import Surroundings
from trimaran.status import Observer
from trimaran.steering import Steering

if TYPE_CHECKING:
    from trimaran.databases.service import DatabaseService

_GATEWAY_GRACE_S = 4.0
_SERVER_GRACE_S = 2.0
_CERTIFICATE_CHECK_S = 2.0
_SOCKET_DIRECTORY_MAX = 60
"""The kernel takes paths of 107 bytes; a server's name with its number takes up to 45."""
_EVENT_WAIT_MS = 500


class Supervisor:
    """One running Trimaran. `run` blocks until it has ended and returns the exit code; it may be called once."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.journal = Journal()
        self.groups: dict[str, Group] = {}
        self.remotes: dict[str, Remotes] = {}
        self.databases: DatabaseService | None = None
        self.plane: DataPlane | None = None
        self.started_at = datetime.now().astimezone()
        self._admin: AdminServer | None = None
        self._lock_file: IO[str] | None = None
        self._sockets: Path | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._stops = 0
        self._certificate_marks = snapshot.certificate_marks(loaded)
        self.rates: dict[str, float] = {}
        """Requests per second by pool, over the last second or so."""

    def run(self) -> int:
        """Starts, serves until SIGTERM or SIGINT, ends. Raises TrimaranError when the start fails; nothing is left then."""
        return asyncio.run(self._run())

    async def _run(self) -> int:
        self._listen_for_signals()
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
            else:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
        finally:
            stopping.cancel()
            await self._end()
        return 0

    # Start

    async def _start(self) -> None:
        self._lock()
        self._check_addresses()
        self._sockets = _socket_directory(self.loaded.state_directory)
        environment = dict(os.environ)
        environment |= await self._start_databases()
        self._build_pools(environment)
        self._open_gateway()
        await self._prepare(environment)
        await asyncio.gather(*(remotes.start() for remotes in self.remotes.values()))
        for group in self.groups.values():
            self.journal.say("trimaran", f"starting {group.pool.count.least} servers of {group.pool.app}")
        await asyncio.gather(*(group.start() for group in self.groups.values()))
        self._accept()
        self._open_admin()
        self._begin_background()
        self._announce()

    def _lock(self) -> None:
        """One Trimaran per state directory."""
        state = self.loaded.state_directory
        state.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            (state / ".gitignore").write_text("*\n")
        lock = (state / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            lock.close()
            raise TrimaranError(f"another Trimaran runs with the state directory {state} (pid {pid})") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock_file = lock

    def _check_addresses(self) -> None:
        """Finds out about taken ports before anything is started."""
        config = self.loaded.config
        wanted = [(bind, "gateway.bind", "--bind") for bind in config.gateway.bind]
        wanted += [(bind, "gateway.tls.bind", "--https") for bind in config.gateway.tls.bind]
        wanted += [
            (database.bind, f"databases.{name}.bind", "trimaran.toml")
            for name, database in config.databases.items()
            if database.gateway
        ]
        if config.admin.enabled:
            wanted.append((config.admin.bind, "admin.bind", "--admin"))
        for bind, key, flag in wanted:
            if bind.path is None and bind.port:
                _try_bind(bind, f"choose another with {key} or {flag}")

    async def _start_databases(self) -> dict[str, str]:
        """Starts databases; returns the variables by which the app finds them."""
        config = self.loaded.config
        if not config.databases:
            return {}
        # Imported late: without databases their client library need not be there.
        from trimaran.databases.service import DatabaseService

        self.databases = DatabaseService(
            dict(config.databases), self.loaded.state_directory, self.journal, self.publish
        )
        await self.databases.start()
        return self.databases.environment()

    async def _prepare(self, environment: dict[str, str]) -> None:
        """Runs the commands of `prepare` to their end, in order, with our Python first on the path."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
        for line in self.loaded.config.prepare:
            self.journal.say("prepare", f"$ {line}")
            command = shlex.split(line)
            program = shutil.which(command[0], path=path) if command else None
            if program is None:
                raise PrepareError(f"prepare: {line!r}: there is no such command")
            process = Process(
                [program, *command[1:]],
                environment={**environment, "PATH": path},
                directory=self.loaded.directory,
                on_line=lambda text: self.journal.say("prepare", text),
            )
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                await process.stop(1.0)
                raise
            if code != 0:
                raise PrepareError(f"prepare: {line!r} {describe_exit(code)}; what it said is above")

    def _build_pools(self, environment: dict[str, str]) -> None:
        assert self._sockets is not None
        surroundings = Surroundings(
            directory=self.loaded.directory,
            environment=environment,
            sockets=self._sockets,
            journal=self.journal,
            publish=self.publish,
            in_use=self.in_use,
        )
        for name, pool in self.loaded.config.all_pools().items():
            if pool.app:
                self.groups[name] = Group(name, pool, surroundings)
            if pool.addresses:
                self.remotes[name] = Remotes(name, pool, self.journal, self.publish)

    def _open_gateway(self) -> None:
        """Binds everything. Databases are open from here on, for `prepare` and the servers; HTTP when servers are ready."""
        try:
            self.plane = DataPlane(self._snapshot(), accept=False)
        except BindError as error:
            config = self.loaded.config
            databases = tuple(database.bind for database in config.databases.values())
            binds = config.gateway.bind + config.gateway.tls.bind + databases
            raise PortInUse(", ".join(map(str, binds)), str(error)) from error
        if self.databases is not None:
            self.databases.open(self.plane)

    def _accept(self) -> None:
        assert self.plane is not None
        try:
            self.plane.accept()
        except BindError as error:
            raise PortInUse(", ".join(map(str, self.loaded.config.gateway.bind)), str(error)) from error

    def _open_admin(self) -> None:
        config = self.loaded.config.admin
        steering = Steering(self, asyncio.get_running_loop())
        socket_path = self.loaded.state_directory / "control.sock"
        if len(str(socket_path)) > 100:
            assert self._sockets is not None
            socket_path = self._sockets / "control.sock"
        self._admin = AdminServer(steering, config.bind if config.enabled else None, config.token, socket_path)
        self._admin.start()
        run = {
            "pid": os.getpid(),
            "admin_address": str(config.bind) if config.enabled else None,
            "control_socket": str(socket_path),
        }
        (self.loaded.state_directory / "run.json").write_text(json.dumps(run))

    def _begin_background(self) -> None:
        self._in_background(self._tell_events())
        self._in_background(self._measure_rates())
        if self.loaded.config.gateway.tls.bind:
            self._in_background(self._watch_certificates())
        for group in self.groups.values():
            self._in_background(group.recycle())
            self._in_background(
                scaler.run(group, self.facts, lambda: self.loaded.config.scaling, self.journal),
            )
        for remotes in self.remotes.values():
            self._in_background(remotes.keep_resolving())
        if self.databases is not None:
            self._in_background(self.databases.watch_users())

    def _announce(self) -> None:
        addresses = "  ".join(_url(bind) for bind in self.addresses())
        admin = self.loaded.config.admin
        status = f"   status {_url(str(admin.bind))}" if admin.enabled else ""
        self.journal.say("trimaran", f"{__version__}  {addresses}{status}   Ctrl-C ends it")

    # Serve

    def publish(self) -> None:
        """Sends the present configuration and topology down."""
        if self.plane is not None:
            self.plane.apply(self._snapshot())

    def facts(self) -> facts.Facts:
        """What the data plane counts, now."""
        assert self.plane is not None
        return facts.parse(self.plane.facts())

    def in_use(self, pool: str, server: str) -> int:
        """Requests and streams that a server has in hand."""
        if self.plane is None:
            return 0
        found = [s for p in self.facts().pools if p.name == pool for s in p.servers if s.name == server]
        return sum(server.in_flight + server.streams for server in found)

    def addresses(self) -> list[str]:
        """Where the gateway listens: `127.0.0.1:8000`, `https://127.0.0.1:8443` or `unix:/path`."""
        bound = self.plane.addresses() if self.plane else []
        plain = len(self.loaded.config.gateway.bind)
        encrypted = plain + len(self.loaded.config.gateway.tls.bind)
        return bound[:plain] + [f"https://{address}" for address in bound[plain:encrypted]]

    def observer(self) -> Observer:
        """What `status` and `metrics` are made from."""
        return Observer(self)

    def _snapshot(self) -> str:
        pools = {}
        for name, pool in self.loaded.config.all_pools().items():
            placed = self.groups[name].placed() if name in self.groups else []
            placed += self.remotes[name].placed() if name in self.remotes else []
            pools[name] = (pool, placed)
        databases = self.databases.snapshot() if self.databases is not None else []
        return snapshot.build(self.loaded, pools, self._certificate_marks, databases)

    async def scale(self, pool: str, count: int) -> str:
        """Sets a pool's count. Raises TrimaranError outside its range."""
        group = self._group(pool)
        allowed = group.pool.count
        if allowed.least != allowed.most and not allowed.least <= count <= allowed.most:
            raise TrimaranError(f"{count} servers are outside the range {allowed} of the pool {pool}")
        if not 1 <= count <= 1000:
            raise TrimaranError(f"{count} servers: expected a number from 1 to 1000")
        before = group.count
        self.journal.decide(pool, f"scale from {before} to {count} servers", "asked for by hand")
        group.scale(count)
        said = f"{pool} goes from {before} to {count} servers"
        return said if allowed.least == allowed.most else f"{said}; the scaler goes on from there, within {allowed}"

    async def drain(self, server: str) -> str:
        """Takes a server out of traffic and replaces it, when it is our own."""
        for name, group in self.groups.items():
            if any(other.name == server for other in group.servers()):
                self.journal.decide(name, f"drain {server}", "asked for by hand")
                await group.drain(server)
                return f"{server} gets no new requests and ends when it has finished; a new server has taken its place"
        for name, remotes in self.remotes.items():
            if remotes.drain(server):
                self.journal.decide(name, f"drain {server}", "asked for by hand")
                return f"{server} gets no new requests until the next reload"
        known = [other.name for group in self.groups.values() for other in group.servers()]
        raise TrimaranError(f"there is no server {server}; there are {', '.join(known)}")

    async def reload(self) -> str:
        """Reads the configuration again and moves traffic to new servers. Raises TrimaranError; then the old ones go on."""
        loaded = load(self.loaded.path, environ=os.environ, flags=self.loaded.flags)
        if problems := check(loaded):
            raise ConfigErrors(problems)
        fixed = _changed_fixed_settings(self.loaded.config, loaded.config)
        pools = loaded.config.all_pools()
        if set(pools) != set(self.loaded.config.all_pools()):
            fixed.append("pools")
            pools = {name: pool for name, pool in pools.items() if name in self.groups or name in self.remotes}
        before, self.loaded = self.loaded, loaded if "pools" not in fixed else self.loaded
        marks, self._certificate_marks = self._certificate_marks, snapshot.certificate_marks(self.loaded)
        try:
            await asyncio.gather(
                *(remotes.replace(pools[name]) for name, remotes in self.remotes.items() if name in pools)
            )
            await asyncio.gather(*(group.reload(pools[name]) for name, group in self.groups.items() if name in pools))
        except TrimaranError as error:
            self.loaded, self._certificate_marks = before, marks
            self.publish()
            self.journal.decide("app", "keep the old servers", f"the new version does not boot: {error}")
            raise TrimaranError(f"nothing has changed, the old servers go on: {error}") from error
        self.publish()
        count = sum(group.count for group in self.groups.values())
        self.journal.decide("app", "reload", f"{count} new servers have taken over")
        said = f"{count} new servers have taken over; the old ones finish what they have"
        return said + (f". Restart Trimaran to apply: {', '.join(fixed)}" if fixed else "")

    def database_service(self) -> DatabaseService:
        """The databases. Raises TrimaranError when there are none."""
        if self.databases is None:
            raise TrimaranError("this app has no database; [databases.main] in trimaran.toml gives it one")
        return self.databases

    def _group(self, pool: str) -> Group:
        if pool not in self.groups:
            raise TrimaranError(f"there is no pool {pool} with own servers; there are {', '.join(self.groups)}")
        return self.groups[pool]

    async def _tell_events(self) -> None:
        assert self.plane is not None
        while True:
            for event in await asyncio.to_thread(self.plane.events, _EVENT_WAIT_MS):
                if line := describe(event):
                    self.journal.say(*line)

    async def _measure_rates(self) -> None:
        last = self.facts()
        while True:
            await asyncio.sleep(1.0)
            now = self.facts()
            before = {pool.name: pool.arrivals_total for pool in last.pools}
            seconds = max(now.at_ms - last.at_ms, 1) / 1000
            self.rates = {p.name: round((p.arrivals_total - before.get(p.name, 0)) / seconds, 1) for p in now.pools}
            last = now

    async def _watch_certificates(self) -> None:
        """Takes over certificates whose files have changed. Ones that cannot be used are told of once; the old ones stay."""
        refused = None
        while True:
            await asyncio.sleep(_CERTIFICATE_CHECK_S)
            before, now = self._certificate_marks, snapshot.certificate_marks(self.loaded)
            if now in (before, refused):
                continue
            self._certificate_marks = now
            try:
                self.publish()
            except SnapshotError as error:
                self._certificate_marks, refused = before, now
                self.journal.decide("gateway", "keep the old certificates", str(error))
            else:
                changed = ", ".join(name for name, mark in now.items() if before.get(name) != mark)
                self.journal.decide("gateway", "use new certificates", f"{changed} has changed")

    # End

    async def _end(self) -> None:
        if self._lock_file is None:
            return
        self.journal.say("trimaran", "stopping")
        for task in self._tasks:
            task.cancel()
        if self.plane is not None:
            grace_s = _GATEWAY_GRACE_S
            stopping = asyncio.create_task(asyncio.to_thread(self.plane.stop, int(grace_s * 1000)))
            while not stopping.done() and self._stops < 2:
                await asyncio.wait([stopping], timeout=0.1)
        await asyncio.gather(*(group.stop(_SERVER_GRACE_S) for group in self.groups.values()))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._admin is not None:
            await asyncio.to_thread(self._admin.stop)
        if self.databases is not None:
            await self.databases.stop()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
        (self.loaded.state_directory / "run.json").unlink(missing_ok=True)
        self._lock_file.close()
        self.journal.say("trimaran", "stopped")

    # Signals

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_stop(self) -> None:
        self._stops += 1
        self._stop.set()

    def _on_hangup(self) -> None:
        if self.plane is not None:
            self._in_background(self._reload_and_tell())

    async def _reload_and_tell(self) -> None:
        try:
            self.journal.say("trimaran", await self.reload())
        except TrimaranError as error:
            self.journal.say("trimaran", str(error))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_background_end)

    def _on_background_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug: serving goes on, and whoever reads the log can tell us.
            lines = "".join(traceback.format_exception(error)).rstrip()
            self.journal.say("trimaran", f"background work has ended by an error:\n{lines}")

    @property
    def uptime_s(self) -> float:
        return time.time() - self.started_at.timestamp()


def _socket_directory(state: Path) -> Path:
    """A private place for the sockets of servers: beside the state, or where paths are short enough for sockets.

    What a killed Trimaran left there is removed; the caller holds the lock.
    """
    directory = state / "sockets"
    if len(str(directory)) > _SOCKET_DIRECTORY_MAX:
        return Path(tempfile.mkdtemp(prefix="trimaran-"))
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    return directory


def _try_bind(bind: Bind, hint: str) -> None:
    host = bind.host or "0.0.0.0"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, bind.port))
            probe.listen(1)
        except OSError as error:
            raise PortInUse(str(bind), f"{os.strerror(error.errno or 0)}; {hint}") from error


def _url(bind: str) -> str:
    if bind.startswith("https:"):
        return f"{bind.replace('[::]', 'localhost')}/"
    return bind if bind.startswith("unix:") else f"http://{bind.replace('[::]', 'localhost')}/"


def _changed_fixed_settings(old: Config, new: Config) -> list[str]:
    """Settings that changed and are only read at the start."""
    changed = []
    for section in ("", "gateway", "gateway.tls", "admin"):
        before, after = (attrgetter(section)(config) if section else config for config in (old, new))
        for name, (_, declaration) in declarations(type(after)).items():
            if not declaration.live and getattr(before, name) != getattr(after, name):
                changed.append(f"{section}.{name}" if section else name)
    return changed
