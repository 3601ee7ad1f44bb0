"""A real PostgreSQL, from an empty directory to its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from trimaran.databases.postgres import EmbeddedNode
from trimaran.errors import DatabaseError

from tests.support.waiting import eventually

CHILD = """
import sys, time
from pathlib import Path
from trimaran.databases.postgres import EmbeddedNode
node = EmbeddedNode("main", Path(sys.argv[1]))
node.start(lambda message: None)
print(node.pid, node.dsn, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state directory. Under root the data is elsewhere; it is removed as well."""
    directory = tmp_path / "state"
    yield directory
    record = directory / "databases" / "main" / "node.json"
    if record.exists() and (home := json.loads(record.read_text())["home"]):
        shutil.rmtree(Path(home).parent)


@pytest.fixture
def node(state: Path) -> Iterator[EmbeddedNode]:
    node = EmbeddedNode("main", state)
    node.start(lambda message: None)
    yield node
    node.stop()


def _value(dsn: str, statement: str) -> object:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        row = connection.execute(statement).fetchone()  # type: ignore[arg-type]
        assert row
        return row[0]


def _execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


def test_the_app_gets_a_database_of_its_own(node: EmbeddedNode) -> None:
    assert str(_value(node.dsn, "SHOW server_version")).startswith("18.")
    assert _value(node.dsn, "SELECT current_user") == "app"
    assert _value(node.dsn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    assert _value(node.dsn, "SHOW server_encoding") == "UTF8"
    _execute(node.dsn, "CREATE TABLE t (x int)")
    assert node.poll() == "running"


def test_only_loopback_and_only_with_the_password(node: EmbeddedNode) -> None:
    assert _value(node.dsn, "SHOW listen_addresses") == "127.0.0.1"
    host = node.dsn.rpartition("@")[2]
    for wrong in (f"postgresql://app:wrong@{host}", f"postgresql://app@{host}", f"postgresql://trimaran:x@{host}"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(wrong, connect_timeout=10)


def test_passwords_are_for_this_user_only(node: EmbeddedNode, state: Path) -> None:
    secrets = state / "databases" / "main" / "secrets.json"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    passwords = json.loads(secrets.read_text())
    assert passwords["app"] != passwords["superuser"]
    shown = " ".join(" ".join(process.cmdline()) for process in [psutil.Process(node.pid)])
    assert passwords["app"] not in shown


def test_a_restart_keeps_data_password_and_port(node: EmbeddedNode, state: Path) -> None:
    _execute(node.dsn, "CREATE TABLE t AS SELECT 42 AS x")
    dsn = node.dsn
    node.stop()
    assert node.poll() == "stopped"
    again = EmbeddedNode("main", state)
    again.start(lambda message: None)
    try:
        assert again.dsn == dsn
        assert _value(again.dsn, "SELECT x FROM t") == 42
    finally:
        again.stop()


def test_committed_rows_survive_a_kill(node: EmbeddedNode) -> None:
    _execute(node.dsn, "CREATE TABLE t AS SELECT 42 AS x")
    assert node.pid
    os.kill(node.pid, signal.SIGKILL)
    eventually(lambda: node.poll() == "failed", "its end is noticed")
    node.restart_if_dead(lambda message: None)
    assert node.poll() == "running"
    assert _value(node.dsn, "SELECT x FROM t") == 42


def test_it_ends_with_whoever_started_it(state: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    pid = int(child.stdout.readline().split()[0])
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert len(family) > 3
    child.kill()
    child.wait(10)
    eventually(lambda: not any(process.is_running() for process in family), "PostgreSQL has ended", within_s=20)
    again = EmbeddedNode("main", state)
    again.start(lambda message: None)
    again.stop()


def test_a_taken_port_is_said(node: EmbeddedNode, tmp_path: Path) -> None:
    port = int(node.address.rpartition(":")[2])
    second = EmbeddedNode("second", tmp_path / "other", port)
    with pytest.raises(DatabaseError, match=rf"databases\.second\.port = {port}: is taken"):
        second.start(lambda message: None)
    record = tmp_path / "other" / "databases" / "second" / "node.json"
    if record.exists() and (home := json.loads(record.read_text())["home"]):
        shutil.rmtree(Path(home).parent)


def test_data_that_is_gone_is_not_replaced_by_an_empty_database(node: EmbeddedNode, state: Path) -> None:
    data = _data_directory(state)
    node.stop()
    data.rename(data.with_name("elsewhere"))
    with pytest.raises(DatabaseError, match="the data of this database is gone"):
        EmbeddedNode("main", state).start(lambda message: None)
    data.with_name("elsewhere").rename(data)


def _data_directory(state: Path) -> Path:
    own = state / "databases" / "main"
    home = json.loads((own / "node.json").read_text())["home"]
    return Path(home or own) / "data"
