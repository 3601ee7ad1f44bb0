"""How the exercises of Python's drivers run their checks: each with a time limit, a line of JSON for each."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT_S = 20
"""How long a check may take: one that hangs is an outcome, not the end of the run."""

CHECKS: dict[str, Callable[[], Any]] = {}
ADDRESS = {
    "host": os.environ["PGHOST"],
    "port": int(os.environ["PGPORT"]),
    "user": os.environ["PGUSER"],
    "password": os.environ["PGPASSWORD"],
    "database": os.environ["PGDATABASE"],
}
LEAKS: dict[str, Any] = json.loads(Path(os.environ["COMPATIBILITY_LEAKS"]).read_text())


def check(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a check by its name."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        CHECKS[name] = function
        return function

    return register


def told(error: BaseException) -> str:
    """An error: of PostgreSQL its SQLSTATE and message, of a driver its kind and message without numbers."""
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    if error.args and isinstance(error.args[0], dict):
        code, message = error.args[0].get("C"), error.args[0].get("M")
    if code:
        return f"{code} {message}"
    return f"{type(error).__name__}: {re.sub('[0-9]+', 'N', message)}"


def _shown(value: object) -> str:
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else str(value)


def run_all() -> None:
    """Run the checks one after the other, and end, also when some of them still hang."""
    for name, function in CHECKS.items():
        line: dict[str, Any] = {"check": name, "failed": "no answer in time"}
        ended = threading.Event()

        def work(
            function: Callable[[], Any] = function, line: dict[str, Any] = line, ended: threading.Event = ended
        ) -> None:
            result: dict[str, Any]
            try:
                result = {"value": function()}
            except Exception as error:
                result = {"failed": told(error)}
            line["result"] = result
            ended.set()

        threading.Thread(target=work, daemon=True).start()
        if ended.wait(LIMIT_S):
            line = {"check": name, **line["result"]}
        print(json.dumps(line, default=_shown), flush=True)
    os._exit(0)
