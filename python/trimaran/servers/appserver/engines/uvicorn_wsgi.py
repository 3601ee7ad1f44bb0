"""uvicorn for WSGI apps: its event loop does the input and output, `threads` runs the app."""

from __future__ import annotations

from typing import cast

from ..interfaces import App, WSGIApp
from ..logs import to_stderr
from ..threads import ThreadedWSGI
from . import Site
from .uvicorn_asgi import run


def serve(app: App, site: Site) -> None:
    """See `engines.Serve`."""
    to_stderr("trimaran.appserver")
    threaded = ThreadedWSGI(cast(WSGIApp, app), site.threads)
    run(threaded, site, lifespan="off", ws="none")
    threaded.stop()
