"""How evenly servers are used when requests are of mixed lengths: the busiest server's in-flight time over the idlest's.

Four servers hold each request for the time that its path names, and add up the time that requests were in their hands.
Clients with kept connections send requests one after the other, of lengths drawn with a fixed seed. `kernel` is the
arrangement without a proxy: four listeners on one port, among which the kernel spreads connections, not requests.
1.0 would be perfect.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.servers import contenders
from benchmarks.servers.contenders import Work
from benchmarks.servers.contenders.process import free_port

SERVERS = 4
CLIENTS = 24
LENGTHS_MS = (2, 10, 200)
WEIGHTS = (60, 30, 10)
REQUESTS_EACH = 100


class Holder:
    """A server that answers `/MS` after that many milliseconds."""

    def __init__(self) -> None:
        self.busy_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One kept connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                started = asyncio.get_running_loop().time()
                await asyncio.sleep(int(head.split(b" ", 2)[1][1:]) / 1000)
                self.busy_s += asyncio.get_running_loop().time() - started
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()


def run(rounds: int) -> list[str]:
    """Markdown: busiest over idlest, by arrangement."""
    lines = [f"### Skew: {SERVERS} servers, {CLIENTS} clients, requests of {LENGTHS_MS} ms", "", f"{rounds} rounds", ""]
    lines += ["| arrangement | busiest / idlest (range) |", "|---|---|"]
    return lines + [
        f"| {name} | **{statistics.median(own):.2f}** ({min(own):.2f} to {max(own):.2f}) |"
        for name, own in asyncio.run(_measure(rounds)).items()
    ]


async def _measure(rounds: int) -> dict[str, list[float]]:
    present = contenders.present("trimaran", "haproxy", "nginx")
    skews: dict[str, list[float]] = {name: [] for name in (*(contender.name for contender in present), "kernel")}
    for number in range(rounds):
        for contender in present:
            with tempfile.TemporaryDirectory(prefix="trimaran-bench-") as directory:
                holders, listeners = await _servers([0] * SERVERS)
                addresses = [f"127.0.0.1:{listener.sockets[0].getsockname()[1]}" for listener in listeners]
                with contender.start(Path(directory), Work(addresses)) as proxy:
                    await _load(proxy.port, number)
                skews[contender.name].append(_skew(holders, listeners))
        port = free_port()
        holders, listeners = await _servers([port] * SERVERS)
        await _load(port, number)
        skews["kernel"].append(_skew(holders, listeners))
    return skews


async def _servers(ports: Sequence[int]) -> tuple[list[Holder], list[asyncio.Server]]:
    holders = [Holder() for _ in ports]
    return holders, [
        await asyncio.start_server(holder.serve, "127.0.0.1", port, reuse_port=True, family=socket.AF_INET)
        for holder, port in zip(holders, ports, strict=True)
    ]


def _skew(holders: Sequence[Holder], listeners: Sequence[asyncio.Server]) -> float:
    for listener in listeners:
        listener.close()
    busy = [holder.busy_s for holder in holders]
    return max(busy) / max(min(busy), 0.001)


async def _load(port: int, seed: int) -> None:
    await asyncio.gather(*(_client(port, random.Random(seed * 1000 + number)) for number in range(CLIENTS)))


async def _client(port: int, chance: random.Random) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for length in chance.choices(LENGTHS_MS, WEIGHTS, k=REQUESTS_EACH):
        writer.write(f"GET /{length} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200") or await reader.readexactly(2) != b"ok":
            raise SystemExit(f"not every request was answered: {head!r}")
    writer.close()
