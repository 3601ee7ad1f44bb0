"""Events of the data plane, as log lines."""

from __future__ import annotations

import json


def describe(event: str) -> tuple[str, str] | None:
    """Name and message of a log line for one event (JSON as in `_core.pyi`); None for what others say better."""
    said = json.loads(event)
    match said["kind"]:
        case "health" if said["state"] in ("down", "ejected"):
            return said["pool"], f"{said['server']} is {said['state']}: {said['reason']}"
        case "health" if said["state"] == "up" and said["reason"] != "ready":
            return said["pool"], f"{said['server']} is up: {said['reason']}"
        case "retry_budget":
            return said["pool"], "no more retries: too large a share of the requests fail (retry_share_max)"
        case _:
            return None
