"""Every store tells the same course: cut into steps, the parts are what the whole is."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dbpilot.history.sql_store import SqlStore
from dbpilot.history.store import Batch, MemoryStore, Pattern, Store, Window
from dbpilot.history.tally import Tally
from dbpilot.history.timeline import Timeline
from dbpilot.testing import FakeClock

NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)
ONE, TWO = "a" * 16, "b" * 16
PATTERNS = [Pattern(ONE, "SELECT ?", "SELECT", ()), Pattern(TWO, "DELETE FROM t", "DELETE", ("t",))]
MINUTES = (0, 1, 2, 5, 59, 60, 125)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON + timedelta(hours=2, minutes=10))


@pytest.fixture(params=["memory", "sqlite", "mariadb", "postgresql"])
def store(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    url: sa.URL = request.getfixturevalue(f"{request.param}_url")
    store = SqlStore(url.render_as_string(hide_password=False), "shop", clock=clock)
    yield store
    store.close()


def _tally(*durations_s: float, error: str | None = None) -> Tally:
    tally = Tally()
    for duration_s in durations_s:
        tally.add(NOON, duration_s, duration_s / 4, 1, error, 1.0)
    return tally


def _fill(store: Store) -> None:
    for minute in MINUTES:
        start = NOON + timedelta(minutes=minute, seconds=20)
        tallies = {ONE: _tally(0.01 * (minute + 1), 0.5), TWO: _tally(2.0, error="1205")}
        store.write(Batch(PATTERNS, [Window(start, tallies)]))


def _figures(tally: Tally) -> tuple[object, ...]:
    figures = tally.calls, tally.slow, tally.rows, round(tally.total_s, 9), dict(tally.errors)
    return *figures, round(tally.min_s, 9), tally.max_s, list(tally.histogram.items())


def _whole(timeline: Timeline, id_: str | None = None) -> Tally:
    """All steps together: of everything, or of one pattern."""
    total = Tally()
    for step in timeline.steps.values():
        total.merge(step.total if id_ is None else step.patterns[id_])
    return total


@pytest.mark.parametrize("is_folded", [False, True])
def test_the_steps_add_up_to_the_whole(store: Store, clock: FakeClock, is_folded: bool) -> None:
    _fill(store)
    if is_folded:
        store.maintain(clock.now())
    timeline = store.timeline(NOON, clock.now(), 200, [ONE, TWO])
    whole = store.tallies(NOON, clock.now())
    total = Tally()
    for tally in whole.values():
        total.merge(tally)
    assert timeline.step_s == 60
    assert _figures(_whole(timeline)) == _figures(total)
    for id_ in (ONE, TWO):
        assert _figures(_whole(timeline, id_)) == _figures(whole[id_])


def test_a_step_begins_where_its_length_says(store: Store, clock: FakeClock) -> None:
    _fill(store)
    timeline = store.timeline(NOON, clock.now(), 200)
    assert sorted(timeline.steps) == [int((NOON + timedelta(minutes=minute)).timestamp()) for minute in MINUTES]
    assert all(step.total.calls == 3 for step in timeline.steps.values())


def test_fewer_points_are_longer_steps(store: Store, clock: FakeClock) -> None:
    _fill(store)
    timeline = store.timeline(NOON, clock.now(), 3)
    assert timeline.step_s == 3600
    assert [step.total.calls for _, step in sorted(timeline.steps.items())] == [15, 3, 3]


def test_where_nothing_ran_there_is_no_step(store: Store, clock: FakeClock) -> None:
    assert store.timeline(NOON, clock.now(), 100, [ONE]).steps == {}


def test_what_is_no_id_is_nobodys(store: Store, clock: FakeClock) -> None:
    _fill(store)
    timeline = store.timeline(NOON, clock.now(), 100, ["'; DROP TABLE t", "zz", "f" * 40])
    assert not any(step.patterns for step in timeline.steps.values())


def test_days_stand_for_what_is_long_ago(clock: FakeClock, sqlite_url: sa.URL) -> None:
    store = SqlStore(sqlite_url.render_as_string(), "shop", clock=clock)
    for day in (40, 20, 1):
        store.write(Batch(PATTERNS, [Window(NOON - timedelta(days=day), {ONE: _tally(0.1)})]))
    store.maintain(clock.now())
    timeline = store.timeline(NOON - timedelta(days=60), clock.now(), 100)
    assert timeline.step_s == 86_400
    assert [step.total.calls for _, step in sorted(timeline.steps.items())] == [1, 1, 1]
    store.close()


def test_an_hour_of_many_patterns_is_read_whole(clock: FakeClock, sqlite_url: sa.URL) -> None:
    store = SqlStore(sqlite_url.render_as_string(), "shop", clock=clock)
    wide = {f"{number:016x}": _tally(0.001) for number in range(1, 700)}
    store.write(Batch([], [Window(NOON + timedelta(hours=1, minutes=3), wide)]))
    store.maintain(clock.now())
    assert store.timeline(clock.now() - timedelta(hours=24), clock.now(), 400).step_s == 3600
    assert store.timeline(clock.now() - timedelta(hours=2), clock.now(), 400).step_s == 60
    store.close()
