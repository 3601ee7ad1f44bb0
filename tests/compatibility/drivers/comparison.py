"""One driver's exercise against each of three addresses, and what differs."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice, zip_longest
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
from trimaran.databases.postgres import EmbeddedNode

from tests.compatibility.differences import explanation
from tests.compatibility.drivers.crowd import crowd_of_sessions
from tests.compatibility.drivers.toolchains import Driver, Unavailable
from tests.compatibility.outcomes import Run, differing
from tests.support.gateways import BUILDER, Gateway, builder_of, start_gateway, superuser

READER = "compatibility_reader"
"""A role that the exercises' login may take on."""

FEW_CONNECTIONS = 5
"""In the crowd all sessions share so many server connections. No check keeps more than three of them."""

_LONGEST_S = 240
_PLACES_SHOWN = 4
_LEAKS = Path(__file__).parent / "leaks.json"

_SCHEMA = f"""
CREATE TABLE items (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, amount numeric, data bytea, tags text[],
    made_at timestamptz DEFAULT now()
);
GRANT SELECT ON items TO {READER};
CREATE FUNCTION set_tenant(tenant text) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant', tenant, false); END $$;
CREATE FUNCTION try_lock(key int) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RETURN pg_try_advisory_lock(key); END $$;
"""

Row = tuple[str, int, int, int]
"""Name, how many checks, how many differ, how many of these are explained."""


@contextmanager
def few_connections(node: EmbeddedNode) -> Iterator[Gateway]:
    """A second gateway before the same node, with few connections to it, and the role for the exercises."""
    with psycopg.connect(superuser(node), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {READER}")
        connection.execute(f"GRANT {READER} TO {BUILDER}")
    gateway = start_gateway(node, connections_max=FEW_CONNECTIONS, checkout_timeout_ms=15_000)
    try:
        yield gateway
    finally:
        gateway.stop()


def compare_driver(
    driver: Driver, node: EmbeddedNode, gateway: Gateway, crowded: Gateway, output: Path | None
) -> list[Row]:
    """The driver's rows: through the gateway, and the same in a crowd. None if it cannot be built here."""
    try:
        command = driver.build()
    except Unavailable as reason:
        print(f"{driver.name}: left out: {reason}", flush=True)
        return []
    rows: list[Row] = []
    direct = _exercise(driver, command, "direct", _database(node, driver, "direct"), output)
    for check in sorted(direct.failed):
        print(f"  {check}: fails directly: {direct.outcomes[check]}")
    quiet = _exercise(driver, command, "gateway", gateway.through(_database(node, driver, "gateway")), output)
    rows.append(_row(driver.name, direct, quiet, len(direct.failed)))
    dsn = crowded.through(_database(node, driver, "crowd"))
    with crowd_of_sessions(_environment(dsn)):
        busy = _exercise(driver, command, "crowd", dsn, output)
    rows.append(_row(f"{driver.name}, crowd", direct, busy, 0))
    return rows


def _database(node: EmbeddedNode, driver: Driver, name: str) -> str:
    """An own database for each run, so that runs see nothing of each other."""
    made = f"drivers_{driver.name}_{name}".replace("-", "_")
    builder = builder_of(node)
    with psycopg.connect(builder, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {made}")
    dsn = builder.rpartition("/")[0] + f"/{made}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_SCHEMA)
    return dsn


def _environment(dsn: str) -> Mapping[str, str]:
    place = urlsplit(dsn)
    return {
        "PGHOST": place.hostname or "",
        "PGPORT": str(place.port),
        "PGUSER": unquote(place.username or ""),
        "PGPASSWORD": unquote(place.password or ""),
        "PGDATABASE": place.path[1:],
        "PGSSLMODE": "disable",
        "COMPATIBILITY_LEAKS": str(_LEAKS),
        "COMPATIBILITY_READER": READER,
    }


def _exercise(driver: Driver, command: list[str], name: str, dsn: str, output: Path | None) -> Run:
    """One run. What it had not finished when its time was over is missing among the outcomes."""
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            env={**os.environ, **_environment(dsn)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            printed, _ = process.communicate(timeout=_LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, _ = process.communicate()
        errors.seek(0)
        complaints = errors.read()
    outcomes: dict[str, str] = {}
    for line in printed.splitlines():
        if line.startswith('{"'):
            told = json.loads(line)
            outcome = told.get("value") if "failed" not in told else f"failed: {told['failed']}"
            outcomes[told["check"]] = outcome if isinstance(outcome, str) else json.dumps(outcome, sort_keys=True)
    run = Run(outcomes, printed + complaints)
    if not outcomes:
        raise RuntimeError(f"the exercise of {driver.name} did not start:\n{complaints[-4000:]}")
    print(
        f"{driver.name}, {name}: {len(outcomes)} checks, {len(run.failed)} failed, {time.monotonic() - begun:.0f} s",
        flush=True,
    )
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / f"{driver.name}-{name}.txt").write_text(run.output)
    return run


def _row(name: str, direct: Run, other: Run, failed_directly: int) -> Row:
    """A difference that comes once counts: what leaks, leaks by chance. So does a check that fails directly: it shows nothing."""
    different = differing(direct, other)
    explained = 0
    for check in different:
        reason = explanation(name, check)
        explained += reason is not None
        print(f"  {name}: {check}: {reason or 'NOT EXPLAINED'}")
        outcomes = (_parsed(run.outcomes.get(check, "missing")) for run in (direct, other))
        for place, left, right in islice(_places("", *outcomes), _PLACES_SHOWN):
            print(f"    {place or 'outcome'}: directly {left!r}, through the gateway {right!r}")
    return name, len(direct.outcomes), len(different) + failed_directly, explained


def _parsed(outcome: str) -> object:
    return json.loads(outcome) if outcome.startswith(("[", "{")) else outcome


def _places(place: str, left: object, right: object) -> Iterator[tuple[str, object, object]]:
    """Where two outcomes differ, and what each has there."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            yield from _places(f"{place} {key}".strip(), left.get(key), right.get(key))
    elif isinstance(left, list) and isinstance(right, list):
        for index, pair in enumerate(zip_longest(left, right)):
            yield from _places(f"{place} [{index}]".strip(), *pair)
    elif left != right:
        yield place, left, right
