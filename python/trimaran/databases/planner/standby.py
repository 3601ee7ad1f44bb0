"""What a statement is to a READ ONLY transaction that began on a replica.

PostgreSQL allows more in such a transaction than a standby serves (manual, section 26.4.1 "User's Overview"), and some of
it a standby does for itself alone without a word: advisory locks, weak table locks, whatever is about the node.
"""

from __future__ import annotations

from typing import Literal

from postgast.pg_query_pb2 import Node, SelectStmt

from trimaran.databases.planner.facts import Facts, names_of
from trimaran.databases.planner.functions import NODE_SETTINGS
from trimaran.databases.planner.plan import Effect
from trimaran.databases.planner.statements import Outcome

Standby = Literal["replay", "serve", "move", "never"]
"""From the best to the worst, which is that of a text with several statements.

replay: reads nothing, and does the same at the beginning of the transaction on another server. serve: a replica serves it.
move: the primary is to serve it while the transaction has read nothing; later a replica's answer is PostgreSQL's too, or a
refusal. never: a replica would serve it, for itself alone, or keep state of the session.
"""
_ORDER: tuple[Standby, ...] = ("replay", "serve", "move", "never")

_SERVED = frozenset({"select_stmt", "explain_stmt", "copy_stmt", "declare_cursor_stmt"})
_NEVER = frozenset(
    {"call_stmt", "do_stmt", "listen_stmt", "load_stmt", "lock_stmt", "notify_stmt", "prepare_stmt", "vacuum_stmt"}
)
_SAME_IN_A_TRANSACTION = frozenset({"default_transaction_read_only", "transaction_isolation", "transaction_read_only"})
"""Settings of the node that a READ ONLY transaction has made the same everywhere."""
_ISOLATIONS = frozenset({"read committed", "read uncommitted", "repeatable read"})


def worst(parts: list[Standby]) -> Standby:
    """That of a text whose statements are these; a text without any is nothing for a replica."""
    return max(parts, key=_ORDER.index, default="move")


def judge(node: Node, facts: Facts, outcome: Outcome) -> Standby:
    """That of one statement, whose outcome is complete but for this."""
    kind = node.WhichOneof("node") or ""
    by_node = facts.node_function or facts.relation or _asks_for_the_node(facts.current_settings())
    if outcome.pins or by_node or kind in _NEVER:
        return "never"
    effects = outcome.effects
    match kind:
        case "transaction_stmt" | "variable_set_stmt":
            return _of_effects(effects)
        case "variable_show_stmt":
            return "never" if _asks_for_the_node([node.variable_show_stmt.name]) else "replay"
        case "fetch_stmt" | "close_portal_stmt":
            return "serve"
        case "select_stmt" if _only_sets(node.select_stmt, facts):
            served = _of_effects(effects)
            # With a parameter it cannot be made again from its text.
            return "serve" if served == "replay" and len(effects) < len(facts.set_config) else served
        case _ if kind not in _SERVED or facts.writes or facts.locks or facts.into is not None:
            return "move"
        case "copy_stmt" if node.copy_stmt.is_from or node.copy_stmt.is_program or node.copy_stmt.filename:
            return "move"
        case _ if outcome.code.write:
            # What it reaches may do anything that is done without writing, like taking a lock. A name that the catalogue does
            # not have is unknown to the server, too, or so new that the plan is made again soon.
            return "move" if outcome.code.is_missing else "never"
        case _:
            return "serve" if _of_effects(effects) == "replay" else "move"


def _of_effects(effects: list[Effect]) -> Standby:
    parts: list[Standby] = []
    for effect in effects:
        detail = dict(effect.detail)
        match effect.kind:
            case "begin" if detail.get("read_only") is not False and detail.get("isolation") in (None, *_ISOLATIONS):
                parts.append("replay")
            case "savepoint" | "release" | "rollback_to" | "reset":
                parts.append("replay")
            case "commit" | "rollback":
                parts.append("serve")
            case "set" if _may_be_set(str(detail["name"]), detail["value"]):
                parts.append("replay")
            case _:
                parts.append("move")
    return worst(parts) if parts else "replay"


def _may_be_set(name: str, value: str | bool | None) -> bool:
    """Whether a standby takes this value of a setting as a primary does."""
    match name:
        case "transaction_isolation":
            return str(value).lower() in _ISOLATIONS
        case "transaction_read_only":
            return str(value).lower() in ("on", "true", "yes", "1")
        case "transaction_snapshot":
            return False
        case _:
            return True


def _asks_for_the_node(names: list[str]) -> bool:
    return any(name.lower() in NODE_SETTINGS - _SAME_IN_A_TRANSACTION for name in names)


def _only_sets(node: SelectStmt, facts: Facts) -> bool:
    """Whether all it does is to make settings."""
    plain = SelectStmt(target_list=node.target_list, limit_option=node.limit_option, op=node.op)
    if plain != node or not node.target_list or len(node.target_list) != len(facts.set_config):
        return False
    calls = [target.res_target.val.func_call for target in node.target_list]
    return all(names_of(call.funcname)[-1:] == ["set_config"] for call in calls)
