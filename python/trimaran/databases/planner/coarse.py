"""What can be said of a statement that is too long or too deeply nested to be parsed: an insert of many rows, mostly.

Only the scanner looks at it, whose time grows with the text's length. Such a statement goes to the primary; the question is
whether it may have changed its session, so that nobody else may get the connection.
"""

from __future__ import annotations

import re

import postgast

from trimaran.databases.planner.functions import PINS
from trimaran.databases.planner.statements import Outcome

NOT_ANALYSED = "a statement that could not be analysed"

_LARGEST_SPLIT_BYTES = 16 * 1024 * 1024
# A comment within a comment is not matched, so that no word within one passes for the first of the statement.
_FIRST_WORD = re.compile(r"(?:[\s(]|--[^\n\r]*+|/\*(?:(?!/\*).)*?\*/)*+([a-z]+)", re.DOTALL)
_DATA_ONLY = frozenset({"insert", "update", "delete", "merge", "select", "with", "values"})
_MAY_CHANGE_SESSION = (*PINS, "set_config", "pg_settings", "temp", 'u&"')
"""Parts of every text by which a statement of these kinds can change its session; found in others too, to no harm."""


def split(text: str) -> list[str] | None:
    """The statements of a text that may be too long to parse; None when not even that can be said."""
    if len(text) > _LARGEST_SPLIT_BYTES:
        return None
    try:
        return [part for part in postgast.split(text, method="scanner") if part.strip()] or None
    except postgast.PgQueryError:
        return None


def judge(text: str, why: str) -> Outcome:
    """The outcome of one statement (or of a text that could not be split) that cannot be parsed, because of `why`."""
    outcome = Outcome("write", f"cannot be analysed: {why}")
    lowered = text.lower()
    first = _FIRST_WORD.match(lowered)
    if first is None or first[1] not in _DATA_ONLY or any(part in lowered for part in _MAY_CHANGE_SESSION):
        outcome.pins.append(NOT_ANALYSED)
    return outcome
