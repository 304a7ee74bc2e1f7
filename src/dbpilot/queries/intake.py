"""Takes an execution apart: its pattern, its window, its request's receipt, and what is remembered of slow ones."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Protocol

from dbpilot.config import QueriesConfig
from dbpilot.history.store import Batch, Event, Pattern
from dbpilot.queries.pace import Pace
from dbpilot.queries.patterns import PatternBook
from dbpilot.queries.receipts import Receipts
from dbpilot.queries.recorder import Execution
from dbpilot.queries.samples import Samples
from dbpilot.queries.server_side import Counted, pattern_of
from dbpilot.queries.slow import slow_event
from dbpilot.queries.windows import QueryWindows
from dbpilot.sql.syntax import Syntax

MAX_SLOW_PER_WINDOW: Final = 500


class SlowSeen(Protocol):
    """Told of a slow execution as soon as the worker sees it."""

    def __call__(self, event: Event, pattern: Pattern, sent: tuple[str, Any] | None) -> None:
        """``sent``: the statement and its parameters, to ask for a plan with, and for nothing else."""


class Intake:
    """One thread at a time may use it."""

    def __init__(
        self, config: QueriesConfig, syntax: Syntax, now: datetime, slow_seen: SlowSeen, pace: Pace | None = None
    ) -> None:
        """Has counted nothing yet; ``pace`` is told of every statement that succeeded, where somebody asks it."""
        self._config = config
        self._slow_seen = slow_seen
        self._syntax = syntax
        self._book = PatternBook(config.max_patterns, syntax)
        self.windows = QueryWindows(config, now)
        self.receipts = Receipts(config.requests_kept, config.n_plus_one)
        self.samples = Samples()
        self._pace = pace
        self._events: list[Event] = []
        self.slow_untold = 0
        """Slow executions beyond those that one window remembers one by one."""

    def add(self, execution: Execution, at: datetime) -> None:
        """Count one execution that ended ``at``."""
        pattern = self._book.of(execution.statement)
        slow_s = self._config.slow_s_by_pattern.get(pattern.id, self._config.slow_s)
        slow = execution.execute_s + execution.fetch_s >= slow_s
        counted_as = self.windows.add(pattern, execution, at, slow_s)
        if self._pace is not None and (execution.detail is None or execution.detail.error is None):
            self._pace.add(counted_as.id, execution.execute_s)
        if execution.request is not None:
            self.receipts.add(execution.request, counted_as, execution, at, slow)
        detail = execution.detail
        if detail is not None and detail.frame is not None:
            self._book.sampled(counted_as, detail.frame, execution.request)
        if detail is not None and detail.sent is not None and detail.error is None:
            self.samples.offer(counted_as, *detail.sent)
        if slow:
            self._slow(pattern, execution, at)

    def add_counted(self, found: Iterable[Counted], at: datetime) -> None:
        """Count what the server counted itself until then, in the current window."""
        for one in found:
            pattern = pattern_of(one.statement, self._syntax)
            if pattern is not None:
                slow_s = self._config.slow_s_by_pattern.get(pattern.id, self._config.slow_s)
                self.windows.merge(pattern, one.tally(at, slow_s))

    def _slow(self, pattern: Pattern, execution: Execution, at: datetime) -> None:
        if len(self._events) >= MAX_SLOW_PER_WINDOW:
            self.slow_untold += 1
            return
        event = slow_event(pattern, execution, at)
        self._events.append(event)
        self.windows.patterns.setdefault(pattern.id, pattern)
        self._slow_seen(event, pattern, execution.detail.sent if execution.detail else None)

    def is_over(self, now: datetime) -> bool:
        """Whether the current window has ended."""
        return self.windows.is_over(now)

    def batch(self) -> Batch:
        """What the current window holds so far."""
        window = self.windows.current
        patterns = tuple(self._book.with_sources(pattern) for pattern in self.windows.patterns.values())
        events = (*self._events, *self.receipts.repetitions())
        return Batch(patterns, [window] if window.tallies else [], events)

    def close(self, now: datetime) -> Batch:
        """What the current window held; the next one begins."""
        batch = self.batch()
        events = (*self._events, *self.receipts.close())
        self.windows.close(now)
        self._book.forget_sources()
        self._events = []
        return Batch(batch.patterns, batch.windows, events)
