"""What may happen to the servers while requests arrive, without one of them failing."""

from __future__ import annotations

import signal

import pytest

from tests.end_to_end.conftest import Run
from tests.end_to_end.running import Load, end
from tests.support.waiting import eventually


@pytest.mark.parametrize("path", ["/", "/slow"])
def test_a_killed_server_is_replaced(run: Run, path: str) -> None:
    trimaran = run(count="3")
    victim = trimaran.up()[0]["pid"]
    with Load(trimaran.port, path=path) as load:
        end(victim, signal.SIGKILL)
        eventually(
            lambda: len(trimaran.up()) == 3 and victim not in [server["pid"] for server in trimaran.up()],
            "three other servers are up",
        )
        load.more(200)
    assert load.failures == []
    decisions = trimaran.status()["decisions"]
    assert [decision for decision in decisions if "was killed by SIGKILL" in decision["reason"]], decisions


def test_reload_moves_all_traffic_to_the_new_version(run: Run) -> None:
    trimaran = run()
    with Load(trimaran.port) as load:
        trimaran.write_app("two")
        told = trimaran.tell("reload")
        assert told.returncode == 0, told.stderr
        load.more(200)
    assert load.failures == []
    assert {body.split()[0] for body in load.answers} == {"one", "two"}
    assert {trimaran.get().split()[0] for _ in range(10)} == {"two"}


def test_sighup_reloads(run: Run) -> None:
    trimaran = run()
    with Load(trimaran.port) as load:
        trimaran.write_app("two")
        trimaran.process.send_signal(signal.SIGHUP)
        eventually(lambda: {trimaran.get().split()[0] for _ in range(10)} == {"two"}, "the new version answers")
    assert load.failures == []


def test_a_version_that_does_not_boot_changes_nothing_and_says_why(run: Run) -> None:
    trimaran = run()
    before = sorted(server["pid"] for server in trimaran.up())
    with Load(trimaran.port) as load:
        trimaran.write_app("two", extra='raise RuntimeError("broken on purpose")')
        told = trimaran.tell("reload")
        load.more(200)
    assert told.returncode != 0
    assert "broken on purpose" in told.stderr + told.stdout
    assert load.failures == []
    assert {body.split()[0] for body in load.answers} == {"one"}
    assert sorted(server["pid"] for server in trimaran.up()) == before


def test_scale_up_and_down(run: Run) -> None:
    trimaran = run()
    with Load(trimaran.port) as load:
        for count in (4, 2):
            told = trimaran.tell("scale", str(count))
            assert told.returncode == 0, told.stderr
            eventually(
                lambda count=count: len(trimaran.status()["servers"]) == len(trimaran.up()) == count, f"{count} servers"
            )
            load.more(200)
    assert load.failures == []
    alive = {str(server["pid"]) for server in trimaran.up()}
    assert {trimaran.get().split()[1] for _ in range(20)} <= alive


def test_drain_replaces_a_server(run: Run) -> None:
    trimaran = run()
    drained = trimaran.up()[0]
    with Load(trimaran.port, path="/slow") as load:
        told = trimaran.tell("drain", drained["name"])
        assert told.returncode == 0, told.stderr
        eventually(
            lambda: len(trimaran.up()) == 2 and drained["pid"] not in [server["pid"] for server in trimaran.up()],
            "the drained server is replaced",
        )
        load.more(100)
    assert load.failures == []


def test_the_scaler_adds_servers_for_a_queue_and_takes_them_away_again(run: Run) -> None:
    trimaran = run(count="1..3", in_flight_max=2)
    with Load(trimaran.port, path="/slow", connections=16) as load:
        eventually(lambda: len(trimaran.up()) == 3, "three servers under load")
    assert load.failures == []
    eventually(lambda: len(trimaran.status()["servers"]) == 1, "one server when idle", within_s=60)
    assert all(decision["reason"] for decision in trimaran.status()["decisions"])
