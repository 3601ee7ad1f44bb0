"""From `module:attribute` to the app, or to a sentence about what is wrong with it."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

_DEFAULT_ATTRIBUTES = ("application", "app")


class LoadError(Exception):
    """The app cannot be had; the message is one line for people, `traceback` all there is to know."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed `module:attribute`."""

    module: str
    attributes: tuple[str, ...]
    """Path of the attribute; empty when only the module was named."""
    factory: bool
    """Whether the attribute is called to get the app."""

    @classmethod
    def parse(cls, text: str) -> Target:
        """Raises LoadError when `text` is not `module`, `module:attribute` or `module:factory()`."""
        module, colon, path = text.strip().partition(":")
        factory = path.endswith("()")
        path = path.removesuffix("()")
        attributes = tuple(path.split(".")) if path else ()
        names = (*module.split("."), *attributes)
        if not all(name.isidentifier() for name in names) or (colon and not attributes):
            hint = ""
            if module.endswith(".py") or "/" in module:
                dotted = module.removesuffix(".py").strip("./").replace("/", ".")
                hint = f"; did you mean {dotted}{colon}{path}?"
            expected = "expected module:attribute, for example mysite.wsgi:application"
            raise LoadError(f"{text!r} is not an app: {expected}{hint}")
        return cls(module, attributes, factory)


def load(text: str, directory: Path) -> Any:
    """The app that `text` names. Imports run with `directory` first in `sys.path`. Raises LoadError."""
    target = Target.parse(text)
    try:
        module = importlib.import_module(target.module)
    except Exception as error:
        raise LoadError(_import_failure(target, error, directory), _trace(error)) from error
    except SystemExit as error:
        message = f"importing {target.module} called sys.exit({error.code!r}){_place(error.__traceback__, directory)}"
        raise LoadError(message, _trace(error)) from error
    app = _attribute(module, target)
    if not target.factory:
        return app
    try:
        return app()
    except Exception as error:
        name = f"{target.module}:{'.'.join(target.attributes)}()"
        message = f"{name} raised {_summary(error)}{_place(error.__traceback__, directory)}"
        raise LoadError(message, _trace(error)) from error


def _attribute(module: ModuleType, target: Target) -> Any:
    if not target.attributes:
        for name in _DEFAULT_ATTRIBUTES:
            if hasattr(module, name):
                return getattr(module, name)
        choices = " or ".join(_DEFAULT_ATTRIBUTES)
        raise LoadError(f"module {target.module} has no attribute {choices}{_candidates(module, '')}")
    found: Any = module
    for depth, name in enumerate(target.attributes):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            owner = ".".join((target.module, *target.attributes[:depth]))
            hint = _candidates(found, name)
            raise LoadError(f"{owner} has no attribute {name}{hint}") from error
    return found


def _candidates(owner: object, wanted: str) -> str:
    """What in `owner` may have been meant."""
    module = getattr(owner, "__name__", None)
    own = (
        [
            name
            for name, value in vars(owner).items()
            if not name.startswith("_") and callable(value) and getattr(value, "__module__", module) == module
        ]
        if isinstance(owner, ModuleType)
        else []
    )
    apps = [name for name in dir(owner) if "app" in name.lower() and not name.startswith("_")]
    names = list(dict.fromkeys([*difflib.get_close_matches(wanted, dir(owner)), *apps, *own]))[:5]
    return f"; it has {', '.join(names)}" if names else ""


def _import_failure(target: Target, error: Exception, directory: Path) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and (target.module + ".").startswith(error.name + "."):
        return f"no module named {error.name} in {directory} or the installed packages: is the app's directory right?"
    hint = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"; is {error.name.partition('.')[0]} installed for {sys.executable}?"
    return f"importing {target.module} failed: {_summary(error)}{_place(error.__traceback__, directory)}{hint}"


def _summary(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(start: TracebackType | None, directory: Path) -> str:
    """The innermost line of the app's own code on the way to an error; without one, of any code but ours."""
    frames = [
        frame
        for frame in traceback.extract_tb(start)
        if not frame.filename.startswith("<frozen") and not Path(frame.filename).is_relative_to(Path(__file__).parent)
    ]
    own = [frame for frame in frames if _is_own(Path(frame.filename), directory)]
    for frame in reversed(own or frames):
        path = Path(frame.filename)
        shown = path.relative_to(directory) if path.is_relative_to(directory) else path
        return f" ({shown}:{frame.lineno})"
    return ""


def _trace(error: BaseException) -> str:
    """The traceback without our own frames and the import machinery's; empty when nothing else is in it."""
    machinery = (f"{Path(__file__).parent}{os.sep}", f"{Path(importlib.__file__).parent}{os.sep}", "<frozen importlib")
    trace = traceback.TracebackException.from_exception(error, compact=True)
    kept = [frame for frame in trace.stack if not frame.filename.startswith(machinery)]
    if not kept:
        return ""
    trace.stack = traceback.StackSummary.from_list(kept)
    return "".join(trace.format())


def _is_own(path: Path, directory: Path) -> bool:
    return path.is_relative_to(directory) and "site-packages" not in path.parts
