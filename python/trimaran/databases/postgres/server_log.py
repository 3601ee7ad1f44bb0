"""Reading what a node logged since its start, for messages to people."""

from __future__ import annotations

import os
from pathlib import Path

_TAIL_BYTES = 16_384


class ServerLog:
    """The log files of one start: what PostgreSQL said before logging began, then its own log."""

    def __init__(self, start_log: Path, directory: Path) -> None:
        self._start_log = start_log
        self._directory = directory
        self._sizes_before = {file: file.stat().st_size for file in self._files()}

    def text(self) -> str:
        """Everything since the start, at most the last kilobytes of each file."""
        return "".join(
            _tail(file, after=0 if file == self._start_log else self._sizes_before.get(file, 0))
            for file in (self._start_log, *self._files())
        )

    def last_lines(self, count: int = 6) -> str:
        """The last lines, those that say why before those that say what else happened."""
        lines = [line for line in self.text().splitlines() if line.strip()]
        telling = [
            line for line in lines if any(word in line for word in ("FATAL", "PANIC", "ERROR", "HINT", "DETAIL"))
        ]
        return "\n".join((telling or lines)[-count:])

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("postgresql-*.log"), key=lambda file: file.stat().st_mtime)


def _tail(file: Path, after: int) -> str:
    try:
        # The directory is the node's: never follow a link out of it with our rights.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return ""
    with open(descriptor, "rb") as opened:
        size = os.fstat(descriptor).st_size
        opened.seek(max(after if after <= size else 0, size - _TAIL_BYTES))
        return opened.read(_TAIL_BYTES).decode("utf-8", "replace")
