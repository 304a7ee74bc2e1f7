"""Recording is bounded, and every thread has a place of its own."""

import _thread
import time
from threading import Lock, Thread

from dbpilot.queries.recorder import Recorded, Recorder


def _ran(statement: str) -> Recorded:
    return (statement, 0.0, 0.01, 0.0, 0.0, 1, None, None)


def test_a_thread_that_python_did_not_start_is_forgotten_too() -> None:
    recorder, ended = Recorder(max_pending=1), Lock()
    ended.acquire()

    def run() -> None:
        recorder.append(_ran("SELECT 1"))
        ended.release()

    _thread.start_new_thread(run, ())
    ended.acquire()
    deadline = time.monotonic() + 10
    while len(recorder._pending) > 1 and time.monotonic() < deadline:
        list(recorder.take())
    assert len(recorder._pending) == 1, "only that of the thread that made the recorder"


def test_a_full_buffer_drops_and_counts() -> None:
    recorder = Recorder(max_pending=2)
    for _ in range(5):
        recorder.append(_ran("SELECT 1"))
    assert (len(list(recorder.take())), recorder.dropped) == (2, 3)


def test_every_thread_has_its_own_buffer_and_an_ended_ones_is_forgotten() -> None:
    recorder = Recorder(max_pending=1)
    thread = Thread(target=lambda: [recorder.append(_ran("SELECT 1")) for _ in range(3)])
    thread.start()
    thread.join()
    recorder.append(_ran("SELECT 2"))
    assert sorted(execution.statement for execution in recorder.take()) == ["SELECT 1", "SELECT 2"]
    assert (recorder.dropped, len(recorder._pending)) == (2, 1)


def test_a_thread_that_sends_without_end_does_not_keep_the_others_from_being_counted() -> None:
    recorder = Recorder(max_pending=1000)
    for _ in range(500):
        recorder.append(_ran("busy"))
    other = Thread(target=lambda: [recorder.append(_ran("other")) for _ in range(5)])
    other.start()
    other.join()
    seen = set()
    for _ in range(2):
        for execution in recorder.take():
            seen.add(execution.statement)
            break
    assert seen == {"busy", "other"}
