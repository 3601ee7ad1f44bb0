"""The plan of a statement: a pure function of its text, by PostgreSQL's own grammar.

It runs once per distinct statement, outside the path of queries; the gateway keeps the result under the statement's key,
in which literals are replaced. Therefore a plan must not depend on a literal of SELECT, INSERT, UPDATE, DELETE, MERGE,
WITH, VALUES, TABLE, EXPLAIN or EXECUTE; the exceptions, `set_config` and `current_setting`, are known to the lexer too.
"""

from __future__ import annotations

from trimaran.databases.planner.facts import gather
from trimaran.databases.planner.hints import read_hint
from trimaran.databases.planner.parse import NotAnalysed, SyntaxUnknown, parse
from trimaran.databases.planner.plan import Access, Effect, Hint, Plan, explain
from trimaran.databases.planner.statements import Outcome, judge

__all__ = ["Access", "Effect", "Hint", "Plan", "explain", "plan"]

NOT_ANALYSED = "a statement that could not be analysed"


def plan(text: str) -> Plan:
    """The plan of one text; never raises. What is not surely a read is a write, and `reason` says why."""
    try:
        tree = parse(text)
    except SyntaxUnknown as error:
        return Plan("write", f"cannot be parsed: {error}", doubtful=True)
    except NotAnalysed as error:
        # It may be valid and change the session in any way, so nobody else may get its connection.
        return Plan("write", f"cannot be analysed: {error}", pins=(NOT_ANALYSED,), doubtful=True)
    if not tree.stmts:
        return Plan("write", "holds no statement")
    encoded = text.encode()
    tables: dict[str, None] = {}
    outcomes: list[Outcome] = []
    for raw in tree.stmts:
        facts = gather(raw.stmt)
        end = raw.stmt_location + raw.stmt_len if raw.stmt_len else len(encoded)
        outcomes.append(judge(raw.stmt, facts, encoded[raw.stmt_location : end].decode().strip()))
        tables.update((name, None) for _, name in facts.tables)
    access, reason = _together(outcomes)
    hint, complaint = read_hint(text)
    pins, unpins = _pins(outcomes)
    return Plan(
        access,
        f"{reason}; {complaint}" if complaint else reason,
        len(outcomes),
        tuple(tables),
        tuple(effect for outcome in outcomes for effect in outcome.effects),
        pins,
        unpins,
        hint,
    )


def _together(outcomes: list[Outcome]) -> tuple[Access, str]:
    """A text is a read if all of it is; the reason is that of the first statement that decides."""
    for outcome in outcomes:
        if outcome.access == "write":
            return "write", outcome.reason
    for outcome in outcomes:
        if outcome.access == "read":
            return "read", outcome.reason
    return "write", outcomes[0].reason


def _pins(outcomes: list[Outcome]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What holds after the last statement: a later UNLISTEN ends an earlier LISTEN of the same text."""
    pins: dict[str, None] = {}
    unpins: dict[str, None] = {}
    for outcome in outcomes:
        for ended in outcome.unpins:
            pins.pop(ended, None)
            unpins[ended] = None
        for reason in outcome.pins:
            unpins.pop(reason, None)
            pins[reason] = None
    return tuple(pins), tuple(unpins)
