"""asyncpg: its pool with the statements that reset a connection, introspection, cursors, COPY, listeners."""

from __future__ import annotations

import asyncio
import datetime
import io
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from checks import ADDRESS, CHECKS, LEAKS, run_all, told

Connection = asyncpg.Connection


def check(name: str, **options: Any) -> Callable[[Callable[[Connection], Awaitable[Any]]], None]:
    """Register a check that has a connection of its own."""

    def register(function: Callable[[Connection], Awaitable[Any]]) -> None:
        async def connected() -> Any:
            connection = await asyncpg.connect(**ADDRESS, ssl=False, **options)
            try:
                return await function(connection)
            finally:
                await connection.close(timeout=5)

        CHECKS[name] = lambda: asyncio.run(connected())

    return register


async def ask(connection: Any, sql: str, *arguments: Any) -> Any:
    """The rows of a statement, or what its error says."""
    try:
        return [list(row.values()) for row in await connection.fetch(sql, *arguments)]
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return told(error)


async def do(connection: Any, sql: str) -> Any:
    """The tag of a text of statements, or what its error says."""
    try:
        return await connection.execute(sql)
    except asyncpg.PostgresError as error:
        return told(error)


for _cached in (100, 0):
    _options = {"statement_cache_size": _cached}

    @check(f"values and errors: {_cached} statements kept", **_options)
    async def values(connection: Connection) -> Any:
        got = []
        for _ in range(3):
            got += [
                await ask(connection, "SELECT $1::int + 1, $2::text, $3::bytea, $4::text", 1, "né", b"\0\xff", None),
                await ask(connection, "SELECT $1::int[], $2::text[]", [1, 2, None], [["a"], ["b"]]),
                await ask(connection, "SELECT $1::timestamptz", datetime.datetime(2024, 2, 1, tzinfo=datetime.UTC)),
                await ask(connection, "SELECT 1 / $1::int", 0),
                await ask(connection, "SELEC"),
                await ask(connection, "SELECT * FROM nosuch"),
                await ask(connection, "SELECT length($1::text)", "x" * 3_000_000),
                await do(connection, "SELECT 1; SELECT 2"),
                await do(connection, "SELECT 1; SELECT 1 / 0"),
            ]
        return got

    @check(f"after DEALLOCATE ALL and DISCARD ALL: {_cached} statements kept", **_options)
    async def deallocate(connection: Connection) -> Any:
        got = []
        for sql in ("DEALLOCATE ALL", "DISCARD ALL"):
            got.append(await ask(connection, "SELECT $1::int + 7", 1))
            got.append(await do(connection, sql))
            got += [await ask(connection, "SELECT $1::int + 7", 1) for _ in range(3)]
            await connection.reload_schema_state()
        return got

    @check(f"executemany: {_cached} statements kept", **_options)
    async def execute_many(connection: Connection) -> Any:
        got = []
        await connection.execute("DROP TABLE IF EXISTS many; CREATE TABLE many (n int PRIMARY KEY)")
        for start in (0, 1000, 1999):
            try:
                rows = [(n,) for n in range(start, start + 1000)]
                got.append(await connection.executemany("INSERT INTO many VALUES ($1)", rows))
            except asyncpg.PostgresError as error:
                got.append(told(error))
        return [*got, await ask(connection, "SELECT count(*) FROM many")]


@check("prepared statements")
async def prepared(connection: Connection) -> Any:
    statement = await connection.prepare("SELECT $1::int + 1 AS one, $2::text[] AS two")
    got: list[Any] = [[each.type.name for each in statement.get_attributes()], statement.get_statusmsg()]
    got += [list((await statement.fetch(n, ["x"]))[0]) for n in range(3)]
    named = await connection.prepare("SELECT $1::int + 1 AS one, $2::text[] AS two", name="mine")
    got.append([list(row) for row in await named.fetch(1, None)])
    got.append([list(row) for row in await named.fetchmany([(1, None), (2, ["a"])])])
    return [*got, await ask(connection, "SELECT 1")]


@check("own types and introspection")
async def own_types(connection: Connection) -> Any:
    await connection.execute("CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE pair AS (a int, b mood)")
    return [
        await ask(connection, "SELECT $1::mood", "happy"),
        await ask(connection, "SELECT $1::mood", "angry"),
        await ask(connection, "SELECT $1::mood[]", ["sad", "happy"]),
        [list(row[0]) for row in await connection.fetch("SELECT $1::pair", (1, "sad"))],
        [[list(each) for each in row[0]] for row in await connection.fetch("SELECT ARRAY[ROW(1, 'sad')::pair]")],
        await ask(connection, "SELECT current_setting('jit')"),
    ]


@check("transactions")
async def transactions(connection: Connection) -> Any:
    got = []
    for isolation in ("read_uncommitted", "read_committed", "repeatable_read", "serializable"):
        for readonly in (False, True):
            for deferrable in (False, True):
                transaction = connection.transaction(isolation=isolation, readonly=readonly, deferrable=deferrable)
                await transaction.start()
                got += [
                    await ask(connection, "SELECT current_setting('transaction_isolation')"),
                    await ask(connection, "SELECT current_setting('transaction_read_only')"),
                    await ask(connection, "INSERT INTO items (name) VALUES ('asyncpg') RETURNING name"),
                ]
                await transaction.rollback()
    return got


@check("nested transactions")
async def nested(connection: Connection) -> Any:
    question = "SELECT current_setting('app.depth', true)"
    got = []
    outer = connection.transaction()
    await outer.start()
    await connection.execute("SET app.depth = '1'")
    for depth in (2, 3):
        inner = connection.transaction()
        await inner.start()
        await connection.execute(f"SET app.depth = '{depth}'")
        got += [await ask(connection, question), await ask(connection, "SELECT 1 / 0")]
        await inner.rollback()
        got.append(await ask(connection, question))
    await outer.commit()
    return [*got, await ask(connection, question)]


@check("cursors")
async def cursors(connection: Connection) -> Any:
    async with connection.transaction():
        got = [sum([row[0] async for row in connection.cursor("SELECT generate_series(1, 1000)", prefetch=50)])]
        cursor = await connection.cursor("SELECT generate_series(1, $1::int)", 100)
        await cursor.forward(10)
        got += [row[0] for row in await cursor.fetch(3)]
        return [*got, await ask(connection, "SELECT count(*) FROM pg_cursors")]


@check("copy")
async def copy(connection: Connection) -> Any:
    await connection.execute("CREATE TABLE copied (n int PRIMARY KEY, name text)")
    rows = [(n, f"name {n}") for n in range(5000)]
    got: list[Any] = []
    for _ in range(2):
        try:
            got.append(await connection.copy_records_to_table("copied", records=rows))
        except asyncpg.PostgresError as error:
            got.append(told(error))
        got.append(await ask(connection, "SELECT count(*) FROM copied"))
    out = io.BytesIO()
    got.append(await connection.copy_from_query("SELECT * FROM copied WHERE n < $1 ORDER BY n", 100, output=out))
    got.append(len(out.getvalue()))
    got.append(await connection.copy_to_table("copied", source=io.BytesIO(b"10000\tlast\n")))
    got.append(await connection.copy_from_table("copied", output=io.BytesIO(), format="binary"))
    return got


@check("listeners")
async def listeners(connection: Connection) -> Any:
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def hear(_connection: Any, _process: int, channel: str, payload: str) -> None:
        heard.put_nowait((channel, payload))

    await connection.add_listener("news", hear)
    got = []
    for n in range(3):
        await connection.execute(f"NOTIFY news, 'payload {n}'")
        got.append(await asyncio.wait_for(heard.get(), 10))
    await connection.remove_listener("news", hear)
    return [*got, await ask(connection, "SELECT count(*) FROM pg_listening_channels()")]


@check("time limits")
async def time_limits(connection: Connection) -> Any:
    got: list[Any] = []
    for _ in range(3):
        try:
            await connection.fetch("SELECT pg_sleep(15)", timeout=0.3)
        except TimeoutError:
            got.append("timeout")
        got.append(await ask(connection, "SELECT 'after'"))
    return got


@check("server settings", server_settings={"app.x": "started", "TimeZone": "Asia/Tokyo", "application_name": "mine"})
async def server_settings(connection: Connection) -> Any:
    question = "SELECT current_setting('app.x'), current_setting('TimeZone'), current_setting('application_name')"
    got = [await ask(connection, question)]
    for sql in ("SET app.x = 'other'", "RESET ALL", "SET TimeZone = 'UTC'"):
        got += [await do(connection, sql), await ask(connection, question)]
    await connection.reset()
    return [*got, await ask(connection, question), connection.get_settings().TimeZone]


async def _pool_under_load() -> Any:
    seen: dict[str, int] = {}
    async with asyncpg.create_pool(**ADDRESS, ssl=False, min_size=3, max_size=3) as pool:

        async def work(worker: int) -> None:
            for turn in range(10):
                async with pool.acquire() as connection, connection.transaction():
                    want = str(worker * 1000 + turn)
                    await connection.execute(f"SET app.worker = '{want}'")
                    got = await connection.fetchval("SELECT current_setting('app.worker')")
                    own = await connection.fetchval(f"SELECT $1::int + {turn % 4}", worker)
                    outcome = "right" if got == want and own == worker + turn % 4 else "of another"
                    seen[outcome] = seen.get(outcome, 0) + 1

        await asyncio.gather(*map(work, range(8)))
    return seen


CHECKS["pool under load"] = lambda: asyncio.run(_pool_under_load())


def _leak(way: list[str], *, reset: bool) -> Callable[[], Any]:
    async def run() -> Any:
        async def probe(*questions: str) -> Any:
            connection = await asyncpg.connect(**ADDRESS, ssl=False)
            try:
                return [await ask(connection, question) for question in questions]
            finally:
                await connection.close(timeout=5)

        async def keep(_connection: Any) -> None:
            return None

        options = {} if reset else {"reset": keep}
        async with asyncpg.create_pool(**ADDRESS, ssl=False, min_size=1, max_size=1, **options) as pool:
            got: dict[str, Any] = {}
            try:
                async with pool.acquire() as connection:
                    got["changes"] = [await do(connection, sql) for sql in way]
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                got["released"] = told(error)
            async with pool.acquire() as connection:
                got["next user of the pool"] = [await ask(connection, LEAKS[key]) for key in ("probe", "lock")]
            got["another client"] = await probe(LEAKS["probe"], LEAKS["lock"])
        got["another client after the pool's end"] = await probe(LEAKS["probe"])
        return got

    return lambda: asyncio.run(run())


for _way, _statements in LEAKS["ways"].items():
    CHECKS[f"leak, reset(): {_way}"] = _leak(_statements, reset=True)
    CHECKS[f"leak, no reset: {_way}"] = _leak(_statements, reset=False)

run_all()
