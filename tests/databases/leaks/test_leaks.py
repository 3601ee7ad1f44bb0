"""Nothing of one client reaches another, and a session sees what PostgreSQL itself would show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases.leaks.documented import DIFFERENCES
from tests.databases.leaks.engine import Room, Way, contexts_of, differences
from tests.databases.leaks.ways import WAYS


def test_there_are_many_ways_and_each_has_a_name() -> None:
    assert len({way.name for way in WAYS}) == len(WAYS) >= 80


def test_what_may_differ_is_documented() -> None:
    document = Path("docs/database-gateway.md").read_text()
    assert not [known.words for known in DIFFERENCES if known.words not in document]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_everybody_is_answered_as_by_postgresql(way: Way, direct: Room, through: Room) -> None:
    found = differences(way, direct, through, contexts_of(WAYS.index(way)))
    assert not found, "\n".join(found)
