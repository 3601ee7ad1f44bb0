"""What a parse tree contains, wherever in it: relations, functions, locking, writing parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from google.protobuf.message import Message
from postgast.pg_query_pb2 import CommonTableExpr, FuncCall, Node, RangeVar

from trimaran.databases.planner.functions import PINS, differs_by_node, is_builtin, needs_primary

TEMPORARY = "temporary table"

_WRITING = {"InsertStmt": "INSERT", "UpdateStmt": "UPDATE", "DeleteStmt": "DELETE", "MergeStmt": "MERGE"}
_LEAVES = frozenset({"a_const", "a_star", "column_ref", "param_ref", "string", "integer", "float", "boolean"})
"""Most of a tree; nothing in them is asked for."""
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*", re.ASCII)


@dataclass(slots=True)
class Facts:
    """Collected from one statement; the strings are for a person unless said otherwise."""

    tables: list[tuple[int, str]] = field(default_factory=list)
    """Place in the text and name as written, quoted where SQL would need it."""
    writes: str | None = None
    locks: bool = False
    into: RangeVar | None = None
    function: str | None = None
    """The first function that needs the primary."""
    node_function: str | None = None
    """The first that needs it for more than a setting."""
    relation: str | None = None
    """The first relation whose content is the node's."""
    pins: list[str] = field(default_factory=list)
    set_config: list[FuncCall] = field(default_factory=list)
    current_setting: list[FuncCall] = field(default_factory=list)

    def current_settings(self) -> list[str]:
        """The settings that are asked for by a constant."""
        names = (constant(call.args[0]) for call in self.current_setting if call.args)
        return [name for name in names if isinstance(name, str)]


def gather(root: Message) -> Facts:
    """Walk the whole tree; without recursion, since a client decides how deep it is."""
    facts = Facts()
    stack: list[tuple[Message, frozenset[str], bool]] = [(root, frozenset(), False)]
    while stack:
        message, ctes, is_target = stack.pop()
        kind = message.DESCRIPTOR.name
        if isinstance(message, RangeVar):
            _relation(facts, message, frozenset() if is_target else ctes)
            continue
        if isinstance(message, FuncCall):
            _function(facts, message)
        elif kind in _WRITING:
            facts.writes = facts.writes or _WRITING[kind]
        elif kind == "LockingClause":
            facts.locks = True
            continue  # It names tables of the FROM list by their aliases.
        elif kind == "IntoClause":
            facts.into = getattr(message, "rel", None)
        if kind.endswith("Stmt"):
            ctes = _with_clause(message, ctes, stack)
        writing = kind in _WRITING
        for name, child in _children(message):
            if name != "with_clause":
                stack.append((child, ctes, writing and name == "relation"))
    facts.tables.sort()
    return facts


def _children(message: Message) -> Iterator[tuple[str, Message]]:
    """The messages within, without the wrapper that stands for "any node", and without those that hold nothing of use."""
    for descriptor, value in message.ListFields():
        inner = descriptor.message_type
        if inner is None:
            continue
        name = descriptor.name
        if inner.name != "Node":
            for item in (value,) if isinstance(value, Message) else value:
                yield name, item
            continue
        for node in (value,) if isinstance(value, Node) else value:
            kind = node.WhichOneof("node")
            if kind is not None and kind not in _LEAVES:
                yield name, getattr(node, kind)


def _with_clause(
    message: Message, ctes: frozenset[str], stack: list[tuple[Message, frozenset[str], bool]]
) -> frozenset[str]:
    """The names that the statement's body sees; its common table expressions are put on the stack with theirs."""
    clause = getattr(message, "with_clause", None)
    if clause is None:
        return ctes
    expressions: list[CommonTableExpr] = [node.common_table_expr for node in clause.ctes]
    names = ctes.union(expression.ctename for expression in expressions)
    seen = names if clause.recursive else ctes
    for expression in expressions:
        stack.append((expression, seen, False))
        seen = seen | {expression.ctename}
    return names


def _relation(facts: Facts, relation: RangeVar, ctes: frozenset[str]) -> None:
    if not relation.schemaname and relation.relname in ctes:
        return
    name = qualified([part for part in (relation.catalogname, relation.schemaname, relation.relname) if part])
    if not any(known == name for _, known in facts.tables):
        facts.tables.append((relation.location, name))
    if facts.relation is None and differs_by_node(relation.schemaname, relation.relname):
        facts.relation = name


def _function(facts: Facts, call: FuncCall) -> None:
    parts = names_of(call.funcname)
    name, schema = parts[-1], parts[-2] if len(parts) > 1 else ""
    if needs_primary(schema, name):
        facts.function = facts.function or name
        if name != "set_config":
            facts.node_function = facts.node_function or name
        pin = PINS.get(name)
        if pin and pin not in facts.pins:
            facts.pins.append(pin)
    if is_builtin(schema):
        if name == "set_config":
            facts.set_config.append(call)
        elif name == "current_setting":
            facts.current_setting.append(call)


def names_of(nodes: Iterable[Node]) -> list[str]:
    """The parts of a qualified name that the tree holds as a list of strings."""
    return [node.string.sval for node in nodes]


def qualified(parts: list[str]) -> str:
    """The name as SQL would have it, quoted where needed."""
    return ".".join(part if _PLAIN.fullmatch(part) else '"' + part.replace('"', '""') + '"' for part in parts)


def constant(node: Node) -> str | bool | None:
    """The value of a constant as text, true or false for those words, None for NULL and for all that is no constant."""
    if node.WhichOneof("node") != "a_const":
        return None
    value = node.a_const
    match value.WhichOneof("val"):
        case "sval":
            return str(value.sval.sval)
        case "ival":
            return str(value.ival.ival)
        case "fval":
            return str(value.fval.fval)
        case "boolval":
            return bool(value.boolval.boolval)
        case _:
            return None
