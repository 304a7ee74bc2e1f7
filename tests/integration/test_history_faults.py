"""The way to the history: what waits, what is refused, what is asked meanwhile: nothing is lost or doubled."""

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa

from dbpilot import Autopilot, PilotConfig, StoreError
from dbpilot.history.historian import MAX_REFUSALS, Historian
from dbpilot.history.sql_store import SqlStore, place
from dbpilot.history.store import Batch, MemoryStore, PackedWindow, Pattern, Window
from dbpilot.history.tally import Tally
from dbpilot.testing import FakeClock

NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)
Answer = TypeVar("Answer")


class PickyStore(MemoryStore):
    """A store that refuses some batches, or all."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.refuses: set[str] = set()
        self.took: list[str] = []

    def write(self, batch: Batch) -> None:
        if self.down or batch.id in self.refuses:
            raise StoreError("history: OperationalError: database is locked")
        super().write(batch)
        self.took.append(batch.id)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/application.sqlite3")
    yield engine
    engine.dispose()


def _batch(number: int, patterns: int = 1) -> Batch:
    rng, start, tallies = random.Random(number), NOON + timedelta(seconds=10 * number), {}
    for _ in range(patterns):
        tally = tallies[f"{rng.getrandbits(64):016x}"] = Tally()
        for _ in range(20):
            tally.add(start, rng.lognormvariate(-6, 1), 0.001, 1, None, 1)
    return Batch(windows=[Window(start, tallies)])


def _historian(store: MemoryStore, batches: list[Batch]) -> Historian:
    historian = Historian(store, FakeClock(NOON))
    for batch in batches:
        historian.submit(batch)
    return historian


def _attempts(historian: Historian, times: int) -> None:
    """What its thread does, without the pauses."""
    for _ in range(times):
        if historian.unwritten():
            historian._attempt(historian._write_oldest, "write")


@pytest.mark.parametrize("bad", [1, 2, 7])
def test_any_number_of_refused_batches_in_a_row_holds_the_others_up_only_for_a_while(bad: int) -> None:
    store, batches = PickyStore(), [_batch(number) for number in range(30)]
    store.refuses = {batch.id for batch in batches[3 : 3 + bad]}
    historian = _historian(store, batches)
    _attempts(historian, 60)
    assert sorted(store.took) == sorted(batch.id for batch in batches if batch.id not in store.refuses)
    assert (historian.lost, historian.unwritten(), historian.error) == (bad, [], None)


def test_a_store_that_takes_nothing_loses_nothing() -> None:
    store, batches = PickyStore(), [_batch(number) for number in range(5)]
    historian = _historian(store, batches)
    store.refuses = {batch.id for batch in batches}
    _attempts(historian, 10 * MAX_REFUSALS)
    assert (len(historian.unwritten()), historian.lost) == (5, 0)


def test_a_refusal_after_an_outage_loses_nothing() -> None:
    store, batches = PickyStore(), [_batch(number) for number in range(5)]
    historian = _historian(store, batches)
    store.down = True
    _attempts(historian, 10 * MAX_REFUSALS)
    store.down, store.refuses = False, {batches[0].id}
    _attempts(historian, 1)
    store.refuses = set()
    _attempts(historian, 5)
    assert (len(store.took), historian.lost) == (5, 0)


def test_refusals_before_an_outage_do_not_count_after_it() -> None:
    store, batches = PickyStore(), [_batch(number) for number in range(30)]
    historian = _historian(store, batches)
    store.refuses = {batches[0].id}
    _attempts(historian, MAX_REFUSALS - 1)
    store.down = True
    _attempts(historian, 1)
    store.down = False
    _attempts(historian, 1)
    assert (historian.unwritten()[0].id, historian.lost) == (batches[0].id, 0)


def test_batches_that_wait_take_a_tenth_of_the_memory() -> None:
    store = PickyStore()
    tracemalloc.start()
    whole = [_batch(number, patterns=300) for number in range(10)]
    before = tracemalloc.get_traced_memory()[0]
    historian = _historian(store, whole[:1])
    for batch in whole[1:]:
        historian.submit(batch)
    took = (tracemalloc.get_traced_memory()[0] - before) / 9
    counted = [batch.id for batch in whole]
    whole.clear()
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert [batch.id for batch in historian.unwritten()] == counted
    assert took < (before / 10) / 10
    assert left < before / 4, "the first batch, which was to be written at once, and nine that are small"


def test_windows_that_wait_are_in_the_answers(engine: sa.Engine) -> None:
    store = PickyStore()
    store.down = True
    with Autopilot(engine, _config(), store=store) as pilot:
        for _ in range(3):
            _select(engine)
            _close_window(pilot)
        _select(engine)
        kinds = [type(window) for batch in pilot._historian.unwritten() for window in batch.windows]
        assert kinds == [Window, PackedWindow, PackedWindow]
        _until(lambda: pilot._historian.error is not None)  # it has tried
        report = pilot.query_stats(1, 10)
        assert "locked" in str(report.history_error)
        assert [line.calls for line in report.patterns] == [4]


def test_an_event_that_is_written_while_it_is_asked_for_is_answered_once(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Autopilot(engine, _config(), store=MemoryStore()) as pilot:
        _select(engine)
        ask = pilot._historian.ask

        def ask_late(question: Callable[[], Answer]) -> Answer:
            _close_window(pilot)
            deadline = time.monotonic() + 10
            while pilot._historian.unwritten():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            return ask(question)

        monkeypatch.setattr(pilot._historian, "ask", ask_late)
        assert len(pilot.slow_queries(1, 10).queries) == 1


def test_events_that_wait_are_answered_while_the_history_is_down(engine: sa.Engine) -> None:
    store = PickyStore()
    store.down = True
    with Autopilot(engine, _config(), store=store) as pilot:
        _select(engine)
        _close_window(pilot)
        _select(engine)
        report = pilot.slow_queries(1, 10)
        assert len(report.queries) == 2


def _until(law: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not law():
        assert time.monotonic() < end, "did not become true in time"
        time.sleep(0.01)


def _config() -> PilotConfig:
    return PilotConfig.model_validate({"queries": {"drain_s": 600, "slow_s": 1e-9, "explain": False}})


def _select(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 41 + 1")) == 42


def _close_window(pilot: Autopilot) -> None:
    """The window ends now."""
    with pilot._worker.lock:
        intake = pilot._worker.catch_up()
        pilot._window_finished(intake.close(datetime.now(UTC)))


def test_a_history_whose_file_is_deleted_begins_a_new_one_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "history.sqlite3"
    store = SqlStore(f"sqlite:///{file}", "shop")
    window = Window(datetime.now(UTC), {"00000000000000aa": Tally(calls=3)})
    pattern = Pattern("00000000000000aa", "SELECT ?", "SELECT", ())
    store.write(Batch([pattern], [window]))
    for name in tmp_path.glob("history.sqlite3*"):
        name.unlink()
    store.write(Batch([pattern], [window]))
    assert file.exists()
    assert "is gone" in caplog.text
    other = SqlStore(f"sqlite:///{file}", "shop")
    since = window.start - timedelta(minutes=1)
    assert other.tallies(since, datetime.now(UTC))["00000000000000aa"].calls == 3
    assert other.patterns(["00000000000000aa"])
    store.close()
    other.close()


def test_databases_of_one_name_in_two_folders_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = set()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        places.add(place(sa.make_url("sqlite:///app.db")))
    assert places == {f"sqlite:///{tmp_path}/one/app.db", f"sqlite:///{tmp_path}/other/app.db"}
