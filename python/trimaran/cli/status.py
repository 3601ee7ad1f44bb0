"""`trimaran status`: what runs, how it is, and what was decided lately."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from .arguments import Commands, add_file, loaded
from .running import Running

_DECISIONS = 5


def register(commands: Commands) -> None:
    parser = commands.add_parser("status", help="show servers, queue, rates and the last decisions")
    parser.add_argument("--json", action="store_true", help="as JSON, like /api/status")
    add_file(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    status = Running(loaded(options)).get("/api/status")
    print(json.dumps(status, indent=2) if options.json else "\n".join(render(status)))
    return 0


def render(status: dict[str, Any], decisions: int = _DECISIONS) -> Iterator[str]:
    """The status as lines of text."""
    gateway = status["gateway"]
    yield f"trimaran {status['version']}  up {_duration(status['uptime_s'])}  pid {status['pid']}  {', '.join(status['addresses'])}"
    yield f"{gateway['requests_total']} requests, {gateway['connections']} connections open"
    for pool in status["pools"]:
        latency = pool["latency_ms"]
        yield ""
        yield (
            f"{pool['name']}  {pool['app'] or 'remote'}  {pool['requests_per_s']:g} requests/s"
            f"  p50 {latency['p50']:g} ms  p99 {latency['p99']:g} ms"
            f"  queue {pool['queue_length']} (oldest {pool['queue_oldest_ms']} ms)  rejected {pool['rejected_total']}"
        )
        rows = [server for server in status["servers"] if server["pool"] == pool["name"]]
        yield from table(
            ("SERVER", "STATE", "PID", "IN FLIGHT", "STREAMS", "REQUESTS", "FAILURES", "MEMORY", "REASON"),
            [
                (
                    row["name"],
                    row["state"],
                    str(row["pid"] or "-"),
                    f"{row['in_flight']}/{row['in_flight_max']}",
                    str(row["streams"]),
                    str(row["requests_total"]),
                    str(row["failures_total"]),
                    f"{row['memory_bytes'] / 2**20:.0f} MiB" if row["memory_bytes"] else "-",
                    row["reason"],
                )
                for row in rows
            ],
        )
    for database in status["databases"]:
        yield ""
        yield from nodes(database)
    if status["decisions"]:
        yield ""
        for decision in status["decisions"][-decisions:]:
            at = datetime.fromisoformat(decision["at"]).strftime("%H:%M:%S")
            first = decision["reason"].splitlines()[0] if decision["reason"] else ""
            yield f"{at}  {decision['pool']}: {decision['action']}: {first}"


def nodes(database: dict[str, Any]) -> Iterator[str]:
    """The nodes of one database as lines of text."""
    held = "" if database["writable"] else "  writes are held: a failover is under way"
    yield f"database {database['name']}{held}"
    yield from table(
        ("NODE", "ROLE", "STATE", "ADDRESS", "PID", "LAG", "SYNC", "TIMELINE", "REASON"),
        [
            (
                node["name"],
                node["role"],
                node["state"],
                node["address"],
                str(node["pid"] or "-"),
                "-" if node["lag_bytes"] is None else f"{node['lag_bytes']} bytes, {node['lag_ms']} ms",
                "yes" if node["synchronous"] else "-",
                str(node["timeline"]),
                node["reason"],
            )
            for node in database["nodes"]
        ],
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
