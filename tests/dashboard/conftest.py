"""One Trimaran for all tests that only look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import Trimaran


@pytest.fixture(scope="module")
def trimaran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trimaran]:
    directory: Path = tmp_path_factory.mktemp("site")
    running = Trimaran(directory)
    for _ in range(10):
        running.get()
    yield running
    running.close()
