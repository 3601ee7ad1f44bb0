"""The part of a plan that the text does not show: what the code that it reaches may do to the session and to data."""

from __future__ import annotations

import re
from dataclasses import replace

from trimaran.databases.catalogue import Catalogue, custom_settings
from trimaran.databases.catalogue.facts import CUSTOM_MAX
from trimaran.databases.planner import bodies, reach
from trimaran.databases.planner.code import Audit, Code
from trimaran.databases.planner.functions import SETTING, is_builtin, is_known, needs_primary
from trimaran.databases.planner.plan import Audited, Effect, Plan
from trimaran.databases.planner.statements import Outcome

_WORDS: dict[Audit, Audited] = {Audit.NONE: "none", Audit.STATE: "state", Audit.SETTINGS: "settings"}
_NAMES_TEMPORARY = ("pg_temp", "u&", "\\")
"""In a SET of search_path: the temporary schema, or an escape that may write it."""
_WORD = re.compile(r"[^\W\d][\w$]*")


def follow_outcome(outcome: Outcome, code: Code, catalogue: Catalogue | None) -> None:
    """Completes the outcome of a statement with all that `code`, its own, reaches."""
    if catalogue is None:
        outcome.may_write = any(not is_known(*name) for name in code.functions)
        _without_catalogue(code)
        outcome.code = code
        _note(outcome, "the catalogue is not known" if code.audit == Audit.SETTINGS else None)
        return
    outcome.code = reach.follow(code, catalogue)
    if outcome.access == "read" and outcome.code.write:
        outcome.access, outcome.reason = "write", outcome.code.write


def _note(outcome: Outcome, what: str | None) -> None:
    if what and outcome.access == "read":
        outcome.reason = f"{outcome.reason}; {what}"


def _without_catalogue(code: Code) -> None:
    """Whatever is not PostgreSQL's own may run anything."""
    relations = [*code.reads, *code.written, *code.truncated, *code.refreshed]
    foreign = any(not reach.is_system(None, *name) for name in relations)
    unknown = any(not (is_known(*name) or (is_builtin(name[0]) and needs_primary(*name))) for name in code.functions)
    if unknown or foreign or code.definitions or code.inner:
        code.is_opaque("may run code that is not known", any_setting=True)
    reach.call_system_functions(code)


def follow_words(outcome: Outcome, text: str, catalogue: Catalogue | None) -> None:
    """The same for a text that the grammar does not accept: by its words."""
    code = bodies.of_text(text)
    code.is_opaque(outcome.reason)
    outcome.code = code if catalogue is None else reach.follow(code, catalogue)


def follow_long(outcome: Outcome, text: str, catalogue: Catalogue | None) -> None:
    """The same for a statement that is too long to be parsed, INSERT with many rows above all: by the names in its text,
    which may be those of values as well."""
    code = Code()
    if catalogue is None or outcome.pins:
        code.is_opaque(outcome.reason, any_setting=True)
        outcome.code = code
        return
    words = set(_WORD.findall(text))
    words |= {word.lower() for word in words}
    for known, names in (
        (catalogue.functions_named, code.functions),
        (catalogue.relations_named, code.written),
        (catalogue.types_named, code.types),
    ):
        names.update((("", name), None) for name in known if name in words or (_is_odd(name) and name in text))
    code.functions.update((("", name), None) for name in words & catalogue.system.function_names)
    code.operators.update((("", name), None) for name in catalogue.operators_named if name in text)
    outcome.code = reach.follow(code, catalogue)


def _is_odd(name: str) -> bool:
    return _WORD.fullmatch(name) is None


def complete(plan: Plan, text: str, outcomes: list[Outcome], catalogue: Catalogue | None) -> Plan:
    """The plan of a text with what its statements reach."""
    total = Code()
    for outcome in outcomes:
        reach.merge(total, outcome.code)
        if SETTING in outcome.pins:
            total.leaves(Audit.SETTINGS, outcome.reason)
    path = total.search_path or any(_may_name_temporary(effect) for effect in plan.effects)
    if total.temporary or (path and any(outcome.code.creates for outcome in outcomes)):
        total.leaves(Audit.STATE, "uses temporary objects")
    custom = dict.fromkeys(sorted(total.custom))
    if total.dynamic:
        custom.update(dict.fromkeys(sorted(custom_settings(text))))
        custom.update(dict.fromkeys(catalogue.custom_settings if catalogue else ()))
    reads = None if total.reads_any or len(total.reads_custom) > CUSTOM_MAX else tuple(sorted(total.reads_custom))
    return replace(
        plan,
        audit=_WORDS[total.audit],
        custom=tuple(custom)[:CUSTOM_MAX],
        unknown_settings=total.unknown_settings or len(custom) > CUSTOM_MAX,
        reads_custom=reads,
        may_define=total.may_define,
        temp=total.temporary or path,
        provisional=total.is_missing,
    )


def _may_name_temporary(effect: Effect) -> bool:
    detail = dict(effect.detail)
    if effect.kind != "set" or detail.get("name") != "search_path" or detail.get("to_default"):
        return False
    sql = str(detail.get("sql", "")).lower()
    return any(part in sql for part in _NAMES_TEMPORARY)
