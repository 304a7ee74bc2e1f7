"""Contract: the connection pool."""

import pytest
import sqlalchemy as sa

from app.common.infra.database.config.database_config import engine_options
from tests.support import Finstage

MYSQL = sa.make_url("mysql+pymysql://user@host/finstage")


@pytest.mark.parametrize(
    ("option", "value"), [("pool_timeout", 300), ("pool_recycle", 600), ("pool_pre_ping", True), ("max_overflow", 30)]
)
def test_the_engine_has_the_reports_pool_settings(option: str, value: object) -> None:
    assert engine_options(MYSQL)[option] == value


def test_the_engine_has_the_reports_connection_settings() -> None:
    assert engine_options(MYSQL)["connect_args"] == {
        "charset": "utf8mb4",
        "connect_timeout": 60,
        "read_timeout": 60,
        "write_timeout": 60,
    }


@pytest.mark.parametrize("url", ["postgresql+psycopg://user@host/finstage", "sqlite+pysqlite:///file"])
def test_each_database_gets_only_what_it_understands(url: str) -> None:
    parsed = sa.make_url(url)
    sa.create_engine(parsed, **engine_options(parsed)).dispose()
    assert "charset" not in engine_options(parsed)["connect_args"]


def _pool(finstage: Finstage) -> dict:
    answer = finstage.get("/api/database/connection-pool")
    assert answer.status == 200
    return answer.json()


def test_the_pool_grows_at_80_percent_and_shrinks_at_30_from_5_to_20() -> None:
    from app.common.infra.database.optimization.connection_pool_manager import (
        ConnectionPoolConfig,
        ConnectionPoolManager,
    )

    manager = ConnectionPoolManager(sa.create_engine("sqlite://"), ConnectionPoolConfig())
    assert manager.decide(utilization=0.8, size=5) > 5
    assert manager.decide(utilization=0.3, size=20) < 20


def test_checkout_times_are_measured(finstage: Finstage) -> None:
    assert _pool(finstage)["checkouts"]["p95_s"] > 0


def test_a_pool_that_runs_dry_is_warned_of_before(finstage: Finstage) -> None:
    left = _pool(finstage)["exhaustion"]
    assert left["state"] == "far"
    assert 0 <= left["share"] < 0.9


def test_a_day_of_pool_history_is_kept(finstage: Finstage) -> None:
    answer = finstage.get("/api/database/connection-pool/metrics?hours=24")
    assert answer.status == 200
    latest = answer.json()["samples"][-1]["sample"]
    assert (latest["size"], latest["limit"]) == (5, 35)
