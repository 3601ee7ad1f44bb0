"""What a parsed statement does to its session and what it names, wherever in its tree."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import Message
from postgast.pg_query_pb2 import (
    A_Indirection,
    ColumnRef,
    CommonTableExpr,
    DeclareCursorStmt,
    DoStmt,
    FuncCall,
    Node,
    RangeVar,
    TypeName,
    VariableSetKind,
    VariableSetStmt,
    VariableShowStmt,
)

from trimaran.databases.planner import bodies
from trimaran.databases.planner.code import Audit, Code, Name
from trimaran.databases.planner.facts import constant, names_of
from trimaran.databases.planner.settings import modes

_DATA = frozenset({"select_stmt", "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"})
_RUNS_NOTHING = frozenset(
    {
        "transaction_stmt",
        "variable_set_stmt",
        "variable_show_stmt",
        "discard_stmt",
        "deallocate_stmt",
        "listen_stmt",
        "unlisten_stmt",
        "notify_stmt",
        "load_stmt",
        "close_portal_stmt",
        "fetch_stmt",
        "lock_stmt",
        "check_point_stmt",
        "constraints_set_stmt",
        "prepare_stmt",
        "execute_stmt",
        "declare_cursor_stmt",
        "explain_stmt",
        "copy_stmt",
        "call_stmt",
        "do_stmt",
        "return_stmt",
        *_DATA,
    }
)
"""All other statements define something, and may run event triggers."""
_WRITING = {"InsertStmt": "INSERT", "UpdateStmt": "UPDATE", "DeleteStmt": "DELETE", "MergeStmt": "MERGE"}
_LEAVES = frozenset({"a_const", "a_star", "param_ref", "string", "integer", "float", "boolean"})
_CREATING = ("create", "view_", "define_", "composite_", "alter_object_schema")
_CURSOR_HOLD = 0x0020
_BETWEEN = {"BETWEEN", "NOT BETWEEN", "BETWEEN SYMMETRIC", "NOT BETWEEN SYMMETRIC"}


def of_statement(node: Node, *, nested: bool, followed: bool = False) -> Code:
    """The code of one statement. `nested`: it stands in a function, so that what it does to the session is not seen.
    `followed`: what its calls of `set_config` do is known from its effects."""
    kind = node.WhichOneof("node") or ""
    code = Code(strict=True)
    message: Message = getattr(node, kind) if kind else node
    defining = kind not in _RUNS_NOTHING
    if defining:
        code.definitions = True
        code.writes("contains a definition")
        if nested:
            code.defines("contains a definition")
        if kind.startswith(("create_extension", "alter_extension")):
            code.is_opaque("runs the script of an extension", any_setting=True)
    if nested:
        _session(code, kind, message)
    if kind == "execute_stmt":
        code.is_opaque("runs a prepared statement whose text is not known", any_setting=True)
    code.creates = kind.startswith(_CREATING)
    _walk(code, message, kind, nested, followed)
    return code


def _session(code: Code, kind: str, message: Message) -> None:
    """What a statement in a function does to the session."""
    if isinstance(message, VariableSetStmt):
        name = message.name.lower()
        local = message.is_local or name.startswith("transaction")
        if message.kind == VariableSetKind.VAR_RESET_ALL:
            code.leaves(Audit.SETTINGS, "resets all settings")
        elif message.kind == VariableSetKind.VAR_SET_MULTI:
            names = [f"default_{mode}" for mode in modes(message.args)] if name.startswith("session") else []
            for each in names:
                code.sets(each, local=False)
        else:
            code.sets(name, local=local)
    elif isinstance(message, DeclareCursorStmt):
        held = bool(message.options & _CURSOR_HOLD)
        code.leaves(Audit.STATE if held else Audit.NONE, "declares a cursor")
    elif kind in (
        "listen_stmt",
        "unlisten_stmt",
        "prepare_stmt",
        "deallocate_stmt",
        "discard_stmt",
        "close_portal_stmt",
    ):
        code.leaves(Audit.STATE, f"contains {kind.removesuffix('_stmt').upper()}")
    elif kind == "load_stmt":
        code.is_opaque("loads a library", any_setting=True)
    elif kind not in _DATA and kind not in ("variable_show_stmt", "explain_stmt", "return_stmt"):
        code.writes(f"contains {kind.removesuffix('_stmt').replace('_', ' ').upper()}")


_Stack = list[tuple[Message, frozenset[str], str]]


def _walk(code: Code, root: Message, kind: str, nested: bool, followed: bool) -> None:
    """Without recursion, since a client decides how deep the tree is. The third of each entry is what is done to relations."""
    use = "read"
    if kind == "truncate_stmt":
        use = "truncate"
    elif kind == "refresh_mat_view_stmt":
        use = "refresh"
    elif kind == "copy_stmt" and getattr(root, "is_from", False):
        use = "write"
        code.writes("contains COPY FROM")
    elif kind not in _RUNS_NOTHING:
        use = "define"
    stack: _Stack = [(root, frozenset(), use)]
    while stack:
        message, ctes, use = stack.pop()
        name = message.DESCRIPTOR.name
        if isinstance(message, RangeVar):
            _relation(code, message, ctes, use)
        elif isinstance(message, FuncCall):
            _call(code, message, followed)
        elif isinstance(message, TypeName):
            code.types[_name(names_of(message.names))] = None
        elif isinstance(message, ColumnRef):
            last = message.fields[-1]
            if len(message.fields) > 1 and last.WhichOneof("node") == "string":
                code.attributes[last.string.sval] = None
            continue
        elif isinstance(message, A_Indirection):
            for part in message.indirection:
                if part.WhichOneof("node") == "string":
                    code.attributes[part.string.sval] = None
        elif isinstance(message, DoStmt):
            _do(code, message)
        elif isinstance(message, VariableShowStmt):
            code.reads_setting(message.name)
        elif name in _WRITING:
            code.writes(f"contains {_WRITING[name]}")
        elif name == "LockingClause":
            code.writes("locks rows")
            continue  # It names tables of the FROM list by their aliases.
        elif name == "IntoClause":
            code.writes("makes a table")
            code.definitions = code.creates = True
            code.may_define |= nested
        _operators(code, message, name)
        if name.endswith("Stmt"):
            ctes = _with_clause(message, ctes, stack)
        for field_name, child in _children(message):
            if field_name == "with_clause":
                continue
            inner = use
            if name in _WRITING:
                inner = "write" if field_name == "relation" else "read"
            elif name == "IntoClause":
                inner = "define"
            elif name in ("SelectStmt", "SubLink", "RangeSubselect"):
                inner = "read"
            stack.append((child, ctes, inner))
    if code.temporary and nested:
        code.leaves(Audit.STATE, "uses temporary objects")
    if nested and code.creates:
        code.leaves(Audit.STATE, "makes an object")


def _children(message: Message) -> Iterator[tuple[str, Message]]:
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


def _with_clause(message: Message, ctes: frozenset[str], stack: _Stack) -> frozenset[str]:
    clause = getattr(message, "with_clause", None)
    if clause is None:
        return ctes
    expressions: list[CommonTableExpr] = [node.common_table_expr for node in clause.ctes]
    names = ctes.union(expression.ctename for expression in expressions)
    seen = names if clause.recursive else ctes
    for expression in expressions:
        stack.append((expression, seen, "read"))
        seen = seen | {expression.ctename}
    return names


def _relation(code: Code, relation: RangeVar, ctes: frozenset[str], use: str) -> None:
    if use == "read" and not relation.schemaname and relation.relname in ctes:
        return
    if relation.relpersistence == "t" or relation.schemaname.startswith("pg_temp"):
        code.temporary = True
    name = (relation.schemaname, relation.relname)
    uses = {
        "read": code.reads,
        "write": code.written,
        "truncate": code.truncated,
        "refresh": code.refreshed,
        "define": code.defined,
    }
    uses[use][name] = None


def _call(code: Code, call: FuncCall, followed: bool) -> None:
    schema, name = _name(names_of(call.funcname))
    code.functions[(schema, name)] = None
    if schema not in ("", "pg_catalog"):
        code.temporary |= schema.startswith("pg_temp")
        return
    if name == "set_config" and not followed:
        setting, local = (constant(call.args[at]) if len(call.args) > at else None for at in (0, 2))
        code.sets(setting if isinstance(setting, str) else None, local=local is True)
    elif name == "current_setting":
        setting = constant(call.args[0]) if call.args else None
        code.reads_setting(setting if isinstance(setting, str) else None)


def _do(code: Code, block: DoStmt) -> None:
    options = {option.def_elem.defname: option.def_elem.arg for option in block.args}
    language = options["language"].string.sval.lower() if "language" in options else "plpgsql"
    if language != "plpgsql" or "as" not in options:
        code.is_opaque(f"runs code in {language}", any_setting=True)
        return
    code.inner.append(bodies.of_text(options["as"].string.sval))


def _operators(code: Code, message: Message, kind: str) -> None:
    for field_name in ("name", "oper_name", "use_op", "opname"):
        if kind in ("A_Expr", "SubLink", "SortBy", "DefElem") and hasattr(message, field_name):
            value = getattr(message, field_name)
            if not isinstance(value, str):
                _operator(code, names_of(value))


def _operator(code: Code, parts: list[str]) -> None:
    if not parts:
        return
    schema, name = _name(parts)
    for each in (">=", "<=", "<", ">") if name in _BETWEEN else (name,):
        code.operators[(schema, each)] = None


def _name(parts: list[str]) -> Name:
    return (parts[-2] if len(parts) > 1 else "", parts[-1]) if parts else ("", "")
