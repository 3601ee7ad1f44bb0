"""The end of a server, on every engine: orderly on SIGTERM, never on SIGINT, at once when the parent dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from trimaran.servers.appserver import command
from trimaran.servers.appserver.engines import Engine

from tests.support.waiting import eventually

from .conftest import app_of, start_options
from .running import Running, running, spec


def refuses_connections(server: Running) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(server.address))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        return False


def test_sigterm_finishes_requests_in_progress(engine: Engine, tmp_path: Path) -> None:
    fifos = [tmp_path / "one", tmp_path / "two"]
    for fifo in fifos:
        os.mkfifo(fifo)
    with (
        running(app_of(engine), **start_options(engine)) as server,
        closing(server.client()) as idle,
        ThreadPoolExecutor(2) as pool,
    ):
        assert idle.ask("GET", "/hello").status == 200
        answers = [pool.submit(server.get, f"/hold?fifo={fifo}") for fifo in fifos]
        writers = [fifo.open("wb") for fifo in fifos]
        server.process.terminate()
        eventually(lambda: refuses_connections(server), "the socket is closed")
        assert server.process.poll() is None
        for writer in writers:
            writer.write(b"finished")
            writer.close()
        assert [answer.result(20).body for answer in answers] == [b"finished"] * 2
        assert server.process.wait(20) == 0


def test_sigterm_finishes_a_stream_in_progress(engine: Engine, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with running(app_of(engine), **start_options(engine)) as server, closing(server.client()) as client:
        client.request("GET", f"/stream?fifo={fifo}")
        response = client.getresponse()
        assert response.read1() == b"data: one\n\n"
        server.process.terminate()
        eventually(lambda: refuses_connections(server), "the socket is closed")
        fifo.write_bytes(b"go on")
        assert response.read() == b"data: two\n\n"
        assert server.process.wait(20) == 0


def test_sigterm_without_requests(engine: Engine) -> None:
    with running(app_of(engine), **start_options(engine)) as server:
        assert server.stop() == 0
        if engine.interface == "asgi":
            assert "lifespan over" in server.log()


def test_sigint_is_ignored(engine: Engine) -> None:
    with running(app_of(engine), **start_options(engine)) as server:
        for _ in range(3):
            server.process.send_signal(signal.SIGINT)
        assert server.get("/hello").body == b"hello"
        assert server.stop() == 0


STARTER = """
import os, subprocess, sys
reader, writer = os.pipe()
arguments = [part.replace("PARENT", str(os.getpid())).replace("READY", str(writer)) for part in sys.argv[1:]]
child = subprocess.Popen(arguments, pass_fds=[writer])
os.close(writer)
os.read(reader, 65536)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_dies_with_its_parent(engine: Engine, tmp_path: Path) -> None:
    arguments = command(spec(app_of(engine), tmp_path / "s", **start_options(engine)), -1)
    marks = {f"--parent-pid={os.getpid()}": "--parent-pid=PARENT", "--ready-fd=-1": "--ready-fd=READY"}
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTER, *(marks.get(argument, argument) for argument in arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
    finally:
        parent.kill()
        parent.communicate()
    eventually(lambda: not is_running(pid), "the server has died with its parent")


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
