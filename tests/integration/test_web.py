"""The JSON API and the metrics, mounted in any FastAPI application."""

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dbpilot import Autopilot, PilotConfig
from dbpilot.history.store import MemoryStore
from dbpilot.web.api import make_api, make_metrics


@pytest.fixture
def engine(sqlite_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlite_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (id INTEGER PRIMARY KEY)"))
    yield engine
    engine.dispose()


@pytest.fixture
def client(engine: sa.Engine) -> Iterator[TestClient]:
    config = PilotConfig.model_validate({"queries": {"slow_s": 0.02}})
    with Autopilot(engine, config, store=MemoryStore()) as pilot:
        app = FastAPI()
        app.include_router(make_api(pilot), prefix="/api/database")
        app.include_router(make_metrics(pilot, "shop"))
        with TestClient(app) as client:
            yield client


def _run(engine: sa.Engine, statement: sa.TextClause, times: int = 1) -> None:
    with engine.connect() as connection:
        for _ in range(times):
            connection.execute(statement).all()


def test_what_ran_is_answered_at_once(client: TestClient, engine: sa.Engine) -> None:
    _run(engine, sa.text("SELECT id FROM t WHERE id = 7"), times=3)
    answer = client.get("/api/database/query-stats", params={"limit": 10}).json()
    [line] = answer["patterns"]
    assert (line["query"], line["calls"], line["tables"]) == ("SELECT id FROM t WHERE id = ?", 3, ["t"])
    assert answer["history_error"] is None


def test_the_limit_keeps_the_highest(client: TestClient, engine: sa.Engine) -> None:
    _run(engine, sa.text("SELECT id FROM t"), times=5)
    _run(engine, sa.text("SELECT 1"))
    answer = client.get("/api/database/query-stats", params={"limit": 1, "order": "calls"}).json()
    assert [line["query"] for line in answer["patterns"]] == ["SELECT id FROM t"]


@pytest.mark.parametrize(
    "query", ["query-stats?limit=0", "query-stats?limit=x", "query-stats?order=luck", "slow-queries?hours=-1"]
)
def test_a_question_that_makes_no_sense_is_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/api/database/{query}").status_code == 422


def _value(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not in\n{text}"
    return float(found[1])


def test_metrics_count_by_operation_table_and_status(client: TestClient, engine: sa.Engine) -> None:
    _run(engine, sa.text("SELECT id FROM t"), times=4)
    with pytest.raises(sa.exc.OperationalError):
        _run(engine, sa.text("SELECT nowhere FROM t"))
    text = client.get("/metrics").text
    assert _value(text, 'shop_db_operations_total{operation="SELECT",status="success",table="t"}') == 4
    assert _value(text, 'shop_db_operations_total{operation="SELECT",status="error",table="t"}') == 1
    assert _value(text, 'shop_slow_queries_total{operation="SELECT",status="success",table="t"}') == 0
    assert _value(text, 'shop_db_operation_duration_seconds_count{operation="SELECT",table="t"}') == 5
    assert _value(text, 'shop_db_operation_duration_seconds_sum{operation="SELECT",table="t"}') > 0


def test_a_histogram_never_falls_and_ends_with_all(client: TestClient, engine: sa.Engine) -> None:
    _run(engine, sa.text("SELECT id FROM t"), times=4)
    found = re.findall(r"^shop_db_operation_duration_seconds_bucket\{.*\} (\S+)$", client.get("/metrics").text, re.M)
    counts = [float(count) for count in found]
    assert counts == sorted(counts)
    assert counts[-1] == 4


def test_connections_are_gauges(client: TestClient, engine: sa.Engine) -> None:
    with engine.connect():
        text = client.get("/metrics").text
    assert _value(text, "shop_db_connections_active") == 1
    assert _value(text, "shop_db_connections_max") == 15


def test_what_a_pool_cannot_tell_is_absent_and_explained() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with Autopilot(engine, store=MemoryStore()) as pilot:
        app = FastAPI()
        app.include_router(make_api(pilot))
        app.include_router(make_metrics(pilot, "shop"))
        with TestClient(app) as client:
            assert "shop_db_connections_max" not in client.get("/metrics").text
            limit = client.get("/performance-summary").json()["connections"]["limit"]
    assert limit["reason"] == "StaticPool keeps no connections that could be counted"
    assert limit["fix"]
    engine.dispose()
