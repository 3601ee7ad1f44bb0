"""The app of the contract suite, as plain WSGI. Every path does the same in asgi_app.py."""

import hashlib
import io
import json
import os
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs

BARRIER = threading.Barrier(4)
RELEASED = threading.Event()
THREADS = set()


def application(environ, start_response):
    THREADS.add(threading.get_ident())
    path = environ["PATH_INFO"].strip("/").split("/")[0].replace("-", "_")
    return PATHS[path](Call(environ, start_response))


class Call:
    def __init__(self, environ, start_response):
        self.environ, self.start_response = environ, start_response
        self.query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
        self.input = environ["wsgi.input"]

    def start(self, *headers, status="200 OK"):
        return self.start_response(status, list(headers))

    def answer(self, body, content_type="text/plain"):
        self.start(("Content-Type", content_type), ("Content-Length", str(len(body))))
        return [body]


def hello(call):
    return call.answer(b"hello")


def pid(call):
    return call.answer(str(os.getpid()).encode())


def echo(call):
    return call.answer(call.input.read())


def digest(call):
    total, sha = 0, hashlib.sha256()
    while chunk := call.input.read(65_536):
        total += len(chunk)
        sha.update(chunk)
    return call.answer(json.dumps([total, sha.hexdigest()]).encode())


def lines(call):
    seen = [call.input.readline(), call.input.readline(2), *call.input.readlines()]
    return call.answer(json.dumps([line.decode() for line in seen]).encode())


def read_all(call):
    return call.answer(call.input.read(-1))


def request(call):
    environ = call.environ
    seen = {
        "client": environ["REMOTE_ADDR"],
        "scheme": environ["wsgi.url_scheme"],
        "server": [environ["SERVER_NAME"], int(environ["SERVER_PORT"])],
        "path": environ["SCRIPT_NAME"] + environ["PATH_INFO"].encode("latin-1").decode(),
        "method": environ["REQUEST_METHOD"],
        "query": environ["QUERY_STRING"],
        "headers": {key[5:].lower(): value for key, value in environ.items() if key.startswith("HTTP_")},
        "name": os.environ["TRIMARAN_SERVER"],
        "directory": str(Path.cwd()),
        "multithread": environ["wsgi.multithread"],
        "multiprocess": environ["wsgi.multiprocess"],
        "threads": len(THREADS),
    }
    return call.answer(json.dumps(seen).encode(), "application/json")


def stream(call):
    call.start(("Content-Type", call.query.get("type", "text/plain")))

    def parts():
        yield b"data: one\n\n"
        if "fifo" in call.query:
            with Path(call.query["fifo"]).open("rb") as fifo:
                fifo.read()
        else:
            assert RELEASED.wait(20)
            RELEASED.clear()
        yield b"data: two\n\n"

    return parts()


def release(call):
    RELEASED.set()
    return call.answer(b"released")


def barrier(call):
    BARRIER.wait(20)
    return call.answer(b"met")


def hold(call):
    """Answer when something was written to a FIFO; the writer's open() returns when this has begun."""
    with Path(call.query["fifo"]).open("rb") as fifo:
        return call.answer(fifo.read())


class Endless:
    """Streams until it is closed, then writes to the FIFO."""

    def __init__(self, fifo):
        self.fifo = fifo

    def __iter__(self):
        return self

    def __next__(self):
        threading.Event().wait(0.01)
        return b"x" * 1000

    def close(self):
        with Path(self.fifo).open("wb") as fifo:
            fifo.write(b"noticed")


def endless(call):
    call.start(("Content-Type", "text/plain"))
    return Endless(call.query["fifo"])


def boom(call):
    raise ValueError("boom at the start")


def boom_late(call):
    call.start(("Content-Type", "text/plain"))

    def parts():
        yield b"partial"
        raise ValueError("boom in the middle")

    return parts()


def boom_replaced(call):
    call.start(("Content-Type", "text/plain"))
    try:
        raise ValueError("handled by the app")
    except ValueError:
        call.start_response("503 Sorry", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"sorry"]


def no_content(call):
    call.start(status="204 No Content")
    return [b""]


def not_modified(call):
    call.start(("Content-Length", "5"), ("ETag", '"a"'), status="304 Not Modified")
    return []


def write(call):
    write = call.start(("Content-Type", "text/plain"))
    write(b"written ")
    return [b"returned"]


def late_start(call):
    def parts():
        call.start(("Content-Type", "text/plain"))
        yield b"late"

    return parts()


def late_work(call):
    """Code after the last chunk runs, too, and close() comes last."""
    call.start(("Content-Length", "4"))

    class Parts:
        def __iter__(self):
            yield b"body"
            print("after the last chunk", flush=True)

        def close(self):
            print("closed", flush=True)

    return Parts()


def file(call):
    call.start(("Content-Type", "text/plain"), ("Content-Length", "1000000"))
    return call.environ["wsgi.file_wrapper"](io.BytesIO(b"f" * 1_000_000))


def wrong_length(call):
    call.start(("Content-Length", "100"))
    return [b"short"]


def header_break(call):
    call.start(("X-Good", "a\r\nX-Evil: 1"))
    return [b"never sent"]


def status_break(call):
    call.start(status="200 OK\r\nX-Evil: 1")
    return [b"never sent"]


def odd_status(call):
    call.start(status="OK")
    return [b"never sent"]


def no_start(call):
    return [b"never sent"]


def log(call):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    return call.answer(b"logged")


PATHS = {name: value for name, value in globals().items() if callable(value)}
