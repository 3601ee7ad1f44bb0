"""The admin API as a Starlette app: `reading` for people and monitoring, `steering` with commands on top."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import json
from collections.abc import Callable
from functools import partial
from importlib import resources
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trimaran.control import Control
from trimaran.dashboard.page import render
from trimaran.errors import TrimaranError

T = TypeVar("T")
_COOKIE = "trimaran_admin"
_BODY_MAX = 64 * 1024
_HEADERS = {
    b"content-security-policy": b"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:;"
    b" frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}
_STATIC = {"style.css": "text/css", "live.js": "text/javascript"}


def reading(control: Control, token: str, hosts: frozenset[str] | None) -> ASGIApp:
    """What the TCP listener serves: nothing that changes anything. `hosts` are the names it answers to, None for any."""
    guard = Middleware(Guard, token=token, hosts=hosts)
    return Starlette(
        routes=_reading_routes(control), middleware=[Middleware(Headers), guard], exception_handlers=_HANDLERS
    )


def steering(control: Control) -> ASGIApp:
    """What the control socket serves; whoever may open the socket may do everything."""

    async def dsn(request: Request) -> Response:
        asked = request.query_params
        database, node, console = (asked.get(name, "") for name in ("database", "node", "console"))
        return JSONResponse({"dsn": await _ask(partial(control.dsn, database, node, console=bool(console)))})

    commands = [
        Route("/api/dsn", dsn),
        Route(
            "/api/scale",
            _command(lambda body: partial(control.scale, _text(body, "pool"), _whole(body, "count"))),
            methods=["POST"],
        ),
        Route("/api/drain", _command(lambda body: partial(control.drain, _text(body, "server"))), methods=["POST"]),
        Route("/api/reload", _command(lambda body: control.reload), methods=["POST"]),
        Route("/api/promote", _command(lambda body: partial(control.promote, _text(body, "node"))), methods=["POST"]),
        Route(
            "/api/add-replica",
            _command(lambda body: partial(control.add_replica, _text(body, "database"))),
            methods=["POST"],
        ),
        Route(
            "/api/remove-replica",
            _command(lambda body: partial(control.remove_replica, _text(body, "node"))),
            methods=["POST"],
        ),
    ]
    return Starlette(routes=[*_reading_routes(control), *commands], exception_handlers=_HANDLERS)


def _reading_routes(control: Control) -> list[Route]:
    async def page(request: Request) -> Response:
        return HTMLResponse(render(await _ask(control.status)))

    async def status(request: Request) -> Response:
        return JSONResponse((await _ask(control.status)).to_json())

    async def metrics(request: Request) -> Response:
        text = await _ask(control.metrics)
        return PlainTextResponse(text, headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    async def plans(request: Request) -> Response:
        known = await _ask(partial(control.plans, request.query_params.get("database", "")))
        return JSONResponse({"plans": [dataclasses.asdict(plan) for plan in known]})

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            return JSONResponse({"error": "there is no such page"}, 404)
        data = resources.files(__package__).joinpath("static", name).read_bytes()
        return Response(data, media_type=_STATIC[name])

    return [
        Route("/", page),
        Route("/api/status", status),
        Route("/api/plans", plans),
        Route("/metrics", metrics),
        Route("/healthz", healthz),
        Route("/static/{name}", static),
    ]


async def _ask(question: Callable[[], T]) -> T:
    """Asks the supervisor without stopping this thread's other work."""
    return await asyncio.to_thread(question)


def _command(prepare: Callable[[dict[str, Any]], Callable[[], str]]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        raw = b""
        async for piece in request.stream():
            raw += piece
            if len(raw) > _BODY_MAX:
                return JSONResponse({"error": "the body is too large"}, 413)
        try:
            body = json.loads(raw or b"{}")
            action = prepare(body if isinstance(body, dict) else {})
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"message": await _ask(action)})

    return endpoint


def _text(body: dict[str, Any], key: str) -> str:
    if not isinstance(body.get(key), str):
        raise ValueError(f"{key}: expected a text")
    return str(body[key])


def _whole(body: dict[str, Any], key: str) -> int:
    if not isinstance(body.get(key), int) or isinstance(body[key], bool):
        raise ValueError(f"{key}: expected a whole number")
    return int(body[key])


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 409)


async def _missing(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "there is no such page"}, 404)


async def _wrong_method(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "this address only answers GET; commands go to the control socket"}, 405)


_HANDLERS: dict[Any, Any] = {TrimaranError: _refused, 404: _missing, 405: _wrong_method}


class Headers:
    """Adds what keeps browsers from doing more with the page than showing it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS.items()]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Guard:
    """Lets in who knows the token, and who asks for a host that is ours: a foreign name that resolves to loopback is an attack."""

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        await (self._refusal(request) or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
        if self._hosts is not None and name.lower() not in self._hosts:
            return JSONResponse({"error": "this host name is not served here"}, 421)
        if not self._token or request.url.path == "/healthz":
            return None
        if self._is_token(request.query_params.get("token", "")):
            answer = RedirectResponse(request.url.path, 303)
            answer.set_cookie(_COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip()):
            return None
        if self._is_token(request.cookies.get(_COOKIE, "")):
            return None
        return JSONResponse({"error": "a token is required"}, 401, headers={"www-authenticate": "Bearer"})

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())
