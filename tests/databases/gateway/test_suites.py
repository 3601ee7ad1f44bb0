"""Other projects' own tests through the gateway. `python -m tests.compatibility` compares larger runs with direct ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.compatibility import suites
from tests.support.gateways import Gateway, builder_of, empty_database

pytestmark = pytest.mark.timeout(600)


def test_django(gateway: Gateway, tmp_path: Path) -> None:
    try:
        result = suites.django(gateway.through(builder_of(gateway.node)), suites.DJANGO_QUICK, tmp_path)
    except subprocess.CalledProcessError:
        pytest.skip("Django's tests are not here, and could not be fetched")
    assert not result.failed, result.output[-8000:]
    assert result.ran > 300


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_sqlalchemy(gateway: Gateway, tmp_path: Path, driver: str) -> None:
    dsn = empty_database(builder_of(gateway.node), f"sqlalchemy_{driver}")
    result = suites.sqlalchemy(gateway.through(dsn), driver, (), tmp_path)
    assert not result.failed, result.output[-8000:]
    assert result.ran > 400
