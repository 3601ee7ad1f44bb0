"""A node that does not answer costs its asker no more than the limit, and is not piled with connections."""

from __future__ import annotations

import asyncio
import socket

import pytest
from trimaran.databases.replication.line import Unanswered
from trimaran.databases.replication.probe import Probe


def test_a_node_that_hangs_is_asked_once() -> None:
    async def run() -> None:
        connections: list[asyncio.StreamWriter] = []

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            await reader.read()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        probe = Probe(lambda: f"host=127.0.0.1 port={port} user=x dbname=x", timeout_s=0.05, stall_s=1.0)
        for _ in range(5):
            with pytest.raises(Unanswered, match="answer"):
                await probe.look()
        assert len(connections) <= 2, "one that asks, one that knocks at the door"
        server.close()
        for writer in connections:
            writer.close()
        await probe.close()

    asyncio.run(run())


def test_a_node_that_is_not_there_is_told_with_the_reason() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        probe = Probe(lambda: f"host=127.0.0.1 port={port} user=x dbname=x", timeout_s=5.0, stall_s=1.0)
        with pytest.raises(Unanswered, match="refused"):
            await probe.look()
        await probe.close()

    asyncio.run(run())
