"""`python -m tests.compatibility [SUITE...]`: each suite through a gateway and directly, and in what they differ. `drivers` is the
exercises of all drivers of other languages, which can also be named one by one.

Ends with 1 if there is a difference that `differences.py` does not explain."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg as driver
from trimaran.databases.postgres import EmbeddedNode

from tests.compatibility import sources, suites
from tests.compatibility.differences import explanation
from tests.compatibility.drivers.comparison import Row, compare_driver, few_connections
from tests.compatibility.drivers.toolchains import DRIVERS
from tests.compatibility.outcomes import Run, differing
from tests.support.gateways import Gateway, empty_database, remove, start_gateway, start_node, superuser

_AGAIN_MAX = 200
"""Up to so many tests that differ are run again by themselves; more are no matter of chance."""


@dataclass(frozen=True, slots=True)
class _Suite:
    """How a suite is run: against an address, some tests of it, in a directory for its files."""

    name: str
    run: Callable[[str, Sequence[str], Path], Run]
    tests: tuple[str, ...] = ()


def _suites(checkout: Callable[[], Path]) -> list[_Suite]:
    server_side = {"server_side_binding": True}
    return [
        _Suite("django", suites.django, suites.DJANGO_DATABASE),
        _Suite(
            "django-server-side",
            lambda dsn, tests, work: suites.django(dsn, tests, work, options=server_side),
            suites.DJANGO_DATABASE,
        ),
        _Suite("psycopg", lambda dsn, tests, work: suites.psycopg(dsn, checkout(), tests, work)),
        _Suite("sqlalchemy-psycopg", lambda dsn, tests, work: suites.sqlalchemy(dsn, "psycopg", tests, work)),
        _Suite("sqlalchemy-asyncpg", lambda dsn, tests, work: suites.sqlalchemy(dsn, "asyncpg", tests, work)),
    ]


def main() -> int:
    """Run the suites one after the other, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="all if none: django, django-server-side, ...")
    parser.add_argument("--tests", nargs="+", default=[], help="only these: Django's applications, files or ids")
    parser.add_argument("--source", type=Path, help=f"a checkout of psycopg {sources.PSYCOPG}, else it is cloned")
    parser.add_argument("--output", type=Path, help="a directory for all that the runs print")
    arguments = parser.parse_intermixed_args()
    known = _suites(lambda: arguments.source or sources.psycopg())
    names = [suite.name for suite in known] + [driver.name for driver in DRIVERS]
    if unknown := set(arguments.suites) - {*names, "drivers"}:
        parser.error(f"no such suite: {', '.join(sorted(unknown))} (there are {', '.join(names)}, and drivers)")
    wanted = set(arguments.suites or names)
    if "drivers" in wanted:
        wanted |= {driver.name for driver in DRIVERS}
    chosen = [suite for suite in known if suite.name in wanted]
    drivers = [driver for driver in DRIVERS if driver.name in wanted]
    state = Path(tempfile.mkdtemp(prefix="trimaran-compatibility-"))
    node = _start(state)
    gateway = start_gateway(node, connections_max=40)
    try:
        rows = [_compare(suite, node, gateway, arguments.tests or suite.tests, arguments.output) for suite in chosen]
        if drivers:
            with few_connections(node) as crowded:
                for driver in drivers:
                    rows += compare_driver(driver, node, gateway, crowded, arguments.output)
    finally:
        gateway.stop()
        node.stop()
        remove(state)
    print(f"\n{'suite':20} {'tests':>6} {'same':>6} {'different':>9} {'explained':>9}")
    for name, tests, different, explained in rows:
        print(f"{name:20} {tests:6} {tests - different:6} {different:9} {explained:9}")
    return int(any(different > explained for _, _, different, explained in rows))


def _start(state: Path) -> EmbeddedNode:
    """A node on which the tests of two-phase commit do not skip themselves."""
    node = start_node(state)
    with driver.connect(superuser(node), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_prepared_transactions = 20")
    node.stop()
    node.start(lambda message: None)
    return node


def _compare(suite: _Suite, node: EmbeddedNode, gateway: Gateway, tests: Sequence[str], output: Path | None) -> Row:
    """The suite's row."""
    runs: list[Run] = []
    places: list[str] = []
    with tempfile.TemporaryDirectory(prefix="trimaran-compatibility-work-") as work:
        for name in ("direct", "gateway"):
            made = empty_database(superuser(node), f"{suite.name}_{name}".replace("-", "_"))
            places.append(gateway.through(made) if name == "gateway" else made)
            runs.append(suite.run(places[-1], tests, Path(work) / name))
            print(f"{suite.name}, {name}: {runs[-1]}", flush=True)
            if output:
                output.mkdir(parents=True, exist_ok=True)
                (output / f"{suite.name}-{name}.txt").write_text(runs[-1].output)
                lines = (f"{test}\t{outcome}\n" for test, outcome in sorted(runs[-1].outcomes.items()))
                (output / f"{suite.name}-{name}.tsv").write_text("".join(lines))
        different = differing(*runs)
        if 0 < len(different) <= _AGAIN_MAX:
            # Some tests fail by chance, on either side: what counts is what differs twice.
            again = [suite.run(place, different, Path(work) / "again") for place in places]
            steady = set(differing(*again))
            for test in different:
                if test not in steady:
                    print(f"  differed once, by chance: {test}")
            different = [test for test in different if test in steady]
    explained = 0
    for test in different:
        reason = explanation(suite.name, test)
        explained += reason is not None
        outcomes = " and ".join(run.outcomes.get(test, "missing") for run in runs)
        print(f"  {test}: directly and through the gateway {outcomes}: {reason or 'NOT EXPLAINED'}")
    return suite.name, len(runs[0].outcomes), len(different), explained


if __name__ == "__main__":
    sys.exit(main())
