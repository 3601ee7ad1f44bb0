"""asyncpg and the asynchronous psycopg, directly and through the gateway."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import psycopg
import pytest


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(within())


@asynccontextmanager
async def connected(dsn: str, **options: object) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, **options)
    try:
        yield connection
    finally:
        await connection.close()


def test_asyncpg_statements(dsn: str, crowd: None) -> None:
    async def work() -> None:
        async with connected(dsn) as connection:
            assert await connection.fetchval("SELECT $1::int + 1", 41) == 42
            assert await connection.fetch("SELECT n FROM generate_series(1, 3) n") == [(1,), (2,), (3,)]
            statement = await connection.prepare("SELECT $1::text || $2::text")
            assert [parameter.name for parameter in statement.get_parameters()] == ["text", "text"]
            for number in range(50):
                assert await statement.fetchval("a", str(number)) == f"a{number}"
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.fetchval("SELECT 1 / $1::int", 0)
            with pytest.raises(asyncpg.UndefinedTableError):
                await connection.prepare("SELECT * FROM none_such")
            assert await connection.execute("SELECT 1; SELECT 2") == "SELECT 1"
            assert await connection.fetchval("SELECT $1::jsonb ->> 'a'", '{"a": "b"}') == "b"

    run(work)


def test_asyncpg_transactions_and_cursors(dsn: str, crowd: None) -> None:
    table = f"t_{uuid4().hex[:12]}"

    async def work() -> None:
        async with connected(dsn) as connection:
            await connection.execute(f"CREATE TABLE {table} (id int)")
            async with connection.transaction():
                await connection.executemany(f"INSERT INTO {table} VALUES ($1)", [(n,) for n in range(5000)])
                with pytest.raises(asyncpg.DivisionByZeroError):  # noqa: PT012 - what raises is the block's end
                    async with connection.transaction():
                        await connection.execute(f"DELETE FROM {table}")
                        await connection.fetchval("SELECT 1 / 0")
                seen = [record["id"] async for record in connection.cursor(f"SELECT id FROM {table} ORDER BY id")]
                assert seen == list(range(5000))
                cursor = await connection.cursor(f"SELECT id FROM {table} WHERE id >= $1 ORDER BY id", 100)
                assert await cursor.fetch(2) == [(100,), (101,)]
                assert await connection.fetchval("SELECT 1") == 1
                await cursor.forward(10)
                assert await cursor.fetchrow() == (112,)
            async with connection.transaction(isolation="serializable", readonly=True):
                assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 5000
            await connection.execute(f"DROP TABLE {table}")

    run(work)


def test_asyncpg_copy(dsn: str) -> None:
    table = f"t_{uuid4().hex[:12]}"

    async def work() -> None:
        async with connected(dsn) as connection:
            await connection.execute(f"CREATE TABLE {table} (id int, text text)")
            rows = [(n, f"text {n}") for n in range(10_000)]
            assert await connection.copy_records_to_table(table, records=rows) == "COPY 10000"
            out = io.BytesIO()
            assert await connection.copy_from_query(f"SELECT * FROM {table} ORDER BY id", output=out) == "COPY 10000"
            assert out.getvalue().startswith(b"0\ttext 0\n")
            with pytest.raises(asyncpg.DataError):
                await connection.copy_to_table(table, source=io.BytesIO(b"x\ty\n"))
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 10_000
            await connection.execute(f"DROP TABLE {table}")

    run(work)


def test_asyncpg_listens_and_cancels(dsn: str, crowd: None) -> None:
    channel = f"c_{uuid4().hex[:12]}"

    async def work() -> None:
        async with connected(dsn) as listener, connected(dsn) as speaker:
            heard: asyncio.Queue[str] = asyncio.Queue()
            await listener.add_listener(channel, lambda *told: heard.put_nowait(told[3]))
            await speaker.execute(f"NOTIFY {channel}, 'one'")
            assert await asyncio.wait_for(heard.get(), 10) == "one"
            with pytest.raises(asyncio.TimeoutError):
                await speaker.execute("SELECT pg_sleep(30)", timeout=0.2)
            assert await speaker.fetchval("SELECT 1") == 1

    run(work)


def test_asyncpg_pool_resets_its_connections(dsn: str, crowd: None) -> None:
    async def work() -> None:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=4, server_settings={"work_mem": "7MB"}) as pool:

            async def one(number: int) -> None:
                async with pool.acquire() as connection:
                    assert await connection.fetchval("SHOW work_mem") == "7MB"
                    await connection.execute(f"SET work_mem = '{number + 100}MB'")
                    assert await connection.fetchval("SELECT current_setting('work_mem')") == f"{number + 100}MB"

            for _ in range(3):
                await asyncio.gather(*(one(number) for number in range(12)))

    run(work)


def test_a_statement_follows_its_table(dsn: str) -> None:
    """asyncpg keeps statements; after DDL the server refuses them once, and asyncpg prepares them anew."""
    table = f"t_{uuid4().hex[:12]}"

    async def work() -> None:
        async with connected(dsn) as connection, connected(dsn) as other:
            await connection.execute(f"CREATE TABLE {table} (a int); INSERT INTO {table} VALUES (1)")
            for _ in range(3):
                assert await connection.fetchrow(f"SELECT * FROM {table}") == (1,)
            await other.execute(f"ALTER TABLE {table} ADD b text DEFAULT 'x'")
            # One that has not seen the table before has nothing to be told.
            assert await other.fetchrow(f"SELECT * FROM {table}") == (1, "x")
            assert await connection.fetchrow(f"SELECT * FROM {table}") == (1, "x")
            await connection.execute(f"DROP TABLE {table}")

    run(work)


def test_psycopg_asynchronously(dsn: str, crowd: None) -> None:
    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            async with connection.pipeline(), connection.transaction():
                cursors = [await connection.execute("SELECT %s + 1", [number]) for number in range(100)]
                found = [await cursor.fetchone() for cursor in cursors]
            assert found == [(number + 1,) for number in range(100)]
            async with connection.cursor() as cursor:
                async for (number,) in cursor.stream("SELECT n FROM generate_series(1, 1000) n"):
                    assert number
                async with cursor.copy("COPY (SELECT 1) TO STDOUT") as copy:
                    assert [row async for row in copy.rows()] == [("1",)]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connection.execute("SELECT pg_sleep(30)"), 0.2)
            await connection.rollback()
            assert await (await connection.execute("SELECT 1")).fetchone() == (1,)

    run(work)
