"""A server whose answers wait until the test lets them go."""

from __future__ import annotations

import threading

from tests.support.wire import TIMEOUT_S, Peer, Wire, respond


class Gate:
    """Behaviour of a peer: every request is held until `open` is called."""

    def __init__(self, answer: bytes = respond()) -> None:
        self._opened = threading.Event()
        self._answer = answer

    def __call__(self, wire: Wire, peer: Peer) -> None:
        while True:
            peer.request(wire)
            if not self._opened.wait(TIMEOUT_S):
                return
            wire.send(self._answer)

    def open(self) -> None:
        self._opened.set()
