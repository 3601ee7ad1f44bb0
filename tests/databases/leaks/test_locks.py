"""An advisory lock excludes, by whichever way three clients ask for it."""

from __future__ import annotations

import contextlib

import pytest

from tests.databases.leaks.engine import Room, Session, Step, call
from tests.databases.leaks.world import World
from tests.support.gateways import Gateway

_PATHS: dict[str, Step] = {
    "plain": "SELECT pg_try_advisory_lock(77)",
    "a function in SQL": "SELECT try_lock(77)",
    "a plpgsql function": "SELECT try_lock_plain(77)",
    "FunctionCall": call(2882, "77"),
    "WITH": "WITH l AS MATERIALIZED (SELECT try_lock(77) AS got) SELECT got FROM l",
}


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("path", _PATHS)
@pytest.mark.parametrize("door", ["direct", "gateway"])
def test_exactly_one_of_three_gets_the_lock(
    path: str, extended: bool, door: str, world: World, direct: Room, through: Room, narrow: Gateway
) -> None:
    # The sessions of other tests hold locks of their own, or have left some behind.
    direct.close()
    through.close()
    world.end_all_sessions()
    dsn = world.app if door == "direct" else narrow.through(world.app)
    with contextlib.ExitStack() as stack:
        sessions = [Session(dsn) for _ in range(3)]
        for session in sessions:
            stack.callback(session.terminate)
        # The third one asks when the first, which may hold a server connection for its lock, has its answer.
        answers = [session.step(_PATHS[path], extended, world) for session in sessions]
    assert sorted("t" in answer.split(" | ")[0].strip("('),") for answer in answers) == [False, False, True], answers
