"""granian for ASGI apps. Open WebSockets are cut at SIGTERM without a close frame (granian 2.8)."""

from __future__ import annotations

import asyncio
import importlib
import signal
from typing import Any

from granian._loops import loops

from ..interfaces import App
from ..logs import to_stderr
from . import Site, granian_worker

_asgi: Any = importlib.import_module("granian.asgi")


def serve(app: App, site: Site) -> None:
    """See `engines.Serve`."""
    to_stderr("_granian")
    loop = loops.get("auto")
    stopping = granian_worker.native.WorkerSignal()
    stopped = asyncio.Event()
    stopping.add_cb(lambda: loop.call_soon_threadsafe(stopped.set))
    loop.add_signal_handler(signal.SIGTERM, stopping.set)

    lifespan = _asgi.LifespanProtocol(app)
    loop.run_until_complete(lifespan.startup())
    if lifespan.interrupt:
        return
    callback = granian_worker.futures._future_watcher_wrapper(_asgi._callback_wrapper(app, {}, lifespan.state, None))
    worker = granian_worker.native.ASGIWorker(
        1,
        (None, granian_worker.holder(site.listener)),
        None,
        threads=granian_worker.IO_THREADS,
        blocking_threads=granian_worker.BLOCKING_IO_THREADS,
        backpressure=granian_worker.CONNECTIONS_MAX,
        http_mode="1",
        http1_opts=granian_worker.http1_settings(),
        websockets_enabled=True,
    )
    scheduler = granian_worker.futures._new_cbscheduler(loop, callback, impl_asyncio=True)
    worker.serve_mtr_uds(scheduler, loop, stopping)
    loop.call_soon(site.ready)
    loop.run_until_complete(stopped.wait())
    loop.run_until_complete(lifespan.shutdown())
