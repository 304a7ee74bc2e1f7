"""Counting stays right and bounded whatever the application sends."""

import _thread
import time
from datetime import timedelta
from threading import Lock, Thread

from dbpilot.config import QueriesConfig
from dbpilot.history.store import OTHER_ID
from dbpilot.queries.recorder import Buffer, Execution, Recorder
from dbpilot.queries.windows import MAX_SERIES, MAX_SLOW_PER_WINDOW, QueryWindows
from dbpilot.sql.syntax import SQLITE
from dbpilot.testing import FakeClock

CLOCK = FakeClock()


def _windows(**config: float) -> QueryWindows:
    return QueryWindows(QueriesConfig.model_validate(config), SQLITE, CLOCK.now())


def _ran(statement: str, duration_s: float = 0.01, error: str | None = None) -> Execution:
    return Execution(statement, 0.0, duration_s, 0.0, 1, error)


def test_patterns_over_the_limit_are_counted_as_other() -> None:
    windows = _windows(max_patterns=3)
    for number in range(10):
        windows.add(_ran(f"SELECT c{number} FROM t"), CLOCK.now())
    windows.add(_ran("SELECT c0 FROM t"), CLOCK.now())
    [window] = windows.batch().windows
    assert len(window.tallies) == 4
    assert window.tallies[OTHER_ID].calls == 7
    assert sum(tally.calls for tally in window.tallies.values()) == 11


def test_series_for_metrics_are_bounded() -> None:
    windows = _windows(max_patterns=10_000)
    for number in range(MAX_SERIES + 50):
        windows.add(_ran(f"SELECT a FROM t{number}"), CLOCK.now())
    assert len(windows.series) == MAX_SERIES + 1
    assert windows.series["SELECT", "other"].succeeded == 50


def test_a_table_that_nobody_has_gets_no_series() -> None:
    windows = _windows()
    windows.add(_ran("SELECT a FROM misspelt", error="OperationalError"), CLOCK.now())
    assert [(key, series.failed) for key, series in windows.series.items()] == [(("SELECT", "other"), 1)]


def test_slow_executions_are_bounded_and_counted_all_the_same() -> None:
    windows = _windows()
    for _ in range(MAX_SLOW_PER_WINDOW + 5):
        windows.add(_ran("SELECT a FROM t", duration_s=1.0), CLOCK.now())
    assert len(windows.batch().slow) == MAX_SLOW_PER_WINDOW
    assert windows.series["SELECT", "t"].slow_succeeded == MAX_SLOW_PER_WINDOW + 5


def test_failures_are_a_series_of_their_own() -> None:
    windows = _windows()
    windows.add(_ran("SELECT a FROM t"), CLOCK.now())
    windows.add(_ran("SELECT a FROM t", duration_s=2.0, error="OperationalError"), CLOCK.now())
    series = windows.series["SELECT", "t"]
    assert (series.succeeded, series.failed, series.slow_succeeded, series.slow_failed) == (1, 1, 0, 1)


def test_windows_of_all_processes_start_at_the_same_instants() -> None:
    clock = FakeClock(CLOCK.now() + timedelta(seconds=7))
    windows = QueryWindows(QueriesConfig(), SQLITE, clock.now())
    assert windows.current.start == CLOCK.now()
    clock.advance(2.9)
    assert not windows.is_over(clock.now())
    clock.advance(0.2)
    assert windows.is_over(clock.now())
    windows.close(clock.now())
    assert windows.current.start == CLOCK.now() + timedelta(seconds=10)


def test_a_pattern_keeps_its_text_however_many_others_come() -> None:
    windows = _windows(max_patterns=2)
    for number in range(50):
        windows.add(_ran("SELECT a FROM hot"), CLOCK.now())
        windows.add(_ran(f"SELECT c{number} FROM t"), CLOCK.now())
        [hot] = [pattern for pattern in windows.close(CLOCK.now()).patterns if "hot" in pattern.text]
        assert hot.tables == ("hot",)


def test_a_clock_set_back_begins_a_new_window() -> None:
    windows = _windows()
    assert windows.is_over(CLOCK.now() - timedelta(hours=1))


def test_a_thread_that_python_did_not_start_is_forgotten_too() -> None:
    recorder, ended = Recorder(max_pending=1), Lock()
    ended.acquire()

    def run() -> None:
        recorder.buffer().append(_ran("SELECT 1"))
        ended.release()

    _thread.start_new_thread(run, ())
    ended.acquire()
    deadline = time.monotonic() + 10
    while recorder._buffers and time.monotonic() < deadline:
        list(recorder.take())
    assert recorder._buffers == []


def test_a_full_buffer_drops_and_counts() -> None:
    life = object.__new__(type("Life", (), {}))
    buffer = Buffer(limit=2, life=life)
    for _ in range(5):
        buffer.append(_ran("SELECT 1"))
    assert (len(list(buffer.take())), buffer.dropped) == (2, 3)


def test_every_thread_has_its_own_buffer_and_an_ended_ones_is_forgotten() -> None:
    recorder = Recorder(max_pending=1)
    thread = Thread(target=lambda: [recorder.buffer().append(_ran("SELECT 1")) for _ in range(3)])
    thread.start()
    thread.join()
    recorder.buffer().append(_ran("SELECT 2"))
    assert [execution.statement for execution in recorder.take()] == ["SELECT 1", "SELECT 2"]
    assert (recorder.dropped, len(recorder._buffers)) == (2, 1)
