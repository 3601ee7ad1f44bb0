"""One function per suite: what is run against one address, and what came of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

KEPT = Path(__file__).parents[2] / "target" / "compatibility"
"""Where fetched suites are kept."""

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
    "expressions",
    "expressions_case",
    "expressions_window",
    "extra_regress",
    "field_defaults",
    "filtered_relation",
    "fixtures",
    "fixtures_regress",
    "force_insert_update",
    "foreign_object",
    "from_db_value",
    "generic_relations",
    "get_or_create",
    "indexes",
    "inspectdb",
    "introspection",
    "known_related_objects",
    "lookup",
    "m2m_regress",
    "m2m_through",
    "many_to_many",
    "many_to_one",
    "migrate_signals",
    "migration_test_data_persistence",
    "migrations",
    "migrations2",
    "model_fields",
    "model_indexes",
    "model_inheritance",
    "multiple_database",
    "nested_foreign_keys",
    "null_queries",
    "one_to_one",
    "or_lookups",
    "ordering",
    "prefetch_related",
    "proxy_models",
    "queries",
    "raw_query",
    "reserved_names",
    "reverse_lookup",
    "schema",
    "select_related",
    "serializers",
    "servers",
    "sessions_tests",
    "string_lookup",
    "test_runner",
    "test_utils",
    "timezones",
    "unmanaged_models",
    "update",
    "update_only_fields",
    "xor_lookups",
)
"""All that touch the database's backend, but `postgres_tests`: the embedded PostgreSQL has not all of its extensions."""

_SETTINGS = """
DATABASES = {{
    alias: {{
        "ENGINE": "django.db.backends.postgresql",
        "HOST": {host!r}, "PORT": {port}, "USER": {user!r}, "PASSWORD": {password!r},
        "NAME": f"{prefix}_{{alias}}",
        "OPTIONS": {options!r},
    }}
    for alias in ("default", "other")
}}
SECRET_KEY = "only for these tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
"""

_FAILED = re.compile(r"^(?:FAIL|ERROR): (.+)$", re.MULTILINE)
_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
_SKIPPED = re.compile(r"skipped=(\d+)")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one run of a suite."""

    ran: int
    skipped: int
    failed: frozenset[str]
    output: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.ran} run, {self.skipped} skipped, {len(self.failed)} failed"


def _fetch(requirement: str, name: str) -> Path:
    """The source distribution of a package, unpacked. Raises CalledProcessError when there is no network."""
    target = KEPT / name
    if not target.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-deps", "--no-binary", requirement.partition("==")[0], "--dest", str(KEPT)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], check=True)
        [archive] = KEPT.glob(f"{name}*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(KEPT, filter="data")
    return target


def django(
    dsn: str, applications: Sequence[str], work: Path, *, parallel: int = 1, options: dict[str, object] | None = None
) -> Result:
    """Django's own tests of `applications` against the server at `dsn`, whose role must be able to create databases."""
    tests = _fetch(f"Django=={version('Django')}", f"django-{version('Django')}") / "tests"
    place = urlsplit(dsn)
    work.mkdir(parents=True, exist_ok=True)
    (work / "compatibility_settings.py").write_text(
        _SETTINGS.format(
            host=place.hostname,
            port=place.port,
            user=place.username,
            password=unquote(place.password or ""),
            prefix=f"django_{place.port}",
            options=options or {},
        )
    )
    flags = ["--settings", "compatibility_settings", f"--parallel={parallel}", "--noinput", "-v0"]
    environment = {**os.environ, "PYTHONPATH": str(work), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "runtests.py", *flags, *applications],
        cwd=tests,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3600,
    )
    return _of_unittest(done.stdout)


def _of_unittest(output: str) -> Result:
    ran = _RAN.search(output)
    if ran is None:
        raise RuntimeError(f"the suite did not come to its end:\n{output[-4000:]}")
    skipped = _SKIPPED.search(output, ran.end())
    return Result(int(ran[1]), int(skipped[1]) if skipped else 0, frozenset(_FAILED.findall(output)), output)


def psycopg(dsn: str, source: Path, selection: Sequence[str] = ()) -> Result:
    """psycopg's own tests, from a checkout at `source` of the version that is installed."""
    options = ["-q", "-rfE", "--timeout=120", "-m", "not slow and not timing and not mypy"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--test-dsn={dsn}", *(selection or ["tests"])],
        cwd=source,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3600,
    )
    return _of_pytest(done.stdout)


def sqlalchemy(dsn: str, driver: str, work: Path) -> Result:
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
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_suite.py"],
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3600,
    )
    return _of_pytest(done.stdout)


def _of_pytest(output: str) -> Result:
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)", output[-600:])}
    if not counts:
        raise RuntimeError(f"the suite did not come to its end:\n{output[-4000:]}")
    failed = frozenset(re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE))
    ran = sum(counts.get(kind, 0) for kind in ("passed", "failed", "error", "errors"))
    return Result(ran, counts.get("skipped", 0), failed, output)
