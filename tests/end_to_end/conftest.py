"""A Trimaran for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.running import Trimaran

Run = Callable[..., Trimaran]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts `trimaran run` with settings such as `count`, and ends it after the test."""
    with ExitStack() as stack:

        def start(**settings: str | int) -> Trimaran:
            trimaran = Trimaran(tmp_path, **settings)  # type: ignore[arg-type]
            stack.callback(trimaran.close)
            return trimaran

        yield start
