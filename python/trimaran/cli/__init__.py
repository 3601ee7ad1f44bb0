"""The command line: one file a command, one list of them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from trimaran import __version__
from trimaran.errors import TrimaranError

from . import check, db, drain, init, reload, run, scale, settings, status, top

COMMANDS = (run, init, check, status, top, scale, drain, reload, db, settings)

_EPILOG = """exit codes:
  0 done   1 failed   2 a setting or the command line is wrong   3 the app does not boot   4 an address is taken
  5 a database fails   6 nothing runs here   7 a prepare command failed   130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="trimaran",
        description="Runs a Python web app on many balanced, health-checked, reloadable servers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"trimaran {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(commands)
    options = parser.parse_args(arguments)
    try:
        return int(options.execute(options))
    except TrimaranError as error:
        print(f"trimaran: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
