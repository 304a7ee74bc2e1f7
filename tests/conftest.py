"""Real databases for every test: one private server of each kind per run, and a fresh database in it for each test.

The servers are started by the first test that needs them, shared by all workers of the run, and gone when the run is,
however it ended.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from redis import Redis

from dbpilot.testing.servers import (
    Server,
    SqlServer,
    shared,
    start_mariadb,
    start_postgresql,
    start_redis,
    stop_all,
)

OWNER = "owner_of_the_servers"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Every worker of pytest-xdist knows the process that owns the run's servers."""
    node.workerinput[OWNER] = os.getpid()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The process that owns the servers leaves none behind."""
    if not hasattr(config, "workerinput"):
        stop_all()


@pytest.fixture(scope="session")
def servers_owner(request: pytest.FixtureRequest) -> int:
    """The process that all workers of this run have in common."""
    workerinput: dict[str, int] = getattr(request.config, "workerinput", {})
    return workerinput.get(OWNER, os.getpid())


@pytest.fixture(scope="session")
def mariadb_server(servers_owner: int) -> SqlServer:
    """The run's MariaDB. A test that kills or configures a server starts its own."""
    return shared(start_mariadb, servers_owner)


@pytest.fixture(scope="session")
def postgresql_server(servers_owner: int) -> SqlServer:
    """The run's PostgreSQL. A test that kills or configures a server starts its own."""
    return shared(start_postgresql, servers_owner)


@pytest.fixture(scope="session")
def redis_server(servers_owner: int) -> Server:
    """The run's Redis. A test that kills, configures or flushes a whole server starts its own."""
    return shared(start_redis, servers_owner)


def fresh_database(server: SqlServer) -> Iterator[sa.URL]:
    name = f"test_{uuid4().hex}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> sa.URL:
    """The address of a SQLite file that does not exist yet."""
    return sa.URL.create("sqlite+pysqlite", database=str(tmp_path / "test.sqlite3"))


@pytest.fixture
def mariadb_url(mariadb_server: SqlServer) -> Iterator[sa.URL]:
    """The address, with password, of an empty MariaDB database of this test."""
    yield from fresh_database(mariadb_server)


@pytest.fixture
def postgresql_url(postgresql_server: SqlServer) -> Iterator[sa.URL]:
    """The address, with password, of an empty PostgreSQL database of this test."""
    yield from fresh_database(postgresql_server)


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> sa.URL:
    """An empty database; the test runs once on each kind."""
    url: sa.URL = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def redis_url(redis_server: Server, worker_id: str) -> Iterator[str]:
    """The address, with password, of an empty Redis database that no other test uses meanwhile."""
    number = worker_id.removeprefix("gw") if worker_id.startswith("gw") else "0"
    url = redis_server.url.set(database=number).render_as_string(hide_password=False)
    with Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()
