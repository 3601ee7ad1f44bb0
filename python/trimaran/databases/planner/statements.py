"""One rule per kind of statement; a kind without a rule is not a read and does nothing to the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from google.protobuf.message import Message
from postgast.pg_query_pb2 import (
    CopyStmt,
    CreateTableAsStmt,
    DeallocateStmt,
    DeclareCursorStmt,
    DiscardMode,
    DiscardStmt,
    DropStmt,
    ExecuteStmt,
    ExplainStmt,
    Node,
    OnCommitAction,
    PrepareStmt,
    SelectStmt,
    TransactionStmt,
    TransactionStmtKind,
    UnlistenStmt,
    VariableSetStmt,
    VariableShowStmt,
)

from trimaran.databases.planner import definitions, settings
from trimaran.databases.planner.code import Code
from trimaran.databases.planner.comments import without_comments
from trimaran.databases.planner.facts import TEMPORARY, Facts, constant, names_of, qualified
from trimaran.databases.planner.functions import (
    ADVISORY_LOCK,
    NODE_SETTINGS,
    SEQUENCE_POSITION,
    SETTING,
)
from trimaran.databases.planner.plan import Effect

LISTEN = "LISTEN"
HELD_CURSOR = "WITH HOLD cursor"
PREPARED = "PREPARE"
LIBRARY = "LOAD"

_CURSOR_HOLD = 0x0020
_ENDED_BY_DISCARD_ALL = (
    LISTEN,
    TEMPORARY,
    HELD_CURSOR,
    PREPARED,
    ADVISORY_LOCK,
    SEQUENCE_POSITION,
    SETTING,
    settings.STRING_SYNTAX,
)
"""A loaded library, a random seed and an extension's connections outlive even DISCARD ALL."""


@dataclass(slots=True)
class Outcome:
    """What one statement means. "neutral" belongs to a transaction, and is carried out wherever that runs."""

    access: Literal["read", "write", "neutral"]
    reason: str
    effects: list[Effect] = field(default_factory=list)
    pins: list[str] = field(default_factory=list)
    unpins: list[str] = field(default_factory=list)
    may_write: bool = False
    """A function may be the user's, and do anything."""
    standby: Literal["replay", "serve", "move", "never"] = "never"
    """What it is to a READ ONLY transaction on a replica; nothing is assumed of what was not analysed."""
    code: Code = field(default_factory=Code)
    """Everything that runs with it."""


def judge(node: Node, facts: Facts, sql: str) -> Outcome:
    """The outcome of one statement; `facts` are those of its whole tree, `sql` its text."""
    kind = node.WhichOneof("node") or ""
    rule = _RULES.get(kind)
    if rule is not None:
        return rule(getattr(node, kind), facts, sql)
    definition: Message | None = getattr(node, kind, None)
    pins = _creates_temporary(definition, facts)
    # What lives as long as the session is nothing to others.
    effects = definitions.effects(kind, definition) if definition is not None and not pins else []
    return Outcome("write", f"{_words(kind)} is not a read", effects, pins)


def _words(kind: str) -> str:
    return kind.removesuffix("_stmt").replace("_", " ").upper() or "an unknown statement"


def _select(node: SelectStmt, facts: Facts, sql: str) -> Outcome:
    change = _set_config(node, facts)
    pins = [*facts.pins, *change.pins]
    if facts.into is not None and facts.into.relpersistence == "t":
        pins.append(TEMPORARY)
    refusal = _why_not_a_read(facts)
    return Outcome(
        "write" if refusal else "read",
        refusal or "reads only: SELECT without locking",
        change.effects,
        pins,
        [ADVISORY_LOCK] if _only_unlocks_all(node) else [],
    )


def _why_not_a_read(facts: Facts) -> str | None:
    if facts.writes:
        return f"contains {facts.writes}"
    if facts.into is not None:
        return "creates a table: SELECT INTO"
    if facts.locks:
        return "locks rows: FOR UPDATE or FOR SHARE"
    if facts.function:
        return f"calls {facts.function}"
    if facts.relation:
        return f"reads {facts.relation}, which differs by node"
    for call in facts.current_setting:
        name = constant(call.args[0]) if call.args else None
        if not isinstance(name, str):
            return "calls current_setting with a name that is no constant"
        if name.lower() in NODE_SETTINGS:
            return f"reads the setting {name.lower()}, which differs by node"
    return None


def _set_config(node: SelectStmt, facts: Facts) -> settings.Change:
    """Calls that stand alone in the list of a plain SELECT run once and in order; all others cannot be followed."""
    total = settings.Change()
    calls = list(facts.set_config)
    plain = SelectStmt(target_list=node.target_list, limit_option=node.limit_option, op=node.op)
    if calls and plain == node:
        for target in node.target_list:
            call = target.res_target.val.func_call
            if call in calls:
                calls.remove(call)
                change = settings.set_config(call)
                total.effects += change.effects
                total.pins += change.pins
    for call in calls:
        if len(call.args) != 3 or constant(call.args[2]) is not True:
            total.pins.append(SETTING)
    return total


def _only_unlocks_all(node: SelectStmt) -> bool:
    plain = SelectStmt(target_list=node.target_list, limit_option=node.limit_option, op=node.op)
    if plain != node or len(node.target_list) != 1:
        return False
    name = names_of(node.target_list[0].res_target.val.func_call.funcname)
    return name in (["pg_advisory_unlock_all"], ["pg_catalog", "pg_advisory_unlock_all"])


def _writing(node: Message, facts: Facts, sql: str) -> Outcome:
    pins = _function_pins(facts)
    if "pg_settings" in (name.removeprefix("pg_catalog.") for _, name in facts.tables) and facts.writes == "UPDATE":
        pins.append(SETTING)
    return Outcome("write", f"contains {facts.writes}", pins=pins)


def _function_pins(facts: Facts) -> list[str]:
    local = all(len(call.args) == 3 and constant(call.args[2]) is True for call in facts.set_config)
    return list(facts.pins) if local else [*facts.pins, SETTING]


def _explain(node: ExplainStmt, facts: Facts, sql: str) -> Outcome:
    inner = judge(node.query, facts, sql)
    # The option's value may be a literal, and texts that differ in literals share a plan: it counts as on.
    analysed = any(option.def_elem.defname == "analyze" for option in node.options)
    reason = f"explains a statement that {inner.reason}"
    if node.query.WhichOneof("node") == "select_stmt" and inner.access == "read":
        return Outcome("read", "reads only: EXPLAIN of a SELECT without locking")
    return Outcome("write", reason, inner.effects if analysed else [], inner.pins if analysed else [])


def _show(node: VariableShowStmt, facts: Facts, sql: str) -> Outcome:
    name = node.name.lower()
    effects = [Effect.of("show", name=name)]
    if name in NODE_SETTINGS:
        return Outcome("write", f"shows {name}, which differs by node", effects)
    return Outcome("read", "reads only: SHOW", effects)


def _copy(node: CopyStmt, facts: Facts, sql: str) -> Outcome:
    if node.is_from:
        from_client = not (node.is_program or node.filename)
        return Outcome("write", "writes: COPY FROM", [Effect.of("copy_in")] if from_client else [])
    if node.is_program or node.filename:
        return Outcome("write", "writes to the server's machine: COPY TO a file or program")
    if node.HasField("query"):
        inner = judge(node.query, facts, sql)
        if inner.access != "read":
            return Outcome("write", f"copies what {inner.reason}", inner.effects, inner.pins)
    elif refusal := _why_not_a_read(facts):
        return Outcome("write", refusal)
    return Outcome("read", "reads only: COPY TO STDOUT")


def _transaction(node: TransactionStmt, facts: Facts, sql: str) -> Outcome:
    kinds = TransactionStmtKind
    match node.kind:
        case kinds.TRANS_STMT_BEGIN | kinds.TRANS_STMT_START:
            return _begin(node)
        case kinds.TRANS_STMT_COMMIT:
            effect = Effect.of("commit", chain=node.chain)
        case kinds.TRANS_STMT_ROLLBACK:
            effect = Effect.of("rollback", chain=node.chain)
        case kinds.TRANS_STMT_SAVEPOINT:
            effect = Effect.of("savepoint", name=node.savepoint_name)
        case kinds.TRANS_STMT_RELEASE:
            effect = Effect.of("release", name=node.savepoint_name)
        case kinds.TRANS_STMT_ROLLBACK_TO:
            effect = Effect.of("rollback_to", name=node.savepoint_name)
        case kinds.TRANS_STMT_PREPARE:
            return Outcome("write", "prepares a transaction", [Effect.of("prepare_transaction", gid=node.gid)])
        case kinds.TRANS_STMT_COMMIT_PREPARED:
            return Outcome("write", "ends a prepared transaction", [Effect.of("commit_prepared", gid=node.gid)])
        case _:
            return Outcome("write", "ends a prepared transaction", [Effect.of("rollback_prepared", gid=node.gid)])
    return Outcome("neutral", f"belongs to a transaction: {effect.kind.replace('_', ' ').upper()}", [effect])


def _begin(node: TransactionStmt) -> Outcome:
    modes = settings.modes(node.options)
    read_only = modes.get("transaction_read_only")
    isolation = modes.get("transaction_isolation")
    effect = Effect.of(
        "begin", read_only=read_only, isolation=isolation, deferrable=modes.get("transaction_deferrable")
    )
    if read_only is not True:
        return Outcome("write", "begins a transaction that may write", [effect])
    if isolation == "serializable":
        return Outcome("write", "begins a serializable transaction, which a replica cannot run", [effect])
    return Outcome("read", "begins a transaction that reads only", [effect])


def _set(node: VariableSetStmt, facts: Facts, sql: str) -> Outcome:
    change = settings.set_statement(node, without_comments(sql))
    return Outcome("write", "changes a setting", change.effects, change.pins, change.unpins)


def _discard(node: DiscardStmt, facts: Facts, sql: str) -> Outcome:
    what, ends = {
        DiscardMode.DISCARD_ALL: ("all", _ENDED_BY_DISCARD_ALL),
        DiscardMode.DISCARD_PLANS: ("plans", ()),
        DiscardMode.DISCARD_SEQUENCES: ("sequences", (SEQUENCE_POSITION,)),
        DiscardMode.DISCARD_TEMP: ("temp", (TEMPORARY,)),
    }[node.target]
    return Outcome("write", f"discards {what} of the session", [Effect.of("discard", what=what)], unpins=list(ends))


def _deallocate(node: DeallocateStmt, facts: Facts, sql: str) -> Outcome:
    name = None if node.isall else node.name
    ends = [PREPARED] if node.isall else []
    return Outcome("write", "forgets a prepared statement", [Effect.of("deallocate", name=name)], unpins=ends)


def _prepare(node: PrepareStmt, facts: Facts, sql: str) -> Outcome:
    return Outcome("write", "prepares a statement in SQL", [Effect.of("prepare", name=node.name)], [PREPARED])


def _declare_cursor(node: DeclareCursorStmt, facts: Facts, sql: str) -> Outcome:
    pins = _function_pins(facts)
    if node.options & _CURSOR_HOLD:
        pins.append(HELD_CURSOR)
    return Outcome("write", "declares a cursor", pins=pins)


def _close(node: Message, facts: Facts, sql: str) -> Outcome:
    every = not getattr(node, "portalname", "")
    return Outcome("write", "closes a cursor", unpins=[HELD_CURSOR] if every else [])


def _unlisten(node: UnlistenStmt, facts: Facts, sql: str) -> Outcome:
    return Outcome("write", "UNLISTEN is not a read", unpins=[] if node.conditionname else [LISTEN])


def _create_table_as(node: CreateTableAsStmt, facts: Facts, sql: str) -> Outcome:
    temporary = _creates_temporary(node, facts)
    effects = [] if temporary else [Effect.of("define")]
    return Outcome("write", "creates a table", effects, [*_function_pins(facts), *temporary])


def _drop(node: DropStmt, facts: Facts, sql: str) -> Outcome:
    for item in node.objects:
        if item.WhichOneof("node") == "list":
            facts.tables.append((0, qualified(names_of(item.list.items))))
    return Outcome("write", "DROP is not a read", [Effect.of("define")])


def _execute(node: ExecuteStmt, facts: Facts, sql: str) -> Outcome:
    outcome = _calls(node, facts, sql)
    outcome.effects.append(Effect.of("execute", name=node.name))
    return outcome


def _calls(node: Message, facts: Facts, sql: str) -> Outcome:
    return Outcome("write", "runs code that the text does not show", pins=_function_pins(facts))


def _pinning(pin: str) -> Callable[[Message, Facts, str], Outcome]:
    return lambda node, facts, sql: Outcome("write", f"{pin} is not a read", pins=[pin])


def _creates_temporary(node: Message | None, facts: Facts) -> list[str]:
    """Whether a definition makes an object that lives as long as the session; ON COMMIT DROP does not."""
    if node is None or not node.DESCRIPTOR.name.startswith(("Create", "View", "Define", "CompositeType")):
        return []
    for name in ("relation", "view", "sequence", "typevar", "into"):
        relation = getattr(node, name, None)
        relation = getattr(relation, "rel", relation)
        if relation is None or not (relation.relpersistence == "t" or relation.schemaname.startswith("pg_temp")):
            continue
        return [] if _dropped_at_commit(node) else [TEMPORARY]
    for name in ("funcname", "defnames", "type_name", "domainname"):
        parts = getattr(node, name, None)
        if parts and not isinstance(parts, Message) and parts[0].string.sval.startswith("pg_temp"):
            return [TEMPORARY]
    return []


def _dropped_at_commit(node: Message) -> bool:
    clause = getattr(node, "into", node)
    option: object = getattr(clause, "oncommit", None) or getattr(clause, "on_commit", None)
    return bool(option == OnCommitAction.ONCOMMIT_DROP)


_RULES: dict[str, Callable[..., Outcome]] = {
    "select_stmt": _select,
    "insert_stmt": _writing,
    "update_stmt": _writing,
    "delete_stmt": _writing,
    "merge_stmt": _writing,
    "explain_stmt": _explain,
    "variable_show_stmt": _show,
    "copy_stmt": _copy,
    "transaction_stmt": _transaction,
    "variable_set_stmt": _set,
    "discard_stmt": _discard,
    "prepare_stmt": _prepare,
    "deallocate_stmt": _deallocate,
    "execute_stmt": _execute,
    "call_stmt": _calls,
    "do_stmt": _calls,
    "declare_cursor_stmt": _declare_cursor,
    "close_portal_stmt": _close,
    "listen_stmt": _pinning(LISTEN),
    "load_stmt": _pinning(LIBRARY),
    "unlisten_stmt": _unlisten,
    "create_table_as_stmt": _create_table_as,
    "drop_stmt": _drop,
}
