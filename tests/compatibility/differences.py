"""What differs through the gateway and is meant to: patterns of the tests' ids, each with its reason.

docs/database-gateway.md tells the same to users."""

from __future__ import annotations

import re
from typing import Final

EXPLAINED: Final[tuple[tuple[str, str, str], ...]] = ()
"""Suite, pattern of the id, reason."""


def explanation(suite: str, test: str) -> str | None:
    """Why this test may differ; None when nothing explains it."""
    for of, pattern, reason in EXPLAINED:
        if suite.startswith(of) and re.search(pattern, test):
            return reason
    return None
