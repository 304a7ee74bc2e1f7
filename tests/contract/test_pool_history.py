"""Samples of the pool in every store: read fast, and kept for as long as their kind is."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dbpilot.config import HistoryConfig
from dbpilot.history import schema
from dbpilot.history.sql_store import SqlStore
from dbpilot.history.store import CLEANUP, KEPT_POOL, POOL, POOL_MINUTE, Batch, Event, MemoryStore, Store
from dbpilot.pool.forecast import Demand, demand_of
from dbpilot.testing import FakeClock

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SQL_STORES = ["sqlite", "mariadb", "postgresql"]
PROCESSES = ("host:1", "host:2")

Opener = Callable[..., Store]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


@pytest.fixture(params=["memory", *SQL_STORES])
def open_store(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Opener]:
    """Opens the same history again and again, as several processes would."""
    opened: list[Store] = []
    if request.param == "memory":
        opened.append(MemoryStore())
        yield lambda: opened[0]
    else:
        url: sa.URL = request.getfixturevalue(f"{request.param}_url")

        def open_(database: str = "shop", **config: float) -> Store:
            address = url.render_as_string(hide_password=False)
            opened.append(SqlStore(address, database, HistoryConfig(**config), clock))
            return opened[-1]

        yield open_
    for store in opened:
        store.close()


sql_only = pytest.mark.parametrize("open_store", SQL_STORES, indirect=True)


def sample(kind: str, at: datetime, process: str = "host:1", value: float = 1.0) -> Event:
    return Event(kind, at, process, value, {"size": 5, "most_in_use": value})


def ages(store: Store, kind: str, now: datetime) -> list[timedelta]:
    """How old the events of a kind are that are there, youngest first."""
    return [now - event.at for event in store.events(kind, now - 1000 * DAY, now + MINUTE, 1000)]


def pass_by(store: Store, clock: FakeClock, time: timedelta) -> datetime:
    clock.advance(time.total_seconds())
    store.maintain(clock.now())
    return clock.now()


def test_values_are_those_of_the_events_oldest_first(open_store: Opener) -> None:
    rng = random.Random(7)
    events = [sample(POOL_MINUTE, NOON + n * MINUTE, process, rng.random()) for n in range(50) for process in PROCESSES]
    for part in (rng.sample(events, len(events))[:60], events):
        open_store().write(Batch(events=[*part, sample(POOL, NOON, value=99)]))
    since, until = NOON + 10 * MINUTE, NOON + 40 * MINUTE
    found = open_store().values(POOL_MINUTE, since, until)
    assert [at for at, _, _ in found] == sorted(at for at, _, _ in found)
    told = open_store().events(POOL_MINUTE, since, until, 1000)
    assert sorted(found) == sorted((event.at, event.key, event.value) for event in told)
    assert {at for at, _, _ in found} == {NOON + n * MINUTE for n in range(10, 40)}
    assert all(at.tzinfo is UTC for at, _, _ in found)
    assert open_store().values("nothing", since, until) == []


@sql_only
def test_values_of_another_database_are_not_read(open_store: Opener) -> None:
    shop, office = open_store("shop"), open_store("office")
    shop.write(Batch(events=[sample(POOL_MINUTE, NOON)]))
    office.write(Batch(events=[sample(POOL_MINUTE, NOON, value=2), sample(POOL_MINUTE, NOON, "host:2", 4)]))
    assert shop.values(POOL_MINUTE, NOON, NOON + HOUR) == [(NOON, "host:1", 1.0)]
    assert demand_of(office.values(POOL_MINUTE, NOON, NOON + HOUR)) == [Demand(NOON, 3.0)]


def test_each_kind_is_kept_for_its_time(open_store: Opener, clock: FakeClock) -> None:
    store = open_store()
    store.maintain(NOON)
    kinds = (POOL, POOL_MINUTE, "alert")
    store.write(Batch(events=[sample(kind, NOON) for kind in kinds]))
    rest = 48 * HOUR if isinstance(store, MemoryStore) else 14 * DAY
    kept = {POOL: KEPT_POOL, POOL_MINUTE: 35 * DAY, "alert": rest}
    assert kept[POOL] == 26 * HOUR
    for age in sorted(kept.values()):
        now = pass_by(store, clock, NOON + age - clock.now())
        assert {kind for kind in kinds if ages(store, kind, now)} == {k for k in kinds if kept[k] >= age}
        now = pass_by(store, clock, 11 * MINUTE)
        assert {kind for kind in kinds if ages(store, kind, now)} == {k for k in kinds if kept[k] > age}


def test_only_what_is_too_old_goes(open_store: Opener, clock: FakeClock) -> None:
    store = open_store()
    for hours in reversed(range(60)):
        store.write(Batch(events=[sample(kind, NOON - hours * HOUR) for kind in (POOL, POOL_MINUTE)]))
    now = pass_by(store, clock, timedelta(0))
    assert ages(store, POOL, now) == [hours * HOUR for hours in range(27)]
    assert ages(store, POOL_MINUTE, now) == [hours * HOUR for hours in range(60)]


@sql_only
def test_the_history_says_how_long_minutes_and_the_rest_are_kept(open_store: Opener, clock: FakeClock) -> None:
    store = open_store(keep_hours_days=7, keep_events_days=2)
    for days in range(10):
        store.write(Batch(events=[sample(kind, NOON - days * DAY) for kind in (POOL, POOL_MINUTE, "alert", CLEANUP)]))
    now = pass_by(store, clock, HOUR)
    assert len(ages(store, POOL, now)) == 2
    assert len(ages(store, POOL_MINUTE, now)) == 7
    assert len(ages(store, "alert", now)) == 2
    assert len(ages(store, CLEANUP, now)) == 10


@sql_only
def test_what_is_too_old_goes_from_all_databases_of_the_history(open_store: Opener, clock: FakeClock) -> None:
    """One of them may be watched no more."""
    stores = [open_store(database) for database in ("Shop", "office", "shop")]
    for store in stores:
        kinds = (POOL, "alert", "activity")
        store.write(Batch(events=[sample(kind, NOON - age) for kind in kinds for age in (HOUR, 2 * DAY, 20 * DAY)]))
    now = pass_by(stores[1], clock, timedelta(0))
    for store in stores:
        assert [len(ages(store, kind, now)) for kind in kinds] == [1, 2, 2]


def test_samples_of_the_pool_displace_nothing_else_in_memory() -> None:
    store = MemoryStore(max_events=100)
    store.write(Batch(events=[sample("alert", NOON)]))
    for number in range(500):
        store.write(Batch(events=[sample(POOL, NOON + number * MINUTE)]))
    assert len(store.events("alert", NOON, NOON + DAY, 10)) == 1
    assert len(store.values(POOL, NOON, NOON + DAY)) == 100


@sql_only
def test_the_way_to_old_samples_is_the_index(open_store: Opener) -> None:
    """What is looked for every ten minutes must not be found by reading millions of samples."""
    store = open_store()
    events = [sample(POOL_MINUTE, NOON + n * MINUTE) for n in range(2000)]
    store.write(Batch(events=[*events, *(sample(POOL, event.at) for event in events)]))
    table = schema.events
    its = (table.c.database == "shop", table.c.kind == POOL, table.c.at_s < (NOON + 20 * MINUTE).timestamp())
    with store._engine.connect() as connection:
        query = sa.select(table.c.value).where(*its).compile(connection, compile_kwargs={"literal_binds": True})
        measure, explain = WORDS[connection.dialect.name]
        connection.exec_driver_sql(measure)
        plan = connection.exec_driver_sql(f"{explain} {query}").all()
    assert "dbpilot_events_kind" in str(plan)


WORDS = {
    "sqlite": ("ANALYZE", "EXPLAIN QUERY PLAN"),
    "mysql": ("ANALYZE TABLE dbpilot_events", "EXPLAIN"),
    "mariadb": ("ANALYZE TABLE dbpilot_events", "EXPLAIN"),
    "postgresql": ("ANALYZE dbpilot_events", "EXPLAIN"),
}
