"""A WSGI environ (PEP 3333) from an ASGI scope."""

from __future__ import annotations

import functools
import sys
from urllib.parse import unquote_to_bytes

from .interfaces import Environ, Scope

_CONSTANT: Environ = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}


def environ_of(scope: Scope) -> Environ:
    """The environ of an HTTP scope, without wsgi.input and without what `forwarded` adds.

    Values are bytes in the guise of Latin-1, as PEP 3333 wants them. Names with an underscore are dropped, because
    they would be confused with their twins with dashes.
    """
    environ = _CONSTANT.copy()
    raw_path: bytes = scope["raw_path"]
    environ["REQUEST_METHOD"] = scope["method"]
    environ["PATH_INFO"] = (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode("latin-1")
    environ["QUERY_STRING"] = scope["query_string"].decode("latin-1")
    environ["SERVER_PROTOCOL"] = "HTTP/" + scope["http_version"]
    environ["wsgi.errors"] = sys.stderr
    for name, value in scope["headers"]:
        key = _key(name)
        if key is None:
            continue
        text = value.decode("latin-1")
        if key in environ:
            # Cookie is the one field whose values are not joined by commas (RFC 9113, section 8.2.3).
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text
    return environ


@functools.lru_cache(maxsize=512)
def _key(name: bytes) -> str | None:
    if b"_" in name:
        return None
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key
