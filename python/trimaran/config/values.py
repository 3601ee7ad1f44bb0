"""Values as people write them, parsed into types that cannot be wrong.

Each parser takes what TOML, the environment or a flag gives and returns the typed value, or raises `Unfit` with what was
expected. Text is accepted wherever the environment or a flag must be able to say the same as the file.
"""

from __future__ import annotations

import ipaddress
import re
import types
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin

from .model import Bind, Count, Declaration, Remote


class Unfit(ValueError):
    """The value is not what the setting takes; the text says what it takes."""


_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?\.?)+|\*?")


def bind(value: object) -> Bind:
    """`127.0.0.1:8000`, `[::1]:8000`, `:8000`, `8000` (loopback), `unix:/path`."""
    expected = "an address like 127.0.0.1:8000, [::1]:8000, :8000 (every interface) or unix:/path"
    if isinstance(value, bool):
        raise Unfit(expected)
    text = str(value) if isinstance(value, int) else value
    if not isinstance(text, str):
        raise Unfit(expected)
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or len(path.encode()) > 107:
            raise Unfit("an absolute path of at most 107 bytes after unix:")
        return Bind("", 0, path)
    host, colon, port = text.rpartition(":")
    if not colon:
        host = "127.0.0.1"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise Unfit(expected) from None
    elif not _HOST.fullmatch(host):
        raise Unfit(expected)
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise Unfit(f"{expected}, with a port from 0 to 65535")
    return Bind("" if host == "*" else host, int(port))


def count(value: object) -> Count:
    """`4` or `"2..8"`."""
    expected = 'a number of servers like 4, or a range like "2..8"'
    if isinstance(value, int) and not isinstance(value, bool):
        least = most = value
    elif isinstance(value, str) and (match := re.fullmatch(r"(\d{1,5})(?:\.\.(\d{1,5}))?", value.strip())):
        least = int(match[1])
        most = int(match[2] or match[1])
    else:
        raise Unfit(expected)
    if not 0 <= least <= most <= 10_000:
        raise Unfit(f"{expected}, from 0 to 10000, the smaller first")
    return Count(least, most)


def remote(value: object) -> Remote:
    """`10.0.0.7:8000` or `10.0.0.7:8000 weight=2`."""
    expected = "a server like 10.0.0.7:8000, app.internal:8000 weight=2 or unix:/path"
    if not isinstance(value, str):
        raise Unfit(expected)
    address, *options = value.split() or [""]
    weight = 1.0
    for option in options:
        name, _, text = option.partition("=")
        try:
            weight = float(text)
        except ValueError:
            raise Unfit(expected) from None
        if name != "weight" or not 0 < weight <= 1_000:
            raise Unfit(f"{expected}, with a weight above 0 and at most 1000")
    at = bind(address)
    if at.path is None and (not at.host or not at.port):
        raise Unfit(expected)
    return Remote(at, weight)


def _whole(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Unfit("a whole number")


def _number(value: object) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Unfit("a number") from None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18:
        return float(value)
    raise Unfit("a number")


def _truth(value: object) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, bool):
        return value
    raise Unfit("true or false")


def _text(value: object) -> str:
    if isinstance(value, str) and "\0" not in value:
        return value
    raise Unfit("a text in quotes")


_SCALARS: dict[Any, Callable[[object], object]] = {
    bool: _truth,
    int: _whole,
    float: _number,
    str: _text,
    Bind: bind,
    Count: count,
    Remote: remote,
}


def parse(kind: Any, value: object, declaration: Declaration) -> object:
    """`value` as `kind`, within the declaration's bounds. Raises Unfit."""
    if kind in _SCALARS:
        parsed = _SCALARS[kind](value)
        if isinstance(parsed, int | float) and not isinstance(parsed, bool):
            _check_bounds(parsed, kind, declaration)
        return parsed
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value in arguments:
            return value
        raise Unfit("one of " + ", ".join(map(str, arguments)))
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise Unfit("a list in brackets")
        return tuple(
            parse(arguments[0], item.strip() if isinstance(item, str) else item, declaration) for item in items
        )
    if origin in (Union, types.UnionType):
        expected = []
        for option in arguments:
            if option is type(None):
                continue
            try:
                return parse(option, value, declaration)
            except Unfit as unfit:
                expected.append(str(unfit))
        raise Unfit(", or ".join(expected))
    if isinstance(value, dict) and arguments == (str, str):
        return {key: _text(item) for key, item in value.items()}
    raise Unfit("a table of texts")


def _check_bounds(value: float, kind: type, declaration: Declaration) -> None:
    noun = "a whole number" if kind is int else "a number"
    least, most = declaration.minimum, declaration.maximum
    too_small, too_large = least is not None and value < least, most is not None and value > most
    if (too_small or too_large) and least is not None and most is not None:
        raise Unfit(f"{noun} from {least:g} to {most:g}")
    if too_small:
        raise Unfit(f"{noun} not below {least:g}")
    if too_large:
        raise Unfit(f"{noun} not above {most:g}")
