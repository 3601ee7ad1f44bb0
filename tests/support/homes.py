"""What embedded nodes leave behind outside of their state directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def remove_homes(state: Path) -> None:
    """Under root the data is elsewhere."""
    for record in state.glob("databases/*/node.json"):
        if home := json.loads(record.read_text())["home"]:
            shutil.rmtree(Path(home).parent, ignore_errors=True)


def data_of(state: Path, node: str) -> Path:
    """The data directory of a node of the database `main`."""
    own = state / "databases" / ("main" if node == "main-1" else node)
    return Path(json.loads((own / "node.json").read_text())["home"] or own) / "data"
