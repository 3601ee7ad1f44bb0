"""Handing a session's place in the WAL to another session, so that the other sees what the first has written.

Works with a psycopg or SQLAlchemy connection, an SQLAlchemy session, or Django's (the default one when none is given), as
long as it goes through the gateway. Elsewhere PostgreSQL does not know the setting and says so.
"""

from __future__ import annotations

from typing import Any

__all__ = ["after", "position"]


def position(connection: Any = None) -> str:
    """The WAL position that covers everything this session has committed, like `0/16B3748`.

    Costs a question to the primary when the session has written since the last one.
    """
    return str(_scalar(connection, "SHOW trimaran.position"))


def after(position: str, connection: Any = None) -> None:
    """From now on, this session's reads see at least what `position` covers. Raises ValueError for what is none."""
    high, _, low = position.partition("/")
    try:
        number = int(high, 16) << 32 | int(low, 16)
    except ValueError:
        raise ValueError(f"{position!r} is no WAL position; expected one like 0/16B3748") from None
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{position!r} is no WAL position; it is out of range")
    _scalar(connection, f"SET trimaran.after = '{number >> 32:X}/{number & 0xFFFFFFFF:X}'")


def _scalar(connection: Any, sql: str) -> Any:
    """Runs `sql`; the first value of its first row, where it has one."""
    if connection is None:
        from django.db import connection as default

        connection = default
    if hasattr(connection, "exec_driver_sql"):
        return _first(connection.exec_driver_sql(sql))
    if hasattr(connection, "get_bind"):
        return _first(connection.connection().exec_driver_sql(sql))
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


def _first(result: Any) -> Any:
    return result.scalar() if result.returns_rows else None
