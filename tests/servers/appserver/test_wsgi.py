"""PEP 3333 on every WSGI engine; what granian cannot do is listed, and documented in docs/app-servers.md."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from contextlib import closing

import pytest
from trimaran.servers.appserver.engines import Engine

from tests.support.waiting import eventually

from .conftest import WSGI, app_of, start_options
from .running import Running, running

FAITHFUL = [param for param in WSGI if param.id != "wsgi-granian"]
"""Engines without the defects of granian's WSGI that docs/app-servers.md lists."""


@pytest.fixture(scope="module", params=WSGI)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    return chosen


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[Running]:
    with running(app_of(engine), **start_options(engine)) as started:
        yield started


@pytest.fixture(scope="module", params=FAITHFUL)
def faithful(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(app_of(request.param), **start_options(request.param)) as started:
        yield started


def post(server: Running, target: str, body: bytes) -> bytes:
    with closing(server.client()) as client:
        return client.ask("POST", target, body).body


def test_environ_tells_of_threads_and_processes(server: Running) -> None:
    seen = server.get("/request").json()
    assert (seen["multithread"], seen["multiprocess"]) == (True, True)


def test_one_thread_is_not_multithread(engine: Engine) -> None:
    with running(app_of(engine), threads=1, **start_options(engine)) as server:
        for _ in range(20):
            seen = server.get("/request").json()
        assert (seen["multithread"], seen["threads"]) == (False, 1)


def test_never_more_threads_than_asked_for(server: Running) -> None:
    for _ in range(30):
        seen = server.get("/request").json()
    assert seen["threads"] <= 4


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_lines_of_the_body(server: Running, size: int) -> None:
    body = b"first\nsecond\n\nlast" + b"." * size
    assert post(server, "/lines", body).decode() == ('["first\\n", "se", "cond\\n", "\\n", "last' + "." * size + '"]')


def test_read_of_everything(server: Running) -> None:
    assert post(server, "/read-all", b"all of it") == b"all of it"
    assert server.get("/read-all").body == b""


def test_write_callable(server: Running) -> None:
    assert server.get("/write").body == b"written returned"


def test_start_response_at_the_first_chunk(server: Running) -> None:
    assert server.get("/late-start").body == b"late"


def test_code_after_the_last_chunk_runs(server: Running) -> None:
    assert server.get("/late-work").body == b"body"
    eventually(lambda: "after the last chunk\nclosed\n" in server.log(), "the app ran to its end")


def test_start_response_again_with_an_error(server: Running) -> None:
    answer = server.get("/boom-replaced")
    assert (answer.status, answer.body) == (503, b"sorry")


def test_not_modified(server: Running) -> None:
    with closing(server.client()) as client:
        answer = client.ask("GET", "/not-modified")
        assert (answer.status, answer.headers["etag"]) == (304, '"a"')
        assert client.ask("GET", "/hello").body == b"hello"


def test_close_is_called_when_the_client_has_gone(server: Running) -> None:
    """In the contract suite: `test_client_that_goes_away_ends_a_stream`. Here: the server still has all its threads."""
    for _ in range(8):
        client = server.client()
        client.request("GET", "/stream")
        client.getresponse().close()
        client.close()
        assert server.get("/release").status == 200
    assert server.get("/hello").body == b"hello"


def test_wrong_content_length_is_an_error_not_a_hung_connection(server: Running) -> None:
    with closing(server.client()) as client:
        client.request("GET", "/wrong-length")
        try:
            response = client.getresponse()
            assert response.status == 500 or len(response.read()) < 100
        except http.client.HTTPException:
            pass
    assert server.get("/hello").body == b"hello"


def test_file_wrapper(faithful: Running) -> None:
    assert faithful.get("/file").body == b"f" * 1_000_000


def test_error_in_the_middle_is_not_a_complete_response(faithful: Running) -> None:
    with closing(faithful.client()) as client:
        client.request("GET", "/boom-late")
        response = client.getresponse()
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    eventually(lambda: "boom in the middle" in faithful.log(), "the traceback in the log")


def test_bytes_beyond_ascii_arrive_in_headers(faithful: Running) -> None:
    with faithful.connect() as connection:
        fields = b"Cookie: name=Ren\xc3\xa9; b=2\r\n"
        connection.sendall(b"GET /request HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + fields + b"\r\n")
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    assert b'"cookie": "name=Ren\\u00c3\\u00a9; b=2"' in answer


def test_repeated_fields(faithful: Running) -> None:
    with faithful.connect() as connection:
        fields = b"Accept: a\r\nAccept: b\r\nCookie: a=1\r\nCookie: b=2\r\n"
        connection.sendall(b"GET /request HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + fields + b"\r\n")
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    assert b'"accept": "a,b"' in answer


def test_name_with_underscore_is_no_twin(faithful: Running) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "X_Forwarded_For": "6.6.6.6", "X_Secret": "1", "Proxy": "http://evil"}
    seen = faithful.get("/request", headers).json()
    assert seen["client"] == "203.0.113.9"
    assert seen["headers"]["x_forwarded_for"] == "203.0.113.9"
    assert "x_secret" not in seen["headers"]
    assert "proxy" not in seen["headers"]


def conversation(server: Running, sent: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with server.connect() as connection:
        connection.sendall(sent)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    return answer


def test_what_is_not_http_is_refused_and_disturbs_nobody(faithful: Running) -> None:
    with closing(faithful.client()) as neighbour:
        assert neighbour.ask("GET", "/hello").body == b"hello"
        for nonsense in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\x16\x03\x01\x00\xff"):
            assert conversation(faithful, nonsense).startswith(b"HTTP/1.1 400 ")
        assert neighbour.ask("GET", "/hello").body == b"hello"


def test_head_in_pieces(faithful: Running) -> None:
    with faithful.connect() as connection:
        for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc":
            connection.sendall(bytes([byte]))
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    assert answer.endswith(b"\r\n\r\nabc")


def test_second_request_without_waiting_is_left_to_be_sent_again(faithful: Running) -> None:
    """The gateway never does that; the first gets its answer, which says that the connection ends."""
    hello = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = conversation(faithful, hello + hello)
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"\r\nConnection: close\r\n" in answer


def test_old_protocol_ends_with_the_response(faithful: Running) -> None:
    answer = conversation(faithful, b"GET /late-start HTTP/1.0\r\n\r\n")
    assert b"transfer-encoding" not in answer.lower()
    assert answer.endswith(b"\r\n\r\nlate")


@pytest.mark.parametrize("size", [1_000, 900_000, 3_000_000])
def test_body_that_the_app_leaves(faithful: Running, size: int) -> None:
    """It is answered; the connection goes on when what was left is small."""
    for _ in range(6):
        with faithful.connect() as connection:
            connection.sendall(b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            # The server may have closed before all of it was sent.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(b"x" * size)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
            if size < 1_000_000:
                connection.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
                assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_response_that_nobody_takes_holds_its_thread_only(faithful: Running) -> None:
    with faithful.connect() as slow:
        slow.sendall(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(20):
            assert faithful.get("/hello").body == b"hello"
        received = 0
        while received < 1_000_000:
            received += len(slow.recv(65_536))


@pytest.mark.parametrize("target", ["/header-break", "/status-break", "/no-start", "/odd-status"])
def test_response_that_cannot_be_sent_is_a_500(faithful: Running, target: str) -> None:
    with closing(faithful.client()) as client:
        answer = client.ask("GET", target)
        assert (answer.status, answer.headers["x-evil"]) == (500, None)
        assert client.ask("GET", "/hello").body == b"hello"


def test_many_connections_take_turns(faithful: Running) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(closing(faithful.client())) for _ in range(100)]
        for _ in range(3):
            for client in clients:
                client.request("GET", "/hello")
            assert [client.getresponse().read() for client in clients] == [b"hello"] * 100
