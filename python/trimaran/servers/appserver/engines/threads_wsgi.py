"""Threads of ours for WSGI apps, with httptools: one does all of a request, without an event loop (`appserver/wsgi`)."""

from __future__ import annotations

import signal
import threading
from typing import cast

from ..interfaces import App, WSGIApp
from ..logs import to_stderr
from ..wsgi import Threads
from . import Site


def serve(app: App, site: Site) -> None:
    """See `engines.Serve`."""
    to_stderr("trimaran.appserver")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: stopped.set())
    threads = Threads(cast(WSGIApp, app), site.listener, site.threads)
    site.ready()
    stopped.wait()
    threads.stop()
