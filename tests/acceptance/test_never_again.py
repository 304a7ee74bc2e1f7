"""Contract: what went wrong the first time, never again."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from app.common.infra.database.monitoring.query_monitor import QueryMonitor
from dbpilot import Autopilot, PilotConfig
from dbpilot.history.store import MemoryStore
from tests.acceptance.test_calls import GENERATED, IMPORTS
from tests.support import Finstage, run_cli, run_python


@pytest.fixture
def engine(sqlite_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlite_url)
    yield engine
    engine.dispose()


@pytest.fixture
def monitor(engine: sa.Engine, tmp_path: Path) -> Iterator[QueryMonitor]:
    """It remembers in the very database that it watches, as the first one did."""
    history = {"history": {"url": engine.url.render_as_string()}, "queries": {"window_s": 1}}
    with QueryMonitor(engine, PilotConfig.model_validate(history)) as monitor:
        yield monitor


def test_its_own_inserts_are_not_counted(engine: sa.Engine, monitor: QueryMonitor) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1")).all()
    monitor.stop()
    monitor.start()
    assert [line.query for line in monitor.get_query_stats()] == ["SELECT ?"]


def test_failed_statements_are_counted(engine: sa.Engine, monitor: QueryMonitor) -> None:
    with engine.connect() as connection, pytest.raises(OperationalError):
        connection.execute(sa.text("SELECT * FROM nowhere"))
    assert [(line.calls, line.errors) for line in monitor.get_query_stats()] == [(1, 1)]


def test_lists_of_all_lengths_are_one_pattern(engine: sa.Engine, monitor: QueryMonitor) -> None:
    with engine.connect() as connection:
        for length in range(1, 50):
            values = ", ".join(str(number) for number in range(length))
            connection.execute(sa.text(f"SELECT 1 WHERE 1 IN ({values})")).all()
    assert [line.calls for line in monitor.get_query_stats()] == [49]


def test_the_metrics_that_dashboards_name_are_exported(finstage: Finstage) -> None:
    text = finstage.get("/metrics").text
    for name in ("finstage_db_operations_total", "finstage_slow_queries_total", "finstage_db_connections_max"):
        assert f"# TYPE {name} " in text


def test_no_endpoint_answers_with_an_error_of_the_server(finstage: Finstage) -> None:
    paths = finstage.get("/openapi.json").json()["paths"]
    ours = [path for path in paths if path.startswith("/api/database/")]
    assert len(ours) >= 13
    assert [path for path in ours if finstage.get(path).status >= 500] == []


def test_a_resize_really_resizes(finstage: Finstage) -> None:
    answer = finstage.post("/api/database/connection-pool/optimize")
    assert answer.status == 200
    assert answer.json()["size"] == finstage.get("/api/database/connection-pool").json()["size"]


def test_only_archived_rows_are_deleted(env: dict[str, str]) -> None:
    assert run_cli(*GENERATED, env=env).returncode == 0
    body = """
TABLES = "contents", "technical_signals", "signal_outcomes", "daily_prices"

def everything(table):
    with engine.connect() as connection:
        found = sa.Table(table, sa.MetaData(), autoload_with=connection)
        columns = [column for column in found.columns if column.name != "archived_at"]
        return {row.id: tuple(row) for row in connection.execute(sa.select(*columns))}

before = {table: everything(table) for table in TABLES}
asyncio.run(run_database_cleanup(engine, dry_run=False))
for table in TABLES:
    live, archived = everything(table), everything(table + "_archive")
    assert archived and not live.keys() & archived.keys(), table
    assert {**live, **archived} == before[table], table
"""
    run_python(IMPORTS + body, env)


def test_rows_that_cannot_be_archived_are_not_deleted(env: dict[str, str]) -> None:
    assert run_cli(*GENERATED, env=env).returncode == 0
    body = """
from dbpilot import PilotError
with engine.begin() as connection:
    connection.execute(sa.text("CREATE TABLE contents_archive (id INTEGER PRIMARY KEY, unrelated TEXT NOT NULL)"))
before = rows()
try:
    results = asyncio.run(run_database_cleanup(engine, table_name="contents", dry_run=False))
    assert any(result.error for result in results), results
except PilotError as error:
    print(error)
assert rows() == before
"""
    run_python(IMPORTS + body, env)


def test_the_cron_string_is_read(env: dict[str, str]) -> None:
    body = """
async def next_run(cron):
    handle = await DataCleanupManager(engine).schedule_cleanup(cron)
    handle.cancel()
    return handle.cron.here(handle.cron.after(datetime(2025, 1, 1, tzinfo=UTC)))

sunday, monday = asyncio.run(next_run("0 2 * * 0")), asyncio.run(next_run("30 3 * * 1"))
assert (sunday.weekday(), sunday.hour, sunday.minute) == (6, 2, 0), sunday
assert (monday.weekday(), monday.hour, monday.minute) == (0, 3, 30), monday
"""
    run_python(IMPORTS + body, env)


def test_alerts_never_run_in_the_callers_thread(sqlite_url: sa.URL) -> None:
    threads: list[str] = []

    class Channel:
        def send(self, title: str, message: str) -> None:
            threads.append(threading.current_thread().name)

    engine = sa.create_engine(sqlite_url)
    thresholds = {"slow_s": 1e-7, "warning_s": 1e-6, "critical_s": 1000}
    config = PilotConfig.model_validate({"queries": thresholds})
    with Autopilot(engine, config, store=MemoryStore(), notifier=Channel()), engine.connect() as connection:
        connection.execute(sa.text("SELECT 1")).all()
    engine.dispose()
    assert threads == ["dbpilot-alerts"]


def test_advice_names_only_columns_that_exist(finstage: Finstage) -> None:
    answer = finstage.get("/api/database/indexes/optimization-sql")
    assert answer.status == 200
