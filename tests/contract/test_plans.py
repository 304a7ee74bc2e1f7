"""The pilot asks the watched database itself, on connections of its own, without changing or showing anything."""

import asyncio
import logging
import os
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from dbpilot import Autopilot
from dbpilot.config import QueriesConfig
from dbpilot.dialects import dialect_of
from dbpilot.dialects.connections import OwnConnections
from dbpilot.errors import WatchedDatabaseError
from dbpilot.history.store import MemoryStore
from dbpilot.queries.plans import PlanDesk, may_explain
from dbpilot.sql.syntax import MYSQL, POSTGRESQL
from dbpilot.testing import FakeClock
from dbpilot.unsupported import Unsupported
from tests.contract.probe import ASYNC_DRIVERS, Probe, items, metadata

SECRET = "900101-1234567 비밀"
SLOW = {
    "sqlite": "name = :secret OR name < (WITH RECURSIVE c(n) AS"
    " (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000) SELECT count(*) FROM c)",
    "mysql": "name = :secret OR SLEEP(0.06)",
    "postgresql": "name = :secret OR pg_sleep(0.06) IS NULL",
}


def _until_planned(probe: Probe) -> dict[str, object]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        [slow] = probe.pilot.slow_queries(hours=1, limit=10).queries
        if slow.plan is not None:
            return slow.plan
        time.sleep(0.05)
    raise AssertionError(f"no plan came: {probe.pilot._plans.unsupported} {probe.pilot._plans.failures}")


def test_a_slow_select_gets_its_plan_without_a_value_in_it(probe: Probe) -> None:
    backend = probe.pilot._engine.dialect.name.replace("mariadb", "mysql")
    probe.run(
        lambda connection: connection.execute(items.insert(), [{"id": 1, "name": "x"}, {"id": 2, "name": SECRET}])
    )
    query = sa.text(f"SELECT * FROM items WHERE {SLOW[backend]}")
    probe.run(lambda connection: connection.execute(query, {"secret": SECRET}).all())
    plan = _until_planned(probe)
    assert "items" in str(plan["text"])
    assert any("whole table items" in finding for finding in plan["findings"])
    assert SECRET not in repr(plan)
    assert "900101" not in repr(plan)
    line = probe.only("SELECT * FROM items WHERE")
    assert any("whole table items" in sentence for sentence in line.advice)
    assert probe.pilot._plans.failures == 0


def _told_of_offset(probe: Probe, query: sa.Executable) -> bool:
    probe.run(lambda connection: connection.execute(query).all())
    return any("OFFSET" in sentence for sentence in probe.only("LIMIT").advice)


def test_a_limit_alone_is_told_nothing_of_offset(probe: Probe) -> None:
    assert not _told_of_offset(probe, sa.select(items.c.id).order_by(items.c.id).limit(10))


def test_an_offset_is_told_of_where_the_pattern_shows_that_there_is_one(probe: Probe) -> None:
    query = sa.select(items.c.id).order_by(items.c.id).limit(10).offset(20)
    if probe.pilot._engine.dialect.name == "sqlite":  # there SQLAlchemy writes OFFSET behind every LIMIT
        assert _told_of_offset(probe, sa.text("SELECT id FROM items ORDER BY id LIMIT 20, 10"))
    else:
        assert _told_of_offset(probe, query)


def test_the_pilots_own_statements_are_neither_counted_nor_from_the_applications_pool(probe: Probe) -> None:
    before = probe.pilot.connections()
    found = probe.pilot._own.run(lambda connection: connection.execute(sa.text("SELECT 41 + 1")).scalar(), 1)
    assert found == 42
    assert probe.stats("41") == probe.stats("SELECT ? + ?") == []
    after = probe.pilot.connections()
    assert (after.created, after.checkouts) == (before.created, before.checkouts)


def test_the_pilots_own_connections_change_nothing(probe: Probe) -> None:
    def write(connection: sa.Connection) -> None:
        connection.execute(items.insert().values(id=7, name="x"))

    with pytest.raises(WatchedDatabaseError) as refused:
        probe.pilot._own.run(write, 1)
    assert "INSERT" not in str(refused.value)
    assert probe.run(lambda connection: connection.execute(sa.select(items.c.id)).all()) == []


def _engine(url: sa.URL, driver: str, **how: object) -> sa.Engine:
    if driver == "sync":
        return sa.create_engine(url, **how)
    return create_async_engine(url.set(drivername=ASYNC_DRIVERS[url.get_backend_name()]), **how).sync_engine


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_they_read_only_and_not_for_long_whatever_the_applications_isolation_is(
    database_url: sa.URL, driver: str
) -> None:
    creating = sa.create_engine(database_url)
    metadata.create_all(creating)
    own = OwnConnections(_engine(database_url, driver, isolation_level="AUTOCOMMIT"))
    with pytest.raises(WatchedDatabaseError):
        own.run(lambda connection: connection.execute(items.insert().values(id=7, name="x")), 1)
    with creating.connect() as connection:
        assert connection.execute(sa.select(items.c.id)).all() == []
    creating.dispose()
    sleep = {"mysql": "SELECT SLEEP(5)", "postgresql": "SELECT pg_sleep(5)"}.get(database_url.get_backend_name())
    if sleep is not None:  # SQLite has no such limit, and plans there cost nothing
        started = time.monotonic()
        with pytest.raises(WatchedDatabaseError):
            own.run(lambda connection: connection.execute(sa.text(sleep)).all(), 0.2)
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_they_log_no_value(database_url: sa.URL, driver: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sqlalchemy.engine")
    own = OwnConnections(_engine(database_url, driver, hide_parameters=True))
    query = sa.text("SELECT 1 WHERE 'x' <> :secret")
    own.run(lambda connection: connection.execute(query, {"secret": SECRET}).all(), 1)
    assert "SELECT 1 WHERE" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_they_answer_inside_an_event_loop_as_elsewhere(database_url: sa.URL, driver: str) -> None:
    own = OwnConnections(_engine(database_url, driver))

    async def ask(statement: str) -> object:
        return own.run(lambda connection: connection.execute(sa.text(statement)).scalar(), 1)

    assert asyncio.run(ask("SELECT 42")) == 42
    with pytest.raises(WatchedDatabaseError):
        asyncio.run(ask("SELECT nowhere"))


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_that_may_start_no_thread_gets_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/application.sqlite3")
    with Autopilot(engine, store=MemoryStore()) as pilot:
        child = os.fork()
        if child == 0:
            monkeypatch.setattr("threading.Thread.start", _no_thread)
            try:
                with engine.connect() as connection:
                    answer = connection.scalar(sa.text("SELECT 42"))
                with engine.connect():
                    os._exit(0 if (answer, pilot._pooling.watch.failures) == (42, 1) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    engine.dispose()


def _no_thread(_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_what_the_server_counts_is_told_or_why_not(probe: Probe) -> None:
    found = probe.pilot.server_statements(10).statements
    assert isinstance(found, Unsupported)
    assert found.fix


def test_a_database_in_memory_is_not_asked() -> None:

    engine = sa.create_engine("sqlite://")
    assert isinstance(
        OwnConnections(engine).run(lambda connection: connection.execute(sa.text("SELECT 1")), 1), Unsupported
    )


@pytest.mark.parametrize(
    ("statement", "may"),
    [
        ("SELECT a FROM t WHERE b = 1", True),
        ("WITH q AS (SELECT 1) SELECT * FROM q", True),
        ("WITH q AS (DELETE FROM t RETURNING a) SELECT * FROM q", False),
        ("SELECT a INTO u FROM t", False),
        ("SELECT a FROM t FOR UPDATE", False),
        ("SELECT 1; DROP TABLE t", False),
        ("UPDATE t SET a = 1", False),
        ("CALL f()", False),
        ("EXPLAIN ANALYZE SELECT 1", False),
    ],
)
def test_only_what_reads_beyond_doubt_is_explained(statement: str, may: bool) -> None:
    assert may_explain(statement, POSTGRESQL) == may
    assert may_explain(statement, MYSQL) == may


def test_plans_are_asked_for_rarely() -> None:
    from dbpilot.dialects.connections import OwnConnections

    engine, clock = sa.create_engine("sqlite://"), FakeClock()
    desk = PlanDesk(
        OwnConnections(engine), dialect_of(engine), QueriesConfig(explain_per_minute=3), clock, lambda *_: None
    )
    desk._thread = True  # nobody takes what waits
    for number in range(5):
        desk.ask(f"pattern {number}", "SELECT 1", ())
        desk.ask(f"pattern {number}", "SELECT 1", ())
    assert desk._waiting.qsize() == 3
    clock.advance(61)
    desk.ask("pattern 0", "SELECT 1", ())
    desk.ask("pattern 9", "SELECT 1", ())
    assert [desk._waiting.get()[0] for _ in range(4)] == ["pattern 0", "pattern 1", "pattern 2", "pattern 9"]
