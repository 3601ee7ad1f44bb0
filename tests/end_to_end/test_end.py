"""However it ends, nothing stays behind."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.end_to_end.conftest import Run
from tests.end_to_end.running import Load, free_port
from tests.support.waiting import eventually


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything(run: Run, how: signal.Signals) -> None:
    trimaran = run()
    family = trimaran.family()
    assert len(family) > 2
    with Load(trimaran.port, path="/slow"):
        trimaran.process.send_signal(how)
        trimaran.process.wait(10)
    assert [process for process in family if _runs(process)] == []
    assert trimaran.sockets() == []


def test_a_killed_supervisor_leaves_no_orphan(run: Run) -> None:
    trimaran = run()
    family = trimaran.family()
    trimaran.process.kill()
    trimaran.process.wait(10)
    eventually(lambda: not any(_runs(process) for process in family), "every process is gone", within_s=10)


def test_it_starts_again_after_a_kill(run: Run) -> None:
    trimaran = run()
    trimaran.process.kill()
    trimaran.process.wait(10)
    assert run().get().startswith("one")


def test_a_taken_port_is_said_and_nothing_starts(run: Run) -> None:
    trimaran = run()
    trimaran.environ["TRIMARAN_STATE_DIRECTORY"] = str(trimaran.directory / "another")
    for flag, taken, free in (("--bind", trimaran.port, "--admin"), ("--admin", trimaran.admin, "--bind")):
        told = trimaran.tell("run", flag, f"127.0.0.1:{taken}", free, f"127.0.0.1:{free_port()}")
        assert told.returncode == 4, told
        assert f"127.0.0.1:{taken}" in told.stderr
        assert flag in told.stderr, "it says how to choose another"
    assert trimaran.get().startswith("one")


def test_a_second_one_with_the_same_state_is_refused(run: Run) -> None:
    trimaran = run()
    told = trimaran.tell("run", "--bind", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}")
    assert told.returncode == 1
    assert f"pid {trimaran.process.pid}" in told.stderr


def test_sockets_that_a_killed_one_left_are_removed_by_the_next(run: Run) -> None:
    trimaran = run()
    trimaran.process.kill()
    trimaran.process.wait(10)
    left = {path.name for path in trimaran.sockets()}
    assert left
    again = run()
    again.close()
    assert again.sockets() == []


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
