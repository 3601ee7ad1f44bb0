"""A database's part of the snapshot: who may connect, and which node is what.

Roles are read from the primary, so that a new role or another password works through the gateway a moment later
(`REFRESH_S`), without being written down anywhere. Where our login may not read them, its own is the only one.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import conninfo

from trimaran.config.model import Database
from trimaran.errors import DatabaseError
from trimaran.snapshot import listener

from .group import DatabaseGroup, Member
from .replication.nodes import Credentials

CONSOLE = "trimaran_console"
"""The database that every gateway has besides those of its nodes. Not the name of a role: libpq's default is the user's."""
REFRESH_S = 2.0
"""Time between two looks at the roles."""
_MONITOR_INTERVAL_MS = 100
_MONITOR_REST_MS = 1_000
"""The same while nobody uses the gateway."""
_ROLES_MAX = 10_000
_ROLES = f"""SELECT rolname, rolpassword, rolsuper FROM pg_catalog.pg_authid
WHERE rolcanlogin AND rolpassword LIKE 'SCRAM-SHA-256$%' AND (rolvaliduntil IS NULL OR rolvaliduntil > now())
ORDER BY rolname LIMIT {_ROLES_MAX}"""


@dataclass(frozen=True, slots=True)
class User:
    """Who may connect: by password, or by what PostgreSQL keeps of one (a SCRAM verifier)."""

    name: str
    password: str | None = None
    verifier: str | None = None
    operator: bool = False

    def __repr__(self) -> str:
        return f"User({self.name!r})"


class DatabaseGateway:
    """The gateway of one group, as the snapshot is to show it."""

    def __init__(self, group: DatabaseGroup) -> None:
        self.group = group
        self._users: tuple[User, ...] = ()
        self._addresses: dict[str, str] = {}

    @property
    def settings(self) -> Database:
        return self.group.settings

    def dsn(self, database: str | None = None) -> str:
        """The address that the app gets, or the same for another database."""
        login, bind = self.group.credentials, self.settings.bind
        name, password = quote(login.app_user, safe=""), quote(login.app_password, safe="")
        host = "127.0.0.1" if bind.host in ("", "0.0.0.0", "::", "localhost") else bind.host
        host = f"[{host}]" if ":" in host else host
        return f"postgresql://{name}:{password}@{host}:{bind.port}/{quote(database or login.database, safe='')}"

    async def refresh_users(self) -> bool:
        """Reads the roles from the primary; whether they have changed. One that does not answer changes nothing."""
        login = self.group.credentials
        primary = next((member for member in self.group.members() if member.role == "primary"), None)
        found: tuple[User, ...] | None = None
        if primary is not None:
            try:
                found = await _roles(primary, login)
            except psycopg.errors.InsufficientPrivilege:
                found = ()
            except psycopg.Error:
                found = None
        if found is None and self._users:
            return False
        users = found or (User(login.app_user, password=login.app_password, operator=True),)
        changed, self._users = users != self._users, users
        return changed

    def snapshot(self) -> dict[str, Any]:
        """The group for the data plane."""
        settings, login, reads = self.settings, self.group.credentials, self.settings.reads
        policy: dict[str, Any] = {"name": reads.balance}
        if reads.balance == "hash":
            policy["bound"] = 1.25
        return {
            "name": self.group.name,
            "listener": listener(settings.bind),
            "tls": settings.tls,
            "users": [
                {"name": user.name, "password": user.password, "verifier": user.verifier, "operator": user.operator}
                for user in self._users
            ],
            "nodes": self._nodes(self.group.members(), self.group.writable),
            "monitor": {
                "user": login.monitor_user,
                "password": login.monitor_password,
                "database": login.database,
                "interval_ms": _MONITOR_INTERVAL_MS,
                "rest_ms": _MONITOR_REST_MS,
            },
            "clients_max": settings.clients_max,
            "connections_max": settings.connections_max,
            "checkout_timeout_ms": settings.checkout_timeout_ms,
            "hold_timeout_ms": settings.hold_timeout_ms,
            "connect_timeout_ms": settings.connect_timeout_ms,
            "login_timeout_ms": settings.login_timeout_ms,
            "server_lifetime_ms": settings.server_lifetime_ms,
            "server_idle_ms": settings.server_idle_ms,
            "request_max_bytes": settings.request_max_bytes,
            "settle_commits": settings.settle_commits,
            **self._succession(self.group.members(), self.group.writable),
            "reads": {
                "split": reads.split,
                "policy": policy,
                "causal": reads.causal,
                "wait_ms": reads.wait_ms,
                "lag_max_bytes": reads.lag_max_bytes,
                "lag_max_ms": reads.lag_max_ms,
            },
        }

    def _succession(self, members: Sequence[Member], writable: str | None) -> dict[str, Any]:
        """The primary's timeline, and what it had of its predecessor's transactions."""
        primary = next((member for member in members if member.name == writable), None)
        if primary is None:
            return {"timeline": 0, "promotion": None}
        promotion = None if primary.promotion is None else asdict(primary.promotion)
        return {"timeline": primary.timeline, "promotion": promotion}

    def _nodes(self, members: Sequence[Member], writable: str | None) -> list[dict[str, Any]]:
        nodes = []
        for member in members:
            role = member.role
            if role == "primary" and member.name != writable:
                # Writes are held: nothing may be sent to it.
                role = "out"
            options = conninfo.conninfo_to_dict(member.dsn)
            nodes.append(
                {
                    "name": member.name,
                    "address": self._address(member.sockets or member.host, member.port),
                    "tls": {"allow": "prefer"}.get(mode := str(options.get("sslmode", "prefer")), mode),
                    "ca": str(options.get("sslrootcert", "")),
                    "server_name": member.host,
                    "role": role,
                    "weight": 1.0,
                }
            )
        return nodes

    def _address(self, host: str, port: int) -> str:
        """In numbers, because the data plane resolves no names. A name that is not known now keeps its last address."""
        if host.startswith("/"):
            return f"unix:{host}/.s.PGSQL.{port}"
        try:
            ipaddress.ip_address(host)
        except ValueError:
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                self._addresses[host] = str(found[0][4][0])
            except OSError as error:
                if host not in self._addresses:
                    raise DatabaseError(f"{self.group.name}: the host {host} is not known: {error}") from error
            host = self._addresses[host]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def login_of(node: Member, login: Credentials, database: str) -> str:
    """The address of a database on a node, for Trimaran's own questions."""
    return conninfo.make_conninfo(
        node.dsn,
        user=login.monitor_user,
        password=login.monitor_password,
        dbname=database,
        connect_timeout=2,
        application_name="trimaran",
    )


async def _roles(primary: Member, login: Credentials) -> tuple[User, ...]:
    address = login_of(primary, login, login.database)
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        rows = await (await connection.execute(_ROLES)).fetchall()
    operators = {login.app_user, login.monitor_user}
    return tuple(User(name, verifier=kept, operator=bool(high) or name in operators) for name, kept, high in rows)
