"""Starting PostgreSQL's programs: as the node's account, tethered, in an environment of our own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from signal import Signals
from typing import IO

from trimaran import tether
from trimaran.databases.postgres.account import Account

_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended and everything it said."""

    status: int
    output: str

    def last_lines(self, count: int = 8) -> str:
        return "\n".join(self.output.strip().splitlines()[-count:])


def spawn(
    argv: Sequence[str], account: Account, *, signal: Signals, stdin: int | IO[str], output: IO[str] | IO[bytes]
) -> subprocess.Popen[str]:
    """Start a program that gets `signal` when this process ends. Its pid is the program's own.

    Call it from the main thread (see `trimaran.tether`). The program leads a session of its own, so that a Ctrl-C
    at the terminal reaches Trimaran alone, which stops things in order.
    """
    user = account.name if account.dropped else None
    return subprocess.Popen(
        tether.command(argv, signal=signal, parent_pid=os.getpid(), user=user),
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        env=_environment(),
        umask=0o077,
        start_new_session=True,
    )


async def run(
    argv: Sequence[str],
    account: Account,
    *,
    says: str = "",
    within_s: float = 300.0,
    on_output: Callable[[str], None] | None = None,
) -> Outcome:
    """Run a program to its end. It is killed when it takes longer, or when the caller is cancelled.

    `says` is its standard input. The output may be as long as it likes; `on_output` gets what was added, now and then.
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+b", buffering=0) as heard:
        said.write(says)
        said.flush()
        said.seek(0)
        process = spawn(argv, account, signal=Signals.SIGKILL, stdin=said, output=heard)
        note = b""
        try:
            if not await ended(process, within_s, _Tail(heard, on_output) if on_output else None):
                note = f"\nstopped after {within_s:g} s without an end".encode()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        heard.seek(0)
        return Outcome(process.returncode, (heard.read() + note).decode("utf-8", "replace"))


async def ended(process: subprocess.Popen[str], within_s: float, look: Callable[[], None] | None = None) -> bool:
    """Whether the process ends within this time. It is looked at every 20 ms, as the only way that needs no thread."""
    deadline = time.monotonic() + within_s
    while process.poll() is None:
        if time.monotonic() >= deadline:
            return False
        if look is not None:
            look()
        await asyncio.sleep(_LOOK_S)
    return True


class _Tail:
    """Passes on what a growing file got since the last call. Reads at a position of its own, so the writer's stays."""

    def __init__(self, file: IO[bytes], pass_on: Callable[[str], None]) -> None:
        self._file = file
        self._pass_on = pass_on
        self._position = 0

    def __call__(self) -> None:
        added = os.pread(self._file.fileno(), 65_536, self._position)
        if added:
            self._position += len(added)
            self._pass_on(added.decode("utf-8", "replace"))


def _environment() -> dict[str, str]:
    """Nothing of the person's PG* variables; messages in English, because some of them are read by Trimaran."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR") if name in os.environ
    }
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
