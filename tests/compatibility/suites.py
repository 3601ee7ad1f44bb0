"""One function per suite: what is run against one address, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.compatibility import sources
from tests.compatibility.outcomes import Run, read

_INSIDE = Path(__file__).parent / "inside"
_LONGEST_S = 7200

DJANGO_QUICK = (
    "basic",
    "bulk_create",
    "constraints",
    "db_utils",
    "select_for_update",
    "transaction_hooks",
    "transactions",
)
"""A minute's worth of Django's applications: those that lean most on what a pooler can break."""

DJANGO_DATABASE = (
    *DJANGO_QUICK,
    "aggregation",
    "aggregation_regress",
    "annotations",
    "async",
    "backends",
    "cache",
    "composite_pk",
    "contenttypes_tests",
    "custom_columns",
    "custom_lookups",
    "custom_managers",
    "custom_pk",
    "datatypes",
    "dates",
    "datetimes",
    "db_functions",
    "db_typecasts",
    "dbshell",
    "defer",
    "defer_regress",
    "delete",
    "delete_regress",
    "distinct_on_fields",
    "empty",
    "expressions",
    "expressions_case",
    "expressions_window",
    "extra_regress",
    "field_defaults",
    "field_subclassing",
    "filtered_relation",
    "fixtures",
    "fixtures_model_package",
    "fixtures_regress",
    "force_insert_update",
    "foreign_object",
    "from_db_value",
    "generic_relations",
    "generic_relations_regress",
    "get_earliest_or_latest",
    "get_object_or_404",
    "get_or_create",
    "indexes",
    "inspectdb",
    "introspection",
    "known_related_objects",
    "lookup",
    "m2m_and_m2o",
    "m2m_intermediary",
    "m2m_multiple",
    "m2m_recursive",
    "m2m_regress",
    "m2m_signals",
    "m2m_through",
    "m2m_through_regress",
    "m2o_recursive",
    "managers_regress",
    "many_to_many",
    "many_to_one",
    "many_to_one_null",
    "max_lengths",
    "migrate_signals",
    "migration_test_data_persistence",
    "migrations",
    "migrations2",
    "model_fields",
    "model_indexes",
    "model_inheritance",
    "model_inheritance_regress",
    "model_options",
    "model_regress",
    "multiple_database",
    "mutually_referential",
    "nested_foreign_keys",
    "null_fk",
    "null_fk_ordering",
    "null_queries",
    "one_to_one",
    "or_lookups",
    "order_with_respect_to",
    "ordering",
    "postgres_tests",
    "prefetch_related",
    "properties",
    "proxy_model_inheritance",
    "proxy_models",
    "queries",
    "queryset_pickle",
    "raw_query",
    "reserved_names",
    "reverse_lookup",
    "save_delete_hooks",
    "schema",
    "select_related",
    "select_related_onetoone",
    "select_related_regress",
    "serializers",
    "servers",
    "sessions_tests",
    "signals",
    "string_lookup",
    "swappable_models",
    "test_runner",
    "test_utils",
    "timezones",
    "unmanaged_models",
    "update",
    "update_only_fields",
    "validation",
    "xor_lookups",
)
"""All applications of Django's tests that are about models, queries, the schema or the backend."""

PSYCOPG_UNFIT = "not mypy and not dns and not gevent and not timing"
"""What is left out of psycopg's tests: no database takes part, or they assert times, which a loaded machine does not keep."""

PSYCOPG_RANDOM = "not test_random and not exhaustive"
"""Also left out: many minutes of values made by chance, of which no two runs have the same."""


def django(dsn: str, tests: Sequence[str], work: Path, *, options: Mapping[str, object] | None = None) -> Run:
    """Django's own tests `tests` (applications or ids) against the server at `dsn`, whose role must be able to create
    databases, for `postgres_tests` also extensions. `options` are those of DATABASES."""
    environment = {
        "COMPATIBILITY_DSN": dsn,
        "COMPATIBILITY_PREFIX": f"django_{urlsplit(dsn).port}",
        "COMPATIBILITY_OPTIONS": json.dumps(options or {}),
    }
    flags = ["--settings=django_settings", "--parallel=1", "--noinput", "-v0"]
    return _run([sys.executable, "runtests.py", *flags, *tests], sources.django(), work, environment)


def psycopg(dsn: str, checkout: Path, tests: Sequence[str], work: Path) -> Run:
    """psycopg's own tests (files or ids, of none all), also those of its pool, from a checkout of `sources.PSYCOPG`. The role
    must be a superuser, the database empty."""
    # Its own settings make every warning an error, and a newer pytest has new ones.
    warnings = ["-W", "default::pytest.PytestRemovedIn10Warning"]
    options = ["-q", "-rfE", "--timeout=120", *warnings, "-m", PSYCOPG_UNFIT, "-k", PSYCOPG_RANDOM, f"--test-dsn={dsn}"]
    # In its cache it remembers that a run was broken off, and would refuse the next one.
    options += ["-o", f"cache_dir={work / 'cache'}"]
    python = str(sources.psycopg_python(checkout))
    return _pytest([python, "-m", "pytest", *options, *(tests or ["tests"])], checkout, work)


def sqlalchemy(dsn: str, driver: str, tests: Sequence[str], work: Path) -> Run:
    """SQLAlchemy's suite for dialects, which is in its package. The database must have nothing in it."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "conftest.py").write_text("from sqlalchemy.testing.plugin.pytestplugin import *\n")
    (work / "test_suite.py").write_text("from sqlalchemy.testing.suite import *\n")
    (work / "setup.cfg").write_text(
        "[sqla_testing]\nrequirement_cls = sqlalchemy.testing.requirements:SuiteRequirements\nprofile_file = profiles.txt\n"
    )
    address = dsn.replace("postgresql://", f"postgresql+{driver}://")
    # The package has no requirements of PostgreSQL's own: what fails without them fails directly as well.
    unfit = "not ComponentReflectionTest and not DistinctOnTest and not QuotedNameArgumentTest"
    options = ["-q", "-rfE", "-p", "no:cacheprovider", "--timeout=120", "-k", unfit, "--dburi", address]
    return _pytest([sys.executable, "-m", "pytest", *options, *(tests or ["test_suite.py"])], work, work)


def _pytest(command: list[str], directory: Path, work: Path) -> Run:
    return _run([*command, "-p", "pytest_outcomes"], directory, work, {})


def _run(command: list[str], directory: Path, work: Path, environment: Mapping[str, str]) -> Run:
    """Runs a suite to its end, at most two hours."""
    work.mkdir(parents=True, exist_ok=True)
    record = work / "outcomes.tsv"
    record.unlink(missing_ok=True)
    own = {"PYTHONPATH": str(_INSIDE), "PYTHONDONTWRITEBYTECODE": "1", "COMPATIBILITY_RECORD": str(record)}
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **own, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_LONGEST_S,
    )
    return read(record, done.stdout)
