"""Why an ASGI app did not start: what it said in the lifespan protocol, recorded on its way to the engine."""

from __future__ import annotations

import traceback

from .interfaces import ASGIApp, Message, Receive, Scope, Send


class LifespanRecord:
    """The lifespan side of `app`; records a failed startup in `failure`.

    An app that raises before it asks for the first lifespan message does not know the protocol (ASGI, lifespan,
    "Scope"), which is fine. An app that raises after it was told to start, has failed to start: engines would
    pass that over as an app without lifespan.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.failure: str | None = None
        """What the app sent with lifespan.startup.failed, usually a traceback."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = answered = False

        async def recording_receive() -> Message:
            nonlocal asked
            message = await receive()
            asked = True
            return message

        async def recording_send(message: Message) -> None:
            nonlocal answered
            answered = True
            if message["type"] == "lifespan.startup.failed":
                self.failure = str(message.get("message") or "the app reported that its startup failed")
            await send(message)

        try:
            await self._app(scope, recording_receive, recording_send)
        except Exception:
            if asked and not answered:
                await recording_send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
            raise
