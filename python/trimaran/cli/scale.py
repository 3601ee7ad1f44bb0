"""`trimaran scale`: set the number of servers."""

from __future__ import annotations

import argparse

from .arguments import Commands, add_file, loaded
from .running import Running


def register(commands: Commands) -> None:
    parser = commands.add_parser("scale", help="set the number of servers of a running app")
    parser.add_argument("count", type=int, metavar="N")
    parser.add_argument("--pool", default="app", help="which pool (default: app)")
    add_file(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    print(Running(loaded(options)).command("scale", pool=options.pool, count=options.count))
    return 0
