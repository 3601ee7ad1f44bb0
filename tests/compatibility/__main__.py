"""`python -m tests.compatibility django|psycopg|sqlalchemy [what...]`: both runs, and what differs. Ends with 1 if something does."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.compatibility import suites
from tests.support.gateways import builder_of, empty_database, remove, start_gateway, start_node, superuser


def main() -> int:
    """Run a suite through a gateway of its own and directly."""
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility", description=__doc__)
    parser.add_argument("suite", choices=("django", "psycopg", "sqlalchemy"))
    parser.add_argument(
        "what", nargs="*", help="Django's applications, psycopg's test files or one driver of SQLAlchemy"
    )
    parser.add_argument("--source", type=Path, help="a checkout of psycopg, of the version that is installed")
    parser.add_argument("--output", type=Path, help="a directory for both runs' whole outputs")
    parser.add_argument("--only", choices=("direct", "gateway"), help="not both runs")
    parser.add_argument("--server-side", action="store_true", help="Django with parameters bound by the server")
    arguments = parser.parse_intermixed_args()
    state = Path(tempfile.mkdtemp(prefix="trimaran-compatibility-"))
    node = start_node(state)
    gateway = start_gateway(node, connections_max=20)
    try:
        builder = builder_of(node)
        run: Callable[[str], suites.Result]
        if arguments.suite == "django":
            direct, applications = builder, arguments.what or suites.DJANGO_DATABASE
            options: dict[str, object] = {"server_side_binding": True} if arguments.server_side else {}

            def run(dsn: str) -> suites.Result:
                return suites.django(dsn, applications, state / "work", options=options)
        elif arguments.suite == "sqlalchemy":
            direct, driver = empty_database(builder, "sqlalchemy"), (arguments.what or ["psycopg"])[0]

            def run(dsn: str) -> suites.Result:
                return suites.sqlalchemy(dsn, driver, state / "work")
        else:
            if arguments.source is None:
                parser.error("psycopg's tests are in no package: --source names a checkout")
            direct = superuser(node)

            def run(dsn: str) -> suites.Result:
                return suites.psycopg(dsn, arguments.source, arguments.what)

        results: dict[str, suites.Result] = {}
        for name, dsn in (("direct", direct), ("gateway", gateway.through(direct))):
            if arguments.only in (None, name):
                results[name] = run(dsn)
                print(f"{name}: {results[name]}", flush=True)
                if arguments.output:
                    arguments.output.mkdir(parents=True, exist_ok=True)
                    (arguments.output / f"{arguments.suite}-{name}.txt").write_text(results[name].output)
        return _compare(results)
    finally:
        gateway.stop()
        node.stop()
        remove(state)


def _compare(results: dict[str, suites.Result]) -> int:
    if len(results) < 2:
        return 0
    through, directly = results["gateway"].failed, results["direct"].failed
    for name in sorted(through - directly):
        print(f"only through the gateway: {name}")
    for name in sorted(directly - through):
        print(f"only directly: {name}")
    return 1 if through - directly else 0


if __name__ == "__main__":
    sys.exit(main())
