"""An app in whose process httptools cannot be found."""

import importlib.util
import sys

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "httptools" else find_spec(name, package)
sys.modules.pop("httptools", None)


async def app(scope, receive, send):
    raise AssertionError("never served")
