"""One connection of the gateway: requests in, responses out, one after the other."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable

import httptools

from ..interfaces import Environ, WSGIApp
from .request import Request
from .response import FileBlocks, Response
from .wire import PeerGone, Wire

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

logger = logging.getLogger("trimaran.appserver")


class Connection:
    """Used by one thread at a time; `arrived` sees to that."""

    __slots__ = ("_again", "_app", "_request", "_turn", "_usable", "_wire")

    def __init__(self, peer: socket.socket, app: WSGIApp) -> None:
        self._wire = Wire(peer)
        self._app = app
        self._request = Request(self._wire)
        self._turn = threading.Lock()
        self._again = False
        self._usable = True

    def close(self) -> None:
        self._wire.close()

    def arrived(self) -> bool:
        """Something has arrived, or the other end has closed. False when the connection is over.

        A thread that comes while another one is at it leaves word and goes.
        """
        self._again = True
        while self._again and self._usable and self._turn.acquire(blocking=False):
            try:
                while self._again and self._usable:
                    self._again = False
                    self._usable = self._serve()
            finally:
                self._turn.release()
        return self._usable

    def _serve(self) -> bool:
        """Answer a request, if there is one. False when the connection is over."""
        request, wire = self._request, self._wire
        try:
            data = wire.receive_now()
            if data is None:
                return True
            request.feed(data)
            while request.environ is None:
                request.feed(wire.receive())
            environ = request.environ
            environ["wsgi.input"] = request.input()
            if not self._answer(environ):
                return False
            request.finish()
            if wire.more_may_wait:
                self._again = True
        except PeerGone:
            return False
        except httptools.HttpParserError as error:
            logger.error("a request that is not HTTP: %s", error)
            wire.send_last(_BAD_REQUEST)
            return False
        except Exception:
            logger.exception("a connection failed")
            return False
        return True

    def _answer(self, environ: Environ) -> bool:
        """Call the app, send its response, and close that. False when the connection must end. Raises PeerGone."""
        environ["wsgi.file_wrapper"] = FileBlocks
        response = Response(self._wire, self._request, environ)
        result: Iterable[bytes] = ()
        try:
            result = self._app(environ, response.start)
            response.send(result)
        except PeerGone:
            raise
        except BaseException:
            logger.exception("the app failed to answer %s %s", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            if not response.fail():
                return False
        finally:
            close: Callable[[], object] | None = getattr(result, "close", None)
            if close is not None:
                try:
                    close()
                except Exception:
                    logger.exception("the app failed to close its response to %s", environ["PATH_INFO"])
        return not response.last
