"""What a real server counts itself, joined to what the application's pilot counts."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from dbpilot import Autopilot
from dbpilot.history.store import MemoryStore
from dbpilot.reports.server import ServerLine
from dbpilot.testing.servers import start_mariadb, start_postgresql
from dbpilot.unsupported import Unsupported
from tests.contract.probe import Probe, items, sync_probe


@pytest.fixture(params=["mariadb", "postgresql"], scope="module")
def url(request: pytest.FixtureRequest) -> Iterator[sa.URL]:
    """A server that counts, of its own: the others are not configured for it."""
    if request.param == "mariadb":
        with start_mariadb(options={"performance_schema": "ON"}) as server:
            yield server.create_database("shop")
    else:
        with start_postgresql(options={"shared_preload_libraries": "pg_stat_statements"}) as server:
            yield server.create_database("shop")


@pytest.fixture
def probe(url: sa.URL) -> Iterator[Probe]:
    with sync_probe(url) as probe:
        yield probe


def test_both_counts_meet_in_one_pattern(probe: Probe, url: sa.URL) -> None:
    if url.get_backend_name() == "postgresql":
        found = probe.pilot.server_statements(100).statements
        assert isinstance(found, Unsupported)
        assert found.fix == "CREATE EXTENSION pg_stat_statements"
        probe.run(lambda connection: connection.execute(sa.text("CREATE EXTENSION pg_stat_statements")))
    query = sa.select(items.c.name).where(items.c.id == sa.bindparam("id"), items.c.name != "비밀 900101")
    for number in range(5):
        probe.run(lambda connection, number=number: connection.execute(query, {"id": number}).all())
    elsewhere = sa.create_engine(url)
    with elsewhere.connect() as connection:
        connection.execute(sa.text("SELECT count(*) FROM items WHERE name = 'geheim'")).all()
    elsewhere.dispose()
    lines = probe.pilot.server_statements(100).statements
    assert isinstance(lines, list)
    assert "geheim" not in repr(lines)
    assert "900101" not in repr(lines)
    assert _only(lines, "WHERE items.id").application_calls == 5
    assert _only(lines, "WHERE items.id").server_calls == 5
    assert _only(lines, "count(*)").application_calls == 0, "load from elsewhere shows"
    assert _only(lines, "count(*)").server_calls == 1


GRANTS = {
    "postgresql": ("CREATE ROLE shop LOGIN PASSWORD 'x'", "GRANT pg_read_all_stats TO shop"),
    "mysql": (
        "CREATE USER shop@'127.0.0.1' IDENTIFIED BY 'x'",
        "GRANT SELECT ON shop.* TO shop@'127.0.0.1'",
        "GRANT SELECT ON performance_schema.* TO 'shop'@'127.0.0.1'",
    ),
}
"""How an ordinary account comes to be; last of all, what it lacks."""


def test_an_ordinary_account_is_told_what_it_lacks(probe: Probe, url: sa.URL) -> None:
    *making, lacks = GRANTS[url.get_backend_name()]
    extension = ["CREATE EXTENSION IF NOT EXISTS pg_stat_statements"] if url.get_backend_name() == "postgresql" else []
    for statement in (*extension, *making):
        probe.run(lambda connection, statement=statement: connection.execute(sa.text(statement)))
    engine = sa.create_engine(url.set(username="shop", password="x"), poolclass=sa.NullPool)
    pilot = Autopilot(engine, store=MemoryStore())
    found = pilot.server_statements(100).statements
    assert isinstance(found, Unsupported)
    assert found.fix == f"{lacks.partition(' TO ')[0]} TO that user"
    [statements] = [check for check in pilot.doctor().checks if check.check == "statements"]
    assert [one.fix for one in statements.found] == [f"{lacks};"]
    probe.run(lambda connection: connection.execute(sa.text(lacks)))
    assert isinstance(pilot.server_statements(100).statements, list)


def _only(lines: list[ServerLine], part: str) -> ServerLine:
    wanted = part.replace(" ", "").lower()
    plain = [line for line in lines if wanted in line.query.replace("`", "").replace(" ", "").lower()]
    assert len(plain) == 1, [line.query for line in lines]
    return plain[0]
