"""What the admin listener shows, and to whom."""

from __future__ import annotations

import http.client
import json
import re
import stat
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from trimaran.cli.running import Running as Control
from trimaran.config.load import load
from trimaran.config.model import Bind
from trimaran.control import Status
from trimaran.dashboard.page import render
from trimaran.errors import TrimaranError

from tests.end_to_end.running import Trimaran, free_port

SAMPLE = re.compile(r'^trimaran_\w+(\{\w+="(?:[^"\\\n]|\\.)*"(,\w+="(?:[^"\\\n]|\\.)*")*\})? -?[\d.e+-]+$')


def _ask(
    port: int, path: str, method: str = "GET", body: str | None = None, **fields: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    connection.close()
    return found


def test_status(trimaran: Trimaran) -> None:
    status = trimaran.status()
    assert {server["name"] for server in status["servers"]} == {"app-1", "app-2"}
    for server in status["servers"]:
        assert isinstance(server["pid"], int)
        assert (server["state"], server["in_flight"], server["failures_total"]) == ("up", 0, 0)
    assert sum(server["requests_total"] for server in status["servers"]) >= 10
    assert status["queue"] == {"length": 0, "oldest_ms": 0}
    assert isinstance(status["decisions"], list)


def test_metrics_are_in_prometheus_format(trimaran: Trimaran) -> None:
    status, headers, text = _ask(trimaran.admin, "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = text.splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert [line for line in samples if not SAMPLE.match(line)] == []
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert {re.split(r"[{ ]", line)[0] for line in samples} <= typed
    [requests] = [line for line in samples if line.startswith("trimaran_requests_total ")]
    assert int(requests.split()[1]) >= 10


def test_healthz(trimaran: Trimaran) -> None:
    assert _ask(trimaran.admin, "/healthz")[0] == 200


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [str(values[name]) for name in ("src", "href") if tag in ("script", "link") and name in values]

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_the_page_is_complete_without_javascript_and_loads_nothing_from_elsewhere(trimaran: Trimaran) -> None:
    status, headers, page = _ask(trimaran.admin, "/")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    found = _Links()
    found.feed(page)
    assert {"app-1", "app-2", "up"} <= set(found.texts)
    local = [path for path in found.loads if path != "data:,"]
    assert len(local) == 2
    for path in local:
        assert path.startswith("/static/")
        assert _ask(trimaran.admin, path)[0] == 200


def test_names_cannot_become_markup(trimaran: Trimaran) -> None:
    evil = "<script>alert(1)</script>"
    status = _as_status(trimaran.status(), evil)
    assert evil not in render(status)
    assert "&lt;script&gt;" in render(status)


def _database(name: str) -> Any:
    from trimaran import control

    node = control.NodeStatus(name, "replica", "running", name, "127.0.0.1:5432", 4711, 2, "0/16B3748", 1024, 12, True)
    return control.DatabaseStatus(name, None, (node,))


def _as_status(said: dict[str, Any], name: str) -> Status:
    from trimaran import control

    def build(kind: type, value: dict[str, Any]) -> Any:
        return kind(**value)

    servers = tuple(build(control.ServerStatus, {**s, "name": name, "reason": name}) for s in said["servers"])
    pools = tuple(
        build(control.PoolStatus, {**p, "app": name, "count": build(control.CountStatus, p["count"])})
        for p in said["pools"]
    )
    decisions = (control.DecisionStatus("2026-01-01T00:00:00.000+00:00", "app", name, name),)
    whole = {
        **said,
        "addresses": (name,),
        "servers": servers,
        "pools": pools,
        "decisions": decisions,
        "databases": (_database(name),),
        "queue": build(control.QueueStatus, said["queue"]),
        "gateway": build(control.GatewayStatus, said["gateway"]),
    }
    return Status(**whole)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8001", "127.0.0.1.evil.example", ""])
def test_a_foreign_name_that_leads_here_is_refused(trimaran: Trimaran, host: str) -> None:
    status, _, body = _ask(trimaran.admin, "/api/status", Host=host)
    assert status in (400, 421)
    assert "servers" not in body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:1"])
def test_our_own_names_are_served(trimaran: Trimaran, host: str) -> None:
    assert _ask(trimaran.admin, "/api/status", Host=host)[0] == 200


@pytest.mark.parametrize(
    "path", ["/api/scale", "/api/reload", "/api/drain", "/api/promote", "/api/add-replica", "/api/remove-replica"]
)
def test_the_tcp_listener_changes_nothing(trimaran: Trimaran, path: str) -> None:
    status, _, _ = _ask(trimaran.admin, path, "POST", json.dumps({"pool": "app", "count": 1, "server": "app-1"}))
    assert status in (404, 405)
    assert len(trimaran.status()["servers"]) == 2


def test_the_tcp_listener_tells_no_password(trimaran: Trimaran) -> None:
    assert _ask(trimaran.admin, "/api/dsn")[0] == 404


def test_the_control_socket_is_for_this_user_only(trimaran: Trimaran) -> None:
    mode = (trimaran.state / "control.sock").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("scale", {"pool": "app"}, "count: expected a whole number"),
        ("scale", {"pool": "app", "count": True}, "count: expected a whole number"),
        ("scale", {"pool": "app", "count": 0}, "from 1 to 1000"),
        ("scale", {"pool": "nowhere", "count": 1}, "there is no pool nowhere"),
        ("drain", {"server": "app-99"}, "there is no server app-99; there are app-1, app-2"),
        ("drain", {}, "server: expected a text"),
        ("promote", {"node": "main-2"}, "this app has no database"),
        ("remove-replica", {}, "node: expected a text"),
        ("add-replica", {"database": ""}, "this app has no database"),
    ],
)
def test_a_bad_command_is_explained(trimaran: Trimaran, name: str, arguments: dict[str, Any], words: str) -> None:
    loaded = load(trimaran.directory / "trimaran.toml", environ={}, flags={})
    with pytest.raises(TrimaranError, match=re.escape(words)):
        Control(loaded).command(name, **arguments)


def test_an_endless_command_is_refused(trimaran: Trimaran) -> None:
    loaded = load(trimaran.directory / "trimaran.toml", environ={}, flags={})
    with pytest.raises(TrimaranError, match="too large"):
        Control(loaded).command("drain", server="x" * 100_000)


@pytest.fixture(scope="module")
def guarded(trimaran: Trimaran) -> Iterator[int]:
    """The port of an admin listener with the token `secret`, for the same Trimaran."""
    from trimaran.dashboard.server import AdminServer

    class Told:
        """Passes on what the running Trimaran says; there is nothing to steer."""

        def status(self) -> Status:
            return _as_status(trimaran.status(), "app")

        def metrics(self) -> str:
            return _ask(trimaran.admin, "/metrics")[2]

        def scale(self, pool: str, count: int) -> str:
            raise TrimaranError("not here")

        def drain(self, server: str) -> str:
            raise TrimaranError("not here")

        def reload(self) -> str:
            raise TrimaranError("not here")

        def promote(self, node: str) -> str:
            raise TrimaranError("not here")

        def add_replica(self, database: str) -> str:
            raise TrimaranError("not here")

        def dsn(self, database: str, node: str, *, console: bool) -> str:
            raise TrimaranError("not here")

        def remove_replica(self, node: str) -> str:
            raise TrimaranError("not here")

    port = free_port()
    admin = AdminServer(Told(), Bind("0.0.0.0", port), "secret", Path(trimaran.directory) / "second.sock")
    admin.start()
    yield port
    admin.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "admin"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Basic secret"}, 401),
        ({"Cookie": "trimaran_admin=wrong"}, 401),
        ({"Authorization": "Bearer secret"}, 200),
        ({"Cookie": "trimaran_admin=secret"}, 200),
    ],
)
def test_a_token_is_required(guarded: int, fields: dict[str, str], status: int) -> None:
    assert _ask(guarded, "/api/status", **fields)[0] == status
    assert _ask(guarded, "/", **fields)[0] == status
    assert _ask(guarded, "/metrics", **fields)[0] == status


def test_monitoring_needs_no_token(guarded: int) -> None:
    assert _ask(guarded, "/healthz")[0] == 200


def test_a_browser_gets_a_cookie_for_its_token(guarded: int) -> None:
    status, headers, _ = _ask(guarded, "/?token=secret")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert _ask(guarded, "/?token=wrong")[0] == 401
