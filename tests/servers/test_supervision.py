"""When servers are started again or replaced, and which addresses remote names stand for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimaran.config.model import Bind, Pool, Remote
from trimaran.errors import TrimaranError
from trimaran.journal import Journal
from trimaran.servers.recycle import reason_to_recycle
from trimaran.servers.resolve import Remotes
from trimaran.servers.restart import Crashes


def test_pauses_double_up_to_the_longest() -> None:
    crashes, delays = Crashes(), []
    for _ in range(6):
        crashes = crashes.after(uptime_s=0.0)
        delays.append(crashes.delay_ms(200, 2_000))
    assert delays == [200, 400, 800, 1600, 2000, 2000]


def test_a_server_that_ran_well_begins_anew() -> None:
    crashes = Crashes(5)
    assert crashes.is_loop
    assert crashes.after(uptime_s=60.0) == Crashes(1)
    assert not Crashes(1).is_loop


@given(st.integers(0, 10_000), st.integers(0, 60_000), st.integers(0, 60_000))
def test_a_pause_is_never_longer_than_allowed(in_a_row: int, first_ms: int, most_ms: int) -> None:
    assert 0 <= Crashes(in_a_row).delay_ms(first_ms, most_ms) <= max(first_ms, most_ms)


@pytest.mark.parametrize(
    ("pool", "memory_mib", "uptime_s", "word"),
    [
        (Pool(), 10_000, 1e9, None),
        (Pool(memory_max_mib=100), 100, 0, None),
        (Pool(memory_max_mib=100), 101, 0, "memory_max_mib"),
        (Pool(memory_max_mib=100), None, 0, None),
        (Pool(lifetime_max_s=60), 1, 60, None),
        (Pool(lifetime_max_s=60), 1, 61, "lifetime_max_s"),
    ],
)
def test_servers_have_their_time(pool: Pool, memory_mib: int | None, uptime_s: float, word: str | None) -> None:
    reason = reason_to_recycle(pool, None if memory_mib is None else memory_mib * 2**20, uptime_s)
    assert (reason is None) == (word is None)
    assert word is None or word in (reason or "")


def _remotes(*addresses: Remote, publish: Callable[[], None] = lambda: None) -> Remotes:
    return Remotes("app", Pool(addresses=addresses, in_flight_max=7), Journal(), publish)


def test_remote_servers_are_known_by_their_addresses() -> None:
    remotes = _remotes(
        Remote(Bind("10.0.0.1", 80), 2.0),
        Remote(Bind("::1", 81)),
        Remote(Bind("", 0, "/run/s")),
        Remote(Bind("localhost", 82)),
    )
    asyncio.run(remotes.start())
    placed = {server.name: server for server in remotes.placed()}
    assert placed["10.0.0.1:80"].address == "10.0.0.1:80"
    assert (placed["10.0.0.1:80"].weight, placed["10.0.0.1:80"].in_flight_max) == (2.0, 7)
    assert placed["[::1]:81"].address == "[::1]:81"
    assert placed["unix:/run/s"].address == "unix:/run/s"
    local = [server.address for name, server in placed.items() if name.startswith("localhost")]
    assert "127.0.0.1:82" in local


def test_a_name_that_does_not_exist_is_said() -> None:
    with pytest.raises(TrimaranError, match=r"no-such-host\.invalid:80 of the pool app cannot be looked up"):
        asyncio.run(_remotes(Remote(Bind("no-such-host.invalid", 80))).start())


def test_draining_a_remote_server_is_published() -> None:
    published: list[int] = []
    remotes = _remotes(Remote(Bind("10.0.0.1", 80)), publish=lambda: published.append(1))
    asyncio.run(remotes.start())
    assert not remotes.drain("unknown")
    assert remotes.drain("10.0.0.1:80")
    assert [server.draining for server in remotes.placed()] == [True]
    assert published == [1]
