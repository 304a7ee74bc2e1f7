"""An application's engine with a pilot on it, for whichever database and driver a test runs on."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from dbpilot import Autopilot, PilotConfig, QueryStats
from dbpilot.history.store import MemoryStore

metadata = sa.MetaData()
items = sa.Table(
    "items",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(100)),
)
SLOW_S = 0.05

Work = Callable[[sa.Connection], Any]


@dataclass
class Probe:
    """An application's engine with a pilot on it; ``run`` does the work in one transaction."""

    pilot: Autopilot
    run: Callable[[Work], Any]
    nap: sa.TextClause
    """A statement that takes the database longer than ``SLOW_S``."""

    def stats(self, contains: str) -> list[QueryStats]:
        found = self.pilot.query_stats(hours=1, limit=1000).patterns
        return [line for line in found if contains in line.query]

    def only(self, contains: str) -> QueryStats:
        [line] = self.stats(contains)
        return line


NAPS = {
    "sqlite": sa.text(
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000) SELECT count(*) FROM c"
    ),
    "mysql": sa.text("SELECT SLEEP(0.06)"),
    "postgresql": sa.text("SELECT pg_sleep(0.06)"),
}
ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "mysql": "mysql+asyncmy", "postgresql": "postgresql+asyncpg"}


def new_pilot(engine: Any) -> Autopilot:
    config = PilotConfig.model_validate({"queries": {"slow_s": SLOW_S, "warning_s": 60, "critical_s": 300}})
    return Autopilot(engine, config, store=MemoryStore())


@contextmanager
def sync_probe(url: sa.URL) -> Iterator[Probe]:
    engine = sa.create_engine(url)
    metadata.create_all(engine)

    def run(work: Work) -> Any:
        with engine.begin() as connection:
            return work(connection)

    with new_pilot(engine) as pilot:
        yield Probe(pilot, run, NAPS[url.get_backend_name()])
    engine.dispose()


@contextmanager
def async_probe(url: sa.URL) -> Iterator[Probe]:
    backend = url.get_backend_name()
    engine = create_async_engine(url.set(drivername=ASYNC_DRIVERS[backend]))
    with asyncio.Runner() as runner:

        async def run(work: Work) -> Any:
            async with engine.begin() as connection:
                return await connection.run_sync(work)

        runner.run(run(metadata.create_all))
        with new_pilot(engine) as pilot:
            yield Probe(pilot, lambda work: runner.run(run(work)), NAPS[backend])
        runner.run(engine.dispose())
