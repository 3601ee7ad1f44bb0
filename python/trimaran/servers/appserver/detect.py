"""Which interface an app speaks, from what it looks like; it is never called to find out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from .interfaces import Interface

_FIRST_PARAMETER: dict[str, Interface] = {"scope": "asgi", "environ": "wsgi", "env": "wsgi"}


class UnknownInterface(Exception):
    """The app looks like neither interface; the message says what was seen and what to do."""


def detect(app: object) -> Interface:
    """asgi or wsgi. Raises UnknownInterface, for example for something that is not callable.

    An async function or an instance with an async `__call__` is ASGI (so are Starlette, FastAPI and Django's ASGI
    handler). Everything else is told by the number of arguments it takes: two are WSGI (so are Flask and Django's WSGI
    handler), three are ASGI. A signature that hides them (`*args`) is told by the name of the first one.
    """
    if not callable(app):
        raise UnknownInterface(f"the app is {_described(app)}, which cannot be called")
    if _is_async(app):
        return "asgi"
    positional, open_ended = _positional(app)
    if len(positional) == 3 and not open_ended:
        return "asgi"
    if len(positional) == 2 and not open_ended:
        return "wsgi"
    if positional and positional[0] in _FIRST_PARAMETER and len(positional) > 1:
        return _FIRST_PARAMETER[positional[0]]
    arguments = ", ".join([*positional, *(["*args"] if open_ended else [])])
    raise UnknownInterface(
        f"cannot tell whether {_described(app)} is ASGI or WSGI: it takes ({arguments}), where WSGI is"
        " (environ, start_response) and ASGI is (scope, receive, send); set interface to asgi or wsgi"
    )


def _is_async(app: Callable[..., object]) -> bool:
    inner: object = app
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inspect.iscoroutinefunction(inner):
        return True
    return not inspect.isclass(inner) and inspect.iscoroutinefunction(getattr(type(inner), "__call__", None))  # noqa: B004


def _positional(app: Callable[..., object]) -> tuple[list[str], bool]:
    """Names of the required positional parameters, and whether there may be more."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError) as error:
        raise UnknownInterface(
            f"cannot tell whether {_described(app)} is ASGI or WSGI, because its signature cannot be read ({error});"
            " set interface to asgi or wsgi"
        ) from error
    names = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    return names, any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)


def _described(app: object) -> str:
    if inspect.isclass(app) or inspect.isroutine(app):
        return f"{app.__module__}.{app.__qualname__}"
    return f"an instance of {type(app).__module__}.{type(app).__qualname__}"
