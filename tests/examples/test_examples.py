"""Each example behind the whole of Trimaran."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from websockets.sync.client import connect

from tests.end_to_end.running import Running
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["fastapi", "flask"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp(request.param) / "state"
    running = Running(ROOT, state, f"examples.{request.param}.app:app", "--servers", "2")
    yield running
    running.close()


def test_both_servers_answer(small: Running) -> None:
    answers = [json.loads(small.get("/whoami")) for _ in range(12)]
    assert {answer["server"] for answer in answers} == {"app-1", "app-2"}
    assert {(answer["client"], answer["scheme"]) for answer in answers} == {("127.0.0.1", "http")}


def test_events(small: Running) -> None:
    said = small.get("/events?count=3&interval_ms=10")
    assert [line for line in said.splitlines() if line] == ["data: 0", "data: 1", "data: 2"]


def test_an_upload(small: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=20)
    connection.request("POST", "/upload", iter([b"x" * 100_000] * 20), encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 200
    assert "2000000" in answer.read().decode()


def test_websocket_echo(tmp_path: Path) -> None:
    running = Running(ROOT, tmp_path / "state", "examples.fastapi.app:app", "--servers", "2")
    try:
        with connect(f"ws://127.0.0.1:{running.port}/ws") as socket:
            for text in ("hello", "x" * 100_000):
                socket.send(text)
                assert text in str(socket.recv(timeout=20))
    finally:
        running.close()


class Browser:
    """Follows redirects, keeps cookies and fills in forms, as a person with a browser does."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._port = port
        self._cookies: dict[str, str] = {}
        self.page = ""
        self.status = 0

    def get(self, path: str) -> str:
        return self._go("GET", path, None)

    def post(self, path: str, **fields: str) -> str:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.page)
        assert token, "the page has no form"
        return self._go("POST", path, urllib.parse.urlencode({"csrfmiddlewaretoken": token[1], **fields}))

    def _go(self, method: str, path: str, body: str | None) -> str:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://127.0.0.1:{self._port}"}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self._cookies[key] = rest.partition(";")[0]
        self.status, self.page = answer.status, answer.read().decode()
        if answer.status in (301, 302, 303):
            return self._go("GET", str(answer.getheader("location")), None)
        return self.page


@pytest.fixture(scope="module")
def skyways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    site = tmp_path_factory.mktemp("skyways") / "site"
    shutil.copytree(ROOT / "examples" / "skyways", site, ignore=shutil.ignore_patterns(".trimaran", "__pycache__"))
    running = Running(site, site / ".trimaran")
    yield running
    running.close()
    record = site / ".trimaran" / "databases" / "main" / "node.json"
    if home := json.loads(record.read_text())["home"]:
        shutil.rmtree(Path(home).parent)


PAGES = """
/ /flights/ /flights/?page=7 /flights/?sort=price /flights/?origin=London&destination=JFK /countries/ /countries/IS/ /news/
/sign-in/ /sign-up/ /healthz
"""


@pytest.mark.parametrize("path", PAGES.split())
def test_pages(skyways: Running, path: str) -> None:
    browser = Browser(skyways.port)
    browser.get(path)
    assert browser.status == 200
    for name in re.findall(r'(?:href|src)="(/static/[^"]+)"', browser.page):
        browser.get(name)
        assert browser.status == 200


def test_the_timetable_is_large(skyways: Running) -> None:
    assert "The first 1,000 flights" in Browser(skyways.port).get("/flights/")
    said = skyways.log.read_text()
    assert "200000 flights" in said
    assert int(re.findall(r"(\d+) airports", said)[0]) > 28_000


def test_sign_up_book_and_cancel(skyways: Running) -> None:
    browser = Browser(skyways.port)
    browser.get("/sign-up/")
    browser.post("/sign-up/", username="amelia", password1="over-the-atlantic", password2="over-the-atlantic")
    assert "amelia" in browser.get("/")
    flight = re.findall(r"/flights/(\d+)/", browser.get("/"))[0]
    browser.get(f"/flights/{flight}/")
    seats = _seats_left(browser.page)
    page = browser.post(f"/flights/{flight}/", passengers="1")
    assert "You are booked on" in page
    assert _seats_left(browser.get(f"/flights/{flight}/")) == seats - 1
    booking = re.findall(r"/bookings/(\d+)/cancel/", browser.get("/bookings/"))[0]
    assert "cancelled" in browser.post(f"/bookings/{booking}/cancel/")
    assert _seats_left(browser.get(f"/flights/{flight}/")) == seats


def _seats_left(page: str) -> int:
    found = re.search(r"Seats left</dt><dd>(\d+) of", page)
    assert found
    return int(found[1])


def test_a_form_without_its_token_is_refused(skyways: Running) -> None:
    browser = Browser(skyways.port)
    browser.get("/sign-up/")
    browser.page = 'name="csrfmiddlewaretoken" value="wrong"'
    browser.post("/sign-up/", username="mallory")
    assert browser.status == 403


def test_psql_comes_to_the_gateway_a_node_and_the_console(skyways: Running) -> None:
    def psql(*arguments: str) -> str:
        told = skyways.tell("db", "psql", *arguments)
        assert told.returncode == 0, told.stderr
        return told.stdout.strip()

    count = "SELECT count(*) > 1000 FROM flights_airport"
    assert psql("--", "-Atc", count) == psql("--node", "main-2", "--", "-Atc", count) == "t"
    assert psql("--node", "main-2", "--", "-Atc", "SELECT pg_is_in_recovery()") == "t"
    assert "SHOW CLIENTS" in psql("--console", "--", "-c", "SHOW HELP")
    dsn = skyways.tell("db", "dsn").stdout.strip()
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert "there is no node main-9" in skyways.tell("db", "dsn", "--node", "main-9").stderr


def test_roles_and_passwords_that_are_made_by_sql_work_through_the_gateway(skyways: Running) -> None:
    dsn = urllib.parse.urlsplit(skyways.tell("db", "dsn").stdout.strip())
    secrets = json.loads((skyways.state / "databases" / "main" / "secrets.json").read_text())

    def log_in(user: str, password: str) -> psycopg.Connection[Any]:
        place = {"host": dsn.hostname, "port": dsn.port, "dbname": dsn.path[1:]}
        return psycopg.connect(user=user, password=password, autocommit=True, **place)

    def may_log_in(password: str) -> bool:
        try:
            log_in("newcomer", password).close()
        except psycopg.OperationalError:
            return False
        return True

    with log_in("trimaran", secrets["superuser"]) as superuser:
        superuser.execute("CREATE ROLE newcomer LOGIN PASSWORD 'first'")
        eventually(lambda: may_log_in("first"), "the new role gets in")
        superuser.execute("ALTER ROLE newcomer PASSWORD 'second'")
        eventually(lambda: may_log_in("second"), "its new password works")
        assert not may_log_in("first")
        superuser.execute("DROP ROLE newcomer")
        eventually(lambda: not may_log_in("second"), "it is gone")


def test_a_primary_that_is_killed_is_replaced_and_comes_back(skyways: Running) -> None:
    def nodes() -> dict[str, dict[str, Any]]:
        return {node["name"]: node for node in skyways.status()["databases"][0]["nodes"]}

    def is_whole() -> bool:
        found = [(node["role"], node["synchronous"]) for node in nodes().values()]
        return sorted(found) == [("primary", False), ("replica", True), ("replica", True)]

    eventually(is_whole, "a primary and two replicas", within_s=60)
    [old] = [node for node in nodes().values() if node["role"] == "primary"]
    os.kill(old["pid"], signal.SIGKILL)
    eventually(lambda: nodes()[old["name"]]["role"] == "replica", "the old primary is a replica", within_s=60)
    eventually(is_whole, "all three are back", within_s=60)
    promoted = [d["action"] for d in skyways.status()["decisions"] if d["action"].startswith("promote")]
    assert len(promoted) == 1
    told = skyways.tell("db", "status")
    assert told.returncode == 0, told.stderr
    assert "LAG" in told.stdout
    lags = json.loads(skyways.tell("db", "lag", "--json").stdout)
    assert [set(row) >= {"name", "lag_bytes", "lag_ms"} for row in lags] == [True, True]
    told = skyways.tell("db", "promote", old["name"])
    assert told.returncode == 0, told.stderr
    assert f"{old['name']} is the primary" in told.stdout
    assert skyways.tell("db", "promote", "main-9").returncode == 1
    browser = Browser(skyways.port)
    eventually(lambda: browser.get("/flights/") and browser.status == 200, "pages come again")
