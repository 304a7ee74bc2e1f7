"""The resizable pools on real servers, whose connections are killed at random while limits change.

``STRESS_S=60`` makes each of them run for a minute.
"""

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dbpilot.pool import AsyncResizableQueuePool, ResizableQueuePool
from tests.contract.probe import ASYNC_DRIVERS

STRESS_S = float(os.environ.get("STRESS_S", "3"))
THREADS = 64
TASKS = 500
MOST = 24
TIMEOUT_S = 30
OTHERS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
}
KILL = {"postgresql": "SELECT pg_terminate_backend(:id)", "mysql": "KILL :id"}


class Killer:
    """Counts the application's connections on the server, and ends some of them."""

    def __init__(self, url: sa.URL, rng: random.Random) -> None:
        self._backend, self._rng = url.get_backend_name(), rng
        self._engine = sa.create_engine(url, poolclass=sa.NullPool)
        self.most = self.killed = 0

    def strike(self) -> None:
        if self._backend == "sqlite":
            return
        with self._engine.connect() as connection:
            found = connection.execute(sa.text(OTHERS[self._backend])).scalars().all()
            self.most = max(self.most, len(found))
            if found and self._rng.random() < 0.3:
                self.killed += 1
                try:
                    connection.execute(sa.text(KILL[self._backend]), {"id": self._rng.choice(found)})
                except DBAPIError:  # it ended by itself meanwhile
                    connection.rollback()


@pytest.fixture
def killer(database_url: sa.URL) -> Killer:
    return Killer(database_url, random.Random(5))


def _resizes(rng: random.Random, pool: ResizableQueuePool, killer: Killer) -> Iterator[float]:
    """Limits change until the time is over, never beyond MOST; then the pool has three connections left."""
    end = time.monotonic() + STRESS_S
    while time.monotonic() < end:
        size = rng.randint(1, MOST)
        pool.resize(size, rng.randint(0, MOST - size))
        killer.strike()
        yield 0.01
    pool.resize(3, 0)


def _check(pool: ResizableQueuePool, seen: Counter[str], killer: Killer) -> None:
    counts = pool.counts()
    assert (counts.waiting, counts.connecting, counts.in_use, pool.timeouts) == (0, 0, 0, 0)
    assert counts.open <= 3
    # One that is being ended, or closed, is still listed for a moment.
    assert killer.most <= MOST + 2
    assert seen["ok"] > 100
    assert seen["error"] <= 3 * killer.killed, seen


def test_threads_are_served_whatever_happens(database_url: sa.URL, killer: Killer) -> None:
    engine = sa.create_engine(database_url, poolclass=ResizableQueuePool, pool_timeout=TIMEOUT_S, linger=0.05)
    seen, stop = Counter[str](), threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                with engine.connect() as connection:
                    assert connection.scalar(sa.text("SELECT 1")) == 1
                seen["ok"] += 1
            except DBAPIError:
                seen["error"] += 1

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    pool = engine.pool
    assert isinstance(pool, ResizableQueuePool)
    for pause_s in _resizes(random.Random(7), pool, killer):
        time.sleep(pause_s)
    stop.set()
    for thread in threads:
        thread.join()
    time.sleep(0.5)
    _check(pool, seen, killer)
    engine.dispose()


def test_tasks_are_served_whatever_happens(database_url: sa.URL, killer: Killer) -> None:
    async def work(engine: AsyncEngine, seen: Counter[str], stop: asyncio.Event, rng: random.Random) -> None:
        async def one() -> None:
            async with engine.connect() as connection:
                assert await connection.scalar(sa.text("SELECT 1")) == 1

        while not stop.is_set():
            task = asyncio.ensure_future(one())
            if rng.random() < 0.1:
                await asyncio.sleep(rng.random() * 0.02)
                task.cancel()
            try:
                await task
                seen["ok"] += 1
            except asyncio.CancelledError:
                seen["cancelled"] += 1
            except DBAPIError:
                seen["error"] += 1

    async def main() -> None:
        driver = ASYNC_DRIVERS[database_url.get_backend_name()]
        options = {"poolclass": AsyncResizableQueuePool, "pool_timeout": TIMEOUT_S, "linger": 0.05}
        engine = create_async_engine(database_url.set(drivername=driver), **options)
        pool, seen, stop = engine.pool, Counter[str](), asyncio.Event()
        assert isinstance(pool, AsyncResizableQueuePool)
        tasks = [asyncio.ensure_future(work(engine, seen, stop, random.Random(seed))) for seed in range(TASKS)]
        for pause_s in _resizes(random.Random(7), pool, killer):
            await asyncio.sleep(pause_s)
        stop.set()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.5)
        _check(pool, seen, killer)
        assert seen["cancelled"]
        await engine.dispose()

    asyncio.run(main())
