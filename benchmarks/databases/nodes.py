"""The PostgreSQL servers behind all contenders: a primary and two replicas as Trimaran runs them, and pgbench's tables."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from trimaran.config.model import Bind, Database
from trimaran.databases.service import DatabaseService
from trimaran.journal import Journal

from benchmarks.databases.load import Load, run
from benchmarks.servers.contenders.process import free_port, program
from tests.support.waiting import eventually

T = TypeVar("T")
START_S = 180.0
REPLICAS = 2
CLIENTS_MAX = 4_000
POOL = 20
"""Server connections, the same for every pooler."""
SCALE = 10
WARM_S = 4
_NAME = "main"


class _Silence(Journal):
    """What nodes have to say is not for the report."""

    def say(self, name: str, message: str) -> None:
        pass


class Nodes:
    """Starts on entry, in this process's cores, and ends on exit."""

    def __init__(self, directory: Path) -> None:
        bind = Bind("127.0.0.1", free_port())
        self._settings = Database(replicas=REPLICAS, bind=bind, clients_max=CLIENTS_MAX, connections_max=POOL)
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Nodes:
        self._thread.start()
        self._service = DatabaseService({_NAME: self._settings}, self._directory, _Silence(), lambda: None)
        self._call(self._service.start())
        subprocess.run(
            [program("pgbench"), "--initialize", "--quiet", f"--scale={SCALE}", self.dsn],
            check=True,
            capture_output=True,
            timeout=START_S,
        )
        eventually(self._are_all_up, "the replicas follow", START_S)
        for member in self._service.groups[_NAME].members():
            # Replicas have nothing in their buffers yet.
            run(member.dsn, None, Load("select", "prepared", clients=8, seconds=WARM_S))
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._service.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _are_all_up(self) -> bool:
        roles = [member.role for member in self._service.groups[_NAME].members()]
        return sorted(roles) == ["primary", *["replica"] * REPLICAS]

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_S)

    @property
    def dsn(self) -> str:
        """The primary's, past any gateway."""
        members = self._service.groups[_NAME].members()
        return next(member.dsn for member in members if member.role == "primary")

    @property
    def sockets(self) -> Path:
        """The directory of the primary's Unix socket."""
        members = self._service.groups[_NAME].members()
        return Path(next(member.sockets for member in members if member.role == "primary"))

    def through(self, port: int) -> str:
        """The same for a pooler on this port."""
        place = urlsplit(self.dsn)
        return place._replace(netloc=f"{place.username}:{place.password}@127.0.0.1:{port}").geturl()

    def gateway(self, port: int, *, split: bool) -> dict[str, Any]:
        """The group as a snapshot has it: with its replicas, or as a primary alone."""
        [group] = self._service.snapshot()
        nodes = [node for node in group["nodes"] if split or node["role"] == "primary"]
        if len(nodes) != (REPLICAS + 1 if split else 1):
            raise SystemExit("not all PostgreSQL servers are up")
        return {**group, "listener": f"127.0.0.1:{port}", "nodes": nodes, "reads": {**group["reads"], "split": split}}
