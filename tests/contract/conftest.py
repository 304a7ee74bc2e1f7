"""One probe per database and way of calling it; the laws in this folder hold for every one of them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from tests.contract.probe import ASYNC_DRIVERS, NAPS, Probe, Work, metadata, new_pilot


@pytest.fixture
def sync_probe(database_url: sa.URL) -> Iterator[Probe]:
    engine = sa.create_engine(database_url)
    metadata.create_all(engine)

    def run(work: Work) -> Any:
        with engine.begin() as connection:
            return work(connection)

    with new_pilot(engine) as pilot:
        yield Probe(pilot, run, NAPS[engine.dialect.name])
    engine.dispose()


@pytest.fixture
def async_probe(database_url: sa.URL) -> Iterator[Probe]:
    engine = create_async_engine(database_url.set(drivername=ASYNC_DRIVERS[database_url.get_backend_name()]))
    with asyncio.Runner() as runner:

        async def run(work: Work) -> Any:
            async with engine.begin() as connection:
                return await connection.run_sync(work)

        runner.run(run(metadata.create_all))
        with new_pilot(engine) as pilot:
            yield Probe(pilot, lambda work: runner.run(run(work)), NAPS[engine.dialect.name])
        runner.run(engine.dispose())


@pytest.fixture(params=["sync", "async"])
def probe(request: pytest.FixtureRequest) -> Probe:
    """Every law is tried on every database through a sync and an async driver."""
    return request.getfixturevalue(f"{request.param}_probe")
