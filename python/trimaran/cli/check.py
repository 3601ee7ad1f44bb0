"""`trimaran check`: is the configuration right, and can the app be imported?"""

from __future__ import annotations

import argparse
import subprocess
import sys

from trimaran.config.check import check
from trimaran.config.load import Loaded
from trimaran.errors import AppError, ConfigErrors

from .arguments import Commands, add_file, loaded

_IMPORT = """
import os, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
from trimaran.servers.appserver.loading import LoadError, load
from trimaran.servers.appserver.detect import UnknownInterface, detect
try:
    app = load(sys.argv[1], Path.cwd())
    print(detect(app) if sys.argv[2] == "auto" else sys.argv[2])
except LoadError as error:
    sys.exit(os.linesep.join((str(error), error.traceback)))
except UnknownInterface as error:
    sys.exit(str(error))
"""
_IMPORT_S = 60


def register(commands: Commands) -> None:
    parser = commands.add_parser("check", help="check the configuration and import the app; start nothing")
    add_file(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    settings = loaded(options)
    if problems := check(settings):
        raise ConfigErrors(problems)
    print(f"{settings.source}: ok")
    for name, pool in settings.config.all_pools().items():
        if pool.app:
            print(f"{name}: {pool.app} is {_interface(settings, pool.app, pool.interface)}, {pool.count} servers")
        for remote in pool.addresses:
            print(f"{name}: remote server {remote}")
    return 0


def _interface(settings: Loaded, app: str, interface: str) -> str:
    """Imports the app in a process of its own, as a server would. Raises AppError."""
    command = [sys.executable, "-P", "-c", _IMPORT, app, interface]
    try:
        done = subprocess.run(
            command, cwd=settings.directory, capture_output=True, text=True, timeout=_IMPORT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise AppError(f"{app} was not imported within {_IMPORT_S} s") from None
    if done.returncode != 0:
        raise AppError(f"{app} does not boot: {done.stderr.strip()}")
    return done.stdout.split()[-1]
