"""`trimaran reload`: move traffic to new servers with the code and settings of now."""

from __future__ import annotations

import argparse

from .arguments import Commands, add_file, loaded
from .running import Running


def register(commands: Commands) -> None:
    parser = commands.add_parser("reload", help="replace every server by a new one, without losing a request")
    add_file(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    print(Running(loaded(options)).command("reload"))
    return 0
