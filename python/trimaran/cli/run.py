"""`trimaran run`: serve an app."""

from __future__ import annotations

import argparse
import os

from trimaran.config.check import check
from trimaran.config.load import Loaded, dotted_names, load
from trimaran.config.model import Config
from trimaran.errors import ConfigErrors, TrimaranError

from .arguments import Commands, add_file


def register(commands: Commands) -> None:
    parser = commands.add_parser(
        "run", aliases=["up"], help="serve an app", description="Serves an app on several servers behind the gateway."
    )
    parser.add_argument(
        "app", nargs="?", metavar="APP", help="the app as module:attribute, like mysite.wsgi:application"
    )
    add_file(parser)
    for dotted, declaration in dotted_names(Config).items():
        if declaration.flag:
            parser.add_argument(declaration.flag, dest=dotted, metavar="VALUE", help=f"{declaration.help} ({dotted})")
    parser.set_defaults(execute=execute)


def read(options: argparse.Namespace) -> Loaded:
    """The checked configuration. Raises ConfigError."""
    given = {
        dotted: getattr(options, dotted)
        for dotted in dotted_names(Config)
        if getattr(options, dotted, None) is not None
    }
    if options.app:
        given["servers.app"] = options.app
    loaded = load(options.config, environ=os.environ, flags=given)
    if loaded.path is None and not options.app and not loaded.config.all_pools():
        raise TrimaranError(
            "nothing to run: there is no trimaran.toml here.\n"
            "  trimaran init                            looks at the project and writes one\n"
            "  trimaran run mysite.wsgi:application     runs an app without one"
        )
    if problems := check(loaded):
        raise ConfigErrors(problems)
    return loaded


def execute(options: argparse.Namespace) -> int:
    loaded = read(options)
    # Imported late: commands that only ask need not load the data plane.
    from trimaran.supervisor import Supervisor

    return Supervisor(loaded).run()
