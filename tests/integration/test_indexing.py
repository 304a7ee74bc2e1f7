"""The pilot's index advice: made of what really ran, followed, judged by what statements really take, and told."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic_core import to_json
from sqlalchemy.ext.asyncio import create_async_engine

from dbpilot import Autopilot, PilotConfig, QueryStats
from dbpilot.clock import SYSTEM
from dbpilot.config import IndexesConfig
from dbpilot.dialects import dialect_of
from dbpilot.dialects.alone import alone
from dbpilot.dialects.catalog import Key
from dbpilot.dialects.connections import own_engine
from dbpilot.dialects.ddl import Limits
from dbpilot.dialects.whatif import NewIndex
from dbpilot.errors import NotThereError, RefusedError
from dbpilot.history.store import INDEX_SEEN, Batch, Event, MemoryStore
from dbpilot.indexes import Recommended
from dbpilot.indexes.apply import Applier, Explains, Outcome
from dbpilot.indexes.changes import Promise, create
from dbpilot.indexes.ledger import Entry
from dbpilot.indexes.runner import LOCK
from dbpilot.indexing import ACTIVITY, INDEXES, _touched, first_seen, manners_of
from dbpilot.reports.indexes import ChangeReport, StepReport
from dbpilot.web.api import make_api
from tests.contract.probe import ASYNC_DRIVERS
from tests.integration.test_cli_indexes import MARK, ORDERS_TABLE, SHOWN, filled, indexes, plan_uses
from tests.support import REPOSITORY

WAIT_S = 120
NOW = datetime(2026, 11, 26, tzinfo=UTC)
SINCE_EVER = timedelta(days=3650)
ORDERS = ORDERS_TABLE.c
BY_CUSTOMER = (
    sa.select(ORDERS.id, ORDERS.total)
    .where(ORDERS.customer == sa.bindparam("who"), ORDERS.note != sa.bindparam("note"))
    .order_by(ORDERS.placed.desc())
    .limit(10)
)
BY_STATUS = sa.select(sa.func.count()).where(ORDERS.status == sa.bindparam("status"), ORDERS.placed > sa.func.now())


@dataclass
class Shop:
    """An application with a pilot on it."""

    url: sa.URL
    engine: sa.Engine
    pilot: Autopilot
    store: MemoryStore

    def asks(self, times: int = 30) -> None:
        """Customers look at their orders."""
        with self.engine.connect() as connection:
            for number in range(times):
                connection.execute(BY_CUSTOMER, {"who": number, "note": f"{MARK}{number}"}).all()

    def naps(self, times: int) -> None:
        """Somebody asks what takes the same time with any index, on a busy machine too."""
        nap = {"mysql": "SLEEP(0.05)", "postgresql": "pg_sleep(0.05)", "sqlite": "nap(0.05)"}[self.engine.dialect.name]
        with self.engine.connect() as connection:
            for number in range(times):
                connection.execute(sa.text(f"SELECT total, {nap} FROM orders WHERE id = :id"), {"id": number}).all()

    def pattern(self, part: str) -> QueryStats:
        """How that is counted."""
        [found] = [one for one in self.pilot.query_stats(1, 100).patterns if part in one.query]
        return found

    def advised(self) -> StepReport:
        """The index that they want, by an analysis of now."""
        self.pilot.indexing.analyse()
        [step] = [one for one in self.pilot.indexes().steps if one.act == "create" and one.why == "workload"]
        return step

    def told(self, kind: str) -> list[Any]:
        """What the history has of a kind, the latest first."""
        now = SYSTEM.now() + timedelta(seconds=60)
        return self.store.events(kind, now - SINCE_EVER, now, 1000)


def settings(**more: Any) -> PilotConfig:
    """Turns of its own come too late for a test."""
    watched = {"sample_every": 1, "window_s": 1}
    own = {"verify_calls": 5, "every_s": 86_400, **more}
    return PilotConfig.model_validate({"queries": watched, "indexes": own, "pool": {"mode": "off"}})


@contextmanager
def opened(url: sa.URL, config: PilotConfig, **more: Any) -> Iterator[Shop]:
    engine, store = sa.create_engine(filled(url)), MemoryStore()
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", lambda connection, _: connection.create_function("nap", 1, time.sleep))
    try:
        with Autopilot(engine, config, store=store, **more) as pilot:
            yield Shop(url, engine, pilot, store)
    finally:
        engine.dispose()


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


@contextmanager
def asked(pilot: Autopilot, host: str = "testclient") -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(make_api(pilot))
    with TestClient(app, client=(host, 50_000)) as client:
        yield client


def test_advice_is_made_of_what_really_ran(database_url: sa.URL) -> None:
    with opened(database_url, settings()) as shop:
        shop.asks()
        step = shop.advised()
        assert (step.table, step.columns[0], step.grade, step.safe) == ("orders", "customer", "what-if", True)
        assert step.evidence[0] == "asked with values that were really sent"
        gain = step.gains[0]
        assert gain.after < gain.before / 3
        assert gain.calls == 30
        assert gain.total_s is not None
        assert "test_indexing.py" in gain.sources[0]
        report = shop.pilot.indexes()
        assert (report.status, report.error, report.why_no_advice) == ("ready", None, None)
        assert report.workload is not None
        assert report.workload.source == "statements that the application sent"
        summary = shop.pilot.performance_summary(1).indexes
        assert (summary.status, summary.score, summary.create >= 1) == ("ready", report.score, True)


def test_the_score_rises_when_advice_is_followed(database_url: sa.URL) -> None:
    with opened(database_url, settings(apply=True)) as shop:
        shop.asks()
        step = shop.advised()
        before = shop.pilot.indexing.analyse().overall.value
        [outcome] = shop.pilot.indexing.apply([step.id], dry_run=False)
        assert outcome.step == "watching", outcome.text
        assert plan_uses(shop.url, step.index)
        after = shop.pilot.indexing.analyse().overall.value
        assert before is not None
        assert after is not None
        assert after > before
        left = [one for one in shop.pilot.indexes().steps if one.why == "workload"]
        assert step.id not in [one.id for one in left]
        assert sum(one.saves or 0 for one in left) < (step.saves or 0) / 5, "little is left to do"


def judged(shop: Shop, goes_on: Callable[[int], None]) -> ChangeReport:
    """What became of the only change, while its application goes on; its pilot looks after it now and then."""

    def is_over() -> ChangeReport | None:
        goes_on(20)
        time.sleep(1.1)  # until the window is over that they were counted in
        [change] = shop.pilot.indexing.changes()
        return None if change.step in ("watching", "reverting", "finishing") else change

    change: ChangeReport = until(is_over, "it is judged")
    return change


def test_what_keeps_its_promise_is_kept(database_url: sa.URL) -> None:
    with opened(database_url, settings(apply=True)) as shop:
        shop.asks(200)
        time.sleep(1.1)  # the window that the statements were counted in is over before the change begins
        step = shop.advised()
        shop.pilot.indexing.apply([step.id], dry_run=False, by="the test")
        change = judged(shop, lambda times: shop.asks(5 * times))
        assert (change.step, change.who) == ("kept", "the test"), change.text
        assert "of their time was promised" in change.text
        assert step.index in indexes(shop.url)
        until(lambda: len(shop.told(ACTIVITY)) == 2, "the history has both lines")
        kept, made = shop.told(ACTIVITY)
        assert made.body["what"] == f"{step.index} on orders is made"
        assert made.body["who"] == "the test"
        assert kept.body["what"] == f"kept: create {step.index} on orders"
        assert kept.body["undo"]
        assert change.number is not None
        assert shop.pilot.indexing.undo(change.number, by="the test").step == "reverted"
        assert step.index not in indexes(shop.url)


def planted(shop: Shop, explains: Explains | None = None) -> Outcome:
    """An index was made that was promised to help a statement, and does not."""
    promised = (Promise(shop.pattern("WHERE id = ?").pattern_id, 0.01),)
    change = create(NewIndex("orders", (Key("total"),)), "ix_bad", "planted", promises=promised, grade="what-if")
    own = sa.create_engine(shop.url, poolclass=sa.NullPool)
    schema = "public" if own.dialect.name == "postgresql" else None
    applier = Applier(own, SYSTEM, manners=manners_of(shop.pilot.config.indexes), schema=schema)
    [outcome] = applier.apply([change], who="the test", explains=explains)
    return outcome


def test_bad_advice_is_taken_back(database_url: sa.URL) -> None:
    with opened(database_url, settings(apply=True)) as shop:
        shop.naps(20)
        time.sleep(1.1)
        made = planted(shop)
        assert made.step == "watching", made.text
        assert "ix_bad" in indexes(shop.url)
        change = judged(shop, shop.naps)
        assert change.step == "reverted", change.text
        assert "ix_bad" not in indexes(shop.url)
        until(lambda: shop.told(ACTIVITY), "the history has it")
        assert shop.told(ACTIVITY)[0].body["what"] == "taken back: create ix_bad on orders"


def test_an_index_that_no_plan_uses_is_taken_back_at_once(database_url: sa.URL) -> None:
    with opened(database_url, settings(apply=True)) as shop:
        shop.naps(2)
        outcome = planted(shop, shop.pilot.indexing._explains)
        assert (outcome.step, outcome.text) == ("reverted", "no plan of what it was made for uses it")
        assert "ix_bad" not in indexes(shop.url)


def test_a_drop_that_waits_for_an_index_is_not_made_without_it(database_url: sa.URL) -> None:
    with opened(
        database_url, settings(apply=True), indexes=[Recommended("orders", ("status", "placed", "id"))]
    ) as shop:
        shop.pilot.indexing.analyse()
        steps = shop.pilot.indexes().steps
        [wide] = [step for step in steps if step.act == "create"]
        narrow = {step.index: step for step in steps if step.act == "drop"}[SHOWN[2]]
        assert narrow.waits_for == wide.index
        [alone] = shop.pilot.indexing.apply([narrow.id], dry_run=False)
        assert (alone.step, alone.text) == ("not now", f"it waits for {wide.index}, which is not there")
        assert SHOWN[2] in indexes(shop.url)
        made, dropped = shop.pilot.indexing.apply([narrow.id, wide.id], dry_run=False)
        assert (made.step, dropped.step) == ("watching", "watching"), (made.text, dropped.text)


def test_nothing_waits_for_an_index_that_the_rows_may_refuse_where_another_serves(sqlite_url: sa.URL) -> None:
    recommended = [Recommended("orders", ("status", "placed", "id")), Recommended("orders", ("status", "placed"), True)]
    with opened(sqlite_url, settings(apply=True), indexes=recommended) as shop:
        shop.pilot.indexing.analyse()
        steps = shop.pilot.indexes().steps
        [wide] = [step for step in steps if step.act == "create" and step.safe]
        assert any(step.act == "create" and not step.safe for step in steps)
        narrow = {step.index: step for step in steps if step.act == "drop"}[SHOWN[2]]
        assert narrow.waits_for == wide.index


def test_the_page_on_indexes_lists_every_setting() -> None:
    page = (REPOSITORY / "docs/indexes.md").read_text()
    section = page.partition("## Settings")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", section, re.MULTILINE)) == {
        name.upper() for name in IndexesConfig.model_fields
    }


def test_what_other_changes_made_faster_is_not_taken_for_the_drift_of_everybody() -> None:
    def entry(number: int, pattern: str, days_ago: int) -> Entry:
        change = create(NewIndex("t", (Key("a"),)), f"ix{number}", "it was advised", promises=(Promise(pattern, 0.1),))
        began = NOW - timedelta(days=days_ago)
        return Entry(number, change, "kept", (), "", "me", began, began, None, None)

    entries = [entry(1, "long ago", 3), entry(2, "another's", 0), entry(3, "its own", 0)]
    assert _touched(entries, NOW - timedelta(days=1)) == {"another's", "its own"}


def test_first_seen_is_the_beginning_of_an_unbroken_presence() -> None:
    def look(days_ago: int, *names: str) -> Event:
        return Event(INDEX_SEEN, NOW - timedelta(days=days_ago), "indexes", 0.0, {"names": list(names)})

    looks = [look(1, "a", "b", "c"), look(2, "a", "b"), look(3, "a"), look(9, "a", "b", "gone")]
    found = first_seen(looks)
    assert found == {"a": NOW - timedelta(days=9), "b": NOW - timedelta(days=2), "c": NOW - timedelta(days=1)}
    assert first_seen([]) == {}


def test_an_index_that_nothing_read_for_long_is_called_unused(postgresql_url: sa.URL) -> None:
    """PostgreSQL does not tell when an index was made: the history knows since when it was seen."""
    names = [f"orders.{name}" for name in (SHOWN[1], SHOWN[2], "orders_pkey")]
    for days, unused in ((20, []), (40, [SHOWN[2]])):
        with opened(postgresql_url, settings()) as shop:
            seen = Event(INDEX_SEEN, SYSTEM.now() - timedelta(days=days), "indexes", 0.0, {"names": names})
            shop.store.write(Batch(events=[seen]))
            shop.pilot.indexing.analyse()
            [table] = shop.pilot.indexes().tables
            assert [step.index for step in table.unused if step.index == SHOWN[2]] == unused
            until(lambda shop=shop: len(shop.told(INDEX_SEEN)) == 2, "the history is told of this look")
            assert shop.told(INDEX_SEEN)[0].body["names"] == sorted(names)
        with sa.create_engine(postgresql_url, poolclass=sa.NullPool).begin() as connection:
            connection.execute(sa.text("DROP TABLE orders"))


def test_a_replica_that_cannot_be_asked_leaves_nothing_unused_and_is_told_of(postgresql_url: sa.URL) -> None:
    replicas = ["postgresql+psycopg://u:s3cret@127.0.0.1:1/x"]
    with opened(postgresql_url, settings(replicas=replicas)) as shop:
        names = [f"orders.{name}" for name in (SHOWN[1], SHOWN[2], "orders_pkey")]
        seen = Event(INDEX_SEEN, SYSTEM.now() - timedelta(days=40), "indexes", 0.0, {"names": names})
        shop.store.write(Batch(events=[seen]))
        shop.pilot.indexing.analyse()
        report = shop.pilot.indexes()
        assert [step for table in report.tables for step in table.unused] == []
        [note] = [note for note in report.notes if "replica 1" in note.reason]
        assert "DBPILOT_INDEXES__REPLICAS" in note.fix
        assert "s3cret" not in str(report.notes)


def test_a_database_that_is_dead_is_told_of_and_raises_nothing(tmp_path: Path) -> None:
    engine = sa.create_engine("postgresql+psycopg://u:s3cret@127.0.0.1:1/x")
    with Autopilot(engine, settings(), store=MemoryStore()) as pilot:
        assert pilot.performance_summary(1).indexes.status == "none"
        report = pilot.indexes(wait_s=WAIT_S)
        assert report.error is not None
        assert "s3cret" not in report.error
        assert (report.tables, report.score) == ([], None)
        with pytest.raises(RefusedError, match="the watched database"):
            pilot.indexing.sql(None, WAIT_S)
        with asked(pilot) as client:
            assert client.get("/indexes/analysis").json()["error"] is not None
            assert client.get("/indexes/optimization-sql").status_code == 409
    engine.dispose()


def test_who_asks_first_is_told_that_it_goes_on(sqlite_url: sa.URL) -> None:
    """An analysis that takes long is waited for as long as somebody says, and no longer."""
    engine = sa.create_engine(filled(sqlite_url), connect_args={"timeout": WAIT_S})
    with Autopilot(engine, settings(), store=MemoryStore()) as pilot:
        with sa.create_engine(sqlite_url, poolclass=sa.NullPool).connect() as blocker:
            blocker.exec_driver_sql("BEGIN EXCLUSIVE")
            for wait_s in (0.0, 0.2):
                report = pilot.indexes(wait_s)
                assert (report.status, report.as_of, report.tables) == ("running", None, [])
            until(lambda: pilot.indexes().doing == "reading the catalogue", "it is told what goes on")
            assert pilot.performance_summary(1).indexes.status == "running"
            with pytest.raises(RefusedError, match="the first analysis goes on; ask again in a moment"):
                pilot.indexing.sql(None)
            blocker.rollback()
        report = pilot.indexes(WAIT_S)
        assert (report.status, report.error) == ("ready", None)
        assert [table.name for table in report.tables] == ["orders"]
    engine.dispose()


def test_in_memory_it_is_refused_with_the_fix() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with Autopilot(engine, settings(apply=True), store=MemoryStore()) as pilot:
        report = pilot.indexes(wait_s=WAIT_S)
        assert report.error is not None
        assert "use a database that a second connection can see: a file or a server" in report.error
        with pytest.raises(RefusedError, match="a file or a server"):
            pilot.indexing.apply(["x"], dry_run=False)
        with pytest.raises(RefusedError, match="a file or a server"):
            pilot.indexing.undo(1)
        assert pilot.indexing.changes() == []
    engine.dispose()


def test_of_an_async_engine_there_is_advice_and_nothing_is_applied(database_url: sa.URL) -> None:
    url = filled(database_url)
    engine = create_async_engine(url.set(drivername=ASYNC_DRIVERS[url.get_backend_name()]))

    async def work() -> None:
        with Autopilot(engine, settings(apply=True), store=MemoryStore()) as pilot:
            async with engine.connect() as connection:
                for number in range(20):
                    await connection.execute(BY_CUSTOMER, {"who": number, "note": MARK})
            pilot.indexing.analyse()
            [step] = [one for one in pilot.indexes().steps if one.why == "workload"]
            assert step.columns[0] == "customer"
            assert pilot.indexing.changes() == []
            for dry_run in (True, False):
                with pytest.raises(RefusedError, match="needs an engine without asyncio"):
                    pilot.indexing.apply([step.id], dry_run=dry_run)
            with pytest.raises(RefusedError, match="needs an engine without asyncio"):
                pilot.indexing.begin_apply([step.id])
        await engine.dispose()

    asyncio.run(work())


def test_over_http_looking_is_free_and_changing_is_not(database_url: sa.URL) -> None:
    with opened(database_url, settings()) as shop, asked(shop.pilot) as client:
        shop.asks()
        step = shop.advised()
        found = client.get("/indexes/analysis").json()
        assert (found["status"], found["score"] < 100) == ("ready", True)
        assert found["steps"][0]["id"] == step.id
        unknown = client.get("/indexes/optimization-sql", params={"table_name": "order"})
        assert (unknown.status_code, unknown.json()["detail"]) == (404, "there is no table order; did you mean orders?")
        sql = client.get("/indexes/optimization-sql", params={"table_name": "orders"}).json()
        assert sql["create"][0] == step.ddl
        assert sql["undo"][step.ddl] == step.undo
        dry = client.post("/indexes/apply", json={"ids": [step.id]})
        assert (dry.status_code, dry.json()["dry_run"]) == (200, True)
        assert [one["step"] for one in dry.json()["outcomes"]] == ["planned"]
        refused = client.post("/indexes/apply?dry_run=false", json={"ids": [step.id]})
        assert refused.status_code == 409
        assert "DBPILOT_INDEXES__APPLY=true" in refused.json()["detail"]
        assert client.post("/indexes/apply", json={"ids": ["nosuchid"]}).status_code == 404
        assert client.post("/indexes/apply", json={"ids": []}).status_code == 422
        assert client.post("/indexes/apply", json={"ids": [step.id], "now": True}).status_code == 422
        assert client.post("/indexes/changes/1/undo").status_code == 409
        assert client.get("/indexes/changes").json() == []
        assert step.index not in indexes(shop.url)
        with asked(shop.pilot, "192.0.2.7") as stranger:
            assert stranger.post("/indexes/apply", json={"ids": [step.id]}).status_code == 403
            assert stranger.post("/indexes/changes/1/undo").status_code == 403


def test_over_http_steps_are_taken_in_the_background(database_url: sa.URL) -> None:
    with opened(database_url, settings(apply=True)) as shop, asked(shop.pilot) as client:
        shop.asks()
        step = shop.advised()
        begun = client.post("/indexes/apply?dry_run=false", json={"ids": [step.id]})
        assert (begun.status_code, begun.json()) == (202, {"dry_run": False, "outcomes": []})
        until(lambda: [one["step"] for one in client.get("/indexes/changes").json()] == ["watching"], "it is made")
        [change] = client.get("/indexes/changes").json()
        assert (change["who"], change["index"]) == ("this machine", step.index)
        assert step.index in indexes(shop.url)
        undone = client.post(f"/indexes/changes/{change['number']}/undo")
        assert (undone.status_code, undone.json()["step"]) == (200, "reverted")
        assert step.index not in indexes(shop.url)
        again = shop.advised()
        assert (step.safe, again.id, again.safe) == (True, step.id, False)
        assert any("it was tried, and taken back on " in one for one in again.evidence)


def test_what_was_taken_back_is_not_missed_from_the_score(database_url: sa.URL) -> None:
    with opened(database_url, settings(apply=True)) as shop:
        with shop.engine.begin() as connection:
            on = " ON orders" if shop.engine.dialect.name == "mysql" else ""
            connection.exec_driver_sql(f"DROP INDEX {SHOWN[1]}{on}").close()
        shop.asks()
        step = shop.advised()
        assert (shop.pilot.indexes().score or 100) < 90
        [outcome] = shop.pilot.indexing.apply([step.id], dry_run=False)
        assert outcome.entry is not None
        shop.pilot.indexing.undo(outcome.entry)
        assert shop.advised().id == step.id
        assert shop.pilot.indexes().score == 100


def test_an_index_for_a_foreign_key_that_was_taken_back_is_not_missed_either(sqlite_url: sa.URL) -> None:
    with opened(sqlite_url, settings(apply=True)) as shop:
        with shop.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (id INTEGER PRIMARY KEY, o INTEGER REFERENCES orders (id))")
            connection.exec_driver_sql("INSERT INTO notes (o) SELECT id FROM orders")
        shop.pilot.indexing.analyse()
        [step] = [one for one in shop.pilot.indexes().steps if one.why == "foreign key"]
        [outcome] = shop.pilot.indexing.apply([step.id], dry_run=False)
        assert outcome.entry is not None
        shop.pilot.indexing.undo(outcome.entry)
        shop.pilot.indexing.analyse()
        [table] = [one for one in shop.pilot.indexes().tables if one.name == "notes"]
        assert [part.share for part in table.score_parts if part.name == "unserved"] == [0]
        assert step.id in [one.id for one in shop.pilot.indexes().steps]


def test_what_is_asked_for_waits_until_another_has_changed_its_index(
    database_url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbpilot.indexing.manners_of", lambda config: replace(manners_of(config), alone_wait_s=0.1))
    with opened(database_url, settings(apply=True)) as shop:
        shop.asks()
        step = shop.advised()
        with own_engine(shop.engine).connect() as another, alone(another, LOCK, 1, "nobody else is here"):
            with pytest.raises(RefusedError, match="another process"):
                shop.pilot.indexing.apply([step.id], dry_run=False)
            shop.pilot.indexing.begin_apply([step.id])
            time.sleep(1)
            assert shop.pilot.indexing.changes() == []
        until(lambda: [one.step for one in shop.pilot.indexing.changes()] == ["watching"], "it is made")


@pytest.mark.parametrize("database_url", ["mariadb", "postgresql"], indirect=True)
def test_what_is_asked_for_waits_for_a_moment_at_which_nothing_stands_against_it(
    database_url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = Limits(oldest_transaction_s=0)
    monkeypatch.setattr("dbpilot.indexing.manners_of", lambda config: replace(manners_of(config), limits=impatient))
    monkeypatch.setattr("dbpilot.indexing.AGAIN_S", 0.1)
    with opened(database_url, settings(apply=True)) as shop:
        shop.asks()
        step = shop.advised()
        with own_engine(shop.engine).connect() as another:
            another.execute(sa.insert(ORDERS_TABLE).values(id=-1, customer=1, placed=NOW, status="open", total=1))
            time.sleep(1.5)  # whole seconds count
            shop.pilot.indexing.begin_apply([step.id])
            until(lambda: [one.step for one in shop.pilot.indexing.changes()] == ["not now"], "it is told why")
            [waits] = shop.pilot.indexing.changes()
            assert "transactions are open" in waits.text
        until(lambda: [one.step for one in shop.pilot.indexing.changes()] == ["watching"], "it is made")


def test_a_change_on_trial_is_judged_while_an_analysis_goes_on(
    database_url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbpilot.indexing.TURN_S", 0.05)
    with opened(database_url, settings(apply=True, verify_s=1)) as shop:
        shop.asks()
        shop.pilot.indexing.apply([shop.advised().id], dry_run=False)
        goes_on, begun = Flag(), Flag()

        def endless() -> None:
            begun.set()
            goes_on.wait(WAIT_S)

        monkeypatch.setattr(shop.pilot.indexing, "analyse", endless)
        shop.pilot.indexing._due_s = 0
        try:
            assert begun.wait(WAIT_S)
            until(lambda: "watching" not in [one.step for one in shop.pilot.indexing.changes()], "it is judged")
            assert not goes_on.is_set()
        finally:
            goes_on.set()


def test_a_turn_of_its_own_is_in_the_history(database_url: sa.URL) -> None:
    with opened(database_url, settings()) as shop:
        shop.asks()
        shop.pilot.indexing._by_itself()
        shop.pilot.indexing._by_itself()
        until(lambda: shop.told(INDEXES), "the history has it")
        [event] = shop.told(INDEXES)
        assert event.value == event.body["score"] == shop.pilot.indexes().score
        assert "customer" in event.body["steps"][0]["ddl"]


def test_values_are_in_no_answer_log_or_history(
    database_url: sa.URL, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with opened(database_url, settings(apply=True)) as shop, asked(shop.pilot) as client:
        shop.asks()
        with shop.engine.connect() as connection:
            upper = sa.select(ORDERS.id).where(sa.func.upper(ORDERS.note) == MARK.upper())
            connection.execute(upper).all()
            connection.execute(sa.select(ORDERS.id).where(ORDERS.note.like(f"%{MARK}"))).all()
            connection.execute(sa.text(f"SELECT id FROM orders WHERE note = '{MARK}' OR total = 5")).all()
        shop.pilot.indexing.analyse()
        ids = [step.id for step in shop.pilot.indexes().steps]
        outcomes = shop.pilot.indexing.apply(ids, dry_run=False, patience_s=WAIT_S)
        assert any(outcome.entry is not None for outcome in outcomes), outcomes
        analysis = shop.pilot.indexing.analyse()
        shop.pilot.indexing.follow()
        shop.pilot.indexing._by_itself()
        answers = [client.get(f"/indexes/{name}").text for name in ("analysis", "optimization-sql", "changes")]
        until(lambda: shop.told(INDEXES) and shop.told(ACTIVITY), "the history has both")
        told = to_json([shop.told(kind) for kind in (INDEXES, ACTIVITY)]).decode()
        with sa.create_engine(shop.url, poolclass=sa.NullPool).connect() as connection:
            ledger = sa.Table("dbpilot_index_ledger", sa.MetaData(), autoload_with=connection)
            kept = json.dumps([list(map(str, row)) for row in connection.execute(sa.select(ledger))])
        said = capfd.readouterr()
        shown = "".join([*answers, told, kept, repr(analysis), caplog.text, said.out, said.err])
    assert len(shown) > 1000
    assert MARK.lower() not in shown.lower()


def test_a_table_that_is_not_there_and_a_step_that_is_none(sqlite_url: sa.URL) -> None:
    with opened(sqlite_url, settings(apply=True)) as shop:
        shop.asks()
        step = shop.advised()
        with pytest.raises(NotThereError, match="did you mean orders"):
            shop.pilot.indexing.sql("ordrs")
        near = step.id[:-1] + ("0" if step.id[-1] != "0" else "1")
        with pytest.raises(NotThereError, match=f"there is no step {near}; did you mean {step.id}"):
            shop.pilot.indexing.apply([near], dry_run=True)


def test_a_table_that_changed_since_is_refused(sqlite_url: sa.URL) -> None:
    with opened(sqlite_url, settings(apply=True)) as shop:
        shop.asks()
        step = shop.advised()
        with shop.engine.begin() as connection:
            connection.execute(sa.text("CREATE INDEX ix_other ON orders (total)"))
        with pytest.raises(RefusedError, match="orders is not what it was when this was planned"):
            shop.pilot.indexing.apply([step.id], dry_run=False)
        assert step.index not in indexes(shop.url)


def test_a_pilot_that_stopped_still_answers(sqlite_url: sa.URL) -> None:
    with opened(sqlite_url, settings()) as shop:
        shop.asks()
    assert shop.pilot.indexes(wait_s=WAIT_S).status == "ready"
    assert dialect_of(shop.engine) is not None
