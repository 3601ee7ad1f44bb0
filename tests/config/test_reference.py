"""The pages that are made from the declarations are up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reference_is_current(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "trimaran.config.reference", str(tmp_path)], cwd=ROOT, check=True)
    made = sorted(tmp_path.iterdir())
    assert len(made) >= 2
    for page in made:
        assert (ROOT / "docs" / page.name).read_text() == page.read_text(), f"{page.name} is old: make docs"
