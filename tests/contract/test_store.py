"""Every store remembers the same, in memory and on every database."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from dbpilot.history import schema
from dbpilot.history.sql_store import SqlStore
from dbpilot.history.store import Batch, MemoryStore, Pattern, SlowQuery, Store, Window
from dbpilot.history.tally import Tally

NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
READ = Pattern("a" * 16, "SELECT 한국 FROM t WHERE 📈 = ?", "SELECT", ("t",))
WRITE = Pattern("b" * 16, "INSERT INTO t VALUES (?)" + " " * 70_000, "INSERT", ("t", "s.u"))

Opener = Callable[..., Store]


@pytest.fixture(params=["memory", "sqlite", "mariadb", "postgresql"])
def open_store(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens the same history again and again, as several processes would."""
    opened: list[Store] = []
    if request.param == "memory":
        opened.append(MemoryStore())
        yield lambda: opened[0]
    else:
        url: sa.URL = request.getfixturevalue(f"{request.param}_url")

        def open_(database: str = "shop") -> Store:
            opened.append(SqlStore(url.render_as_string(hide_password=False), database))
            return opened[-1]

        yield open_
    for store in opened:
        store.close()


def _tally(*durations_s: float, at: datetime = NOON, error: str | None = None) -> Tally:
    tally = Tally()
    for duration_s in durations_s:
        tally.add(at, duration_s, duration_s / 2, rows=2, error=error, slow_s=1)
    return tally


def _batch(tally: Tally, start: datetime = NOON) -> Batch:
    slow = [SlowQuery(start, READ.id, 1.5, 2, None)]
    return Batch([READ, WRITE], [Window(start, {READ.id: tally, WRITE.id: _tally(0.1)})], slow)


def test_what_is_written_is_read_the_same(open_store: Opener) -> None:
    store, tally = open_store(), _tally(0.25, 1.5, error="OperationalError 1205")
    store.write(_batch(tally))
    read = open_store().tallies(NOON, NOON + HOUR)
    assert read.keys() == {READ.id, WRITE.id}
    assert read[READ.id].histogram.buckets == tally.histogram.buckets
    assert read[READ.id].errors == tally.errors
    assert (read[READ.id].calls, read[READ.id].slow, read[READ.id].rows) == (2, 1, 4)
    assert (read[READ.id].min_s, read[READ.id].max_s, read[READ.id].last_seen) == (0.25, 1.5, NOON)
    assert (read[READ.id].total_s, read[READ.id].fetch_s) == (1.75, 0.875)
    assert open_store().patterns([READ.id, WRITE.id, "unknown"]) == {READ.id: READ, WRITE.id: WRITE}


def test_what_two_processes_write_adds_up(open_store: Opener) -> None:
    one, other = open_store(), open_store()
    one.write(_batch(_tally(0.25)))
    other.write(_batch(_tally(0.5, 0.75)))
    assert one.tallies(NOON, NOON + HOUR)[READ.id].calls == 3
    assert one.tallies(NOON, NOON + HOUR)[READ.id].max_s == 0.75
    assert len(other.slow(NOON, NOON + HOUR, limit=10)) == 2


def test_a_window_that_comes_twice_adds_up(open_store: Opener) -> None:
    store = open_store()
    store.write(_batch(_tally(0.25)))
    store.write(_batch(_tally(0.5)))
    assert store.tallies(NOON, NOON + HOUR)[READ.id].calls == 2


def test_only_the_asked_for_time_is_read(open_store: Opener) -> None:
    store = open_store()
    for hours in range(4):
        store.write(_batch(_tally(0.25), NOON + hours * HOUR))
    assert store.tallies(NOON + HOUR, NOON + 3 * HOUR)[READ.id].calls == 2
    assert [query.at for query in store.slow(NOON + HOUR, NOON + 3 * HOUR, 10)] == [NOON + 2 * HOUR, NOON + HOUR]
    assert [query.at for query in store.slow(NOON, NOON + 4 * HOUR, limit=1)] == [NOON + 3 * HOUR]


def test_what_is_forgotten_is_gone_and_the_rest_is_there(open_store: Opener) -> None:
    store = open_store()
    store.write(_batch(_tally(0.25)))
    store.write(_batch(_tally(0.25), NOON + HOUR))
    store.forget(NOON + HOUR)
    assert store.tallies(NOON, NOON + 2 * HOUR)[READ.id].calls == 1
    assert [query.at for query in store.slow(NOON, NOON + 2 * HOUR, 10)] == [NOON + HOUR]
    assert store.patterns([READ.id]) == {READ.id: READ}
    store.forget(NOON + 2 * HOUR)
    assert store.patterns([READ.id]) == {}, "what nothing names is forgotten as well"
    store.write(_batch(_tally(0.25), NOON + 2 * HOUR))
    assert store.patterns([READ.id]) == {READ.id: READ}


def test_an_empty_history_answers(open_store: Opener) -> None:
    store = open_store()
    assert store.tallies(NOON, NOON + HOUR) == {}
    assert store.patterns(["unknown"]) == {}
    assert store.slow(NOON, NOON + HOUR, 10) == []


def test_the_migrations_make_the_tables_that_the_code_uses(database_url: sa.URL) -> None:
    store = SqlStore(database_url.render_as_string(hide_password=False), "shop")
    store.forget(NOON)
    store.close()
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        options = {"version_table": "dbpilot_schema_version"}
        found = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(found, schema.metadata) == []
    engine.dispose()


@pytest.mark.parametrize("open_store", ["sqlite", "mariadb", "postgresql"], indirect=True)
def test_several_databases_in_one_history_are_told_apart(open_store: Opener) -> None:
    shop, office = open_store("shop"), open_store("office")
    shop.write(_batch(_tally(0.25)))
    office.write(_batch(_tally(0.25, 0.5)))
    assert shop.tallies(NOON, NOON + HOUR)[READ.id].calls == 1
    assert office.tallies(NOON, NOON + HOUR)[READ.id].calls == 2
    assert len(shop.slow(NOON, NOON + HOUR, 10)) == 1
