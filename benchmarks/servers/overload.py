"""Three times more requests than the servers can answer: how many are still answered well?

    python -m benchmarks.servers.overload [--seconds 8] [--rounds 3]

Two servers take 20 ms for a request and four at a time: 400 requests per second is all there is. The proxy lets four at a
time to each and queues the others. Peak is what 16 clients get that send one request after the other. Then requests come
three times as fast as that, whether or not earlier ones were answered (open loop). Good is a 2xx within the patience of a
user, counted from the moment the request was due; per second, and as a share of the peak. HAProxy queues with the same limits.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.servers import contenders
from benchmarks.servers.contenders import Queueing, Running

SERVERS = 2
AT_ONCE = 4
SERVICE_S = 0.02
CLIENTS = 16
TIMES = 3
PATIENCE_S = 1.5
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def main() -> int:
    """Measure every proxy and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| proxy | peak, good/s | at 3 times capacity, good/s | of peak | median ms of good ones | refused | late |")
    print("|---|---|---|---|---|---|---|")
    for start in (contenders.trimaran, contenders.haproxy):
        print(asyncio.run(row(start, options.seconds, options.rounds)), flush=True)
    return 0


async def row(start: contenders.Start, seconds: float, rounds: int) -> str:
    """One proxy's line."""
    shares, peaks, goods, medians, refused, late = [], [], [], [], 0, 0
    for _ in range(rounds):
        async with servers() as ports:
            with tempfile.TemporaryDirectory(prefix="trimaran-bench-") as directory:
                queueing = Queueing(at_once=AT_ONCE, timeout_ms=1_000, target_ms=500)
                with start(Path(directory), ports, None, queueing) as proxy:
                    peak = await closed_loop(proxy, seconds / 2)
                    waits, other = await open_loop(proxy, peak * TIMES, seconds)
        peaks.append(peak)
        goods.append(len(waits) / seconds)
        shares.append(goods[-1] / peak)
        medians.append(statistics.median(waits) * 1000 if waits else float("nan"))
        refused += other["refused"]
        late += other["late"]
    middle = [statistics.median(own) for own in (peaks, goods, shares, medians)]
    return f"| {proxy.name} | {middle[0]:.0f} | {middle[1]:.0f} | **{middle[2]:.2f}** | {middle[3]:.0f} | {refused} | {late} |"


@contextlib.asynccontextmanager
async def servers() -> AsyncIterator[list[int]]:
    """Servers of limited strength."""

    async def serve(strength: asyncio.Semaphore, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                async with strength:
                    await asyncio.sleep(SERVICE_S)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    listeners = []
    for _ in range(SERVERS):
        strength = asyncio.Semaphore(AT_ONCE)
        listeners.append(
            await asyncio.start_server(lambda r, w, strength=strength: serve(strength, r, w), "127.0.0.1", 0)
        )
    yield [listener.sockets[0].getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """One request; its status."""
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length or 0))
    return int(head.split(b" ", 2)[1])


async def closed_loop(proxy: Running, seconds: float) -> float:
    """Good answers per second when every client waits for its answer."""
    good = 0

    async def client() -> None:
        nonlocal good
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        while time.monotonic() < end:
            good += await ask(reader, writer) == 200
        writer.close()

    end = time.monotonic() + seconds
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return good / seconds


async def open_loop(proxy: Running, rate: float, seconds: float) -> tuple[list[float], Counter[str]]:
    """Waits of the good answers, and how the other requests ended."""
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    waits: list[float] = []
    other: Counter[str] = Counter()

    async def one(due: float) -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            status = await asyncio.wait_for(ask(reader, writer), 30)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            other["broken"] += 1
            return
        wait = time.monotonic() - due
        if status == 200 and wait <= PATIENCE_S:
            waits.append(wait)
        else:
            other["late" if status == 200 else "refused"] += 1
        # Proxies may close after an answer of their own.
        writer.close() if status != 200 else idle.append((reader, writer))

    began = time.monotonic()
    tasks = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return waits, other


if __name__ == "__main__":
    sys.exit(main())
