"""Cleaning from a running application: planned, begun, followed, cancelled, remembered, told of and undone."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dbpilot import Autopilot, PilotConfig
from dbpilot.errors import ConfigError, RefusedError, WatchedDatabaseError
from dbpilot.history.store import MemoryStore
from dbpilot.pool import ResizableQueuePool
from dbpilot.retention import Rule
from dbpilot.web.api import make_api

NEWS = sa.Table(
    "news",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.DateTime, nullable=False),
    sa.Column("text", sa.String(50), nullable=False),
)
OLD, NEW = 500, 100
RULE = Rule("old news", "news", "at", timedelta(days=365), batch=100)


class Channel:
    """Hears what is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def send(self, title: str, message: str) -> None:
        self.told.append((title, message))


@pytest.fixture
def engine(database_url: sa.URL) -> Iterator[sa.Engine]:
    """News, most of it old, on each database, behind a pool that is resized."""
    engine = sa.create_engine(database_url, poolclass=ResizableQueuePool)
    NEWS.metadata.create_all(engine)
    now = datetime.now(UTC).replace(tzinfo=None)
    ages = [timedelta(days=700)] * OLD + [timedelta(days=3)] * NEW
    with engine.begin() as connection:
        connection.execute(sa.insert(NEWS), [{"at": now - age, "text": f"n{n}"} for n, age in enumerate(ages)])
    yield engine
    engine.dispose()


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def pilot(engine: sa.Engine, channel: Channel) -> Iterator[Autopilot]:
    with Autopilot(engine, PilotConfig(), store=MemoryStore(), notifier=channel, retention=[RULE]) as pilot:
        yield pilot


@pytest.fixture
def client(pilot: Autopilot) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(make_api(pilot))
    with TestClient(app) as client:
        yield client


def _rows(engine: sa.Engine, table: str = "news") -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(sa.table(table))) or 0


def _until(law: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not law():
        assert time.monotonic() < deadline, "did not become true in time"
        time.sleep(0.02)


def test_a_dry_run_is_the_default_and_changes_nothing(client: TestClient, engine: sa.Engine) -> None:
    before = sa.inspect(engine).get_table_names()
    plan = client.post("/cleanup/run").json()
    assert [(step["rule"], step["rows"], step["kind"]) for step in plan["steps"]] == [("old news", OLD, "beside")]
    assert client.get("/cleanup").json()["due"]["steps"][0]["rows"] == OLD
    assert (_rows(engine), sa.inspect(engine).get_table_names()) == (OLD + NEW, before)


def test_a_run_is_begun_remembered_told_of_and_undone(
    client: TestClient, engine: sa.Engine, pilot: Autopilot, channel: Channel
) -> None:
    assert client.post("/cleanup/run?dry_run=false").status_code == 202
    _until(lambda: client.get("/cleanup").json()["last_runs"])
    [run] = client.get("/cleanup").json()["last_runs"]
    assert (run["ok"], run["by"], run["deleted"], run["results"][0]["verified"]) == (True, "this machine", OLD, OLD)
    assert (_rows(engine), _rows(engine, "news_archive")) == (NEW, OLD)
    assert client.get("/cleanup").json()["due"]["steps"][0]["rows"] == 0, "counted anew after a run"
    _until(lambda: channel.told)
    [(title, message)] = channel.told
    assert title == "dbpilot: cleanup done"
    assert f"old news: {OLD} of {OLD} rows of news" in message
    assert client.post("/cleanup/verify?rule=old news").json()["problems"] == []

    restored = client.post("/cleanup/restore?dry_run=false", json={"rule": "old news"}).json()
    assert restored["restored"] == OLD
    assert (_rows(engine), _rows(engine, "news_archive")) == (OLD + NEW, 0)
    now = datetime.now(UTC) + timedelta(minutes=1)

    def ways_back() -> set[str]:
        return {event.body["undo"] for event in pilot._store.events("activity", now - timedelta(hours=1), now, 10)}

    _until(lambda: {"restore rule old news", "run the rule again"} <= ways_back())


def test_a_restore_is_a_dry_run_until_it_is_said_otherwise(
    client: TestClient, engine: sa.Engine, pilot: Autopilot
) -> None:
    pilot.cleaning.run(dry_run=False)
    answer = client.post("/cleanup/restore", json={"rule": "old news", "keys": [1, 2, 3, 4711]})
    assert (answer.status_code, answer.json()["found"], answer.json()["missing_rows"]) == (200, 3, 0)
    assert (_rows(engine), _rows(engine, "news_archive")) == (NEW, OLD)


def test_a_restore_that_is_not_all_that_was_meant_is_answered_207(engine: sa.Engine, tmp_path: Path) -> None:
    rule = Rule("old news", "news", "at", timedelta(days=365), batch=100, batch_s=1e-9, target=str(tmp_path / "files"))
    app = FastAPI()
    with Autopilot(engine, PilotConfig(), store=MemoryStore(), retention=[rule]) as pilot, TestClient(app) as client:
        app.include_router(make_api(pilot))
        pilot.cleaning.run(dry_run=False)
        gone = sorted((tmp_path / "files").rglob("0*.parquet"))[0]
        gone.unlink()
        dry = client.post("/cleanup/restore", json={"rule": "old news"}).json()
        assert (dry["found"], dry["missing_rows"]) == (OLD - 100, 100)
        answer = client.post("/cleanup/restore?dry_run=false", json={"rule": "old news"})
        assert (answer.status_code, answer.json()["restored"]) == (207, OLD - 100)
        [place] = answer.json()["missing"]
        assert place.endswith(gone.name)


def test_a_run_that_is_begun_is_planned_once(pilot: Autopilot, engine: sa.Engine) -> None:
    counted: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        counted.extend(["counted"] if "dbpilot_time" in statement and "count(*)" in statement else [])

    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    try:
        pilot.cleaning.begin()
        _until(lambda: pilot.cleaning.running() is None)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", count)
    assert (counted, _rows(engine)) == (["counted"], NEW)


def test_what_cannot_be_begun_is_told_to_the_caller_and_to_nobody_else(
    client: TestClient, engine: sa.Engine, channel: Channel
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE news RENAME TO olds"))
    answer = client.post("/cleanup/run?dry_run=false")
    assert (answer.status_code, "there is no table 'news'" in answer.text) == (409, True)
    assert (client.get("/cleanup").json()["last_runs"], channel.told) == ([], [])


def test_a_run_after_one_that_was_killed_says_what_that_left(
    engine: sa.Engine, channel: Channel, tmp_path: Path
) -> None:
    rule = Rule("old news", "news", "at", timedelta(days=365), target=str(tmp_path / "files"))
    url = engine.url.render_as_string(hide_password=False)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], env={**os.environ, "AT": url, "TO": rule.place}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    store = MemoryStore()
    with Autopilot(engine, PilotConfig(), store=store, notifier=channel, retention=[rule]) as pilot:
        [result] = pilot.cleaning.run(dry_run=False).results
        assert (result.error, result.recovered, result.deleted) == (None, 1, OLD)
        assert result.recovered_from is not None
        said = f"put right 1 batch that a run or a restore had begun at {result.recovered_from:%Y-%m-%d %H:%M:%S} UTC"
        _until(lambda: channel.told)
        assert said in channel.told[0][1]
        assert pilot.cleanup().last_runs[0].results[0]["recovered_from"] == result.recovered_from.isoformat()
        now = datetime.now(UTC)
        events = store.events("activity", now - timedelta(hours=1), now + timedelta(hours=1), 10)
        assert any(event.body["what"].startswith(said) for event in events)


KILLED = """
import os, signal
from datetime import timedelta
import sqlalchemy as sa
from dbpilot.retention import Retention, Rule
from dbpilot.retention.parquet import ParquetTarget

written = ParquetTarget.write
ParquetTarget.write = lambda *what: (written(*what), os.kill(os.getpid(), signal.SIGKILL))
rule = Rule("old news", "news", "at", timedelta(days=365), target=os.environ["TO"])
Retention(sa.create_engine(os.environ["AT"]), [rule]).run(dry_run=False)
"""


def test_what_is_cleaned_is_not_counted_among_the_applications_statements(
    client: TestClient, engine: sa.Engine, pilot: Autopilot
) -> None:
    client.post("/cleanup/run?dry_run=false")
    _until(lambda: client.get("/cleanup").json()["last_runs"])
    assert not any("news_archive" in line.tables for line in pilot.query_stats(1, 100).patterns)


def test_rows_on_hold_stay_until_they_are_released(client: TestClient, engine: sa.Engine) -> None:
    hold = client.post("/cleanup/holds", json={"table": "news", "where": {"text": "n1"}, "reason": "a lawsuit"}).json()
    assert client.post("/cleanup/run").json()["steps"][0]["rows"] == OLD - 1
    assert [one["reason"] for one in client.get("/cleanup").json()["holds"]] == ["a lawsuit"]
    assert client.delete(f"/cleanup/holds/{hold['id']}").json() == {"released": hold["id"]}
    assert client.delete(f"/cleanup/holds/{hold['id']}").status_code == 404
    assert client.post("/cleanup/run").json()["steps"][0]["rows"] == OLD


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/cleanup/run?table_name=nowhere", None, 422, "no retention rule is about 'nowhere'"),
        ("/cleanup/restore", {"rule": "none"}, 422, "there is no retention rule 'none'"),
        ("/cleanup/restore", {"rule": "old news", "since": "yesterday"}, 422, ""),
        ("/cleanup/restore", {"rule": "old news"}, 409, "archive"),
        ("/cleanup/restore", {"rule": "old news", "untill": "2009-02-01T00:00:00"}, 422, "untill"),
        ("/cleanup/restore", {"rule": "old news", "since": "2020-02-01T00:00"}, 422, "timezone"),
        ("/cleanup/restore", {"rule": "old news", "keys": [[1, 2]]}, 422, "a key of news is id"),
        (
            "/cleanup/restore",
            {"rule": "old news", "since": "2020-02-01T00:00Z", "until": "2020-01-01T00:00Z"},
            422,
            "no time at all",
        ),
        ("/cleanup/holds", {"table": "nowhere", "reason": "x"}, 409, "nowhere"),
        ("/cleanup/holds", {"table": "news", "where": {"colour": 1}, "reason": "x"}, 409, "colour"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(
    client: TestClient, engine: sa.Engine, path: str, body: dict[str, Any] | None, status: int, words: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status
    assert words in answer.text
    assert _rows(engine) == OLD + NEW


def test_only_this_machine_may_change_anything(client: TestClient, engine: sa.Engine) -> None:
    answer = client.post("/cleanup/run?dry_run=false", headers={"X-Forwarded-For": "203.0.113.7"})
    assert answer.status_code == 403
    assert _rows(engine) == OLD + NEW


def test_one_run_at_a_time_and_it_can_be_cancelled(pilot: Autopilot, engine: sa.Engine) -> None:
    held: list[int] = []

    def at_progress(*_: object) -> None:
        if not held:
            held.append(1)
            with pytest.raises(RefusedError, match="runs already"):
                pilot.cleaning.begin()
            assert pilot.cleanup().running is not None
            assert pilot.cleaning.cancel()

    went_on = pilot.cleaning._went_on
    pilot.cleaning._went_on = lambda progress: (went_on(progress), at_progress())
    [result] = pilot.cleaning.run(dry_run=False).results
    assert result.deleted == 100
    assert result.stopped is not None
    assert "run the rule again" in result.stopped
    assert pilot.cleaning.cancel() is False
    [rest] = pilot.cleaning.run(dry_run=False).results
    assert result.deleted + rest.deleted == OLD


def test_without_rules_there_is_nothing_to_clean(engine: sa.Engine) -> None:
    app = FastAPI()
    with Autopilot(engine, PilotConfig(), store=MemoryStore()) as pilot:
        app.include_router(make_api(pilot))
        with TestClient(app) as client:
            assert client.get("/cleanup").json()["rules"] == []
            assert "there are no retention rules" in client.post("/cleanup/run").json()["detail"]


def test_a_schedule_of_the_configuration_is_kept_from_start_to_stop(engine: sa.Engine) -> None:
    config = PilotConfig.model_validate({"retention": {"schedule": "0 2 * * 0"}})
    with Autopilot(engine, config, store=MemoryStore(), retention=[RULE]) as pilot:
        next_run = pilot.cleanup().next_run
        assert next_run is not None
        assert (next_run.weekday(), next_run.hour) == (6, 2)
    assert pilot.cleanup().next_run is None


def test_who_asks_what_is_due_does_not_wait_for_a_long_count(
    pilot: Autopilot, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, plan, counts = threading.Event(), pilot.cleaning.plan, []

    def slow() -> Any:
        counts.append(1)
        goes_on.wait(60)
        return plan()

    monkeypatch.setattr("dbpilot.cleaning.DUE_WAIT_S", 0.1)
    monkeypatch.setattr(pilot.cleaning, "plan", slow)
    asked = [client.get("/cleanup").json() for _ in range(2)]
    assert [(one["due"], one["due_error"]) for one in asked] == [
        (None, "it is being counted; ask again in a moment")
    ] * 2
    goes_on.set()
    _until(lambda: client.get("/cleanup").json()["due"])
    assert client.get("/cleanup").json()["due"]["steps"][0]["rows"] == OLD
    assert counts == [1]


def test_a_schedule_that_makes_no_sense_is_refused_even_without_rules(
    engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    for schedule in ("every sunday", "0 2 * * 8"):
        config = PilotConfig.model_validate({"retention": {"schedule": schedule}})
        with pytest.raises(ConfigError, match="cron"), Autopilot(engine, config, store=MemoryStore()):
            pass
    config = PilotConfig.model_validate({"retention": {"schedule": "0 2 * * 0"}})
    with Autopilot(engine, config, store=MemoryStore()) as pilot:
        assert pilot.cleanup().next_run is None
    assert "retention has a schedule and no rules" in caplog.text


def test_a_dead_database_is_told_remembered_and_no_defect_of_the_server(tmp_path: Path, channel: Channel) -> None:
    nowhere = sa.create_engine(f"sqlite:///{tmp_path}/missing/file", poolclass=ResizableQueuePool)
    app = FastAPI()
    with Autopilot(nowhere, PilotConfig(), store=MemoryStore(), notifier=channel, retention=[RULE]) as pilot:
        app.include_router(make_api(pilot))
        with TestClient(app) as client:
            answer = client.post("/cleanup/run")
            assert answer.status_code == 503
            assert "OperationalError" in answer.json()["detail"]
            assert "OperationalError" in client.get("/cleanup").json()["due_error"]
        with pytest.raises(WatchedDatabaseError):
            pilot.cleaning.run(dry_run=False)
        assert [title for title, _ in channel.told] == ["dbpilot: cleanup not finished"]
        assert [run.ok for run in pilot.cleanup().last_runs] == [False]


def test_after_duplicates_are_gone_it_is_told_how_they_stay_away(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(NEWS).where(NEWS.c.id <= 3).values(text="the same"))
    rule = Rule("twice", "news", duplicates=("text",))
    with Autopilot(engine, PilotConfig(), store=MemoryStore(), retention=[rule]) as pilot:
        pilot.cleaning.run(dry_run=False)
        [advice] = pilot.cleanup().last_runs[0].advice
        assert "this does: CREATE UNIQUE INDEX uq_news_text ON news (text)" in advice
        with engine.begin() as connection:
            connection.execute(sa.text(advice.split("this does: ")[1]))
        pilot.cleaning.run(dry_run=False)
        assert pilot.cleanup().last_runs[0].advice == []


def test_a_planned_run_is_remembered_and_one_that_finds_another_at_work_is_told_of(
    pilot: Autopilot, engine: sa.Engine, channel: Channel
) -> None:
    pilot.cleaning._begin(None)
    with pytest.raises(RefusedError):
        pilot.cleaning._scheduled(threading.Event())
    assert [title for title, _ in channel.told] == ["dbpilot: cleanup left out"]
    pilot.cleaning._running = None
    pilot.cleaning._scheduled(threading.Event())
    _until(lambda: [run.deleted for run in pilot.cleanup().last_runs] == [OLD])


def test_a_planned_run_ends_when_its_schedule_asks_for_it(pilot: Autopilot, engine: sa.Engine) -> None:
    stop, went_on = threading.Event(), pilot.cleaning._went_on
    pilot.cleaning._went_on = lambda progress: (went_on(progress), stop.set())
    pilot.cleaning._scheduled(stop)
    assert _rows(engine) == OLD + NEW - 100, "it ended after the batch in hand"
