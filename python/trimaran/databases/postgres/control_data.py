"""What a data directory says about itself while its server is down (`pg_controldata`)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trimaran.databases.postgres.account import Account
from trimaran.databases.postgres.find import Binaries
from trimaran.databases.postgres.initialise import check
from trimaran.databases.postgres.place import Place
from trimaran.databases.postgres.programs import run
from trimaran.databases.postgres.standby import is_standby
from trimaran.errors import DatabaseError


@dataclass(frozen=True, slots=True)
class ControlData:
    """Where the data stands."""

    state: str
    """As PostgreSQL says it, for example `shut down`, `in production`, `shut down in recovery`."""
    timeline: int
    checkpoint: int
    """WAL position of the last checkpoint, in bytes; of a clean end, that of the shutdown itself."""
    standby: bool
    """Whether it is a replica's."""

    @property
    def ended_cleanly(self) -> bool:
        return self.state in ("shut down", "shut down in recovery")


async def read(binaries: Binaries, place: Place, account: Account) -> ControlData:
    """Raises DatabaseError when the control file cannot be read."""
    outcome = await run([binaries.program("pg_controldata"), str(place.data)], account, within_s=30.0)
    check(outcome, "pg_controldata", place.data)
    try:
        return ControlData(
            state=_field(outcome.output, "Database cluster state"),
            timeline=max(
                int(_field(outcome.output, "Latest checkpoint's TimeLineID")),
                int(_field(outcome.output, "Min recovery ending loc's timeline")),
            ),
            checkpoint=position(_field(outcome.output, "Latest checkpoint location")),
            standby=is_standby(place.data),
        )
    except (ValueError, LookupError) as error:
        raise DatabaseError(f"{place.data}: pg_controldata says something else than expected: {error}") from error


def position(text: str) -> int:
    """A WAL position like `0/16B3748` as a number of bytes. Raises ValueError."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def _field(output: str, name: str) -> str:
    found = re.search(rf"^{re.escape(name)}:\s*(.+)$", output, re.MULTILINE)
    if found is None:
        raise LookupError(name)
    return found[1].strip()
