"""What an event loop runs and streams, by many tasks at once, is watched, and arrives as it left."""

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from tests.contract.probe import ASYNC_DRIVERS, items, metadata, new_pilot

ROWS = 5000
TASKS = 20
STATEMENTS = 50


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_stream_is_one_call_with_all_its_rows(database_url: sa.URL) -> None:
    engine = create_async_engine(database_url.set(drivername=ASYNC_DRIVERS[database_url.get_backend_name()]))
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.execute(items.insert(), [{"id": number, "name": "x"} for number in range(ROWS)])
    with new_pilot(engine) as pilot:
        async with engine.connect() as connection:
            result = await connection.stream(sa.select(items.c.id).order_by(items.c.id))
            assert [row.id async for row in result] == list(range(ROWS))
        [line] = [line for line in pilot.query_stats(1, 100).patterns if "FROM items" in line.query]
        assert (line.calls, line.rows, line.errors) == (1, ROWS, 0)
    await engine.dispose()


@pytest.mark.anyio
async def test_nothing_is_lost_among_many_tasks(database_url: sa.URL) -> None:
    engine = create_async_engine(database_url.set(drivername=ASYNC_DRIVERS[database_url.get_backend_name()]))

    async def run(task: int) -> None:
        for number in range(STATEMENTS):
            async with engine.connect() as connection:
                wanted = sa.literal(task * STATEMENTS + number)
                assert await connection.scalar(sa.select(wanted)) == task * STATEMENTS + number

    with new_pilot(engine) as pilot:
        await asyncio.gather(*(run(task) for task in range(TASKS)))
        [line] = [line for line in pilot.query_stats(1, 100).patterns if line.operation == "SELECT" and line.calls > 9]
        assert (line.calls, line.rows, line.errors) == (TASKS * STATEMENTS, TASKS * STATEMENTS, 0)
        assert pilot.connections().checkouts == TASKS * STATEMENTS
    await engine.dispose()
