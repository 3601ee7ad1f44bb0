"""The plan of a statement: a pure function of its text and the database's catalogue, by PostgreSQL's own grammar.

It runs once per distinct statement, outside the path of queries; the gateway keeps the result under the statement's key,
in which literals are replaced. Therefore a plan must not depend on a literal of SELECT, INSERT, UPDATE, DELETE, MERGE,
WITH, VALUES, TABLE, EXPLAIN or EXECUTE; the exceptions, `set_config` and `current_setting`, are known to the lexer too.
"""

from __future__ import annotations

from dataclasses import replace

from trimaran.databases.catalogue import Catalogue
from trimaran.databases.planner import coarse, standby, unseen, uses
from trimaran.databases.planner.coarse import NOT_ANALYSED
from trimaran.databases.planner.comments import read_hint
from trimaran.databases.planner.facts import gather
from trimaran.databases.planner.parse import NotAnalysed, SyntaxUnknown, parse
from trimaran.databases.planner.plan import Access, Effect, Hint, Plan, explain
from trimaran.databases.planner.statements import Outcome, judge

__all__ = ["NOT_ANALYSED", "Access", "Effect", "Hint", "Plan", "explain", "plan"]


def plan(text: str, catalogue: Catalogue | None = None) -> Plan:
    """The plan of one text; never raises. What is not surely a read is a write, and `reason` says why."""
    tables: dict[str, None] = {}
    doubtful = False
    try:
        outcomes = _judge_all(text, catalogue, tables)
    except SyntaxUnknown as error:
        outcomes = [_not_parsed(text, str(error), catalogue)]
        return replace(
            unseen.complete(Plan("write", outcomes[0].reason, doubtful=True), text, outcomes, catalogue), statements=0
        )
    except NotAnalysed as error:
        outcomes = _judge_apart(text, str(error), catalogue, tables)
        doubtful = True
    if not outcomes:
        return Plan("write", "holds no statement")
    access, reason = _together(outcomes)
    hint, complaint = (None, None) if doubtful else read_hint(text)
    pins, unpins = _pins(outcomes)
    made = Plan(
        access,
        f"{reason}; {complaint}" if complaint else reason,
        len(outcomes),
        tuple(tables),
        tuple(effect for outcome in outcomes for effect in outcome.effects),
        tuple(pins),
        unpins,
        hint,
        doubtful,
        any(outcome.may_write for outcome in outcomes),
        standby=standby.worst([outcome.standby for outcome in outcomes]),
        effects_at=tuple(at for at, outcome in enumerate(outcomes) for _ in outcome.effects),
        pins_at=tuple(pins.values()),
    )
    return unseen.complete(made, text, outcomes, catalogue)


def _judge_all(text: str, catalogue: Catalogue | None, tables: dict[str, None]) -> list[Outcome]:
    """One outcome per statement; tables are added in their order. Raises what `parse` does."""
    outcomes: list[Outcome] = []
    tree = parse(text)
    encoded = text.encode()
    for raw in tree.stmts:
        facts = gather(raw.stmt)
        end = raw.stmt_location + raw.stmt_len if raw.stmt_len else len(encoded)
        outcome = judge(raw.stmt, facts, encoded[raw.stmt_location : end].decode().strip())
        followed = bool(facts.set_config) and len(facts.set_config) == sum(
            each.kind == "set" for each in outcome.effects
        )
        code = uses.of_statement(raw.stmt, nested=False, followed=followed)
        unseen.follow_outcome(outcome, code, catalogue)
        outcome.standby = standby.judge(raw.stmt, facts, outcome)
        outcomes.append(outcome)
        tables.update((name, None) for _, name in facts.tables)
    return outcomes


def _judge_apart(text: str, why: str, catalogue: Catalogue | None, tables: dict[str, None]) -> list[Outcome]:
    """Outcomes for a text of which not all can be parsed: statement by statement, as well as each can be known."""
    parts = coarse.split(text)
    if parts is None:
        # A text that does not even split may hold several statements, of which the first word says nothing.
        outcome = Outcome("write", f"cannot be analysed: {why}", pins=[NOT_ANALYSED])
        outcome.code.is_opaque(outcome.reason, any_setting=True)
        return [outcome]
    outcomes: list[Outcome] = []
    for part in parts:
        try:
            outcomes += _judge_all(part, catalogue, tables)
        except NotAnalysed as error:
            outcome = coarse.judge(part, str(error))
            unseen.follow_long(outcome, part, catalogue)
            outcomes.append(outcome)
        except SyntaxUnknown as error:
            outcomes.append(_not_parsed(part, str(error), catalogue))
    return outcomes


def _not_parsed(text: str, why: str, catalogue: Catalogue | None) -> Outcome:
    """A text that the server will refuse, too, unless its grammar is a newer one."""
    outcome = Outcome("write", f"cannot be parsed: {why}")
    unseen.follow_words(outcome, text, catalogue)
    return outcome


def _together(outcomes: list[Outcome]) -> tuple[Access, str]:
    """A text is a read if all of it is; the reason is that of the first statement that decides."""
    for outcome in outcomes:
        if outcome.access == "write":
            return "write", outcome.reason
    for outcome in outcomes:
        if outcome.access == "read":
            return "read", outcome.reason
    return "write", outcomes[0].reason


def _pins(outcomes: list[Outcome]) -> tuple[dict[str, int], tuple[str, ...]]:
    """What holds after the last statement, with the first statement that it is due to, and what has ended: a later UNLISTEN
    ends an earlier LISTEN of the same text."""
    pins: dict[str, int] = {}
    unpins: dict[str, None] = {}
    for at, outcome in enumerate(outcomes):
        for ended in outcome.unpins:
            pins.pop(ended, None)
            unpins[ended] = None
        for reason in outcome.pins:
            unpins.pop(reason, None)
            pins.setdefault(reason, at)
    return pins, tuple(unpins)
