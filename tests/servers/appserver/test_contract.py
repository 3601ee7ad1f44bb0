"""What every engine must do alike, whatever the interface. One server per engine answers all of these."""

from __future__ import annotations

import hashlib
import os
import select
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from stat import S_IMODE

import pytest
from trimaran.servers.appserver.engines import Engine

from tests.support.waiting import eventually

from .running import APPS, Client, Running

MIB = 1024 * 1024


def test_ready_line_names_the_process_that_serves(server: Running, engine: Engine) -> None:
    assert server.report == {
        "ok": True,
        "interface": engine.interface,
        "engine": engine.name,
        "pid": server.process.pid,
    }
    assert server.get("/pid").body == str(server.process.pid).encode()
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    assert children == ""


def test_socket_is_for_its_owner_only(server: Running) -> None:
    assert S_IMODE(server.address.stat().st_mode) == 0o600


def test_hello(server: Running) -> None:
    answer = server.get("/hello")
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["content-length"] == "5"


def test_app_finds_its_name_and_directory(server: Running) -> None:
    seen = server.get("/request").json()
    assert (seen["name"], seen["directory"]) == ("app-7", str(APPS))


def test_connection_serves_many_requests(server: Running) -> None:
    with closing(server.client()) as client:
        client.connect()
        first = client.sock
        for body in (b"a", b"", b"c" * 100_000):
            assert client.ask("POST", "/echo", body).body == body
        assert client.ask("GET", "/hello").body == b"hello"
        assert client.sock is first


def test_head_has_no_body_and_keeps_the_connection(server: Running) -> None:
    with closing(server.client()) as client:
        answer = client.ask("HEAD", "/hello")
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "5")
        assert client.ask("GET", "/hello").body == b"hello"


def test_no_content_keeps_the_connection(server: Running) -> None:
    with closing(server.client()) as client:
        answer = client.ask("GET", "/no-content")
        assert (answer.status, answer.body, answer.headers["transfer-encoding"]) == (204, b"", None)
        assert client.ask("GET", "/hello").body == b"hello"


def test_path_and_query_arrive_decoded_once(server: Running) -> None:
    seen = server.get("/request/a%20b/%C3%A9%252F?x=%20y&z").json()
    assert (seen["path"], seen["query"]) == ("/request/a b/é%2F", "x=%20y&z")


def test_chunked_upload(server: Running) -> None:
    parts = [b"one", b"two" * 10_000, b"three"]
    with closing(server.client()) as client:
        answer = client.ask("POST", "/echo", iter(parts), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert answer.body == b"".join(parts)


def test_expect_continue_is_answered(server: Running) -> None:
    with server.connect() as connection:
        head = b"POST /echo HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"body")
        answer = connection.recv(65_536)
        while not answer.endswith(b"body"):
            answer += connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_upload_of_100_mb_is_streamed(server: Running) -> None:
    before = peak_memory(server)
    block = os.urandom(MIB)
    sha = hashlib.sha256()
    for _ in range(100):
        sha.update(block)
    with closing(server.client()) as client:
        answer = client.ask("POST", "/digest", (block for _ in range(100)), {"Content-Length": str(100 * MIB)})
    assert answer.json() == [100 * MIB, sha.hexdigest()]
    assert peak_memory(server) - before < 32 * MIB


def peak_memory(server: Running) -> int:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("content_type", ["text/plain", "text/event-stream"])
def test_stream_arrives_as_it_is_made(server: Running, content_type: str) -> None:
    with closing(server.client()) as client:
        client.request("GET", f"/stream?type={content_type}")
        response = client.getresponse()
        assert response.headers["content-type"] == content_type
        # The app makes the second part only when it is told to, so this read ends only if the first part has arrived.
        assert response.read1() == b"data: one\n\n"
        assert server.get("/release").status == 200
        assert response.read() == b"data: two\n\n"


def test_requests_run_at_the_same_time(server: Running) -> None:
    """Four requests wait for each other in the app: all of them are answered only if all are in there at once."""
    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: server.get("/barrier"), range(4)))
        assert [answer.body for answer in answers] == [b"met"] * 4


def test_idle_connections_hold_no_slot(server: Running) -> None:
    idle = [server.connect() for _ in range(10)]
    used = [Client(server) for _ in range(10)]
    try:
        for client in used:
            assert client.ask("GET", "/hello").status == 200
        test_requests_run_at_the_same_time(server)
    finally:
        for connection in [*idle, *used]:
            connection.close()


def test_idle_connection_is_left_open(server: Running) -> None:
    """Only the gateway closes idle connections; uvicorn alone would do so after 5 seconds."""
    with closing(server.client()) as client, server.connect() as fresh:
        assert client.ask("GET", "/hello").status == 200
        closed, _, _ = select.select([client.sock, fresh], [], [], 6.5)
        assert closed == []
        assert client.ask("GET", "/hello").body == b"hello"


def test_app_error_is_a_500_and_the_server_lives_on(server: Running) -> None:
    assert server.get("/boom").status == 500
    eventually(lambda: "boom at the start" in server.log(), "the traceback in the log")
    assert "ValueError" in server.log()
    assert server.get("/hello").body == b"hello"


def test_output_of_the_app_is_not_held_back(server: Running) -> None:
    server.get("/log")
    eventually(lambda: "to stdout\n" in server.log() and "to stderr\n" in server.log(), "the app's output")


def test_client_that_goes_away_ends_a_stream(server: Running, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    client = server.client()
    client.request("GET", f"/endless?fifo={fifo}")
    response = client.getresponse()
    assert response.read(10)
    response.close()
    client.close()
    reader = ThreadPoolExecutor(1)
    try:
        assert reader.submit(fifo.read_bytes).result(20) == b"noticed"
    finally:
        reader.shutdown(wait=False)


class TestForwarded:
    def test_client_scheme_and_server(self, server: Running) -> None:
        headers = {
            "Host": "shop.example:8443",
            "X-Forwarded-For": "203.0.113.9, 10.0.0.1",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "shop.example:8443",
        }
        seen = server.get("/request", headers).json()
        assert (seen["client"], seen["scheme"], seen["server"]) == ("203.0.113.9", "https", ["shop.example", 8443])
        assert seen["headers"]["host"] == "shop.example:8443"

    def test_default_ports(self, server: Running) -> None:
        assert server.get("/request", {"Host": "shop.example"}).json()["server"] == ["shop.example", 80]
        headers = {"Host": "shop.example", "X-Forwarded-Proto": "https"}
        assert server.get("/request", headers).json()["server"] == ["shop.example", 443]

    def test_rfc_7239(self, server: Running) -> None:
        headers = {"Forwarded": 'for="[2001:db8::7]";host="shop.example";proto=https, for=10.0.0.1'}
        seen = server.get("/request", headers).json()
        assert (seen["client"], seen["scheme"]) == ("2001:db8::7", "https")

    def test_unknown_client_is_nobody(self, server: Running) -> None:
        seen = server.get("/request").json()
        assert (seen["client"], seen["scheme"]) == ("", "http")

    def test_scheme_is_http_or_https(self, server: Running) -> None:
        assert server.get("/request", {"X-Forwarded-Proto": "javascript"}).json()["scheme"] == "http"
