"""The app of the contract suite, as plain ASGI. Every path does the same in wsgi_app.py."""

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from urllib.parse import parse_qs

BARRIER = asyncio.Barrier(4)
RELEASED = asyncio.Event()
LIFESPAN = []


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        path = scope["path"].strip("/").split("/")[0].replace("-", "_")
        await PATHS[path](Call(scope, receive, send))


async def lifespan(receive, send):
    while True:
        event = (await receive())["type"].removeprefix("lifespan.")
        LIFESPAN.append(event)
        await send({"type": f"lifespan.{event}.complete"})
        if event == "shutdown":
            print("lifespan over", flush=True)
            return


async def websocket(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps([scope["scheme"], scope["client"]])})
    while (message := await receive())["type"] == "websocket.receive":
        if "text" in message and message["text"] is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


class Call:
    def __init__(self, scope, receive, send):
        self.scope, self.receive, self.send = scope, receive, send
        self.query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}

    async def chunks(self):
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client has gone")
            yield message.get("body", b"")
            more = message.get("more_body", False)

    async def start(self, *headers, status=200):
        fields = [(name.encode(), value.encode()) for name, value in headers]
        await self.send({"type": "http.response.start", "status": status, "headers": fields})

    async def part(self, body, more=True):
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, body, content_type="text/plain"):
        await self.start(("content-type", content_type), ("content-length", str(len(body))))
        await self.part(body, more=False)


async def hello(call):
    await call.answer(b"hello")


async def pid(call):
    await call.answer(str(os.getpid()).encode())


async def echo(call):
    await call.answer(b"".join([chunk async for chunk in call.chunks()]))


async def digest(call):
    total, sha = 0, hashlib.sha256()
    async for chunk in call.chunks():
        total += len(chunk)
        sha.update(chunk)
    await call.answer(json.dumps([total, sha.hexdigest()]).encode())


async def request(call):
    scope = call.scope
    headers = {}
    for name, value in scope["headers"]:
        key = name.decode().replace("-", "_")
        headers[key] = headers.get(key, "") + value.decode("latin-1")
    seen = {
        "client": scope["client"][0] if scope["client"] else "",
        "scheme": scope["scheme"],
        "server": list(scope["server"]) if scope["server"] else None,
        "path": scope["path"],
        "method": scope["method"],
        "query": scope["query_string"].decode(),
        "headers": headers,
        "name": os.environ["TRIMARAN_SERVER"],
        "directory": str(Path.cwd()),
        "lifespan": LIFESPAN,
    }
    await call.answer(json.dumps(seen).encode(), "application/json")


async def stream(call):
    await call.start(("content-type", call.query.get("type", "text/plain")))
    await call.part(b"data: one\n\n")
    if "fifo" in call.query:
        await asyncio.to_thread(read, call.query["fifo"])
    else:
        await asyncio.wait_for(RELEASED.wait(), 20)
        RELEASED.clear()
    await call.part(b"data: two\n\n", more=False)


async def release(call):
    RELEASED.set()
    await call.answer(b"released")


async def barrier(call):
    async with asyncio.timeout(20):
        await BARRIER.wait()
    await call.answer(b"met")


async def hold(call):
    """Answer when something was written to a FIFO; the writer's open() returns when this has begun."""
    await call.answer(await asyncio.to_thread(read, call.query["fifo"]))


def read(path):
    with Path(path).open("rb") as fifo:
        return fifo.read()


async def endless(call):
    """Stream until the client has gone, then write to the FIFO."""
    await call.start(("content-type", "text/plain"))

    async def gone():
        while (await call.receive())["type"] != "http.disconnect":
            pass

    watch = asyncio.create_task(gone())
    while not watch.done():
        await call.part(b"x" * 1000)
        await asyncio.sleep(0.01)
    await asyncio.to_thread(write, call.query["fifo"], b"noticed")


def write(path, data):
    with Path(path).open("wb") as fifo:
        fifo.write(data)


async def boom(call):
    raise ValueError("boom at the start")


async def boom_late(call):
    await call.start(("content-type", "text/plain"))
    await call.part(b"partial")
    raise ValueError("boom in the middle")


async def no_content(call):
    await call.start(status=204)
    await call.part(b"", more=False)


async def log(call):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    await call.answer(b"logged")


PATHS = {name: value for name, value in globals().items() if asyncio.iscoroutinefunction(value)}
