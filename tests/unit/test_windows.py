"""Counting stays right and bounded whatever the application sends."""

from datetime import timedelta
from typing import Any

import pytest

from dbpilot.config import QueriesConfig
from dbpilot.history.store import OTHER_ID, Batch, Event, Pattern
from dbpilot.queries.callsite import Frame
from dbpilot.queries.intake import MAX_SLOW_PER_WINDOW, Intake
from dbpilot.queries.pace import MAX_PATTERNS, MIN_CALLS, Pace
from dbpilot.queries.receipts import MAX_LINES_KEPT, N_PLUS_ONE, RECEIPT
from dbpilot.queries.recorder import Detail, Execution, Recorder
from dbpilot.queries.request import Request
from dbpilot.queries.slow import SLOW, redacted
from dbpilot.queries.windows import MAX_SERIES, QueryWindows
from dbpilot.queries.worker import Worker
from dbpilot.sql.syntax import SQLITE
from dbpilot.testing import FakeClock

CLOCK = FakeClock()
LINE = Frame("/srv/shop/orders.py", 41, "list_orders")


def _nobody(_event: Event, _pattern: Pattern, _sent: Any) -> None:
    """Nobody wants to know of slow executions."""


def _intake(**config: Any) -> Intake:
    return Intake(QueriesConfig.model_validate(config), SQLITE, CLOCK.now(), _nobody)


def _ran(
    statement: str,
    duration_s: float = 0.01,
    error: str | None = None,
    request: Request | None = None,
    rows: int = 1,
    relationship: str | None = None,
) -> Execution:
    detail = Detail(LINE, relationship, error=error, sent=(statement, ("secret", 7)))
    return Execution(statement, 0.0, duration_s, 0.0, 0.0, rows, request, detail)


def test_patterns_over_the_limit_are_counted_as_other() -> None:
    intake = _intake(max_patterns=3)
    for number in range(10):
        intake.add(_ran(f"SELECT c{number} FROM t"), CLOCK.now())
    intake.add(_ran("SELECT c0 FROM t"), CLOCK.now())
    [window] = intake.batch().windows
    assert len(window.tallies) == 4
    assert window.tallies[OTHER_ID].calls == 7
    assert sum(tally.calls for tally in window.tallies.values()) == 11


def test_series_for_metrics_are_bounded() -> None:
    intake = _intake(max_patterns=10_000)
    for number in range(MAX_SERIES + 50):
        intake.add(_ran(f"SELECT a FROM t{number}"), CLOCK.now())
    assert len(intake.windows.series()) == MAX_SERIES + 1
    assert intake.windows.series()["SELECT", "other"].succeeded == 50


def test_a_table_that_nobody_has_gets_no_series() -> None:
    intake = _intake()
    intake.add(_ran("SELECT a FROM misspelt", error="OperationalError"), CLOCK.now())
    assert [(key, series.failed) for key, series in intake.windows.series().items()] == [(("SELECT", "other"), 1)]


def test_slow_executions_are_bounded_and_counted_all_the_same() -> None:
    intake = _intake()
    for _ in range(MAX_SLOW_PER_WINDOW + 5):
        intake.add(_ran("SELECT a FROM t", duration_s=1.0), CLOCK.now())
    assert len(intake.batch().events) == MAX_SLOW_PER_WINDOW
    assert intake.slow_untold == 5
    assert intake.windows.series()["SELECT", "t"].slow_succeeded == MAX_SLOW_PER_WINDOW + 5


def test_a_failure_on_a_table_that_is_known_names_it() -> None:
    intake = _intake()
    intake.add(_ran("SELECT a FROM t"), CLOCK.now())
    intake.add(_ran("INSERT INTO t (a) VALUES (1)", error="IntegrityError"), CLOCK.now())
    assert set(intake.windows.series()) == {("SELECT", "t"), ("INSERT", "t")}


def test_failures_are_a_series_of_their_own() -> None:
    intake = _intake()
    intake.add(_ran("SELECT a FROM t"), CLOCK.now())
    intake.add(_ran("SELECT a FROM t", duration_s=2.0, error="OperationalError"), CLOCK.now())
    series = intake.windows.series()["SELECT", "t"]
    assert (series.succeeded, series.failed, series.slow_succeeded, series.slow_failed) == (1, 1, 0, 1)


def test_windows_of_all_processes_start_at_the_same_instants() -> None:
    clock = FakeClock(CLOCK.now() + timedelta(seconds=7))
    windows = QueryWindows(QueriesConfig(), clock.now())
    assert windows.current.start == CLOCK.now()
    clock.advance(2.9)
    assert not windows.is_over(clock.now())
    clock.advance(0.2)
    assert windows.is_over(clock.now())
    windows.close(clock.now())
    assert windows.current.start == CLOCK.now() + timedelta(seconds=10)


def test_what_ended_before_a_window_did_is_counted_in_it() -> None:
    """Somebody who asks at the very end of a window finds what ran until then, whenever the worker comes to it."""
    clock = FakeClock(CLOCK.now() + timedelta(seconds=9))
    recorder, finished = Recorder(max_pending=10), list[Batch]()
    intake = Intake(QueriesConfig(), SQLITE, clock.now(), _nobody)
    worker = Worker(recorder, intake, finished.append, clock, drain_s=60)
    recorder.append(tuple(_ran("SELECT a FROM t")))
    clock.advance(2)
    recorder.append(tuple(_ran("SELECT b FROM t")._replace(ended=clock.ticks())))
    with worker.lock:
        live = worker.catch_up().batch()
    windows = [window for batch in [*finished, live] for window in batch.windows]
    assert [(window.start - CLOCK.now()).seconds for window in windows] == [0, 10]
    assert [sum(tally.calls for tally in window.tallies.values()) for window in windows] == [1, 1]


def test_a_pattern_keeps_its_text_however_many_others_come() -> None:
    intake = _intake(max_patterns=2)
    for number in range(50):
        intake.add(_ran("SELECT a FROM hot"), CLOCK.now())
        intake.add(_ran(f"SELECT c{number} FROM t"), CLOCK.now())
        [hot] = [pattern for pattern in intake.close(CLOCK.now()).patterns if "hot" in pattern.text]
        assert hot.tables == ("hot",)


def test_a_clock_set_back_begins_a_new_window() -> None:
    intake = _intake()
    assert intake.is_over(CLOCK.now() - timedelta(hours=1))


def test_a_slow_execution_is_remembered_without_its_values() -> None:
    intake = _intake()
    intake.add(_ran("SELECT a FROM t WHERE b = ?", duration_s=1.5, request=Request("GET /orders")), CLOCK.now())
    [event] = [event for event in intake.batch().events if event.kind == SLOW]
    assert (event.value, event.body["callsite"], event.body["route"]) == (1.5, "srv/shop/orders.py:41", "GET /orders")
    assert event.body["parameters"] == ["str(6)", "int"]
    assert "secret" not in repr(event)


def test_a_pattern_may_have_a_threshold_of_its_own() -> None:
    plain = _intake()
    plain.add(_ran("SELECT a FROM t"), CLOCK.now())
    [id_] = plain.windows.patterns
    intake = _intake(slow_s_by_pattern={id_: 0.005})
    intake.add(_ran("SELECT a FROM t"), CLOCK.now())
    intake.add(_ran("SELECT b FROM t"), CLOCK.now())
    assert [event.key for event in intake.batch().events] == [id_]


def test_a_receipt_says_what_a_request_ran() -> None:
    intake, request = _intake(), Request("GET /orders")
    for _ in range(3):
        intake.add(_ran("SELECT a FROM t", request=request), CLOCK.now())
    intake.add(_ran("SELECT b FROM t", error="OperationalError 1", request=request), CLOCK.now())
    found = intake.receipts.find(request.id)
    assert found is not None
    assert [(line["calls"], line["errors"]) for line in found.body["lines"]] == [(3, 0), (1, 1)]
    assert intake.receipts.find("unknown") is None
    assert [event.key for event in intake.close(CLOCK.now()).events if event.kind == RECEIPT] == [request.id]
    assert intake.close(CLOCK.now()).events == (), "once is enough, while nothing more runs"
    assert intake.receipts.find(request.id) == found


def test_a_select_repeated_in_one_request_is_reported_once() -> None:
    intake, request = _intake(n_plus_one=3), Request("GET /orders")
    for _ in range(5):
        intake.add(_ran("SELECT a FROM t WHERE id = ?", request=request), CLOCK.now())
    [event] = [event for event in intake.close(CLOCK.now()).events if event.kind == N_PLUS_ONE]
    assert (event.value, event.body["callsite"]) == (5, "srv/shop/orders.py:41")
    intake.add(_ran("SELECT a FROM t WHERE id = ?", request=request), CLOCK.now())
    assert [e for e in intake.close(CLOCK.now()).events if e.kind == N_PLUS_ONE] == []


def test_reading_in_batches_and_writing_are_no_repetition() -> None:
    intake, request = _intake(n_plus_one=3), Request("job")
    for _ in range(9):
        intake.add(_ran("SELECT a FROM t WHERE id > ? LIMIT 500", request=request, rows=500), CLOCK.now())
        intake.add(_ran("INSERT INTO t VALUES (?)", request=request), CLOCK.now())
    for _ in range(9):
        intake.add(_ran("SELECT a FROM t", request=Request("another every time")), CLOCK.now())
    assert [event for event in intake.batch().events if event.kind == N_PLUS_ONE] == []


def test_a_lazy_load_never_reads_in_batches() -> None:
    intake, request = _intake(n_plus_one=3), Request("GET /orders")
    for _ in range(9):
        ran = _ran("SELECT a FROM t WHERE id = ?", request=request, rows=500, relationship="Order.items")
        intake.add(ran, CLOCK.now())
    [event] = [event for event in intake.batch().events if event.kind == N_PLUS_ONE]
    assert (event.value, event.body["relationship"]) == (9, "Order.items")


def test_receipts_are_bounded() -> None:
    intake = _intake(requests_kept=10)
    requests = [Request(f"r{number}") for number in range(50)]
    for request in requests:
        intake.add(_ran("SELECT a FROM t", request=request), CLOCK.now())
    assert len(intake.receipts.latest()) == 10
    for number in range(300):
        intake.add(_ran(f"SELECT c{number} FROM t", request=requests[-1]), CLOCK.now())
    found = intake.receipts.find(requests[-1].id)
    assert found is not None
    assert (len(found.body["lines"]), found.body["calls"]) == (101, 301)


def test_what_a_window_touches_is_bounded_and_what_is_remarkable_is_kept() -> None:
    intake = _intake(requests_kept=10)
    intake.add(_ran("SELECT broken", error="Error", request=Request("the first")), CLOCK.now())
    for number in range(500):
        intake.add(_ran("SELECT a FROM t", request=Request(f"r{number}")), CLOCK.now())
    assert len(intake.receipts._of_window()) == 11
    routes = [event.body["route"] for event in intake.close(CLOCK.now()).events if event.kind == RECEIPT]
    assert "the first" in routes


def test_a_long_text_is_one_pattern_whatever_follows_and_is_not_kept_whole() -> None:
    intake = _intake()
    for number in range(3):
        intake.add(_ran("SELECT a FROM t WHERE b = 1 OR " * 1000 + str(number)), CLOCK.now())
    assert len(intake.batch().windows[0].tallies) == 1
    assert intake._book._seen.cache_info().currsize == 1


def test_receipts_of_large_requests_are_fewer() -> None:
    intake = _intake()
    for number in range(MAX_LINES_KEPT // 100 + 50):
        request = Request(f"r{number}")
        for column in range(100):
            intake.add(_ran(f"SELECT c{column} FROM t", request=request), CLOCK.now())
    latest = intake.receipts.latest()
    assert MAX_LINES_KEPT - 100 <= sum(len(event.body["lines"]) for event in latest) <= MAX_LINES_KEPT + 100


def test_where_a_pattern_runs_is_sampled_per_window() -> None:
    intake = _intake()
    for _ in range(2):
        intake.add(_ran("SELECT a FROM t", request=Request("GET /orders")), CLOCK.now())
    [pattern] = intake.close(CLOCK.now()).patterns
    [source] = pattern.sources
    assert (source.callsite, source.function, source.route, source.samples) == (
        LINE.callsite,
        "list_orders",
        "GET /orders",
        2,
    )
    intake.add(_ran("SELECT a FROM t"), CLOCK.now())
    assert [source.samples for source in intake.batch().patterns[0].sources] == [1]


def test_parameters_are_told_by_type_and_length() -> None:
    assert redacted({"symbol": "비밀", "n": 7, "none": None}) == {"symbol": "str(2)", "n": "int", "none": "NoneType"}
    assert redacted([("a", 1), ("b", 2)]) == {"rows": 2, "first": ["str(1)", "int"]}
    assert redacted(()) == []
    assert redacted(None) is None


def test_many_rare_patterns_do_not_hide_how_slow_the_database_is() -> None:
    pace = Pace()
    for number in range(2 * MAX_PATTERNS):
        pace.add(f"rare {number}", 0.001)
    assert pace.slowdown() is None
    for duration_s in (0.001, 0.005):
        for _ in range(MIN_CALLS):
            pace.add("often", duration_s)
        slowdown = pace.slowdown()
    assert slowdown == pytest.approx(5, rel=0.01)
