"""`trimaran drain`: take one server out of traffic and replace it."""

from __future__ import annotations

import argparse

from .arguments import Commands, add_file, loaded
from .running import Running


def register(commands: Commands) -> None:
    parser = commands.add_parser("drain", help="take one server out of traffic, let it finish, replace it")
    parser.add_argument("server", metavar="SERVER", help="its name as in `trimaran status`, like app-1")
    add_file(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    print(Running(loaded(options)).command("drain", server=options.server))
    return 0
