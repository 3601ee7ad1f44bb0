"""A plugin for pytest that writes a line a test to the file COMPATIBILITY_RECORD: its id, a tab, and its outcome. Like the
settings beside it, it runs in the suite's own process, where `tests` is the suite's package and not this repository's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class _Record:
    """A test has up to three reports; the worst is what came of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        known = self._outcomes.get(report.nodeid)
        if report.outcome == "failed" or known is None or (report.outcome == "skipped" and known == "passed"):
            self._outcomes[report.nodeid] = report.outcome

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        with self._path.open("a") as record:
            record.write(f"{nodeid}\t{self._outcomes.pop(nodeid)}\n")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Record(Path(os.environ["COMPATIBILITY_RECORD"])))
