"""Effects of the statements and functions that change settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from postgast.pg_query_pb2 import FuncCall, Node, VariableSetKind, VariableSetStmt

from trimaran.databases.planner.facts import TEMPORARY, constant
from trimaran.databases.planner.functions import RANDOM_SEED, SETTING
from trimaran.databases.planner.plan import Effect

STRING_SYNTAX = "standard_conforming_strings is off"
_OF_A_TRANSACTION = frozenset(
    {"transaction_isolation", "transaction_read_only", "transaction_deferrable", "transaction_snapshot"}
)
"""Settings that end with the transaction, whatever the statement says."""


@dataclass(slots=True)
class Change:
    """What is done to settings, and whether the gateway can follow it."""

    effects: list[Effect] = field(default_factory=list)
    pins: list[str] = field(default_factory=list)
    unpins: list[str] = field(default_factory=list)


def set_statement(node: VariableSetStmt, sql: str) -> Change:
    """SET and RESET in all their forms; `sql` is the statement's own text."""
    name = node.name.lower()
    scope = "local" if node.is_local or name in _OF_A_TRANSACTION else "session"
    match node.kind:
        case VariableSetKind.VAR_RESET_ALL:
            return Change([Effect.of("reset", name=None)], unpins=[SETTING])
        case VariableSetKind.VAR_RESET:
            return Change([Effect.of("reset", name=name)])
        case VariableSetKind.VAR_SET_DEFAULT:
            return Change([_set(name, scope, None, sql, to_default=True)])
        case VariableSetKind.VAR_SET_MULTI:
            return _characteristics(node, sql)
        case _:
            value = _text(node.args)
            return Change([_set(name, scope, value, sql)], pins=_pins(name, scope, _first(node.args)))


def _characteristics(node: VariableSetStmt, sql: str) -> Change:
    """SET TRANSACTION changes transaction_*, SET SESSION CHARACTERISTICS the defaults that new transactions take."""
    if node.name == "TRANSACTION SNAPSHOT":
        return Change([_set("transaction_snapshot", "local", _text(node.args), sql)])
    session = node.name == "SESSION CHARACTERISTICS"
    change = Change()
    for name, value in modes(node.args).items():
        setting, scope = (f"default_{name}", "session") if session else (name, "local")
        shown = value if isinstance(value, str) else "on" if value else "off"
        # One statement each: each of them may be set again by itself.
        one = f"SELECT pg_catalog.set_config('{setting}', '{shown}', false)" if session else sql
        change.effects.append(_set(setting, scope, shown, one))
    return change


def modes(options: Sequence[Node]) -> dict[str, str | bool]:
    """Transaction modes by the setting they stand for: the isolation level's name, true and false for the others."""
    found: dict[str, str | bool] = {}
    for option in options:
        element = option.def_elem
        value = constant(element.arg)
        if element.defname == "transaction_isolation":
            found[element.defname] = str(value)
        else:
            found[element.defname] = value != "0"
    return found


def set_config(call: FuncCall) -> Change:
    """One call of `set_config(name, value, is_local)` that surely runs once; arguments that are not constants pin."""
    if len(call.args) != 3:
        return Change(pins=[SETTING])
    name, value, is_local = (constant(argument) for argument in call.args)
    is_null = call.args[1].a_const.isnull
    if not isinstance(name, str) or not isinstance(is_local, bool) or not (isinstance(value, str) or is_null):
        return Change(pins=[] if is_local is True else [SETTING])
    name = name.lower()
    scope = "local" if is_local or name in _OF_A_TRANSACTION else "session"
    new = value if isinstance(value, str) else None
    shown = "NULL" if new is None else _quoted(new)
    sql = f"SELECT pg_catalog.set_config({_quoted(name)}, {shown}, {str(is_local).lower()})"
    return Change([_set(name, scope, new, sql, to_default=new is None)], pins=_pins(name, scope, new))


def _set(name: str, scope: str, value: str | bool | None, sql: str, *, to_default: bool = False) -> Effect:
    return Effect.of("set", name=name, scope=scope, to_default=to_default, value=value, sql=sql)


def _pins(name: str, scope: str, value: str | None) -> list[str]:
    if scope == "local" or value is None:
        return []
    if name == "seed":
        return [RANDOM_SEED]
    value = value.strip().lower()
    if name == "standard_conforming_strings" and value not in ("on", "true", "tru", "tr", "t", "yes", "ye", "y", "1"):
        return [STRING_SYNTAX]
    if name == "search_path" and value.lstrip('"').startswith("pg_temp"):
        return [TEMPORARY]
    return []


def _first(arguments: Sequence[Node]) -> str | None:
    value = constant(arguments[0]) if arguments else None
    return value if isinstance(value, str) else None


def _text(arguments: Sequence[Node]) -> str | None:
    return _first(arguments) if len(arguments) == 1 else None


def _quoted(text: str) -> str:
    """As a literal that no setting of the session reads in another way."""
    escaped = text.replace("'", "''")
    return "E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in text else f"'{escaped}'"
