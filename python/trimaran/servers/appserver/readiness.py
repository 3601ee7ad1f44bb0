"""The one line a child writes to its ready pipe: serving now, or why not."""

from __future__ import annotations

import json
import os
import threading


class ReadyPipe:
    """The write end of the ready pipe. The first report is written and closes it; later ones do nothing."""

    def __init__(self, descriptor: int) -> None:
        # Processes that the app starts must not keep the pipe open: its end of file tells that the child died.
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._open = True
        self._lock = threading.Lock()

    def serving(self, interface: str, engine: str) -> None:
        """The socket accepts and the app has started."""
        self._report({"ok": True, "interface": interface, "engine": engine, "pid": os.getpid()})

    def failed(self, error: str, traceback: str) -> None:
        """The app cannot be served; `error` is one line for people."""
        self._report({"ok": False, "error": error, "traceback": traceback})

    def _report(self, message: dict[str, object]) -> None:
        with self._lock:
            if not self._open:
                return
            self._open = False
        try:
            line = memoryview(json.dumps(message).encode() + b"\n")
            while line:
                line = line[os.write(self._descriptor, line) :]
        except BrokenPipeError:
            pass  # The supervisor stopped waiting; it will stop this process, too.
        finally:
            os.close(self._descriptor)
