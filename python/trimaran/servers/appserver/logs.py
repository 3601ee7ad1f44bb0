"""Messages of the engines go to stderr, from where the supervisor takes them under the server's name."""

from __future__ import annotations

import logging


def to_stderr(name: str) -> None:
    """Send warnings and errors of the logger `name` to stderr, whatever logging the app has configured."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger(name)
    logger.handlers = [handler]
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    # An app's logging configuration disables the loggers it does not name, unless told otherwise.
    logger.disabled = False
