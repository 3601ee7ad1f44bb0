"""What differs through the gateway and is meant to: patterns of the tests' ids, each with its reason.

docs/database-gateway.md tells the same to users."""

from __future__ import annotations

import re
from typing import Final

_ENDED = "ends a server connection (by the number the client was told, or its own): the client's session outlives it"
_NUMBER = "compares the number the client was told with the server's process: it is the gateway's, for cancelling"
_STATEMENTS = "counts pg_prepared_statements: a server connection has what all sessions prepared on it"
_ROLES = "logs in as a role just made by SQL: the gateway takes new ones over every two seconds (and not at all in this harness)"

EXPLAINED: Final[tuple[tuple[str, str, str], ...]] = (
    ("psycopg", r"pq/test_pgconn\.py::test_reset(_async)?$", _ENDED),
    ("psycopg", r"/test_connection(_async)?\.py::test_broken(_connection)?\b", _ENDED),
    ("psycopg", r"::test_context_inerror_rollback_no_clobber\b", _ENDED),
    ("psycopg", r"::test_right_exception_on_server_disconnect\b", _ENDED),
    ("psycopg", r"pool/test_pool_common(_async)?\.py::test_check_connection\b", _ENDED),
    (
        "psycopg",
        r"pool/test_pool(_async)?\.py::test_(connect_check|connect_no_check|getconn_check|stats_check)\b",
        _ENDED,
    ),
    ("psycopg", r"/test_concurrency(_async)?\.py::test_concurrent_close\b", _NUMBER),
    ("psycopg", r"pq/test_pgconn\.py::test_notify$", _NUMBER),
    ("psycopg", r"/test_notify(_async)?\.py::test_notify_handlers\b", _NUMBER),
    (
        "psycopg",
        r"/test_prepared(_async)?\.py::test_(change_type|evict_lru_deallocate|no_prepare_multi_with_drop)(\[asyncio\])?$",
        _STATEMENTS,
    ),
    ("psycopg", r"pq/test_pgconn\.py::test_change_password$", _ROLES),
)
"""Suite, pattern of the id, reason."""


def explanation(suite: str, test: str) -> str | None:
    """Why this test may differ; None when nothing explains it."""
    for of, pattern, reason in EXPLAINED:
        if suite.startswith(of) and re.search(pattern, test):
            return reason
    return None
