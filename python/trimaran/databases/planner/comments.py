"""Comments: the hints in them, `/* trimaran: primary */` and `/* trimaran: replica */`, and statements without any.

The statement key of the gateway keeps every comment that starts like a hint, so that texts with different hints never
share a plan. A hint is a block comment, anywhere in the text, in any case.
"""

from __future__ import annotations

import re

from postgast import scan
from postgast.pg_query_pb2 import Token

from trimaran.databases.planner.plan import Hint

_MAY_HAVE_ONE = re.compile(r"/\*[ \t\r\n\f]*trimaran:", re.IGNORECASE | re.ASCII)
_HINT = re.compile(r"/\*[ \t\r\n\f]*trimaran:(.*)\*/", re.IGNORECASE | re.ASCII | re.DOTALL)


def read_hint(text: str) -> tuple[Hint | None, str | None]:
    """The hint of a text that parses, and a complaint about hints that say nothing valid.

    "primary" wins over "replica", because it is never wrong.
    """
    if not _MAY_HAVE_ONE.search(text):
        return None, None
    encoded = text.encode()
    found: set[Hint] = set()
    complaint = None
    for token in scan(text).tokens:
        if token.token != Token.C_COMMENT:
            continue
        match = _HINT.fullmatch(encoded[token.start : token.end].decode())
        if match is None:
            continue
        match match[1].strip().lower():
            case "primary":
                found.add("primary")
            case "replica":
                found.add("replica")
            case other:
                complaint = f'unknown hint "{other[:40]}" ignored (known: primary, replica)'
    return ("primary" if "primary" in found else "replica" if found else None), complaint


def without_comments(sql: str) -> str:
    """A statement that parses, with a space for each comment, so that others can be written behind it."""
    if "--" not in sql and "/*" not in sql:
        return sql
    encoded = sql.encode()
    kept, end = [], 0
    for token in scan(sql).tokens:
        if token.token in (Token.C_COMMENT, Token.SQL_COMMENT):
            kept.append(encoded[end : token.start])
            end = token.end
    return b" ".join([*kept, encoded[end:]]).decode().strip()
