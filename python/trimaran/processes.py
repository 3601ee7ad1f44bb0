"""Child processes: started from the main thread (their tether hangs on it), watched through descriptors, always reaped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_LINE_MAX = 16 * 1024
_READY_MAX = 256 * 1024


class Process:
    """A running child. Its output is passed on line by line; its end is awaited by `wait`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        on_line: Callable[[str], None],
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Raises OSError when the command cannot be started."""
        self._popen = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=directory,
            pass_fds=tuple(pass_fds),
            # Ctrl-C in the terminal is for the supervisor, which then ends its children in order.
            start_new_session=True,
        )
        self.pid = self._popen.pid
        self._loop = asyncio.get_running_loop()
        self._on_line = on_line
        self._partial = b""
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)
        assert self._popen.stdout is not None
        self._output = self._popen.stdout.fileno()
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read_output)

    @property
    def is_running(self) -> bool:
        return not self.exited.done()

    async def wait(self, timeout_s: float | None = None) -> int:
        """The exit code, negative for a signal. Raises TimeoutError."""
        return await asyncio.wait_for(asyncio.shield(self.exited), timeout_s)

    def send(self, number: signal.Signals) -> None:
        if self.is_running:
            with suppress(ProcessLookupError):
                self._popen.send_signal(number)

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL when that is not enough."""
        self.send(signal.SIGTERM)
        try:
            await self.wait(grace_s)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.wait()

    def memory_bytes(self) -> int | None:
        """Resident memory; None when the process is gone."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = self._popen.wait()
        self._read_output()
        self._close_output()
        if not self.exited.done():
            self.exited.set_result(code)

    def _read_output(self) -> None:
        while self._output >= 0:
            try:
                data = os.read(self._output, 65_536)
            except BlockingIOError:
                return
            if not data:
                self._close_output()
                return
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                self._say(line)
            while len(self._partial) > _LINE_MAX:
                self._say(self._partial[:_LINE_MAX])
                self._partial = self._partial[_LINE_MAX:]

    def _close_output(self) -> None:
        if self._output >= 0:
            self._loop.remove_reader(self._output)
            self._output = -1
            assert self._popen.stdout is not None
            self._popen.stdout.close()
            if self._partial:
                self._say(self._partial)
                self._partial = b""

    def _say(self, line: bytes) -> None:
        self._on_line(line.decode("utf-8", "replace").rstrip("\r"))


class ReadyPipe:
    """A pipe on which a child says one thing when it is ready, or closes it without a word when it ends."""

    def __init__(self) -> None:
        self._read, self.child_end = os.pipe()
        os.set_blocking(self._read, False)
        self._loop = asyncio.get_running_loop()
        self._message: asyncio.Future[bytes] = self._loop.create_future()
        self._arrived = b""
        self._loop.add_reader(self._read, self._on_readable)

    def close_child_end(self) -> None:
        """To be called once the child has its own copy; else its end would never be seen."""
        os.close(self.child_end)

    async def message(self, timeout_s: float) -> bytes:
        """All that the child said. Raises TimeoutError."""
        return await asyncio.wait_for(asyncio.shield(self._message), timeout_s)

    def close(self) -> None:
        if self._read >= 0:
            self._loop.remove_reader(self._read)
            os.close(self._read)
            self._read = -1

    def _on_readable(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._read, 65_536):
                self._arrived += data
                if len(self._arrived) > _READY_MAX:
                    break
            self.close()
            if not self._message.done():
                self._message.set_result(self._arrived)


def describe_exit(code: int) -> str:
    """How a process ended, in words: `exited with code 3`, `was killed by SIGKILL`."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
