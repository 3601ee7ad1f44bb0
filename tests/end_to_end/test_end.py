"""However it ends, nothing stays behind."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.end_to_end.conftest import Run
from tests.end_to_end.running import Load
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
    told = trimaran.tell("run", "site_under_test:app", "--bind", f"127.0.0.1:{trimaran.port}")
    assert told.returncode in (4, 6, 1), told
    assert told.stderr


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
