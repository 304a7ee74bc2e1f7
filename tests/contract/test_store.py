"""Every store remembers the same, in memory and on every database."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from dbpilot.config import HistoryConfig
from dbpilot.errors import StoreError
from dbpilot.history import schema
from dbpilot.history.sql_store import MAX_WAITING, SOURCES_EVERY_S, SqlStore, WrittenPatterns, cover
from dbpilot.history.store import Batch, Event, MemoryStore, Pattern, Source, Store, Window, added, counted, packed
from dbpilot.history.tally import Tally
from dbpilot.testing import FakeClock

NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
READ = Pattern("a" * 16, "SELECT 한국 FROM t WHERE 📈 = ?", "SELECT", ("t",))
WRITE = Pattern("b" * 16, "INSERT INTO t VALUES (?)" + " " * 70_000, "INSERT", ("t", "s.u"))

Opener = Callable[..., Store]
SQL_STORES = ["sqlite", "mariadb", "postgresql"]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON + 4 * HOUR)


@pytest.fixture(params=["memory", *SQL_STORES])
def open_store(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Opener]:
    """Opens the same history again and again, as several processes would."""
    opened: list[Store] = []
    if request.param == "memory":
        opened.append(MemoryStore())
        yield lambda: opened[0]
    else:
        url: sa.URL = request.getfixturevalue(f"{request.param}_url")

        def open_(database: str = "shop") -> Store:
            config = HistoryConfig(keep_windows_hours=24)
            opened.append(SqlStore(url.render_as_string(hide_password=False), database, config, clock))
            return opened[-1]

        yield open_
    for store in opened:
        store.close()


sql_only = pytest.mark.parametrize("open_store", SQL_STORES, indirect=True)


def _tally(*durations_s: float, at: datetime = NOON, error: str | None = None) -> Tally:
    tally = Tally()
    for duration_s in durations_s:
        tally.add(at, duration_s, duration_s / 2, 2, error, 1, first_row_s=0.125, wait_s=0.25)
    return tally


def _batch(tally: Tally, start: datetime = NOON) -> Batch:
    slow = [Event("slow", start, READ.id, 1.5, {"rows": 2, "callsite": "주문.py:1"}, READ.id)]
    return Batch([READ, WRITE], [Window(start, {READ.id: tally, WRITE.id: _tally(0.1)})], slow)


def _figures(tallies: dict[str, Tally]) -> dict[str, tuple[object, ...]]:
    return {
        id_: (
            t.calls,
            t.slow,
            t.rows,
            round(t.total_s, 9),
            t.min_s,
            t.max_s,
            t.last_seen,
            t.errors,
            *t.histogram.items(),
        )
        for id_, t in tallies.items()
    }


def _counts(tally: Tally) -> tuple[object, ...]:
    return tally.errors, list(tally.histogram.items())


def test_what_is_written_is_read_the_same(open_store: Opener) -> None:
    store, tally = open_store(), _tally(0.25, 1.5, error="OperationalError 1205")
    store.write(_batch(tally))
    read = open_store().tallies(NOON, NOON + HOUR)
    assert read.keys() == {READ.id, WRITE.id}
    assert _figures({"": read[READ.id]}) == _figures({"": tally})
    assert (read[READ.id].total_s, read[READ.id].fetch_s) == (1.75, 0.875)
    assert (read[READ.id].first_row_s, read[READ.id].wait_s) == (0.25, 0.5)
    assert open_store().patterns([READ.id, WRITE.id, "unknown"]) == {READ.id: READ, WRITE.id: WRITE}
    [event] = open_store().events("slow", NOON, NOON + HOUR, 10)
    assert event == _batch(tally).events[0]


def test_what_two_processes_write_adds_up(open_store: Opener) -> None:
    one, other = open_store(), open_store()
    one.write(_batch(_tally(0.25)))
    other.write(_batch(_tally(0.5, 0.75)))
    assert one.tallies(NOON, NOON + HOUR)[READ.id].calls == 3
    assert one.tallies(NOON, NOON + HOUR)[READ.id].max_s == 0.75
    assert len(other.events("slow", NOON, NOON + HOUR, limit=10)) == 2


def test_a_window_that_comes_twice_adds_up_and_a_batch_that_comes_twice_does_not(open_store: Opener) -> None:
    store, again = open_store(), _batch(_tally(0.5))
    store.write(_batch(_tally(0.25)))
    store.write(again)
    store.write(again)
    assert store.tallies(NOON, NOON + HOUR)[READ.id].calls == 2
    assert len(store.events("slow", NOON, NOON + HOUR, limit=10)) == 2


def test_only_the_asked_for_time_is_read(open_store: Opener) -> None:
    store = open_store()
    for hours in range(4):
        store.write(_batch(_tally(0.25), NOON + hours * HOUR))
    assert store.tallies(NOON + HOUR, NOON + 3 * HOUR)[READ.id].calls == 2
    found = store.events("slow", NOON + HOUR, NOON + 3 * HOUR, 10)
    assert [event.at for event in found] == [NOON + 2 * HOUR, NOON + HOUR]
    assert [event.at for event in store.events("slow", NOON, NOON + 4 * HOUR, limit=1)] == [NOON + 3 * HOUR]


def test_events_are_found_by_kind_key_and_value(open_store: Opener) -> None:
    store = open_store()
    events = [Event("receipt", NOON, f"request-{number}", number, {}) for number in range(5)]
    store.write(Batch(events=events))
    assert [e.key for e in store.events("receipt", NOON, NOON + HOUR, 9, key="request-3")] == ["request-3"]
    assert {e.key for e in store.events("receipt", NOON, NOON + HOUR, 9, min_value=3)} == {"request-3", "request-4"}
    assert store.events("slow", NOON, NOON + HOUR, 9) == []


def test_samples_of_a_patterns_sources_add_up(open_store: Opener, clock: FakeClock) -> None:
    store = open_store()
    for line in (1, 2, 2):
        source = Source(f"shop.py:{line}", "f", None, 3)
        store.write(Batch([Pattern(READ.id, READ.text, "SELECT", ("t",), (source,))]))
    assert [(s.callsite, s.samples) for s in store.patterns([READ.id])[READ.id].sources] == [
        ("shop.py:2", 6),
        ("shop.py:1", 3),
    ]
    clock.advance(3600)
    store.write(Batch([READ]))
    assert len(open_store().patterns([READ.id])[READ.id].sources) == 2


def _sampled(id_: str, samples: int = 1) -> Pattern:
    return Pattern(id_, "SELECT 1", "SELECT", (), (Source("shop.py:1", "f", None, samples),))


def _samples(store: Store, id_: str) -> int:
    return sum(source.samples for source in store.patterns([id_])[id_].sources)


@sql_only
@pytest.mark.parametrize("known", [False, True])
def test_samples_of_a_batch_count_once_however_often_it_is_written(
    open_store: Opener, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    store, wanted = open_store(), 3
    if known:
        store.write(Batch([_sampled(READ.id, 4)]))
        wanted += 4
    batch = Batch([_sampled(READ.id, 3)], [Window(NOON, {READ.id: _tally(0.25)})])
    monkeypatch.setattr(store, "_window_row", lambda *_: _raise(StoreError("the disk is full")))
    for _ in range(30):
        with pytest.raises(StoreError):
            store.write(batch)
        clock.advance(60)
    monkeypatch.undo()
    store.write(batch)
    store.write(batch)
    assert _samples(store, READ.id) == wanted
    clock.advance(SOURCES_EVERY_S)
    store.write(Batch([READ]))
    assert _samples(open_store(), READ.id) == wanted


def _raise(error: Exception) -> None:
    raise error


@sql_only
def test_samples_that_waited_are_written_though_their_pattern_never_comes_again(
    open_store: Opener, clock: FakeClock
) -> None:
    store = open_store()
    store.write(Batch([_sampled(READ.id)]))
    store.write(Batch([_sampled(READ.id)]))
    assert _samples(open_store(), READ.id) == 1, "the second sample waits"
    clock.advance(SOURCES_EVERY_S)
    store.write(Batch([WRITE]))
    assert _samples(open_store(), READ.id) == 2
    assert _samples(store, READ.id) == 2, "and it waits no longer"


def test_patterns_that_wait_are_bounded() -> None:
    written, most = WrittenPatterns(), 0
    for second in range(300):
        for _ in range(2):  # named twice, and never again
            patterns = [_sampled(f"{100 * second + number:016x}") for number in range(100)]
            batch = Batch(patterns)
            written.wrote(batch, written.due(batch, 1e9 + second), 1e9 + second)
        most = max(most, len(written._waiting))
    assert 100 < most <= MAX_WAITING


def test_windows_that_are_kept_in_memory_add_up_and_are_small() -> None:
    rng, store = random.Random(7), MemoryStore()
    ids = [f"{rng.getrandbits(64):016x}" for _ in range(50)] + ["other"]
    windows = []
    for number in range(130):
        start = NOON + timedelta(seconds=10 * number)
        tallies = {id_: _tally(rng.random(), 0.001, at=start, error="E") for id_ in rng.sample(ids, 40)}
        windows.append(Window(start, tallies))
        store.write(Batch(windows=windows[-1:]))
    until = NOON + timedelta(seconds=1000)
    some = [window for window in windows if window.start < until]
    expected = _figures(added(window.tallies for window in some))
    assert _figures(store.tallies(NOON, until)) == expected
    assert _figures(counted([*some[:50], *map(packed, some[50:])])) == expected
    assert sum(len(window.data) for window in store._windows) / (130 * 40) < 200, "bytes per pattern and window"


def test_texts_are_remembered_in_memory_for_as_long_as_something_names_them() -> None:
    store = MemoryStore(keep=HOUR)
    store.write(Batch([READ, WRITE], [Window(NOON, {READ.id: _tally(0.25), WRITE.id: _tally(0.25)})]))
    store.write(Batch(events=[Event("plan", NOON + HOUR, READ.id, 0.0, {}, READ.id)]))
    store.maintain(NOON + HOUR)
    assert store.patterns([READ.id, WRITE.id]).keys() == {READ.id, WRITE.id}
    store.maintain(NOON + HOUR + timedelta(seconds=1))
    assert store.patterns([READ.id, WRITE.id]).keys() == {READ.id}


def test_an_empty_history_answers(open_store: Opener) -> None:
    store = open_store()
    store.maintain(NOON)
    assert store.tallies(NOON, NOON + HOUR) == {}
    assert store.patterns(["unknown"]) == {}
    assert store.events("slow", NOON, NOON + HOUR, 10) == []


@sql_only
def test_any_range_is_the_sum_of_its_windows_whatever_is_folded(open_store: Opener, clock: FakeClock) -> None:
    rng, store, other = random.Random(7), open_store(), open_store()
    windows: list[Window] = []
    for _ in range(120):
        start = NOON - timedelta(seconds=10 * rng.randrange(3 * 8640))
        ids = rng.sample([f"{number:016x}" for number in range(6)] + ["other"], 3)
        window = Window(start, {id_: _tally(rng.random(), 3 * rng.random(), at=start, error="E") for id_ in ids})
        windows.append(window)
        rng.choice([store, other]).write(Batch(windows=[window]))
        if rng.random() < 0.1:
            rng.choice([store, other]).maintain(NOON - 3 * 24 * HOUR)
    for _ in range(60):
        since = NOON - timedelta(seconds=rng.randrange(3 * 86_400))
        until = clock.now() if rng.random() < 0.3 else since + timedelta(seconds=rng.randrange(86_400))
        first = store.begin(since, until)
        expected = added(w.tallies for w in windows if first <= w.start < until)
        assert _figures(store.tallies(since, until)) == _figures(expected), (since, until)


def test_a_range_is_covered_once_and_without_a_gap() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        first_s = rng.randrange(10**6)
        last_s = first_s + rng.choice([5, 70, 4000, 200_000])
        spans, edges = cover(first_s, last_s)
        parts = sorted([*edges, *(span for _, span in spans)])
        assert [parts[0][0], parts[-1][1]] == [first_s, last_s]
        assert all(one[1] == other[0] for one, other in pairwise(parts))
        assert all(start % length_s == 0 and end % length_s == 0 for length_s, (start, end) in spans)


@sql_only
def test_many_processes_may_fold_at_once(open_store: Opener) -> None:
    stores = [open_store() for _ in range(3)]
    for number in range(60):
        stores[number % 3].write(_batch(_tally(0.25), NOON + timedelta(seconds=10 * number)))
    url = stores[0]._engine.url.render_as_string(hide_password=False)
    processes = [subprocess.Popen([sys.executable, "-c", FOLD, url]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert stores[0].tallies(NOON, NOON + HOUR)[READ.id].calls == 60
    with stores[0]._engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).where(schema.windows.c.folded == sa.false())) == 0


FOLD = """
import sys, datetime
from dbpilot.history.sql_store import SqlStore
store = SqlStore(sys.argv[1], "shop")
for second in range(0, 300, 30):
    store.maintain(datetime.datetime(2025, 1, 31, 13, tzinfo=datetime.UTC) + datetime.timedelta(seconds=second))
"""


@sql_only
def test_many_processes_may_begin_a_history_at_once(open_store: Opener) -> None:
    url = open_store()._engine.url.render_as_string(hide_password=False)
    processes = [subprocess.Popen([sys.executable, "-c", CLAIM, url], stdout=subprocess.PIPE) for _ in range(4)]
    assert sorted(process.communicate(timeout=60)[0].strip() for process in processes) == [b"False"] * 3 + [b"True"]


CLAIM = """
import sys, datetime
from dbpilot.history.sql_store import SqlStore
now = datetime.datetime(2025, 1, 31, tzinfo=datetime.UTC)
print(SqlStore(sys.argv[1], "shop").claim("it", now + datetime.timedelta(hours=1), now))
"""


@sql_only
def test_a_fold_that_is_killed_changes_nothing(open_store: Opener) -> None:
    store = open_store()
    for number in range(30):
        store.write(_batch(_tally(0.25), NOON + timedelta(seconds=10 * number)))
    url = store._engine.url.render_as_string(hide_password=False)
    assert subprocess.run([sys.executable, "-c", DIE_IN_A_FOLD, url]).returncode == -9
    assert store.tallies(NOON, NOON + HOUR)[READ.id].calls == 30
    store.maintain(NOON + 2 * HOUR)
    assert store.tallies(NOON, NOON + HOUR)[READ.id].calls == 30


DIE_IN_A_FOLD = """
import os, signal, sys, datetime
from dbpilot.history import sql_store
sql_store._mark_folded = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sql_store.SqlStore(sys.argv[1], "shop").maintain(datetime.datetime(2025, 1, 31, 12, 30, tzinfo=datetime.UTC))
"""


@sql_only
def test_what_is_too_old_is_gone_level_by_level(open_store: Opener, clock: FakeClock) -> None:
    store = open_store()
    store.write(_batch(_tally(0.25)))
    for days, left in ((0, True), (3, True), (40, True), (402, False)):
        now = NOON + timedelta(days=days)
        clock.advance((now - clock.now()).total_seconds())
        store.maintain(now)
        found = store.tallies(NOON, clock.now() + HOUR)
        assert (READ.id in found) == left, days
        assert bool(store.patterns([READ.id])) == left
        assert bool(store.events("slow", NOON, NOON + HOUR, 1)) == (days < 14)


@sql_only
def test_what_is_in_no_sum_yet_is_not_forgotten(open_store: Opener, clock: FakeClock) -> None:
    folding, forgetting = open_store(), open_store()
    for number in range(5):
        folding.write(_batch(_tally(0.25), NOON + timedelta(seconds=10 * number)))
    clock.advance(2 * 24 * 3600)
    assert folding.claim("fold", clock.now() + HOUR, clock.now()), "it is between two steps"
    forgetting.maintain(clock.now())
    assert forgetting.tallies(NOON - 24 * HOUR, clock.now())[READ.id].calls == 5
    folding.maintain(clock.now())
    assert forgetting.tallies(NOON - 24 * HOUR, clock.now())[READ.id].calls == 5
    clock.advance(500 * 24 * 3600)
    folding.write(_batch(_tally(0.25)))  # about a time of which not even sums are kept
    assert forgetting.claim("fold", clock.now() + HOUR, clock.now())
    folding.maintain(clock.now())
    assert forgetting.tallies(NOON - 24 * HOUR, clock.now()) == {}, "but not for ever"


@sql_only
def test_a_claim_is_one_processs_until_its_time_is_over(open_store: Opener) -> None:
    one, other = open_store(), open_store()
    assert one.claim("alert", NOON + HOUR, NOON)
    assert one.claim("alert", NOON + HOUR, NOON), "its own it may claim again"
    assert not other.claim("alert", NOON + HOUR, NOON)
    assert other.claim("another", NOON + HOUR, NOON)
    assert other.claim("alert", NOON + 2 * HOUR, NOON + HOUR)
    assert not one.claim("alert", NOON + 2 * HOUR, NOON + HOUR)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_shares_neither_claims_nor_locks_nor_samples_with_its_parent(
    sqlite_url: sa.URL, clock: FakeClock
) -> None:
    store = SqlStore(sqlite_url.render_as_string(), "shop", clock=clock)
    assert store.claim("alert", NOON + HOUR, NOON)
    store.write(Batch([_sampled(READ.id)]))
    store.write(Batch([_sampled(READ.id)]))
    with store._opening:  # as another thread of the parent may at any time
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # rather than wait for ever
            store.abandon()
            os._exit(2 * store.claim("alert", NOON + HOUR, NOON) + (_samples(store, READ.id) != 1))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _samples(store, READ.id) == 2
    store.close()


@sql_only
def test_a_damaged_window_is_skipped_and_counted(open_store: Opener) -> None:
    store = open_store()
    store.write(_batch(_tally(0.25)))
    store.write(_batch(_tally(0.25), NOON + timedelta(minutes=1)))
    table = schema.windows
    damage = sa.update(table).where(table.c.start_s == NOON.timestamp()).values(data=b"\x02broken")
    with store._engine.execution_options(dbpilot_writes=True).begin() as connection:
        connection.execute(damage)
    assert store.tallies(NOON, NOON + HOUR)[READ.id].calls == 1
    assert store.damaged == 1


def test_the_migrations_make_the_tables_that_the_code_uses(database_url: sa.URL) -> None:
    store = SqlStore(database_url.render_as_string(hide_password=False), "shop")
    store.maintain(NOON)
    store.close()
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        options = {"version_table": "dbpilot_schema_version"}
        found = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(found, schema.metadata) == []
    engine.dispose()


@sql_only
def test_several_databases_in_one_history_are_told_apart(open_store: Opener) -> None:
    shop, office = open_store("shop"), open_store("office")
    shop.write(_batch(_tally(0.25)))
    office.write(_batch(_tally(0.25, 0.5)))
    for store in (shop, office):
        store.maintain(NOON + HOUR)
    assert shop.tallies(NOON, NOON + HOUR)[READ.id].calls == 1
    assert office.tallies(NOON, NOON + HOUR)[READ.id].calls == 2
    assert len(shop.events("slow", NOON, NOON + HOUR, 10)) == 1


@sql_only
def test_names_that_differ_in_case_differ(open_store: Opener) -> None:
    small, capital = open_store("app.db"), open_store("App.db")
    small.write(_batch(_tally(0.25)))
    small.write(Batch(events=[Event("receipt", NOON, key, 0.0, {}) for key in ("job", "Job")]))
    small.maintain(NOON + HOUR)
    assert capital.tallies(NOON, NOON + HOUR) == {}
    assert capital.events("slow", NOON, NOON + HOUR, 10) == []
    assert [event.key for event in small.events("receipt", NOON, NOON + HOUR, 10, key="Job")] == ["Job"]
    assert small.claim("alert", NOON + HOUR, NOON)
    assert capital.claim("Alert", NOON + HOUR, NOON)
    assert capital.claim("alert", NOON + HOUR, NOON)


def test_a_file_becomes_smaller_when_what_was_in_it_is_too_old(sqlite_url: sa.URL, clock: FakeClock) -> None:
    def size() -> int:
        with sa.create_engine(sqlite_url, poolclass=sa.NullPool).connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").close()
        return Path(str(sqlite_url.database)).stat().st_size

    store = SqlStore(sqlite_url.render_as_string(hide_password=False), "shop", HistoryConfig(), clock)
    noise = random.Random(7)
    events = [Event("slow", clock.now(), READ.id, 1.5, {"noise": noise.randbytes(2_000).hex()}) for _ in range(1_000)]
    store.write(Batch([READ], [], events))
    before = size()
    for _ in range(3):
        clock.advance(timedelta(days=500).total_seconds())
        store.maintain(clock.now())
    assert size() < before / 4
    store.write(_batch(_tally(0.25), clock.now()))
    assert len(store.events("slow", clock.now() - HOUR, clock.now() + HOUR, 10)) == 1
    store.close()
