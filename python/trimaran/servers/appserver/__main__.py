"""The child process: from a command line to a served app."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import cast

from trimaran.tether import die_with_parent

from . import engines
from .detect import UnknownInterface, detect
from .forwarded import ForwardedASGI, ForwardedWSGI
from .interfaces import App, ASGIApp, Interface, WSGIApp
from .lifespan import LifespanRecord
from .listener import listen
from .loading import LoadError, load
from .readiness import ReadyPipe
from .spec import AppServerSpec, parse

EXIT_NOT_READY = 3


class StartupFailed(Exception):
    """The app refused to start in the lifespan protocol; the argument is its explanation."""


def main() -> int:
    """Run the child; the exit code is 0 after an orderly stop and 3 when the app could not be served."""
    spec, ready_fd = parse(sys.argv[1:])
    die_with_parent(signal.SIGKILL, spec.parent_pid)
    # A terminal sends it to the whole process group, but when to stop is the supervisor's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready = ReadyPipe(ready_fd)
    try:
        run(spec, ready)
    except (LoadError, UnknownInterface, engines.EngineError, StartupFailed, OSError) as error:
        message, details = _explained(error)
        ready.failed(message, details)
        return EXIT_NOT_READY
    except Exception as error:
        ready.failed(f"{type(error).__name__}: {error}", traceback.format_exc())
        raise
    return 0


def run(spec: AppServerSpec, ready: ReadyPipe) -> None:
    """Serve the app of `spec` until SIGTERM and the end of the requests in progress."""
    _enter(spec)
    app: App = load(spec.app, Path.cwd())
    interface = detect(app) if spec.interface == "auto" else cast(Interface, spec.interface)
    engine = engines.choose(spec.engine, interface)
    lifespan = LifespanRecord(cast(ASGIApp, app))
    wrapped = _behind_gateway(app, interface, lifespan, spec.threads)
    serve = engine.load()
    _settle_memory()
    site = engines.Site(listen(spec.socket), spec.threads, lambda: ready.serving(interface, engine.name))
    serve(wrapped, site)
    if lifespan.failure is not None:
        raise StartupFailed(lifespan.failure)


def _enter(spec: AppServerSpec) -> None:
    """Make the process what the app expects: directory, import path, its name, and output that is not held back."""
    try:
        os.chdir(spec.directory)
    except OSError as error:
        raise OSError(f"the app's directory {spec.directory} cannot be entered: {error.strerror}") from error
    sys.path.insert(0, str(Path.cwd()))
    os.environ["TRIMARAN_SERVER"] = spec.name
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


def _behind_gateway(app: App, interface: Interface, lifespan: LifespanRecord, threads: int) -> App:
    if interface == "asgi":
        return ForwardedASGI(cast(ASGIApp, app), lifespan)
    return ForwardedWSGI(cast(WSGIApp, app), threads)


def _settle_memory() -> None:
    """Take the imported app out of the garbage collector's sight: it stays, and looking through it pauses requests."""
    gc.collect()
    gc.freeze()


def _explained(error: Exception) -> tuple[str, str]:
    """The line for people and the details of an expected failure."""
    if isinstance(error, LoadError):
        return str(error), error.traceback
    if isinstance(error, StartupFailed):
        text = str(error).strip()
        return f"the app's startup failed: {text.splitlines()[-1]}", text
    return str(error), ""


if __name__ == "__main__":
    sys.exit(main())
