"""What ran between two reads of a server's statistics."""

from datetime import UTC, datetime

import pytest

from dbpilot.dialects.base import ServerStatement
from dbpilot.queries.server_side import MOST, Counted, ServerSide, differences, pattern_of
from dbpilot.sql.syntax import MYSQL, POSTGRESQL
from dbpilot.unsupported import Unsupported

AT = datetime(2026, 1, 5, 9, tzinfo=UTC)


def counted(calls, total_s=1.0, rows=0, errors=None, digest="1", query="SELECT a FROM t"):
    return ServerStatement(digest, f"{digest:0>16}", query, calls, total_s, rows, None, errors)


def between(before, after, **how):
    return [
        (one.statement.digest, one.calls, one.total_s, one.rows, one.errors)
        for one in differences({one.digest: one for one in before}, after, **how)
    ]


@pytest.mark.parametrize(
    ("before", "after", "ran"),
    [
        ([counted(5, 1.0, 10)], [counted(8, 2.5, 16)], [("1", 3, 1.5, 6, 0)]),
        ([counted(5)], [counted(5)], []),
        ([], [counted(2, 0.5, 2)], [("1", 2, 0.5, 2, 0)]),  # it was never seen before
        ([counted(5, 9.0, 50)], [counted(2, 0.5, 2)], [("1", 2, 0.5, 2, 0)]),  # the server counts from zero again
        ([counted(5)], [], []),  # the server forgot it
        ([counted(5, errors=1)], [counted(9, 2.0, errors=3)], [("1", 4, 1.0, 0, 2)]),
        ([counted(5, 1.0)], [counted(6, 0.9)], [("1", 1, 0.0, 0, 0)]),  # a time is never below zero
    ],
)
def test_what_ran_is_the_difference_of_two_reads(before, after, ran):
    assert between(before, after) == ran


def test_a_digest_that_is_new_to_a_read_that_was_cut_may_be_old_and_is_not_counted():
    assert between([], [counted(1000)], is_whole=False) == []


def test_executions_are_counted_as_if_each_took_the_mean():
    tally = Counted(counted(4), 4, 2.0, 8, 1).tally(AT, slow_s=0.6)
    assert (tally.calls, tally.total_s, tally.mean_s, tally.min_s, tally.max_s) == (4, 2.0, 0.5, 0.5, 0.5)
    assert (tally.rows, tally.failed, tally.slow, tally.last_seen) == (8, 1, 0, AT)
    assert tally.histogram.quantile(0.99) == pytest.approx(0.5, rel=0.02)
    assert Counted(counted(4), 4, 2.0, 8, 0).tally(AT, slow_s=0.5).slow == 4


@pytest.mark.parametrize(
    ("query", "syntax"),
    [
        ("COMMIT", POSTGRESQL),
        ("SET timezone = ?", POSTGRESQL),
        ("SELECT count(*) FROM pg_stat_activity", POSTGRESQL),
        ("SELECT a.query FROM public.pg_stat_statements a", POSTGRESQL),
        ("SELECT pg_catalog.version()", POSTGRESQL),
        ("SELECT set_config(?, ?, ?)", POSTGRESQL),
        ("SELECT * FROM `information_schema`.`tables`", MYSQL),
        ("SELECT @@`sql_mode`", MYSQL),
        ("SHOW VARIABLES", MYSQL),
    ],
)
def test_transactions_and_monitoring_are_no_work_of_an_application(query, syntax):
    assert pattern_of(counted(1, query=query), syntax) is None


def test_a_pattern_keeps_the_id_that_an_application_would_give_it():
    pattern = pattern_of(counted(1, query="SELECT name FROM shop.items WHERE id = ?"), POSTGRESQL)
    assert pattern is not None
    assert (pattern.id, pattern.operation, pattern.tables) == (f"{1:016}", "SELECT", ("shop.items",))
    assert pattern_of(counted(1, query="SELECT total_of(?)"), POSTGRESQL) is not None, "a function may do work"


def test_the_first_look_only_remembers_and_a_server_that_tells_nothing_begins_anew():
    reads = iter([[counted(5)], [counted(7, 2.0)], Unsupported("off", "on"), [counted(100)], [counted(101, 1.5)]])
    asked, found = [], []

    def read(most):
        asked.append(most)
        return next(reads)

    side = ServerSide(read, lambda some: found.append([one.calls for one in some]), 60)
    for _ in range(5):
        side.look()
    assert found == [[2], [1]]
    assert asked == [MOST] * 5
