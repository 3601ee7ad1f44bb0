"""Differences that docs/database-gateway.md names, each with the words that it has there. Nothing else may differ."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """Where an answer may be another one: in which ways, for whom, to which probe (patterns of whole names)."""

    ways: str
    who: str
    probe: str
    words: str
    """As the documentation says it."""


DIFFERENCES = (
    Difference(".*(DDL|ALTER TABLE).*", "[BC] .*", "columns", "may answer with the new columns"),
    Difference(".*(nextval|setval|sequence).*", "A.*", "the last number of a sequence|after: .*currval.*", "`currval` and `lastval`"),
    Difference("ALTER (ROLE|DATABASE)", ".*", "settings", "ALTER ROLE ... SET"),
    Difference(".*role that is dropped meanwhile.*", "A.*", ".*", "a role that was dropped"),
    Difference(".*(temporary|TEMP|search_path).*", "[BCDE] .*", "schemas", "`current_schemas(true)`"),
    Difference("DEALLOCATE ALL in .*", "A.*", "a prepared statement|columns", "DEALLOCATE in code that"),
    Difference(".*gateway's names.*", "A.*", "statements by SQL", "names that begin with `_trimaran_`"),
)


def is_documented(way: str, who: str, probe: str) -> bool:
    """Whether the answer to this probe may be another one."""
    return any(
        re.fullmatch(known.ways, way) and re.fullmatch(known.who, who) and re.fullmatch(known.probe, probe)
        for known in DIFFERENCES
    )
