"""The pool of a real engine: sampled, reviewed, resized or only advised, warned of, remembered and shown."""

import gc
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError

from dbpilot import Autopilot, PilotConfig
from dbpilot.dialects.connections import OwnConnections
from dbpilot.errors import RefusedError
from dbpilot.history.sql_store import SqlStore
from dbpilot.history.store import POOL_MINUTE, Batch, Event, MemoryStore
from dbpilot.pool import ResizableQueuePool
from dbpilot.unsupported import Unsupported
from dbpilot.web.api import make_api, make_metrics

POLICY = {"mode": "auto", "sample_s": 0.01, "review_s": 0.3}


@pytest.fixture
def engine(sqlite_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlite_url, poolclass=ResizableQueuePool, pool_size=5, max_overflow=5, linger=0.05)
    yield engine
    engine.dispose()


def _pilot(engine: sa.Engine, **options: Any) -> Autopilot:
    pool = {**POLICY, **options.pop("pool", {})}
    return Autopilot(engine, PilotConfig.model_validate({"pool": pool}), store=MemoryStore(), **options)


def _until(law: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not law():
        assert time.monotonic() < deadline, "did not become true in time"
        time.sleep(0.01)


def test_a_busy_pool_grows_by_itself_and_an_idle_one_shrinks(engine: sa.Engine) -> None:
    with _pilot(engine) as pilot:
        held = [engine.connect() for _ in range(9)]
        # Nine in use, in the middle between 30 % and 80 %; a little less where the first review saw them come.
        _until(lambda: 12 <= engine.pool.size() <= 17)
        last = pilot.pool().last_review
        for connection in held:
            connection.close()
        _until(lambda: engine.pool.size() == 5)
        assert last is not None
        assert last.action in ("grow", "keep")
        assert min(pilot.resizes()["grow"], pilot.resizes()["shrink"]) >= 1
        assert pilot.performance_summary(1).watching.failures == 0


def test_a_pool_that_is_only_advised_on_stays_and_says_what_would_be_done(engine: sa.Engine) -> None:
    with _pilot(engine, pool={"mode": "advise"}) as pilot:
        held = [engine.connect() for _ in range(9)]
        _until(lambda: any("grow from 5 to 17" in sentence for sentence in pilot.pool().recommendations))
        assert engine.pool.size() == 5
        with pytest.raises(RefusedError, match=r"pool\.mode is advise; set DBPILOT_POOL__MODE=auto"):
            pilot.review_pool()
        for connection in held:
            connection.close()


def test_a_pool_of_another_class_is_only_looked_at(sqlite_url: sa.URL) -> None:
    engine = sa.create_engine(sqlite_url)
    with _pilot(engine) as pilot:
        report = pilot.pool()
        assert (report.size, report.limit) == (5, 15)
        assert isinstance(report.waiting, Unsupported)
        assert report.not_resized is not None
        assert "QueuePool cannot be resized" in report.not_resized.reason
    engine.dispose()


def test_a_pool_that_cannot_be_counted_answers_all_the_same() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    app = FastAPI()
    with _pilot(engine) as pilot:
        app.include_router(make_api(pilot))
        app.include_router(make_metrics(pilot, "shop"))
        with TestClient(app) as client:
            assert client.get("/connection-pool").json()["size"]["reason"].startswith("StaticPool")
            assert client.get("/connection-pool/metrics").json()["samples"] == []
            assert client.post("/connection-pool/optimize").status_code == 409
            assert client.get("/metrics").status_code == 200
    engine.dispose()


def test_a_review_on_demand_acts_and_says_why(engine: sa.Engine) -> None:
    app = FastAPI()
    with _pilot(engine, pool={"review_s": 3600}) as pilot:
        app.include_router(make_api(pilot))
        app.include_router(make_metrics(pilot, "shop"))
        held = [engine.connect() for _ in range(5)]
        with TestClient(app) as client:
            _until(lambda: client.post("/connection-pool/optimize").json()["size"] > 5)
            assert client.get("/connection-pool").json()["size"] == engine.pool.size()
            assert 'shop_db_pool_resizes_total{reason="grow"}' in client.get("/metrics").text
            assert "shop_db_connection_wait_seconds_count 5.0" in client.get("/metrics").text
            assert client.get("/connection-pool/metrics?hours=-1").status_code == 422
        for connection in held:
            connection.close()


def test_who_keeps_a_connection_and_a_full_pool_are_alerted_of(engine: sa.Engine) -> None:
    with _pilot(engine, pool={"mode": "off", "long_hold_s": 0.05}) as pilot:
        held = [engine.connect() for _ in range(10)]

        def kinds() -> dict[str, str]:
            return {alert.kind: alert.severity for alert in pilot.alerts(1, 10).alerts}

        _until(lambda: kinds() == {"pool_exhaustion": "CRITICAL", "pool_hold": "WARNING"})
        [message] = [alert.message for alert in pilot.alerts(1, 10).alerts if alert.kind == "pool_hold"]
        assert "test_pool_regulation.py:" in message
        holders = pilot.pool().holders
        assert len(holders) == 10
        assert holders[0].too_long
        for connection in held:
            connection.close()


def test_every_process_shows_the_pools_of_all(engine: sa.Engine, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/history.sqlite3"
    for _ in range(2):
        with Autopilot(engine, PilotConfig.model_validate({"pool": POLICY}), store=SqlStore(url, "shop")) as pilot:
            _until(lambda pilot=pilot: len(pilot._pooling._regulator.recent()) > 3)
    with Autopilot(engine, PilotConfig.model_validate({"pool": POLICY}), store=SqlStore(url, "shop")) as pilot:
        history = pilot.pool_history(1)
        assert len(history.samples) >= 2
        assert all(one.sample.limit == 10 for one in history.samples)


def test_a_resize_leaves_a_trace(engine: sa.Engine) -> None:
    store = MemoryStore()
    with Autopilot(engine, PilotConfig.model_validate({"pool": POLICY}), store=store) as pilot:
        held = [engine.connect() for _ in range(9)]
        _until(lambda: pilot.resizes().get("grow", 0) >= 1)
        for connection in held:
            connection.close()
    now = pilot._clock.now()
    activities = store.events("activity", now.replace(year=2000), now, 10)
    assert {"who", "what", "why", "undo"} <= activities[-1].body.keys()
    assert activities[-1].body["undo"] == "pool.resize(5, 5)"


def test_finstage_takes_every_setting_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.common.infra.database.monitoring.query_monitor import pilot_config

    monkeypatch.setenv("DBPILOT_ALERTS__TITLE", "market")
    monkeypatch.setenv("DBPILOT_POOL__MODE", "advise")
    config = pilot_config()
    assert (config.alerts.title, config.pool.mode, config.pool.max_size, config.queries.slow_s) == (
        "market",
        "advise",
        20,
        1.0,
    )


def test_an_adaptive_pool_grows_within_moments_and_shows_what_it_saw(engine: sa.Engine) -> None:
    with _pilot(engine, pool={"mode": "adaptive", "sample_s": 0.02}) as pilot:
        held = [engine.connect() for _ in range(8)]
        _until(lambda: engine.pool.size() > 8)
        report = pilot.pool()
        for connection in held:
            connection.close()
        assert report.not_resized is None
        assert report.last_review is not None
        assert "are needed at once" in report.last_review.reason
        _until(lambda: pilot.pool().checkouts.hold_p50_s is not None)
        assert pilot.pool().checkouts.connect_p50_s is not None
    assert engine.pool.allowed == 25, "the largest size, and the overflow that the engine was made with"


def test_a_connection_that_nobody_returned_is_alerted_of_with_its_line(engine: sa.Engine) -> None:
    with _pilot(engine) as pilot:
        held = [engine.connect() for _ in range(3)]  # from here on every line is looked at
        lost = [engine.connect()]
        lost.clear()
        gc.collect()
        _until(lambda: any(alert.kind == "pool_leak" for alert in pilot.alerts(1, 10).alerts))
        [message] = [alert.message for alert in pilot.alerts(1, 10).alerts if alert.kind == "pool_leak"]
        assert "test_pool_regulation.py:" in message
        assert pilot.connections().collected == 1
        for connection in held:
            connection.close()


def test_slow_connects_are_alerted_of(engine: sa.Engine) -> None:
    sa.event.listen(engine, "do_connect", lambda *_: time.sleep(0.1))
    with _pilot(engine, pool={"slow_connect_s": 0.05}) as pilot:
        engine.connect().close()
        _until(lambda: any(alert.kind == "pool_slow_connect" for alert in pilot.alerts(1, 10).alerts))


def test_a_watching_thread_that_died_is_replaced(engine: sa.Engine) -> None:
    with _pilot(engine) as pilot:
        regulator = pilot._pooling._regulator
        regulator._stopping.set()  # it ends, as one would that something killed
        regulator._thread.join()
        regulator._stopping.clear()
        pilot.series()  # whoever asks looks after the threads
        assert pilot.performance_summary(1).watching.restarts == 1
        assert regulator._thread.is_alive()


def test_connections_are_open_before_the_hour_at_which_they_are_usually_needed(engine: sa.Engine) -> None:
    store, now = MemoryStore(max_events=50_000), datetime.now(UTC).replace(second=30, microsecond=0)
    opening = [(now + timedelta(minutes=minute)).time() for minute in range(3)]
    minutes = (now - timedelta(minutes=ago) for ago in range(14 * 1440, 5, -1))
    store.write(
        Batch(events=[Event(POOL_MINUTE, at, "earlier", 8.0 if at.time() in opening else 1.0, {}) for at in minutes])
    )
    pool = {"mode": "adaptive", "sample_s": 0.02, "timezone": "UTC"}
    with Autopilot(engine, PilotConfig.model_validate({"pool": pool}), store=store) as pilot:
        _until(lambda: engine.pool.counts().idle >= 8)
        expected = pilot.pool().expected
        assert expected is not None
        assert "8 connections are in use" in expected.reason
        assert pilot.connections().checkouts == 0, "nobody had asked"
        assert pilot.performance_summary(1).watching.failures == 0


def test_a_time_zone_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="did you mean Asia/Seoul"):
        PilotConfig.model_validate({"pool": {"timezone": "Asia/Soul"}})


def test_pilots_that_share_a_history_share_the_servers_connections(postgresql_url: sa.URL, tmp_path: Path) -> None:
    config = {"pool": {**POLICY, "budget": 8}, "history": {"url": f"sqlite:///{tmp_path}/history.sqlite3"}}
    engines = [
        sa.create_engine(postgresql_url, poolclass=ResizableQueuePool, pool_size=5, max_overflow=5, pool_timeout=0.5)
        for _ in range(2)
    ]
    first, second = (Autopilot(engine, PilotConfig.model_validate(config)) for engine in engines)
    with first, second:
        _until(lambda: {getattr(one.pool().budget, "processes", 0) for one in (first, second)} == {2})
        held = [engines[0].connect() for _ in range(4)]
        held += [engines[1].connect() for _ in range(4)]
        with pytest.raises(sa.exc.TimeoutError):
            engines[0].connect()
        for connection in held:
            connection.close()
    for engine in engines:
        engine.dispose()


def test_the_pilots_own_connections_are_had_beside_a_resizable_pool(engine: sa.Engine) -> None:
    assert OwnConnections(engine).run(lambda connection: connection.scalar(sa.text("SELECT 7")), 1) == 7


def test_however_often_it_starts_the_limit_is_what_the_application_allows(engine: sa.Engine) -> None:
    for _ in range(3):
        with _pilot(engine, pool={"mode": "adaptive", "sample_s": 0.02}) as pilot:
            _until(lambda pilot=pilot: pilot.pool_history(1).samples != [])
            engine.pool.prepare(8)
        assert engine.pool.allowed == 25
        _until(lambda: engine.pool.counts().open <= engine.pool.size())
