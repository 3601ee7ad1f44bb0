"""ASGI or WSGI, told from the looks of an app."""

from __future__ import annotations

import functools
from typing import Any

import django
import flask
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.gzip import GZipMiddleware
from trimaran.servers.appserver.detect import UnknownInterface, detect


async def asgi_function(scope: Any, receive: Any, send: Any) -> None: ...


def asgi_wrapped(scope: Any, receive: Any, send: Any) -> Any: ...


def wsgi_function(environ: Any, start_response: Any) -> Any: ...


def wsgi_with_default(environ: Any, start_response: Any, debug: bool = False) -> Any: ...


def wsgi_open(environ: Any, start_response: Any, *rest: Any) -> Any: ...


class AsgiInstance:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class WsgiInstance:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class WsgiClass:
    def __init__(self, environ: Any, start_response: Any) -> None: ...


def configured(*args: Any) -> Any: ...


@pytest.mark.parametrize(
    "app",
    [
        asgi_function,
        asgi_wrapped,
        AsgiInstance(),
        functools.partial(asgi_function),
        functools.partial(AsgiInstance()),
        HTTPEndpoint,
        Starlette(),
        FastAPI(),
        GZipMiddleware(Starlette()),
    ],
)
def test_asgi(app: Any) -> None:
    assert detect(app) == "asgi"


@pytest.mark.parametrize(
    "app",
    [
        wsgi_function,
        wsgi_with_default,
        wsgi_open,
        WsgiInstance(),
        WsgiInstance().__call__,
        WsgiClass,
        functools.partial(wsgi_function),
        flask.Flask("site"),
        flask.Flask("site").wsgi_app,
    ],
)
def test_wsgi(app: Any) -> None:
    assert detect(app) == "wsgi"


def test_django() -> None:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="only for this test")
    django.setup()
    assert detect(get_asgi_application()) == "asgi"
    assert detect(get_wsgi_application()) == "wsgi"


@pytest.mark.parametrize("app", [None, "text", configured, lambda one: None, lambda a, b, c, d: None, max])
def test_neither(app: Any) -> None:
    with pytest.raises(UnknownInterface):
        detect(app)
