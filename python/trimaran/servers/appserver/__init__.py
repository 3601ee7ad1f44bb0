"""The app server launcher: one child process that runs the user's app on one Unix socket.

The supervisor builds the child's command line with `command` and reads one line of JSON from the ready pipe
(`readiness`). The child is `python -m trimaran.servers.appserver`; its flow is the function `run` in `__main__`.
"""

from __future__ import annotations

from .spec import AppServerSpec, command

__all__ = ["AppServerSpec", "command"]
