"""What the pilot sees of an application's statements, the same on every database."""

import gc
import threading

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from tests.contract.probe import Probe, items

SECRET = "900101-1234567 비밀"


def _insert(connection: sa.Connection, *ids: int) -> None:
    connection.execute(items.insert(), [{"id": id_, "name": SECRET} for id_ in ids])


def test_every_execution_is_counted_once(probe: Probe) -> None:
    by_id = sa.select(items.c.name).where(items.c.id == sa.bindparam("wanted"))
    probe.run(lambda connection: [connection.execute(by_id, {"wanted": number}).all() for number in range(7)])
    line = probe.only("WHERE items.id = ?")
    assert (line.calls, line.errors, line.operation, line.tables) == (7, 0, "SELECT", ("items",))
    assert 0 < line.min_s <= line.p50_s <= line.p95_s <= line.p99_s <= line.max_s <= line.total_s


def test_the_application_gets_its_rows_untouched(probe: Probe) -> None:
    probe.run(lambda connection: _insert(connection, *range(500)))
    query = sa.select(items.c.id).order_by(items.c.id)
    streamed = query.execution_options(yield_per=50)
    assert probe.run(lambda connection: connection.scalars(query).all()) == list(range(500))
    assert probe.run(lambda connection: connection.scalars(streamed).all()) == list(range(500))


def test_fetching_is_timed_and_its_rows_are_counted(probe: Probe) -> None:
    probe.run(lambda connection: _insert(connection, *range(500)))
    query = sa.select(items.c.id)
    probe.run(lambda connection: connection.execute(query).all())
    probe.run(lambda connection: connection.execute(query.execution_options(yield_per=7)).all())
    probe.run(lambda connection: list(connection.execute(query)))
    probe.run(lambda connection: connection.execute(query).first())
    line = probe.only("SELECT items.id")
    assert line.calls == 4
    assert 1501 <= line.rows <= 1507, "first() may have fetched a buffer"
    assert 0 < line.fetch_s < line.total_s


def test_a_result_that_nobody_reads_is_counted(probe: Probe) -> None:
    def read_nothing(connection: sa.Connection) -> None:
        connection.execute(sa.select(items.c.name))

    probe.run(read_nothing)
    gc.collect()
    assert probe.only("SELECT items.name").calls == 1


def test_many_rows_sent_at_once_are_one_call_with_their_rows(probe: Probe) -> None:
    probe.run(lambda connection: _insert(connection, 1, 2, 3))
    line = probe.only("INSERT INTO items")
    assert (line.calls, line.rows, line.operation) == (1, 3, "INSERT")


def test_rows_affected_are_added_up(probe: Probe) -> None:
    probe.run(lambda connection: _insert(connection, 1, 2, 3))
    rename = items.update().where(items.c.id > 1).values(name="x")
    probe.run(lambda connection: connection.execute(rename))
    assert probe.only("UPDATE items").rows == 2


def test_a_failed_statement_is_counted_and_the_application_sees_its_own_error(probe: Probe) -> None:
    probe.run(lambda connection: _insert(connection, 1))
    with pytest.raises(IntegrityError):
        probe.run(lambda connection: connection.execute(items.insert().values(id=1, name=SECRET)))
    with pytest.raises(DBAPIError):
        probe.run(lambda connection: connection.execute(sa.text("SELECT nowhere FROM items")))
    assert probe.only("SELECT nowhere").errors == 1
    insert = probe.only("INSERT INTO items")
    assert (insert.calls, insert.errors) == (2, 1)
    [error_class] = insert.error_classes
    assert error_class.split()[0] in ("IntegrityError", "UniqueViolation", "UniqueViolationError")
    assert len(error_class.split()) == 2, "the database's own code comes with it"


def test_lists_of_any_length_are_one_pattern(probe: Probe) -> None:
    for length in range(1, 20):
        query = sa.select(items.c.id).where(items.c.id.in_(range(length)))
        probe.run(lambda connection, query=query: connection.execute(query).all())
    assert probe.only("items.id IN").calls == 19


def test_no_value_is_kept_whether_bound_or_written(probe: Probe) -> None:
    literal = sa.text(f"SELECT id FROM items WHERE name = '{SECRET}'")
    bound = sa.text("SELECT id FROM items WHERE name = :name")
    probe.run(lambda connection: connection.execute(literal).all())
    probe.run(lambda connection: connection.execute(bound, {"name": SECRET}).all())
    assert probe.only("WHERE name = ?").calls == 2
    assert SECRET not in repr(probe.pilot.query_stats(1, 1000))
    # The number alone might be among the digits of a duration.
    assert all("900101" not in line.query for line in probe.pilot.query_stats(1, 1000).patterns)


def test_savepoints_are_one_pattern(probe: Probe) -> None:
    def nested(connection: sa.Connection) -> None:
        for _ in range(5):
            with connection.begin_nested():
                connection.execute(sa.select(items.c.id)).all()

    probe.run(nested)
    assert probe.only("RELEASE SAVEPOINT").calls == 5


def test_statements_sent_as_they_are_count_too(probe: Probe) -> None:
    probe.run(lambda connection: connection.exec_driver_sql("SELECT count(*) FROM items").scalar())
    raw = {"no_parameters": True}
    probe.run(lambda connection: connection.execution_options(**raw).exec_driver_sql("SELECT 5 FROM items").all())
    assert probe.only("SELECT count(*) FROM items").calls == 1
    assert probe.only("SELECT ? FROM items").calls == 1


def test_a_slow_statement_is_remembered_one_by_one(probe: Probe) -> None:
    probe.run(lambda connection: connection.execute(probe.nap).all())
    report = probe.pilot.slow_queries(hours=1, limit=10)
    [slow] = report.queries
    assert slow.duration_s >= report.threshold_s
    assert (slow.severity, slow.error) == ("slow", None)
    assert slow.pattern_id in {line.pattern_id for line in probe.pilot.query_stats(1, 1000).patterns}
    assert probe.pilot.performance_summary(hours=1).queries.slow == 1


def test_after_stop_nothing_is_seen_and_everything_is_kept(probe: Probe) -> None:
    probe.run(lambda connection: connection.execute(sa.text("SELECT 1 FROM items")).all())
    probe.pilot.stop()
    probe.run(lambda connection: connection.execute(sa.text("SELECT 1 FROM items")).all())
    assert probe.only("FROM items").calls == 1


def test_connections_are_counted(probe: Probe) -> None:
    reading = probe.pilot.connections()
    assert (reading.in_use, reading.failed) == (0, 0)
    assert isinstance(reading.limit, int)
    probe.run(lambda connection: connection.execute(sa.text("SELECT 1")).all())
    assert probe.run(lambda _: probe.pilot.connections().in_use) == 1


def test_the_product_and_its_version_are_known(probe: Probe) -> None:
    database = probe.pilot.performance_summary(hours=1).database
    assert database.product in ("SQLite", "MariaDB", "PostgreSQL")
    assert database.version
    assert database.version[0].isdigit()


def test_nothing_is_lost_among_many_threads(threads_probe: Probe) -> None:
    query = sa.text("SELECT 1 FROM items")
    threads = [
        threading.Thread(target=lambda: [threads_probe.run(lambda c: c.execute(query).all()) for _ in range(100)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert threads_probe.only("SELECT ? FROM items").calls == 800
    assert threads_probe.pilot.performance_summary(1).watching.dropped == 0
