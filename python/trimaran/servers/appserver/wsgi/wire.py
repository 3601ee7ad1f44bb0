"""A socket that never blocks the call that may find nothing, and blocks the calling thread where it has to wait.

Waiting has no limit of its own: the gateway at the other end limits how long a request and a response may take, and
closes the connection then.
"""

from __future__ import annotations

import contextlib
import select
import socket

RECEIVE = 65_536
"""Most bytes that are received at once."""
_TOGETHER = 65_536
"""Head and body of a response up to this size are copied into one piece; larger ones are sent side by side."""


class PeerGone(OSError):
    """The other end has closed the connection."""


class Wire:
    """One connection."""

    __slots__ = ("_peer", "more_may_wait")

    def __init__(self, peer: socket.socket) -> None:
        """Takes over `peer`, which is non-blocking."""
        self._peer = peer
        self.more_may_wait = False
        """Whether the last reading was as large as it could be, so that there may be more without another event."""

    def close(self) -> None:
        self._peer.close()

    def receive_now(self, most: int = RECEIVE) -> bytes | None:
        """Up to `most` bytes of what has arrived, None when nothing has. Raises PeerGone."""
        try:
            data = self._peer.recv(most)
        except BlockingIOError:
            self.more_may_wait = False
            return None
        except OSError as error:
            raise PeerGone(*error.args) from error
        if not data:
            raise PeerGone("the other end has closed the connection")
        self.more_may_wait = len(data) == most
        return data

    def receive(self, most: int = RECEIVE) -> bytes:
        """Wait for up to `most` bytes. Raises PeerGone."""
        while (data := self.receive_now(most)) is None:
            self._wait(select.POLLIN)
        return data

    def send(self, head: bytes, body: bytes = b"") -> None:
        """Send all of it, and wait while the other end does not take it. Raises PeerGone."""
        if len(body) <= _TOGETHER:
            self._send(head + body if body else head)
        else:
            self._send(head)
            self._send(body)

    def send_last(self, data: bytes) -> None:
        """Send what may be lost, because the connection ends here."""
        with contextlib.suppress(OSError):
            self._peer.send(data)

    def _send(self, data: bytes) -> None:
        try:
            sent = self._peer.send(data)
            if sent == len(data):
                return
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise PeerGone(*error.args) from error
        rest = memoryview(data)[sent:]
        while rest:
            self._wait(select.POLLOUT)
            try:
                rest = rest[self._peer.send(rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise PeerGone(*error.args) from error

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._peer, event)
        poll.poll()
