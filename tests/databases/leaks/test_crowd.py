"""The same while six other sessions make the two server connections change hands all the time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from tests.databases.leaks.engine import Room, differences
from tests.databases.leaks.ways import WAYS
from tests.support.gateways import Gateway

_SESSIONS, _EVERY = 6, 12


@pytest.fixture
def crowd(narrow: Gateway) -> Iterator[None]:
    ended = threading.Event()
    wrong: list[str] = []

    def work(number: int) -> None:
        own = str(number)
        with psycopg.connect(narrow.dsn, autocommit=True) as connection:
            connection.execute(f"SET app.crowd = '{own}'")
            while not ended.is_set():
                row = connection.execute("SELECT current_setting('app.crowd', true)").fetchone()
                if row != (own,):
                    wrong.append(f"session {own} read {row}")

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(_SESSIONS)]
    for thread in threads:
        thread.start()
    yield
    ended.set()
    for thread in threads:
        thread.join(10)
    assert not wrong, wrong[:5]


@pytest.mark.usefixtures("crowd")
def test_nothing_leaks_in_a_crowd(direct: Room, through: Room) -> None:
    found = [
        line
        for number, way in enumerate(WAYS[::_EVERY])
        for line in differences(way, direct, through, ["extended" if number % 2 else "simple"], alone=False)
    ]
    assert not found, "\n".join(found)
