"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from trimaran.config.load import Loaded, load

Commands = Any
"""argparse keeps the type of `add_subparsers` private."""


def add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file (default: trimaran.toml here, if there is one)",
    )


def loaded(options: argparse.Namespace) -> Loaded:
    """The configuration that the options name. Raises ConfigError."""
    return load(options.config, environ=os.environ, flags={})
