"""The settings with which Django's own tests run, by way of its `runtests.py --settings`. What came of each test is written
to a file, one line a test, since its runner prints only those that failed."""

from __future__ import annotations

import json
import os
import unittest
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from django.contrib.postgres.operations import CreateExtension
from django.db.backends.postgresql.features import DatabaseFeatures
from django.test.runner import DiscoverRunner

_PLACE = urlsplit(os.environ["COMPATIBILITY_DSN"])

DATABASES = {
    alias: {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _PLACE.hostname,
        "PORT": _PLACE.port,
        "USER": _PLACE.username,
        "PASSWORD": unquote(_PLACE.password or ""),
        "NAME": f"{os.environ['COMPATIBILITY_PREFIX']}_{alias}",
        "OPTIONS": json.loads(os.environ["COMPATIBILITY_OPTIONS"]),
    }
    for alias in ("default", "other")
}
SECRET_KEY = "only for these tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = f"{__name__}.Recorder"

_Failure: TypeAlias = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def _extension_exists(self: CreateExtension, schema_editor: Any, extension: str) -> bool:
    """Also true of an extension that this PostgreSQL does not have. The embedded one lacks uuid-ossp, of which
    `postgres_tests` want only that a name with a dash is quoted."""
    with schema_editor.connection.cursor() as cursor:
        # One statement, as in the original: some tests count them.
        cursor.execute(
            "SELECT 1 FROM pg_extension WHERE extname = %(name)s UNION ALL"
            " SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = %(name)s)",
            {"name": extension},
        )
        return cursor.fetchone() is not None


# The embedded PostgreSQL is built without ICU, whose collations the tests' models would have.
DatabaseFeatures.test_collations = dict.fromkeys(DatabaseFeatures.test_collations, "C")
DatabaseFeatures.test_collations["non_default"] = "pg_c_utf8"

CreateExtension.extension_exists = _extension_exists


class _Recorded(unittest.TextTestResult):
    """Writes a line a test: its id, a tab, and its outcome. A test fails if one of its subtests does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Written through to the file at each line: a run that is killed leaves what it came to.
        self._record = open(os.environ["COMPATIBILITY_RECORD"], "a", buffering=1)  # noqa: SIM115

    def stopTestRun(self) -> None:
        super().stopTestRun()
        self._record.close()

    def _write(self, test: unittest.TestCase, outcome: str) -> None:
        self._record.write(f"{test.id()}\t{outcome}\n")

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._write(test, "passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._write(test, "skipped")

    def addExpectedFailure(self, test: unittest.TestCase, err: _Failure) -> None:
        super().addExpectedFailure(test, err)
        self._write(test, "passed")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._write(test, "failed")

    def addFailure(self, test: unittest.TestCase, err: _Failure) -> None:
        super().addFailure(test, err)
        self._write(test, "failed")

    def addError(self, test: unittest.TestCase, err: _Failure) -> None:
        super().addError(test, err)
        self._write(test, "failed")

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: _Failure | None) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._write(test, "failed")


class Recorder(DiscoverRunner):
    """Django's runner with `_Recorded`."""

    def get_resultclass(self) -> type[unittest.TextTestResult]:
        return _Recorded
