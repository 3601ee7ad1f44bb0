"""A small FastAPI app that shows what passes through the gateway: `trimaran run examples.fastapi.app:app`."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

app = FastAPI(title="Trimaran example")


@app.get("/")
@app.get("/hello")
async def hello() -> dict[str, str]:
    return {"message": "hello", "server": os.environ.get("TRIMARAN_SERVER", "")}


@app.get("/whoami")
async def whoami(request: Request) -> dict[str, object]:
    client = request.client.host if request.client else None
    server = os.environ.get("TRIMARAN_SERVER", "")
    return {
        "server": server,
        "pid": os.getpid(),
        "client": client,
        "scheme": request.url.scheme,
        "headers": dict(request.headers),
    }


@app.post("/upload")
async def upload(request: Request) -> dict[str, object]:
    digest, length = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        length += len(piece)
    return {"length": length, "sha256": digest.hexdigest()}


@app.get("/slow")
async def slow(ms: int = 100) -> dict[str, int]:
    await asyncio.sleep(min(ms, 60_000) / 1000)
    return {"ms": ms}


@app.get("/events")
async def events(count: int = 10, interval_ms: int = 100) -> StreamingResponse:
    async def numbers() -> AsyncIterator[str]:
        for number in range(min(count, 100_000)):
            yield f"data: {number}\n\n"
            await asyncio.sleep(interval_ms / 1000)

    return StreamingResponse(numbers(), media_type="text/event-stream")


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        return


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}
