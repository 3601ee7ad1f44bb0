"""Other sessions that use a gateway's server connections all the while, so that no session keeps its own by chance. They change
what a session can change, and give it back: what they see of others, or others of them, is a leak.

`python -m tests.compatibility.drivers.crowd` works until its standard input ends, at most five minutes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg

_SESSIONS = 8
_LONGEST_S = 300


@contextmanager
def crowd_of_sessions(environment: Mapping[str, str]) -> Iterator[None]:
    """A crowd in a process of its own, at the address that libpq's variables name. It has begun when this yields."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the crowd did not start")
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _round(connection: psycopg.Connection, number: int) -> None:
    """Settings, a transaction, a prepared statement. The short sleeps hold a connection while others wait for it."""
    connection.execute("SELECT set_config('search_path', 'pg_catalog', false), pg_sleep(0.002)")
    connection.execute("SET TimeZone = 'America/Lima'")
    connection.execute("SELECT set_config('app.tenant', 'crowd', false)")
    connection.execute("SELECT %s::int + 1, pg_sleep(0.002)", [number], prepare=True)
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = '61s'")
        connection.execute("SELECT pg_sleep(0.002)")
    connection.execute("RESET search_path")
    connection.execute("RESET TimeZone")
    connection.execute("RESET app.tenant")


def _work(ended: threading.Event, begun: threading.Barrier) -> None:
    until = time.monotonic() + _LONGEST_S
    number = 0
    while not ended.is_set() and time.monotonic() < until:
        try:
            with psycopg.connect(autocommit=True) as connection:
                while not ended.is_set() and time.monotonic() < until:
                    _round(connection, number)
                    if number == 0:
                        begun.wait(60)
                    number += 1
        except psycopg.Error as error:
            # A gateway that ends a session of the crowd is not what is tested: another takes its place.
            print(f"crowd: {error}", file=sys.stderr, flush=True)
            ended.wait(0.1)


def main() -> None:
    """Work until standard input ends."""
    ended = threading.Event()
    begun = threading.Barrier(_SESSIONS + 1)
    threads = [threading.Thread(target=_work, args=(ended, begun), daemon=True) for _ in range(_SESSIONS)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    print("ready", flush=True)
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join(10)


if __name__ == "__main__":
    main()
