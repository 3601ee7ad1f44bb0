"""An app, as WSGI and as ASGI, that tells every request it gets to a datagram socket before it answers.

The answer names the serial number of the record, in `X-Serial` and as its body.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

_teller = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def _record(method: str, target: str, body: bytes) -> str:
    serial = uuid.uuid4().hex
    told = {"serial": serial, "method": method, "target": target, "body": body.decode("latin-1")}
    _teller.sendto(json.dumps(told).encode(), os.environ["RECORDS"])
    return serial


def wsgi(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    if len(body) < int(environ.get("CONTENT_LENGTH") or 0):
        # WSGI has no other sign that a body was broken off.
        start_response("400 Bad Request", [("Content-Length", "0")])
        return []
    serial = _record(environ["REQUEST_METHOD"], environ["RAW_URI"], body)
    start_response("200 OK", [("Content-Length", str(len(serial))), ("X-Serial", serial)])
    return [serial.encode()]


async def asgi(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        while True:
            step = (await receive())["type"]
            await send({"type": f"{step}.complete"})
            if step == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close"})
        return
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    serial = _record(scope["method"], target.decode("latin-1"), body).encode()
    headers = [(b"content-length", str(len(serial)).encode()), (b"x-serial", serial)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": serial})
