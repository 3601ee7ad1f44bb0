"""What a stored expression or query (`pg_node_tree`) names: oids of functions, operators, types and relations, and the
constants that name settings.

The text of such a tree is not documented, but these parts of it are the same in PostgreSQL 16 to 19: `{FUNCEXPR :funcid
2077 ... :args ({CONST :consttype 25 ... :constvalue 14 [ 56 0 0 0 97 ... ]} ...)}`. Strings in it are escaped, so that none
passes for a field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SET_CONFIG = 2078
"""`current_setting` is 2077 and 3294."""

_FUNCTIONS = re.compile(r":(?:funcid|aggfnoid|winfnoid|elemfuncid) (\d+)")
_OPERATORS = re.compile(r":(?:opno|eqop|sortop) (\d+)")
_MORE_OPERATORS = re.compile(r":opnos \(o ([\d ]+)\)")
_RELATIONS = re.compile(r":rtekind 0 :relid (\d+)")
_TYPES = re.compile(r":\w*type (\d{5,})")
_SETTING = re.compile(r"\{FUNCEXPR :funcid (2077|2078|3294) [^{]*:args \(")
_CONSTANT = re.compile(r"\{CONST :consttype 25 [^{}]*:constvalue \d+ \[ ([-\d ]+) \]\}")
_WRITES = re.compile(r"\{QUERY :commandType ([2-6]) ")
_LOCKS = re.compile(r":hasForUpdate true")
_COMMANDS = {"2": "UPDATE", "3": "INSERT", "4": "DELETE", "5": "MERGE", "6": "a command"}


@dataclass(frozen=True, slots=True)
class Tree:
    """What one stored tree names."""

    functions: frozenset[int]
    operators: frozenset[int]
    types: frozenset[int]
    """Those of users only."""
    relations: frozenset[int]
    writes: str | None
    """The command, when it is not only SELECT."""
    locks: bool


def read(tree: str) -> Tree:
    """The oids in a tree."""
    operators = {int(oid) for oid in _OPERATORS.findall(tree)}
    for several in _MORE_OPERATORS.findall(tree):
        operators.update(int(oid) for oid in several.split())
    command = _WRITES.search(tree)
    return Tree(
        frozenset(int(oid) for oid in _FUNCTIONS.findall(tree)),
        frozenset(operators),
        frozenset(int(oid) for oid in _TYPES.findall(tree)),
        frozenset(int(oid) for oid in _RELATIONS.findall(tree)),
        _COMMANDS[command[1]] if command else None,
        _LOCKS.search(tree) is not None,
    )


def settings(tree: str) -> Iterator[tuple[bool, str | None]]:
    """For each call of `set_config` and `current_setting` in a tree: whether it sets, and the name, None when computed."""
    for call in _SETTING.finditer(tree):
        constant = _CONSTANT.match(tree, call.end())
        yield int(call[1]) == SET_CONFIG, _text(constant[1]) if constant else None


def _text(datum: str) -> str | None:
    """The text of a stored `text` value: bytes after the header, of which the short form is odd on the usual machines."""
    data = bytes(int(byte) & 0xFF for byte in datum.split())
    header = 1 if data[0] & 1 and data[0] >> 1 == len(data) else 4
    try:
        return data[header:].decode()
    except UnicodeDecodeError:
        return None
