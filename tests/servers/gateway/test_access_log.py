"""The access log: one line a request, in a form that other programs read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gate import Gate
from tests.support.waiting import eventually
from tests.support.wire import respond

from .conftest import Serve, Start

COMBINED = re.compile(
    r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "(?P<line>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<bytes>\d+|-)'
    r' "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)".*'
)
REQUEST = b'GET /a?b="c" HTTP/1.1\r\nHost: shop\r\nUser-Agent: curl "\xff\\\r\nReferer: http://r/\r\n\r\n'


def _lines(path: Path, count: int) -> list[str]:
    return eventually(lambda: len(found := path.read_text().splitlines()) >= count and found, f"{count} lines") or []


def _log(path: Path, form: str) -> dict[str, Any]:
    return {"access_log": {"format": form, "path": str(path)}}


def test_json(serve: Serve, start: Start, tmp_path: Path) -> None:
    gateway = start(serve(respond(b"12345")), rest=_log(tmp_path / "log", "json"))
    gateway.ask(REQUEST)
    gateway.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    first, second = map(json.loads, _lines(tmp_path / "log", 2))
    assert (first["method"], first["status"], first["client"], first["host"]) == ("GET", 200, "127.0.0.1", "shop")
    assert '"c"' in json.dumps(first["target"]).replace('\\"', '"')
    assert first["bytes"] > 5
    assert first["server"] == "s1"
    assert len(first["request_id"]) == 32
    assert second["user_agent"] == ""


def test_combined(serve: Serve, start: Start, tmp_path: Path) -> None:
    gateway = start(serve(respond(b"12345")), rest=_log(tmp_path / "log", "combined"))
    gateway.ask(REQUEST)
    [line] = _lines(tmp_path / "log", 1)
    match = COMBINED.fullmatch(line)
    assert match, line
    assert match["line"].startswith("GET /a?b=")
    assert (match["status"], match["referer"]) == ("200", "http://r/")


def test_who_left_and_who_was_refused(serve: Serve, start: Start, tmp_path: Path) -> None:
    gateway = start(serve(Gate()), rest=_log(tmp_path / "log", "json"), each={"in_flight_max": 1}, queue_max=0)
    client = gateway.connect().send(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: gateway.server(1).in_flight == 1, "the request is at the server")
    assert gateway.ask().status == 503
    client.close()
    statuses = [json.loads(line)["status"] for line in _lines(tmp_path / "log", 2)]
    assert statuses == [503, 499]


def test_a_log_that_cannot_be_opened_is_said(serve: Serve, start: Start, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="missing"):
        start(serve(respond()), rest=_log(tmp_path / "missing" / "log", "json"))


def test_the_protocol_that_the_client_speaks(serve: Serve, start: Start, tmp_path: Path) -> None:
    for form in ("json", "combined"):
        gateway = start(serve(respond(b"12345")), http={"http2": True}, rest=_log(tmp_path / form, form))
        with httpx.Client(http1=False, http2=True) as client:
            assert client.get(f"http://{gateway.address}/two").status_code == 200
        gateway.ask(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n")
        gateway.ask(b"GET /old HTTP/1.0\r\n\r\n")
        found = [
            json.loads(line)["protocol"] if form == "json" else COMBINED.fullmatch(line)["line"].split()[2]  # type: ignore[index]
            for line in _lines(tmp_path / form, 3)
        ]
        assert found == ["HTTP/2.0", "HTTP/1.1", "HTTP/1.0"]
