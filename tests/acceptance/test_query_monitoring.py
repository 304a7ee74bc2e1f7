"""Contract: query monitoring, through the names that Finstage promised."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.common.infra.database.monitoring.query_monitor import QueryMonitor, pilot_config
from dbpilot import PilotConfig


@pytest.fixture
def engine(sqlite_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlite_url)

    @sa.event.listens_for(engine, "connect")
    def add_sleep(connection: sqlite3.Connection, _: object) -> None:
        connection.create_function("sleep", 1, time.sleep)

    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE news (id INTEGER PRIMARY KEY, symbol TEXT)"))
    yield engine
    engine.dispose()


@pytest.fixture
def monitor(engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueryMonitor]:
    monkeypatch.setenv("FINSTAGE_VAR", str(tmp_path))
    with QueryMonitor(engine) as monitor:
        yield monitor


def _sleep(seconds: float) -> sa.TextClause:
    return sa.text(f"SELECT sleep({seconds})")


def test_the_time_of_every_statement_is_taken(engine: sa.Engine, monitor: QueryMonitor) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO news (symbol) VALUES (:s)"), [{"s": "AAPL"}, {"s": "IBM"}])
        connection.execute(sa.text("SELECT * FROM news")).all()
    lines = {line.operation: line for line in monitor.get_query_stats()}
    assert set(lines) == {"INSERT", "SELECT"}
    assert all(line.calls == 1 and line.total_s > 0 for line in lines.values())


def test_every_figure_of_a_pattern_is_there(engine: sa.Engine, monitor: QueryMonitor) -> None:
    with engine.begin() as connection:
        for symbol in ("AAPL", "IBM", "MSFT"):
            connection.execute(sa.text("INSERT INTO news (symbol) VALUES (:s)"), {"s": symbol})
    [line] = monitor.get_query_stats()
    assert (line.calls, line.rows, line.tables, line.operation, line.slow) == (3, 3, ("news",), "INSERT", 0)
    assert 0 < line.min_s <= line.mean_s <= line.max_s


def test_a_statement_of_one_second_is_slow(engine: sa.Engine, monitor: QueryMonitor) -> None:
    with engine.connect() as connection:
        connection.execute(_sleep(1)).all()
        connection.execute(sa.text("SELECT 1")).all()
    [slow] = monitor.get_slow_queries(hours=24)
    assert slow.duration_s >= 1
    assert sum(line.slow for line in monitor.get_query_stats()) == 1


def test_the_thresholds_are_the_promised_ones() -> None:
    queries = pilot_config().queries
    assert (queries.slow_s, queries.warning_s, queries.critical_s) == (1.0, 2.0, 5.0)


@pytest.mark.parametrize(("fraction", "severity"), [(2.0, "warning"), (5.0, "critical")])
def test_a_slow_statement_carries_its_severity(
    engine: sa.Engine, tmp_path: Path, fraction: float, severity: str
) -> None:
    """The promised ratio of the thresholds (1, 2, 5), on statements a hundred times as fast."""
    scaled = {"slow_s": 0.01, "warning_s": 0.02, "critical_s": 0.05 if severity == "critical" else 500}
    config = PilotConfig.model_validate({"queries": scaled, "history": {"url": f"sqlite:///{tmp_path}/h.sqlite3"}})
    with QueryMonitor(engine, config) as monitor, engine.connect() as connection:
        connection.execute(_sleep(fraction / 100)).all()
        assert [query.severity for query in monitor.get_slow_queries()] == [severity]


def test_patterns_are_normalised_and_counted(engine: sa.Engine, monitor: QueryMonitor) -> None:
    with engine.connect() as connection:
        for number in range(5):
            connection.execute(sa.text(f"SELECT * FROM news WHERE id = {number}")).all()
    [line] = monitor.get_query_stats()
    assert (line.query, line.calls) == ("SELECT * FROM news WHERE id = ?", 5)


def test_connections_are_followed(engine: sa.Engine, monitor: QueryMonitor) -> None:
    engine.dispose()
    with engine.connect():
        during = monitor.get_connection_stats()
    engine.dispose()
    after = monitor.get_connection_stats()
    assert (during.in_use, during.created, during.failed) == (1, 1, 0)
    assert (after.in_use, after.created, after.closed) == (0, 1, during.closed + 1)


def test_a_slow_statement_alerts_with_warning_and_critical(engine: sa.Engine, monitor: QueryMonitor) -> None:
    with engine.connect() as connection:
        connection.execute(_sleep(2)).all()
    assert [alert.severity for alert in monitor.get_alerts()] == ["WARNING"]


def test_a_pattern_comes_with_advice(engine: sa.Engine, monitor: QueryMonitor) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT * FROM news WHERE symbol LIKE '%A'")).all()
    [line] = monitor.get_query_stats()
    assert any("LIKE" in sentence for sentence in line.advice)
    assert any("every column" in sentence for sentence in line.advice)
