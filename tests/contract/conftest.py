"""One probe per database and way of calling it; the laws in this folder hold for every one of them."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.contract.probe import Probe, async_probe, sync_probe


@pytest.fixture(params=[sync_probe, async_probe], ids=["sync", "async"])
def probe(request: pytest.FixtureRequest, database_url: sa.URL) -> Iterator[Probe]:
    """Every law is tried on every database through a sync and an async driver."""
    with request.param(database_url) as probe:
        yield probe


@pytest.fixture
def threads_probe(database_url: sa.URL) -> Iterator[Probe]:
    """For laws about threads, which an event loop does not have."""
    with sync_probe(database_url) as probe:
        yield probe
