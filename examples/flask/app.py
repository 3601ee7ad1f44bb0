"""A small Flask app that shows what passes through the gateway: `trimaran run examples.flask.app:app`."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator

from flask import Flask, Response, request

app = Flask(__name__)


@app.get("/")
@app.get("/hello")
def hello() -> dict[str, str]:
    return {"message": "hello", "server": os.environ.get("TRIMARAN_SERVER", "")}


@app.get("/whoami")
def whoami() -> dict[str, object]:
    server = os.environ.get("TRIMARAN_SERVER", "")
    headers = {name.lower(): value for name, value in request.headers}
    return {
        "server": server,
        "pid": os.getpid(),
        "client": request.remote_addr,
        "scheme": request.scheme,
        "headers": headers,
    }


@app.post("/upload")
def upload() -> dict[str, object]:
    digest, length = hashlib.sha256(), 0
    while piece := request.stream.read(65_536):
        digest.update(piece)
        length += len(piece)
    return {"length": length, "sha256": digest.hexdigest()}


@app.get("/slow")
def slow() -> dict[str, int]:
    ms = request.args.get("ms", 100, int)
    time.sleep(min(ms, 60_000) / 1000)
    return {"ms": ms}


@app.get("/events")
def events() -> Response:
    count, interval_ms = request.args.get("count", 10, int), request.args.get("interval_ms", 100, int)

    def numbers() -> Iterator[str]:
        for number in range(min(count, 100_000)):
            yield f"data: {number}\n\n"
            time.sleep(interval_ms / 1000)

    return Response(numbers(), mimetype="text/event-stream")


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}
