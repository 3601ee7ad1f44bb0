"""The reference of all settings, made from their declarations: for the terminal, the docs and editors.

python -m trimaran.config.reference docs      writes docs/settings.md and docs/trimaran.schema.json
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

from .load import declarations, is_list_of_tables
from .model import Bind, Config, Count, Database, Declaration, Pool, Remote

_NAMED = {"pools": Pool, "databases": Database}


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as people see it."""

    name: str
    kind: str
    default: str
    bounds: str
    help: str
    flag: str | None
    live: bool


def entries() -> list[Entry]:
    """Every setting in the order of the declarations; those inside named tables carry NAME."""
    return list(_entries(Config, ""))


def _entries(cls: type, prefix: str) -> Iterator[Entry]:
    defaults = cls()
    for name, (kind, declaration) in declarations(cls).items():
        if dataclasses.is_dataclass(kind) and "setting" in dataclasses.fields(kind)[0].metadata:
            yield from _entries(cast(type, kind), f"{prefix}{name}.")
        elif is_list_of_tables(kind):
            yield from _entries(get_args(kind)[0], f"{prefix}{name}[].")
        elif name in _NAMED and cls is Config:
            if name != "pools":
                yield from _entries(_NAMED[name], f"{name}.NAME.")
        else:
            yield Entry(
                prefix + name,
                _kind(kind),
                _shown(getattr(defaults, name)),
                _bounds(declaration),
                declaration.help,
                declaration.flag,
                declaration.live,
            )


def _kind(kind: Any) -> str:
    names = {
        bool: "true or false",
        int: "whole number",
        float: "number",
        str: "text",
        Count: "count",
        Bind: "address",
        Remote: "server",
    }
    if kind in names:
        return names[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(f'"{argument}"' for argument in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if arguments == (str, str):
        return "table of texts"
    return " or ".join(_kind(argument) for argument in arguments if argument is not type(None))


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return json.dumps([str(item) for item in value])
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _bounds(declaration: Declaration) -> str:
    least, most = declaration.minimum, declaration.maximum
    if least is not None and most is not None:
        return f", {least:g} to {most:g}"
    if least is not None:
        return f", at least {least:g}"
    return "" if most is None else f", at most {most:g}"


def markdown() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made from `python/trimaran/config/model.py` by `python -m trimaran.config.reference docs`; do not edit.",
        "",
        "Settings live in `trimaran.toml`. The environment wins over the file (`TRIMARAN_GATEWAY_BIND`, `TRIMARAN_SERVERS_THREADS`;",
        "`TRIMARAN_DATABASES_MAIN_NODES` where the file has `[databases.main]`), flags of `trimaran run` win over both. A setting",
        "marked *start* is read only when Trimaran starts; all others are taken over by `trimaran reload`. Further pools are",
        "tables `[pools.NAME]` with the settings of `[servers]`, whose values are their defaults.",
        "",
        "| setting | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for entry in entries():
        notes = "".join([f" Flag `{entry.flag}`." if entry.flag else "", "" if entry.live else " *start*"])
        kind = (entry.kind + entry.bounds).replace("|", "\\|")
        lines.append(
            f"| `{entry.name}` | {kind} | `{entry.default}` | {entry.help.replace('|', chr(92) + '|')}{notes} |"
        )
    return "\n".join(lines) + "\n"


def schema() -> dict[str, Any]:
    """docs/trimaran.schema.json (JSON Schema 2020-12), for editors that complete and check."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "trimaran.toml", **_schema(Config)}


def _schema(cls: type) -> dict[str, Any]:
    properties = {}
    for name, (kind, declaration) in declarations(cls).items():
        properties[name] = {"description": declaration.help, **_type(name, kind, declaration)}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _type(name: str, kind: Any, declaration: Declaration) -> dict[str, Any]:
    bounds = {
        key: value
        for key, value in (("minimum", declaration.minimum), ("maximum", declaration.maximum))
        if value is not None
    }
    simple: dict[Any, dict[str, Any]] = {
        bool: {"type": "boolean"},
        int: {"type": "integer", **bounds},
        float: {"type": "number", **bounds},
        str: {"type": "string"},
        Count: {"type": ["integer", "string"], "pattern": r"^\d+(\.\.\d+)?$"},
        Bind: {"type": ["integer", "string"]},
        Remote: {"type": "string"},
    }
    if kind in simple:
        return simple[kind]
    if dataclasses.is_dataclass(kind):
        return _schema(cast(type, kind))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _type(name, arguments[0], declaration)}
    if len(arguments) == 2 and arguments[0] is str:
        return {"type": "object", "additionalProperties": _type(name, arguments[1], declaration)}
    return {"anyOf": [_type(name, argument, declaration) for argument in arguments if argument is not type(None)]}


def main(directory: Path) -> None:
    (directory / "settings.md").write_text(markdown())
    (directory / "trimaran.schema.json").write_text(json.dumps(schema(), indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
