"""A primary and its replicas as real processes: made, killed, suspended, exchanged, restarted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from trimaran.config.model import Database
from trimaran.databases.group import DatabaseGroup
from trimaran.errors import DatabaseError
from trimaran.journal import Journal

from tests.databases.replication.conftest import Watched, Writers, data_of, remove_homes, running
from tests.support.processes import exist

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One state directory for the tests of this file, each of which finds a group as the one before left it."""
    directory = tmp_path_factory.mktemp("group") / "state"
    yield directory
    remove_homes(directory)


def test_what_is_written_on_the_primary_is_read_on_replicas(state: Path) -> None:
    async def run() -> None:
        async with running(state, replicas=2) as watched:
            assert watched.group.writable == "main-1", "the app can start before the replicas are there"
            await watched.whole(replicas=2)
            assert sorted(watched.names("replica")) == ["main-2", "main-3"]
            await watched.execute("CREATE TABLE t AS SELECT 42 AS x")
            for name in ("main-2", "main-3"):
                dsn = watched.dsn_of(name)
                assert await watched.execute("SELECT pg_is_in_recovery()", dsn) == [(True,)]
                await _eventually_reads(watched, dsn, "SELECT x FROM t", 42)
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    await watched.execute("INSERT INTO t VALUES (1)", dsn)
                await watched.until(lambda name=name: watched.state(name).lag_bytes == 0, "it has everything")
            assert [line for line in watched.decisions() if "each commit waits for one of main-2, main-3" in line]

    asyncio.run(run())


def test_logins_of_replicas_are_secret_and_no_door_stands_open(state: Path) -> None:
    async def run() -> None:
        async with running(state, replicas=2) as watched:
            await watched.whole(replicas=2)
            host = watched.dsn_of("main-2").rpartition("@")[2]
            wrong = [f"postgresql://trimaran_replication@{host}", f"postgresql://trimaran:x@{host}"]
            for dsn in wrong:
                with pytest.raises(psycopg.OperationalError, match="password"):
                    await watched.execute("SELECT 1", dsn)

    asyncio.run(run())
    passwords = json.loads((state / "databases" / "main" / "secrets.json").read_text())
    homes = [Path(json.loads(file.read_text())["home"] or file.parent) for file in state.glob("databases/*/node.json")]
    assert len(homes) == 3
    for home in homes:
        for file in home.glob("*.pgpass"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert passwords["replication"] not in (home / "data" / "postgresql.auto.conf").read_text()
    assert stat.S_IMODE((state / "databases" / "main" / "secrets.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_replica_takes_over_without_a_lost_commit(state: Path, how: signal.Signals) -> None:
    async def run() -> None:
        async with running(state, replicas=2) as watched:
            await watched.whole(replicas=2)
            old = watched.primary
            assert old.pid is not None
            async with Writers(watched) as writers:
                os.kill(old.pid, how)
                await watched.until(lambda: watched.group.writable not in (None, old.name), "another primary")
                await writers.more(20)
            assert watched.group.writable != old.name
            assert await writers.lost() == set()
            assert writers.failures > 0, "clients that were connected to the old primary noticed"
            await watched.whole(replicas=2)
            assert watched.state(old.name).role == "replica"
            timelines = {state.timeline for state in watched.group.states()}
            assert timelines == {old.timeline + 1}
            await _eventually_reads(
                watched, watched.dsn_of(old.name), "SELECT count(*) FROM written", await _count(watched)
            )
            promoted = [line for line in watched.decisions() if line.startswith("promote")]
            assert len(promoted) == 1
            assert "has every acknowledged commit" in promoted[0]
            if how == signal.SIGSTOP:
                assert any("is suspended (SIGSTOP)" in line for line in watched.decisions())

    asyncio.run(run())


def test_a_restart_keeps_roles_and_data(state: Path) -> None:
    seen = {}

    async def run() -> None:
        async with running(state, replicas=2) as watched:
            await watched.whole(replicas=2)
            if not seen and watched.primary.name == "main-1":
                # Earlier tests have moved the role, by chance back to where it began.
                await watched.group.promote(watched.names("replica")[0])
                await watched.whole(replicas=2)
            seen[len(seen)] = (watched.group.writable, watched.group.dsn, await _count(watched))

    asyncio.run(run())
    asyncio.run(run())
    assert seen[0] == seen[1]
    assert seen[0][0] != "main-1", "the role was moved, and that is remembered"


def test_a_promotion_by_hand_fails_no_write_that_is_held(state: Path) -> None:
    async def run() -> None:
        async with running(state, replicas=2) as watched:
            await watched.whole(replicas=2)
            old, chosen = watched.primary.name, watched.names("replica")[0]
            before = await _count(watched)
            watched.published.clear()
            told = await watched.group.promote(chosen)
            assert told.startswith(f"{chosen} is the primary")
            assert watched.published[0] is None, "writes are held first"
            assert watched.published[-1] == chosen
            assert await _count(watched) == before
            await watched.execute("INSERT INTO t VALUES (43)")
            await watched.whole(replicas=2)
            assert watched.state(old).role == "replica"
            for wrong, reason in ((chosen, "is the primary already"), ("main-9", "there is no node main-9")):
                with pytest.raises(DatabaseError, match=reason):
                    await watched.group.promote(wrong)

    asyncio.run(run())


def test_replicas_come_and_go_while_it_runs(state: Path) -> None:
    async def run() -> None:
        async with running(state, replicas=2) as watched:
            await watched.whole(replicas=2)
            assert "main-4" in await watched.group.add_replica()
            await watched.whole(replicas=3)
            await _eventually_reads(watched, watched.dsn_of("main-4"), "SELECT count(*) FROM t", 2)
            with pytest.raises(DatabaseError, match="is the primary; promote another"):
                await watched.group.remove_replica(watched.primary.name)
            gone = watched.names("replica")[0]
            await watched.group.remove_replica(gone)
            await watched.whole(replicas=2)
            assert gone not in [state.name for state in watched.group.states()]
            slots = await _slots(watched)
            assert len(slots) == 2, "no WAL is kept for who has left"
            await watched.execute("INSERT INTO t VALUES (44)")
        async with running(state, replicas=2) as again:
            await again.whole(replicas=2)
            assert gone not in [state.name for state in again.group.states()], "what was done by hand is remembered"

    asyncio.run(run())


def test_a_replica_that_ends_is_missed_by_nobody_and_comes_back(state: Path) -> None:
    async def run() -> None:
        async with running(state, replicas=2) as watched:
            await watched.whole(replicas=2)
            primary, lost = watched.primary.name, watched.state(watched.names("replica")[0])
            assert lost.pid is not None
            async with Writers(watched) as writers:
                os.kill(lost.pid, signal.SIGKILL)
                await watched.until(lambda: watched.state(lost.name).pid not in (None, lost.pid), "it is started again")
                await writers.more(20)
            assert writers.failures == 0
            await watched.whole(replicas=2)
            assert watched.group.writable == primary

    asyncio.run(run())


def test_a_kill_of_everything_loses_nothing(state: Path) -> None:
    async def run() -> tuple[str | None, int]:
        async with running(state, replicas=2) as watched:
            await watched.whole(replicas=2)
            async with Writers(watched) as writers:
                await writers.more(20)
            # The loop must not answer what a power failure would not let it answer.
            await watched.group.stop_watching()
            for node in watched.group.states():
                if node.pid is not None:
                    os.kill(node.pid, signal.SIGKILL)
            return watched.group.writable, len(writers.acknowledged)

    async def after() -> tuple[str | None, int]:
        async with running(state, replicas=2) as watched:
            await watched.whole(replicas=2)
            return watched.group.writable, await _count(watched)

    primary, acknowledged = asyncio.run(run())
    again, found = asyncio.run(after())
    assert primary == again
    assert found >= acknowledged


def test_asynchronous_groups_lose_what_a_replica_has_not_got(empty: Path) -> None:
    """The control of the tests above: the same check finds a loss where there is one."""

    async def run() -> None:
        async with running(empty, replicas=1, synchronous=False) as watched:
            await watched.whole(replicas=1)
            old = watched.primary
            await watched.execute("CREATE TABLE written (number bigint PRIMARY KEY)")
            await _eventually_reads(watched, watched.dsn_of("main-2"), "SELECT count(*) FROM written", 0)
            # What sends WAL stands still, so the replica falls behind, as it would over a slow network.
            sender = _wal_sender(old.pid)
            os.kill(sender, signal.SIGSTOP)
            async with Writers(watched) as writers:
                await writers.more(20)
                assert old.pid is not None
                os.kill(old.pid, signal.SIGKILL)
                await watched.until(lambda: watched.group.writable == "main-2", "the replica takes over")
            assert await writers.lost() != set()
            assert not exist([sender]), "of a fenced primary no process is left, also none that its postmaster left"

    asyncio.run(run())


def test_damaged_data_is_named_and_left_alone(empty: Path) -> None:
    async def run() -> None:
        async with running(empty, replicas=1) as watched:
            await watched.whole(replicas=1)
        data = data_of(empty, "main-2")
        (data / "PG_VERSION").unlink()
        async with running(empty, replicas=1) as watched:
            said = " ".join(watched.reports)
            assert f"{data}: this is not a complete PostgreSQL data directory" in said
            assert watched.group.writable == "main-1"
            assert watched.state("main-2").role == "out"
        assert (data / "global" / "pg_control").exists(), "nothing was removed"

    asyncio.run(run())


def test_a_primary_with_damaged_data_is_replaced_at_the_start(empty: Path) -> None:
    async def run() -> None:
        async with running(empty, replicas=2) as watched:
            await watched.whole(replicas=2)
            await watched.execute("CREATE TABLE t AS SELECT 42 AS x")
        data = data_of(empty, "main")
        (data / "PG_VERSION").unlink()
        async with running(empty, replicas=2) as watched:
            assert watched.group.writable in ("main-2", "main-3")
            assert await watched.execute("SELECT x FROM t") == [(42,)]
            assert any("this is not a complete PostgreSQL data directory" in line for line in watched.reports)
        assert (data / "global" / "pg_control").exists(), "nothing was removed"

    asyncio.run(run())


def test_two_directories_that_both_claim_the_role_are_not_chosen_between(empty: Path) -> None:
    async def run() -> None:
        async with running(empty, replicas=1) as watched:
            await watched.whole(replicas=1)
        own = empty / "databases"
        (own / "main" / "group.json").unlink()
        for name in ("main", "main-2"):
            (data_of(empty, name) / "standby.signal").unlink(missing_ok=True)
        group = DatabaseGroup("main", Database(replicas=1), empty, Journal())
        with pytest.raises(DatabaseError, match="main-1 and main-2 both were primary"):
            await group.start(lambda line: None)

    asyncio.run(run())


async def _eventually_reads(watched: Watched, dsn: str, statement: str, value: object) -> None:
    """A replica shows a commit a moment after it has it."""
    for _ in range(500):
        try:
            rows = await watched.execute(statement, dsn)
        except psycopg.Error:
            rows = []
        if rows and rows[0][0] == value:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{statement}: {rows} instead of {value}")


async def _count(watched: Watched) -> int:
    table = await watched.execute("SELECT to_regclass('written')")
    if table[0][0] is None:
        return 0
    return int((await watched.execute("SELECT count(*) FROM written"))[0][0])


async def _slots(watched: Watched) -> list[str]:
    login = watched.group.credentials
    primary = next(m for m in watched.group.members() if m.role == "primary")
    dsn = f"postgresql://{login.monitor_user}:{login.monitor_password}@{primary.host}:{primary.port}/{login.database}"
    return [row[0] for row in await watched.execute("SELECT slot_name FROM pg_replication_slots", dsn)]


def _wal_sender(postmaster: int | None) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == postmaster and b"walsender" in (entry / "cmdline").read_bytes():
                    return int(entry.name)
            except OSError:
                continue
    raise AssertionError("there is no WAL sender")
