"""What came of the tests of a suite, and in what two runs of it differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_WORST = ("passed", "skipped", "failed")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a suite against one address: the outcome of each test by its id, and all that was printed."""

    outcomes: Mapping[str, str]
    output: str = field(repr=False)

    @property
    def ran(self) -> int:
        """How many tests were not skipped."""
        return sum(outcome != "skipped" for outcome in self.outcomes.values())

    @property
    def failed(self) -> frozenset[str]:
        """The ids of those that failed."""
        return frozenset(test for test, outcome in self.outcomes.items() if outcome.startswith("failed"))

    def __str__(self) -> str:
        return f"{self.ran} run, {len(self.outcomes) - self.ran} skipped, {len(self.failed)} failed"


def read(record: Path, output: str) -> Run:
    """The run that left `record`, a line a test. Of several lines for a test (subtests) the worst counts.

    Raises RuntimeError with the end of the output when there is none: the suite did not start."""
    outcomes: dict[str, str] = {}
    for line in record.read_text().splitlines() if record.exists() else ():
        test, _, outcome = line.rpartition("\t")
        outcomes[test] = max(outcome, outcomes.get(test, "passed"), key=_WORST.index)
    if not outcomes:
        raise RuntimeError(f"the suite did not start:\n{output[-4000:]}")
    return Run(outcomes, output)


def differing(direct: Run, gateway: Run) -> list[str]:
    """The ids of the tests with different outcomes, also those that only one of the runs has."""
    tests = direct.outcomes.keys() | gateway.outcomes.keys()
    return sorted(test for test in tests if direct.outcomes.get(test) != gateway.outcomes.get(test))
