"""`python -m tests.compatibility.neighbours [WORD...]`: what PostgreSQL, the gateway and PgBouncer in transaction mode answer to
the same inputs, as a Markdown table. With words, only the rows whose titles have one of them.

Each row begins with a new gateway, a new PgBouncer and a new database. Both have two server connections. The last column is not
measured: it is what PgDog's public source says (commit b460126 of 22 August 2026), and its issues up to September 2026."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
from trimaran.databases.postgres import EmbeddedNode

from benchmarks.servers.contenders.process import answers, free_port, program, running
from tests.compatibility.neighbours_inputs import INPUTS, READER, SCHEMA, Input, Place
from tests.databases.failover.conftest import cluster, until_replayed
from tests.databases.gateway.raw import Refused
from tests.support.gateways import Gateway, remove, start_gateway, start_node, superuser

CONNECTIONS = 2
PGDOG = "0.1.54"
_ACCOUNT = "nobody"
"""PgBouncer refuses to run as root."""


@contextlib.contextmanager
def bouncer(node: EmbeddedNode, database: str) -> Iterator[str]:
    """PgBouncer before a database of `node`: the app's address of it."""
    app, port = urlsplit(node.dsn), free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as made:
        directory = Path(made)
        users, settings = directory / "users.txt", directory / "pgbouncer.ini"
        users.write_text(f'"{app.username}" "{unquote(app.password or "")}"\n')
        settings.write_text(
            f"""[databases]
{database} = host={app.hostname} port={app.port} dbname={database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {CONNECTIONS}
"""
        )
        users.chmod(0o600)
        command = [program("pgbouncer"), str(settings)]
        if os.geteuid() == 0:
            command.insert(1, f"--user={_ACCOUNT}")
            owner = pwd.getpwnam(_ACCOUNT)
            for file in (directory, users, settings):
                os.chown(file, owner.pw_uid, owner.pw_gid)
        with running(command, log=directory / "pgbouncer.log"):
            answers(port)
            yield f"postgresql://{app.username}:{app.password}@127.0.0.1:{port}/{database}"


@contextlib.contextmanager
def gateway(node: EmbeddedNode, database: str) -> Iterator[str]:
    """The gateway before a database of `node`: the app's address of it."""
    started: Gateway = start_gateway(node, connections_max=CONNECTIONS)
    try:
        yield started.through(_of(node.dsn, database))
    finally:
        started.stop()


@contextlib.contextmanager
def nothing(node: EmbeddedNode, database: str) -> Iterator[str]:
    yield _of(node.dsn, database)


COLUMNS: tuple[Callable[[EmbeddedNode, str], contextlib.AbstractContextManager[str]], ...] = (nothing, gateway, bouncer)


def _of(dsn: str, database: str) -> str:
    return f"{dsn.rpartition('/')[0]}/{database}"


@contextlib.contextmanager
def _database(node: EmbeddedNode, name: str) -> Iterator[str]:
    """A database with what the inputs need: the superuser's address of it."""
    app = urlsplit(node.dsn).username
    with psycopg.connect(superuser(node), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    made = _of(superuser(node), name)
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {app}, {READER}")
    yield made
    with psycopg.connect(superuser(node), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _answer(given: Input, place: Place) -> str:
    try:
        return given.show(place)
    except TimeoutError:
        return "no answer within 20 s"
    except Refused as error:
        return f"refused: {error}"


def _with_replica(given: Input) -> tuple[str, str, str]:
    """Of an input that is about the split of reads: PostgreSQL's answer is its primary's."""
    with tempfile.TemporaryDirectory(prefix="neighbours-") as made, cluster(Path(made), replicas=1) as group:
        with group.superuser(group.primary.name) as connection:
            connection.execute(SCHEMA)
            connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {urlsplit(group.dsn).username}")
        until_replayed(group)
        place = group.direct(group.primary.name)
        return _answer(given, Place(place, "")), _answer(given, Place(group.dsn, "")), "no split"


def row(node: EmbeddedNode, number: int, given: Input) -> tuple[str, ...]:
    """What each answers to an input."""
    if given.split:
        return _with_replica(given)
    found = []
    for column, start in enumerate(COLUMNS):
        name = f"neighbours_{number}_{column}"
        with _database(node, name) as owner, start(node, name) as dsn:
            found.append(_answer(given, Place(dsn, owner)))
    return tuple(found)


def main() -> int:
    """Print the table."""
    said = subprocess.run([program("pgbouncer"), "--version"], capture_output=True, text=True, timeout=20, check=True)
    version = re.search(r"\d+\.\d+", said.stdout)
    chosen = [each for each in INPUTS if not sys.argv[1:] or any(word in each.title for word in sys.argv[1:])]
    state = Path(tempfile.mkdtemp(prefix="neighbours-"))
    state.chmod(0o755)
    node = start_node(state)
    try:
        with psycopg.connect(superuser(node), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {READER}")
            connection.execute(f"GRANT {READER} TO {urlsplit(node.dsn).username}")
        bounced = f"PgBouncer {version[0] if version else '?'} (transaction)"
        print(f"| What A does | PostgreSQL | Trimaran | {bounced} | PgDog {PGDOG} (read, not run) |")
        print("|---|---|---|---|---|")
        for number, given in enumerate(chosen):
            print("|", " | ".join((given.title, *row(node, number, given), given.pgdog)), "|", flush=True)
    finally:
        node.stop()
        remove(state)
        shutil.rmtree(state, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
