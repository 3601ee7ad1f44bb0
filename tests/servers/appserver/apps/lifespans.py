"""ASGI apps that differ in how they start."""

import contextlib

from starlette.applications import Starlette


async def says_failed(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def raises_after_startup(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    raise ConnectionError("no database")


@contextlib.asynccontextmanager
async def lifespan(app):
    raise RuntimeError("no database")
    yield


starlette = Starlette(lifespan=lifespan)


async def knows_no_lifespan(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})
