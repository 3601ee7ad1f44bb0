"""Who asked: what the gateway says about the client, put where the app looks for it.

The engines see only the gateway, as the peer of a Unix socket. The gateway alone can connect (mode 600), drops what
clients claim about themselves, and always writes the client at the left end of X-Forwarded-For (or Forwarded, RFC 7239,
when so configured). All engines get the same wrapper, so that an app sees the same on each of them. Without these
fields (a health check) the client is unknown, never the loopback address that an app may trust.

A name with an underscore is dropped: WSGI could not tell X_Forwarded_For from X-Forwarded-For.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable

from .interfaces import ASGIApp, Environ, Receive, Scope, Send, StartResponse, WSGIApp

_PAIR = re.compile(r'\s*(for|proto|host)=(?:"([^"]*)"|([^;,"\s]*))\s*(?:;|,|$)', re.IGNORECASE)
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SECURE = {"http": "https", "ws": "wss"}


def first_hop(forwarded: str) -> dict[str, str]:
    """for, proto and host of the first element of a Forwarded field, as the gateway writes it."""
    hop: dict[str, str] = {}
    at = 0
    while (pair := _PAIR.match(forwarded, at)) is not None:
        hop[pair[1].lower()] = pair[2] if pair[2] is not None else pair[3]
        at = pair.end()
        if not pair[0].endswith(";"):
            break
    if hop.get("for", "").startswith("["):
        hop["for"] = hop["for"][1:].partition("]")[0]
    return hop


def host_and_port(host: str, default: int) -> tuple[str, int]:
    """`example.com:8443` or `[::1]` as name and port."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal():
        return name, int(port)
    return host, default


class ForwardedASGI:
    """An ASGI app around `app` that sets client, scheme and server of HTTP and WebSocket scopes."""

    __slots__ = ("_app", "_lifespan")

    def __init__(self, app: ASGIApp, lifespan: ASGIApp) -> None:
        """`lifespan` gets the lifespan scope instead of `app`; it calls `app` in its turn."""
        self._app = app
        self._lifespan = lifespan

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._lifespan(scope, receive, send)
        client = proto = host = forwarded = None
        confusable = False
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                client = value.partition(b",")[0].strip().decode("latin-1")
            elif name == b"x-forwarded-proto":
                proto = value.decode("latin-1")
            elif name == b"host":
                host = value.decode("latin-1")
            elif name == b"forwarded":
                forwarded = value
            elif b"_" in name:
                confusable = True
        if confusable:
            scope["headers"] = [field for field in scope["headers"] if b"_" not in field[0]]
        if client is None and forwarded is not None:
            hop = first_hop(forwarded.decode("latin-1"))
            client, proto = hop.get("for"), hop.get("proto")
        plain = "ws" if scope["type"] == "websocket" else "http"
        scheme = scope["scheme"] = _SECURE[plain] if proto == "https" else plain
        scope["client"] = (client, 0) if client else None
        scope["server"] = host_and_port(host, _PORTS[scheme]) if host else None
        return self._app(scope, receive, send)


class ForwardedWSGI:
    """A WSGI app around `app` that sets REMOTE_ADDR, wsgi.url_scheme and SERVER_NAME, and tells of its neighbours."""

    __slots__ = ("_app", "_multithread")

    def __init__(self, app: WSGIApp, threads: int) -> None:
        self._app = app
        self._multithread = threads > 1

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        client = environ.get("HTTP_X_FORWARDED_FOR")
        proto = environ.get("HTTP_X_FORWARDED_PROTO")
        if client is not None:
            client = client.partition(",")[0].strip()
        elif "HTTP_FORWARDED" in environ:
            hop = first_hop(environ["HTTP_FORWARDED"])
            client, proto = hop.get("for"), hop.get("proto")
        scheme = "https" if proto == "https" else "http"
        environ["REMOTE_ADDR"] = client or ""
        environ["wsgi.url_scheme"] = scheme
        name, port = host_and_port(environ.get("HTTP_HOST") or "localhost", _PORTS[scheme])
        environ["SERVER_NAME"] = name
        environ["SERVER_PORT"] = str(port)
        # Other servers of the pool run the same app, and a thread pool runs it here.
        environ["wsgi.multiprocess"] = True
        environ["wsgi.multithread"] = self._multithread
        environ.pop("REMOTE_PORT", None)
        # The field Proxy would appear to be the environment variable of that name (CVE-2016-5385).
        environ.pop("HTTP_PROXY", None)
        return self._app(environ, start_response)
