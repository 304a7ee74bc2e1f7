"""What is wired to what: the only place where the parts meet."""

import os
import weakref
from collections.abc import Callable, Iterable
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Literal, Self

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbpilot.clock import SYSTEM, Clock
from dbpilot.config import PilotConfig
from dbpilot.dialects import dialect_of
from dbpilot.history.historian import Historian
from dbpilot.history.sql_store import SqlStore, place
from dbpilot.history.store import Pattern, SlowQuery, Store, described
from dbpilot.pool.sampler import ConnectionWatch, PoolReading
from dbpilot.queries.listener import Listener
from dbpilot.queries.recorder import Recorder
from dbpilot.queries.windows import QueryWindows, Series
from dbpilot.queries.worker import Worker
from dbpilot.recall import Recall, Tallies
from dbpilot.reports import (
    PerformanceSummary,
    QueryStats,
    QueryStatsReport,
    Severity,
    SlowQueryRecord,
    SlowQueryReport,
    Watching,
    query_stats,
    query_totals,
)

STOP_TIMEOUT_S = 5.0
SUMMARY_PATTERNS = 5

StatsOrder = Literal["mean_s", "total_s", "max_s", "p95_s", "calls", "errors", "slow", "rows"]


class Autopilot:
    """Watches one engine, sync or async, from :meth:`start` to :meth:`stop`, or inside a ``with`` block.

    The application's thread pays a few clock readings and an append per statement. Whatever goes wrong inside the pilot
    is counted and shown by :meth:`performance_summary`, never raised into a statement. One pilot watches an engine.
    """

    def __init__(
        self,
        engine: Engine | AsyncEngine,
        config: PilotConfig | None = None,
        *,
        store: Store | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """Wires the parts; nothing is watched, connected or written yet.

        Without ``config`` the environment decides (:meth:`PilotConfig.from_env`); without ``store`` the history is
        kept where the configuration says.

        Raises:
            ConfigError: dbpilot does not know this kind of database, or a setting makes no sense.
            StoreError: the history's URL cannot be used.
        """
        self.config = config or PilotConfig.from_env()
        self._engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        self._clock = clock
        self._dialect = dialect_of(self._engine)
        self._given_store = store
        self._running = False
        self._wire()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_weakly(self._forked))

    def _wire(self) -> None:
        self._since = self._clock.now()
        self._store = self._given_store or self._own_store()
        self._recorder = Recorder(self.config.queries.max_pending)
        self._listener = Listener(self._engine, self._dialect, self._recorder, self._clock)
        self._connections = ConnectionWatch(self._engine)
        self._historian = Historian(self._store, self._clock, self.config.history.keep_hours)
        windows = QueryWindows(self.config.queries, self._dialect.syntax, self._clock.now())
        drain_s = self.config.queries.drain_s
        self._worker = Worker(self._recorder, windows, self._historian.submit, self._clock, drain_s)
        self._recall = Recall(self._worker, self._historian, self._store)

    def _own_store(self) -> SqlStore:
        return SqlStore(self.config.history.url.get_secret_value(), place(self._engine.url))

    def start(self) -> None:
        """Statements are watched; starting twice is starting once."""
        if self._running:
            return
        self._running = True
        self._since = self._clock.now()
        self._historian.start()
        self._worker.start()
        self._connections.attach()
        self._listener.attach()

    def stop(self) -> None:
        """Nothing is watched any more, and what was seen is in the history if it could be reached.

        The pilot still answers, and can be started again.
        """
        if not self._running:
            return
        self._running = False
        self._detach()
        self._worker.stop()
        self._historian.stop(STOP_TIMEOUT_S)
        self._store.close()

    def _detach(self) -> None:
        self._listener.detach()
        self._connections.detach()

    def _forked(self) -> None:
        """In a child process nothing is watched until it starts the pilot itself: threads do not come along, and
        connections are the parent's."""
        if not self._running:
            return
        self._running = False
        self._detach()
        if isinstance(self._store, SqlStore):
            self._store.abandon()
        self._wire()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def query_stats(self, hours: float, limit: int, order: StatsOrder = "mean_s") -> QueryStatsReport:
        """The patterns of the last hours, highest ``order`` first, live ones included."""
        since, until = self._last(hours)
        known = self._recall.tallies(since, until)
        return QueryStatsReport(since, until, _ranked(_lines(known), order, limit), known.error)

    def slow_queries(self, hours: float, limit: int) -> SlowQueryReport:
        """The slow executions of the last hours, latest first, live ones included."""
        since, until = self._last(hours)
        known = self._recall.slow(since, until, limit)
        records = [self._slow_record(query, known.patterns) for query in known.slow]
        return SlowQueryReport(since, until, self.config.queries.slow_s, records, known.error)

    def performance_summary(self, hours: float) -> PerformanceSummary:
        """The last hours on one page, and how the pilot itself is doing."""
        since, until = self._last(hours)
        known = self._recall.tallies(since, until)
        lines = _lines(known)
        return PerformanceSummary(
            since=since,
            until=until,
            database=self._dialect.identity(self._engine),
            queries=query_totals(known.tallies),
            slowest=_ranked(lines, "mean_s", SUMMARY_PATTERNS),
            busiest=_ranked(lines, "total_s", SUMMARY_PATTERNS),
            connections=self.connections(),
            watching=self._watching(known.error),
        )

    def connections(self) -> PoolReading:
        """The connection pool as it is now."""
        return self._connections.read()

    def series(self) -> dict[tuple[str, str], Series]:
        """Totals since the start by operation and table, for metrics."""
        with self._worker.lock:
            return deepcopy(self._worker.catch_up().series)

    def _watching(self, read_error: str | None) -> Watching:
        return Watching(
            since=self._since,
            dropped=self._recorder.dropped,
            failures=self._listener.failures + self._worker.failures,
            unwritten_windows=sum(len(batch.windows) for batch in self._historian.unwritten()),
            lost_windows=self._historian.lost,
            history_error=read_error or self._historian.error,
        )

    def _last(self, hours: float) -> tuple[datetime, datetime]:
        """From the start of the window that was being counted then, until now."""
        now = self._clock.now()
        return now - timedelta(hours=hours, seconds=self.config.queries.window_s), now

    def _slow_record(self, query: SlowQuery, patterns: dict[str, Pattern]) -> SlowQueryRecord:
        pattern = described(patterns.get(query.pattern_id), query.pattern_id)
        return SlowQueryRecord(
            at=query.at,
            pattern_id=pattern.id,
            query=pattern.text,
            operation=pattern.operation,
            tables=pattern.tables,
            duration_s=query.duration_s,
            severity=self._severity(query.duration_s),
            rows=query.rows,
            error=query.error,
        )

    def _severity(self, duration_s: float) -> Severity:
        if duration_s >= self.config.queries.critical_s:
            return "critical"
        return "warning" if duration_s >= self.config.queries.warning_s else "slow"


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Calls the method for as long as its object lives, without keeping it alive."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call


def _lines(known: Tallies) -> list[QueryStats]:
    return [query_stats(described(known.patterns.get(id_), id_), tally) for id_, tally in known.tallies.items()]


def _ranked(lines: Iterable[QueryStats], order: StatsOrder, limit: int) -> list[QueryStats]:
    return sorted(lines, key=lambda line: (getattr(line, order), line.calls), reverse=True)[:limit]
