"""`trimaran top`: the status, live."""

from __future__ import annotations

import argparse
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from .arguments import Commands, add_file, loaded
from .running import Running
from .status import render

_CLEAR = "\x1b[H\x1b[J"
_ALTERNATE, _BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def register(commands: Commands) -> None:
    parser = commands.add_parser("top", help="the status, live; q ends it")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="time between two looks (default: 1)"
    )
    add_file(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    running = Running(loaded(options))
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        print("\n".join(render(running.get("/api/status"))))
        return 0
    with _screen():
        while True:
            size = shutil.get_terminal_size()
            lines = list(render(running.get("/api/status"), decisions=12))
            shown = "\n".join(line[: size.columns] for line in lines[: size.lines - 1])
            sys.stdout.write(_CLEAR + shown)
            sys.stdout.flush()
            ready, _, _ = select.select([sys.stdin], [], [], max(options.interval, 0.1))
            if ready and sys.stdin.read(1) in ("q", "Q", "\x1b", ""):
                return 0


@contextmanager
def _screen() -> Iterator[None]:
    """A screen of its own, with keys that arrive at once; everything is put back afterwards."""
    before = termios.tcgetattr(sys.stdin)
    sys.stdout.write(_ALTERNATE)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write(_BACK)
        sys.stdout.flush()
