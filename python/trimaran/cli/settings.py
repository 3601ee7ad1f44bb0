"""`trimaran settings`: every setting with its default and what it means."""

from __future__ import annotations

import argparse

from trimaran.config.reference import entries
from trimaran.errors import TrimaranError

from .arguments import Commands


def register(commands: Commands) -> None:
    parser = commands.add_parser("settings", help="explain settings")
    parser.add_argument("key", nargs="?", metavar="KEY", help="only settings whose name contains this")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    found = [entry for entry in entries() if not options.key or options.key in entry.name]
    if not found:
        raise TrimaranError(f"no setting's name contains {options.key!r}")
    for entry in found:
        print(f"{entry.name} = {entry.default}   ({entry.kind}{entry.bounds})")
        print(f"    {entry.help}")
    return 0
