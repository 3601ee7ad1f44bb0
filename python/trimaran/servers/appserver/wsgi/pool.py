"""Threads that wait together for requests on any connection; the one that is woken does all the rest."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading

from ..interfaces import WSGIApp
from .connection import Connection

_EDGE = select.EPOLLIN | select.EPOLLET
"""An arrival wakes one thread, once."""

logger = logging.getLogger("trimaran.appserver")


class Threads:
    """Serves `app` on `listener` with a fixed number of threads, from the start until `stop`."""

    def __init__(self, app: WSGIApp, listener: socket.socket, threads: int) -> None:
        self._app = app
        self._listener = listener
        self._connections: dict[int, Connection] = {}
        self._out_of_descriptors = False
        self._stop = os.eventfd(0)
        self._epoll = select.epoll()
        listener.setblocking(False)
        self._epoll.register(listener, _EDGE)
        self._epoll.register(self._stop, select.EPOLLIN)
        self._threads = [
            threading.Thread(target=self._work, name=f"request-{number}", daemon=True)
            for number in range(1, threads + 1)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Accept no more connections, finish the requests that are being handled, and close everything."""
        self._epoll.unregister(self._listener)
        self._listener.close()
        os.eventfd_write(self._stop, 1)
        for thread in self._threads:
            thread.join()
        for connection in self._connections.values():
            connection.close()
        self._epoll.close()
        os.close(self._stop)

    def _work(self) -> None:
        listener = self._listener.fileno()
        while True:
            # One at a time: what else is ready is for the other threads.
            for ready, _ in self._epoll.poll(-1, 1):
                if ready == self._stop:
                    return
                if ready == listener:
                    self._accept()
                elif (connection := self._connections.get(ready)) is not None and not connection.arrived():
                    self._forget(ready, connection)

    def _accept(self) -> None:
        """Take all that wait to be accepted; what arrives later is another event."""
        while True:
            try:
                accepted, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # With this many files open, accepting goes on when a connection has closed.
                self._out_of_descriptors = True
                logger.error("cannot accept a connection: %s", error.strerror or error)
                return
            accepted.setblocking(False)
            self._connections[accepted.fileno()] = Connection(accepted, self._app)
            self._epoll.register(accepted, _EDGE)

    def _forget(self, descriptor: int, connection: Connection) -> None:
        # Two threads may see the end of it, and the number may be another connection's by then.
        if self._connections.get(descriptor) is not connection:
            return
        del self._connections[descriptor]
        connection.close()
        if self._out_of_descriptors:
            self._out_of_descriptors = False
            with contextlib.suppress(OSError):
                self._accept()
