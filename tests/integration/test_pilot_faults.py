"""The application never suffers: whatever breaks inside the pilot is counted and shown, and the statement runs."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import OperationalError

from dbpilot import Autopilot, ConfigError, PilotConfig, StoreError
from dbpilot.history.sql_store import SqlStore
from dbpilot.history.store import Batch, MemoryStore
from dbpilot.history.tally import Tally
from dbpilot.retention import Rule


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/application.sqlite3")
    yield engine
    engine.dispose()


ENVIRONMENT = """
import io
import time
from alembic import context
context.configure(url="sqlite://", dialect_name="sqlite", as_sql=True, output_buffer=io.StringIO())
for _ in range(20):
    time.sleep(0.002)
    context.config.get_main_option("script_location")
"""


class DeadStore(MemoryStore):
    """A store that fails until it is revived."""

    dead = True

    def write(self, batch: Batch) -> None:
        if self.dead:
            raise StoreError("history: OperationalError: disk is full")
        super().write(batch)


def _config(**queries: float) -> PilotConfig:
    return PilotConfig.model_validate({"queries": {"drain_s": 0.01, **queries}})


def _select(engine: sa.Engine, times: int = 1) -> None:
    with engine.connect() as connection:
        for _ in range(times):
            assert connection.scalar(sa.text("SELECT 41 + 1")) == 42


def _until(law: Callable[[], bool], deadline_s: float = 10) -> None:
    end = time.monotonic() + deadline_s
    while not law():
        assert time.monotonic() < end, "did not become true in time"
        time.sleep(0.01)


def test_a_dead_history_is_shown_and_loses_no_live_figure(engine: sa.Engine) -> None:
    with Autopilot(engine, _config(window_s=1), store=DeadStore()) as pilot:
        _select(engine, 3)
        _until(lambda: pilot.performance_summary(1).watching.history_error is not None)
        summary = pilot.performance_summary(hours=1)
        assert "disk is full" in str(summary.watching.history_error)
        assert summary.watching.unwritten_windows >= 1
        assert summary.queries.calls == 3
    assert pilot.performance_summary(1).watching.lost_windows >= 1, "what never reached the store is counted as lost"


def test_what_waited_is_written_when_the_history_is_back(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbpilot.history.historian.RETRY_S", 0.01)
    store = DeadStore()
    with Autopilot(engine, _config(window_s=1), store=store) as pilot:
        _select(engine, 3)
        _until(lambda: pilot.performance_summary(1).watching.history_error is not None)
        store.dead = False
        _until(lambda: pilot.performance_summary(1).watching.unwritten_windows == 0)
        assert pilot.performance_summary(1).watching.history_error is None
        assert pilot.performance_summary(1).queries.calls == 3


class SilentStore(MemoryStore):
    """A store that accepts everything and answers nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.speaks = threading.Event()

    def write(self, batch: Batch) -> None:
        self.speaks.wait(30)
        super().write(batch)

    def tallies(self, since: datetime, until: datetime) -> dict[str, Tally]:
        self.speaks.wait(30)
        return super().tallies(since, until)


def test_a_silent_history_holds_nobody_up(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbpilot.history.historian.ANSWER_S", 0.05)
    store = SilentStore()
    with Autopilot(engine, _config(), store=store) as pilot:
        _select(engine, 3)
        with ThreadPoolExecutor(20) as threads:
            reports = list(threads.map(lambda _: pilot.query_stats(1, 10), range(20)))
        assert {report.patterns[0].calls for report in reports} == {3}
        assert all("not answer" in str(report.history_error) for report in reports)
        store.speaks.set()
        _until(lambda: pilot.query_stats(1, 10).history_error is None)


def test_a_silent_history_does_not_keep_the_program_from_ending(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbpilot.pilot.STOP_TIMEOUT_S", 0.05)
    store = SilentStore()
    with Autopilot(engine, _config(), store=store) as pilot:
        _select(engine)
    store.speaks.set()
    assert pilot.performance_summary(1).watching.lost_windows == 1


def test_any_error_of_a_store_is_shown(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    monkeypatch.setattr(store, "write", lambda _: 1 / 0)
    with Autopilot(engine, _config(window_s=1), store=store) as pilot:
        _select(engine)
        _until(lambda: pilot.query_stats(1, 10).history_error == "history: ZeroDivisionError")


@pytest.mark.parametrize(
    "url", ["sqlite:////dev/null/nowhere/h.sqlite3", "mysql+pymysql://u@127.0.0.1:1/h?password=geheim"]
)
def test_an_unreachable_history_does_not_stop_the_application(engine: sa.Engine, url: str) -> None:
    config = PilotConfig.model_validate({"queries": {"window_s": 1, "drain_s": 0.01}, "history": {"url": url}})
    with Autopilot(engine, config) as pilot:
        _select(engine, 3)
        report = pilot.query_stats(hours=1, limit=10)
        assert sum(line.calls for line in report.patterns) == 3
        assert report.history_error
        assert "geheim" not in report.history_error + repr(config)


def test_an_error_of_ours_never_reaches_the_statement(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with Autopilot(engine, _config(), store=MemoryStore()) as pilot:
        monkeypatch.setattr(pilot._listener, "_first_of_its_class", lambda *_: 1 / 0)
        _select(engine, 3)
        monkeypatch.undo()
        assert pilot.performance_summary(hours=1).watching.failures == 3


def test_an_error_while_rows_are_fetched_is_counted_and_reaches_the_application(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def add_function(connection: sqlite3.Connection, _: object) -> None:
        connection.create_function("fail_at_3", 1, lambda number: 1 / (3 - number))

    numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 9) SELECT fail_at_3(n) FROM c"
    with Autopilot(engine, _config(), store=MemoryStore()) as pilot:
        with engine.connect() as connection, pytest.raises(OperationalError):
            connection.execute(sa.text(numbers)).all()
        [line] = pilot.query_stats(1, 10).patterns
        assert (line.calls, line.errors, line.error_classes) == (1, 1, {"OperationalError SQLITE_ERROR": 1})


def test_slow_fetching_is_slow(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def add_function(connection: sqlite3.Connection, _: object) -> None:
        connection.create_function("nap", 1, lambda number: time.sleep(0.02 if number == 2 else 0))

    config = _config(slow_s=0.02)
    with Autopilot(engine, config, store=MemoryStore()) as pilot:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT nap(1) UNION ALL SELECT nap(2)")).all()
        [slow] = pilot.slow_queries(1, 10).queries
        assert (slow.rows, slow.duration_s >= 0.02) == (2, True)


def test_an_error_of_ours_does_not_replace_the_applications_own(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Autopilot(engine, _config(), store=MemoryStore()) as pilot:
        monkeypatch.setattr("dbpilot.queries.listener.calling_frame", lambda *_: 1 / 0)
        with engine.connect() as connection, pytest.raises(OperationalError, match="no such table"):
            connection.execute(sa.text("SELECT 1 FROM nowhere"))
        assert pilot.performance_summary(1).watching.failures == 1


def test_a_worker_that_stumbles_goes_on(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with Autopilot(engine, _config(), store=MemoryStore()) as pilot:
        with monkeypatch.context() as broken:
            broken.setattr(pilot._worker._intake, "add", lambda *_: 1 / 0)
            _select(engine)
            _until(lambda: pilot._worker.failures > 0)
        _select(engine, 2)
        assert pilot.query_stats(1, 10).patterns[0].calls == 2
        assert pilot.performance_summary(1).watching.failures >= 1


def test_statements_over_the_limit_are_dropped_and_counted(engine: sa.Engine) -> None:
    config = PilotConfig.model_validate({"queries": {"drain_s": 60, "max_pending": 10}})
    with Autopilot(engine, config, store=MemoryStore()) as pilot:
        _select(engine, 25)
        summary = pilot.performance_summary(hours=1)
        assert (summary.queries.calls, summary.watching.dropped) == (10, 15)


def test_the_pilots_own_statements_are_not_counted(tmp_path: Path) -> None:
    shared = f"sqlite:///{tmp_path}/shared.sqlite3"
    engine = sa.create_engine(shared)
    config = PilotConfig.model_validate({"queries": {"window_s": 1, "drain_s": 0.01}, "history": {"url": shared}})
    with Autopilot(engine, config) as pilot:
        _select(engine)
        _until(lambda: sa.inspect(sa.create_engine(shared)).has_table("dbpilot_windows"))
        _until(lambda: pilot.performance_summary(1).watching.unwritten_windows == 0)
        assert [line.query for line in pilot.query_stats(1, 100).patterns] == ["SELECT ? + ?"]
    engine.dispose()


def test_a_connection_that_fails_is_counted() -> None:
    engine = sa.create_engine("mysql+pymysql://u:geheim@127.0.0.1:1/nowhere")
    with Autopilot(engine, store=MemoryStore()) as pilot:
        with pytest.raises(OperationalError):
            engine.connect()
        assert pilot.connections().failed == 1


def test_history_outlives_the_process(engine: sa.Engine, tmp_path: Path) -> None:
    config = PilotConfig.model_validate({"history": {"url": f"sqlite:///{tmp_path}/new/folder/history.sqlite3"}})
    for _ in range(3):
        with Autopilot(engine, config):
            _select(engine, 2)
    with Autopilot(engine, config) as pilot:
        assert pilot.query_stats(hours=1, limit=10).patterns[0].calls == 6


def test_a_pilot_can_be_stopped_and_started_again(engine: sa.Engine) -> None:
    pilot = Autopilot(engine, _config(), store=MemoryStore())
    for _ in range(2):
        pilot.start()
        pilot.start()
        _select(engine)
        pilot.stop()
        pilot.stop()
    _select(engine)
    assert pilot.query_stats(1, 10).patterns[0].calls == 2


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_is_watched_by_itself(engine: sa.Engine, tmp_path: Path) -> None:
    config = PilotConfig.model_validate({"history": {"url": f"sqlite:///{tmp_path}/history.sqlite3"}})
    with Autopilot(engine, config) as pilot:
        _select(engine)
        child = os.fork()
        if child == 0:
            engine.dispose(close=False)
            _select(engine, 2)
            pilot.stop()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        _select(engine, 3)
        assert sum(line.calls for line in pilot.query_stats(1, 10).patterns) == 1 + 2 + 3


def test_the_applications_own_migrations_are_not_disturbed(engine: sa.Engine, tmp_path: Path) -> None:
    """Alembic keeps its context for the whole process; the pilot opens its history while the application migrates."""
    (tmp_path / "env.py").write_text(ENVIRONMENT)
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    for number in range(5):
        url = f"sqlite:///{tmp_path}/history{number}.sqlite3"
        settings = {"queries": {"window_s": 1, "drain_s": 0.01}, "history": {"url": url}}
        with Autopilot(engine, PilotConfig.model_validate(settings)) as pilot:
            opening = threading.Thread(target=pilot.query_stats, args=(1, 1))
            opening.start()
            command.upgrade(config, "head")
            opening.join()
            assert pilot.query_stats(1, 1).history_error is None


def test_slow_queries_do_not_read_the_windows(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    monkeypatch.setattr(store, "tallies", lambda *_: 1 / 0)
    with Autopilot(engine, _config(), store=store) as pilot:
        assert pilot.slow_queries(24, 10).history_error is None


def test_an_error_of_ours_at_the_end_does_not_reach_the_application(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Autopilot(engine, PilotConfig.model_validate({"queries": {"drain_s": 600}}), store=MemoryStore()) as pilot:
        _select(engine, 2)
        monkeypatch.setattr(pilot._worker._intake, "add", lambda *_: 1 / 0)
    assert pilot.performance_summary(1).watching.failures == 2


def test_an_unknown_database_is_refused_with_those_we_know() -> None:
    engine = sa.create_engine("sqlite://")
    engine.dialect.name = "mssql"
    with pytest.raises(ConfigError, match=r"mariadb, mysql, postgresql, sqlite.*mssql"):
        Autopilot(engine)


@pytest.mark.parametrize("url", ["no url", "oracle+nodriver://u:geheim@h/x", "sqlite://", "mysql://u:geheim@h/x"])
def test_a_history_url_that_cannot_work_is_refused_at_once(engine: sa.Engine, url: str) -> None:
    config = PilotConfig.model_validate({"history": {"url": url}})
    with pytest.raises(StoreError) as refused:
        Autopilot(engine, config)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DBPILOT_QUERIES_SLOW_S", "1"),
        ("DBPILOT_SLOW_S", "1"),
        ("DBPILOT_ALERTS__URLS", "json://127.0.0.1/"),
        ("DBPILOT_ALERTS__MUTED", "slow"),
        ("DBPILOT_QUERIES__SLOW_S_BY_PATTERN", '{"x": -5}'),
        ("DBPILOT_QUERIES__SLOW_S", "-1"),
        ("DBPILOT_QUERIES__SLOW_S", "soon"),
        ("DBPILOT_HISTORY__KEEP_HOURS_DAYS", "1e300"),
        ("DBPILOT_QUERYS__SLOW_S", "1"),
        ("DBPILOT_POOL__BUDGET", "none"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"^{name}\b"):
        PilotConfig.from_env()


def test_a_worker_that_died_is_replaced_and_nothing_is_lost(engine: sa.Engine) -> None:
    with Autopilot(engine, _config(drain_s=600), store=MemoryStore()) as pilot:
        _select(engine, 2)
        pilot._worker._stopping.set()
        assert pilot._worker._thread is not None
        pilot._worker._thread.join()
        pilot._worker._stopping.clear()
        assert sum(line.calls for line in pilot.query_stats(1, 10).patterns) == 2
        assert pilot.performance_summary(1).watching.restarts == 1
        assert pilot._worker._thread.is_alive()


def test_a_dead_worker_is_replaced_by_the_first_statement_that_is_dropped(engine: sa.Engine) -> None:
    config = PilotConfig.model_validate({"queries": {"drain_s": 0.01, "max_pending": 5}})
    with Autopilot(engine, config, store=MemoryStore()) as pilot:
        pilot._worker._stopping.set()
        assert pilot._worker._thread is not None
        pilot._worker._thread.join()
        pilot._worker._stopping.clear()
        _select(engine, 6)
        assert pilot._worker.restarts == 1
        assert pilot._worker._thread.is_alive()
        assert pilot.performance_summary(1).watching.dropped == 1


def test_a_second_pilot_on_one_engine_is_refused(engine: sa.Engine) -> None:
    with Autopilot(engine, _config(), store=MemoryStore()) as pilot:
        with pytest.raises(ConfigError, match="another pilot"):
            Autopilot(engine, _config(), store=MemoryStore()).start()
        _select(engine, 3)
        assert sum(line.calls for line in pilot.query_stats(1, 10).patterns) == 3
    with Autopilot(engine, _config(), store=MemoryStore()) as another:
        _select(engine)
        assert sum(line.calls for line in another.query_stats(1, 10).patterns) == 1


def test_a_pilot_that_cannot_start_leaves_the_engine_to_another(engine: sa.Engine) -> None:
    refused = PilotConfig.model_validate({"retention": {"schedule": "99 * * * *"}})
    rule = Rule("old", "users", "created_at", timedelta(days=1))
    with pytest.raises(ConfigError, match="99"):
        Autopilot(engine, refused, store=MemoryStore(), retention=[rule]).start()
    with Autopilot(engine, _config(), store=MemoryStore()) as another:
        _select(engine)
        assert sum(line.calls for line in another.query_stats(1, 10).patterns) == 1


def test_an_engine_that_is_disposed_is_watched_on(engine: sa.Engine) -> None:
    with Autopilot(engine, _config(), store=MemoryStore()) as pilot:
        _select(engine)
        engine.dispose()
        _select(engine)
        assert pilot.connections().checkouts == 2
        assert sum(line.calls for line in pilot.query_stats(1, 10).patterns) == 2
    assert "connect" not in vars(engine.pool)
    assert "do_execute" not in vars(engine.dialect)


def test_a_program_that_never_stops_its_pilot_leaves_what_it_saw(tmp_path: Path) -> None:
    program = f"""
import sqlalchemy as sa
from dbpilot import Autopilot, PilotConfig
engine = sa.create_engine("sqlite:///{tmp_path}/application.sqlite3")
pilot = Autopilot(engine, PilotConfig.model_validate({{"history": {{"url": "sqlite:///{tmp_path}/history.sqlite3"}}}}))
pilot.start()
with engine.connect() as connection:
    connection.execute(sa.text("SELECT 1")).all()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    config = PilotConfig.model_validate({"history": {"url": f"sqlite:///{tmp_path}/history.sqlite3"}})
    reader = Autopilot(sa.create_engine(f"sqlite:///{tmp_path}/application.sqlite3"), config)
    assert [line.calls for line in reader.query_stats(1, 10).patterns] == [1]


def test_a_full_disk_loses_no_statement_and_says_so(engine: sa.Engine, tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/history.sqlite3", "shop")
    store.maintain(datetime.now(UTC))
    store.close()
    sa.event.listen(store._engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
    config = PilotConfig.model_validate({"queries": {"window_s": 1, "drain_s": 0.01}})
    with Autopilot(engine, config, store=store) as pilot:
        with engine.connect() as connection:  # so many that they do not fit into what the file has already
            for number in range(300):
                connection.execute(sa.text(f"SELECT 1 AS a_rather_long_name_number_{number}")).all()
        deadline = time.monotonic() + 10
        while pilot._historian.error is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "full" in str(pilot._historian.error)
        report = pilot.query_stats(1, 1000)
        assert "full" in str(report.history_error)
        assert sum(line.calls for line in report.patterns) == 300


def test_other_listeners_of_the_application_are_called_as_before(engine: sa.Engine) -> None:
    called: list[str] = []
    sa.event.listen(engine, "do_execute", lambda *_: called.append("before"))
    with Autopilot(engine, _config(), store=MemoryStore()) as pilot:
        sa.event.listen(engine, "do_execute", lambda *_: called.append("after"))
        _select(engine)
        assert sum(line.calls for line in pilot.query_stats(1, 10).patterns) == 1
    assert called == ["before", "after"]


def test_a_statement_that_finds_a_default_is_counted_and_changes_nothing(engine: sa.Engine) -> None:
    highest = sa.select(sa.func.coalesce(sa.func.max(sa.column("id")), 0) + 1).select_from(sa.text("t"))
    key = sa.Column("id", sa.Integer, primary_key=True, default=highest.scalar_subquery())
    table = sa.Table("t", sa.MetaData(), key, sa.Column("a", sa.Integer), implicit_returning=False)
    table.create(engine)
    with Autopilot(engine, _config(), store=MemoryStore()) as pilot:
        with engine.begin() as connection:
            for number in range(3):
                result = connection.execute(table.insert(), {"a": number})
                assert not result.returns_rows
        lines = {line.operation: line for line in pilot.query_stats(1, 10).patterns}
        assert (lines["INSERT"].calls, lines["SELECT"].calls) == (3, 3)
        assert pilot.performance_summary(1).watching.failures == 0


def test_a_long_statement_is_one_pattern_whether_it_fails_or_not(engine: sa.Engine) -> None:
    long = f"SELECT a FROM u WHERE b IN ({', '.join(str(number) for number in range(1000))})"
    with Autopilot(engine, _config(), store=MemoryStore()) as pilot:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE u (a INTEGER, b INTEGER)")
            connection.exec_driver_sql(long)
            connection.exec_driver_sql("DROP TABLE u")
        with engine.connect() as connection, pytest.raises(OperationalError):
            connection.exec_driver_sql(long)
        [line] = [line for line in pilot.query_stats(1, 10).patterns if line.operation == "SELECT"]
        assert (line.calls, line.errors) == (2, 1)


def test_the_dialect_alone_may_be_called_as_before(engine: sa.Engine) -> None:
    with Autopilot(engine, _config(), store=MemoryStore()) as pilot:
        connection = engine.raw_connection()
        cursor = connection.cursor()
        engine.dialect.do_execute(cursor, "SELECT 41 + ?", (1,))
        assert cursor.fetchone() == (42,)
        engine.dialect.do_execute_no_params(cursor, "SELECT 1")
        connection.close()
        assert sum(line.calls for line in pilot.query_stats(1, 10).patterns) == 2
        assert pilot.performance_summary(1).watching.failures == 0


def test_a_watched_cursor_looks_like_the_drivers_own(engine: sa.Engine) -> None:
    with Autopilot(engine, _config(), store=MemoryStore()), engine.connect() as connection:
        cursor = connection.execute(sa.text("SELECT 1 AS one")).cursor
        assert isinstance(cursor, sqlite3.Cursor)
        assert cursor.connection is connection.connection.dbapi_connection
        cursor.arraysize = 7
        assert cursor.arraysize == 7
