"""Counts executions per pattern and window of time; bounded whatever the application sends."""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from dbpilot.config import QueriesConfig
from dbpilot.history.store import OTHER_ID, Batch, Pattern, SlowQuery, Window, described
from dbpilot.history.tally import LatencyHistogram, Tally
from dbpilot.queries.recorder import Execution
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.syntax import Syntax
from dbpilot.sql.tables import tables_of

OTHER: Final = described(None, OTHER_ID)
MAX_SERIES: Final = 200
"""Pairs of operation and table that metrics tell apart; a label per table of a huge schema would sink Prometheus."""
MAX_SLOW_PER_WINDOW: Final = 500
TEXTS_PER_PATTERN: Final = 4
"""Statements sent as text reach one pattern under several texts; so many more texts than patterns are cached."""


@dataclass(slots=True)
class Series:
    """What metrics show of one operation on one table, counted since the start."""

    succeeded: int = 0
    failed: int = 0
    slow_succeeded: int = 0
    slow_failed: int = 0
    total_s: float = 0.0
    histogram: LatencyHistogram = field(default_factory=LatencyHistogram)

    def add(self, duration_s: float, *, failed: bool, slow: bool) -> None:
        """Count one execution."""
        self.succeeded += not failed
        self.failed += failed
        self.slow_succeeded += slow and not failed
        self.slow_failed += slow and failed
        self.total_s += duration_s
        self.histogram.add(duration_s)


class QueryWindows:
    """The window that is being counted, and the totals since the start. One thread at a time may use it."""

    def __init__(self, config: QueriesConfig, syntax: Syntax, now: datetime) -> None:
        self._config = config
        self._syntax = syntax
        self._pattern_of = lru_cache(config.max_patterns * TEXTS_PER_PATTERN)(self._read)
        self._known: OrderedDict[str, Pattern] = OrderedDict()
        self.current = Window(self._start_of(now), {})
        self.patterns: dict[str, Pattern] = {}
        """Those of the current window."""
        self.slow: list[SlowQuery] = []
        self.series: dict[tuple[str, str], Series] = {}

    def add(self, execution: Execution, at: datetime) -> None:
        """Count one execution that ended ``at``, in the current window."""
        pattern = self._counted_as(self._pattern_of(execution.statement))
        slow_s = self._config.slow_s
        self.patterns[pattern.id] = pattern
        tally = self.current.tallies.setdefault(pattern.id, Tally())
        tally.add(at, execution.duration_s, execution.fetch_s, execution.rows, execution.error, slow_s)
        slow = execution.duration_s >= slow_s
        failed = execution.error is not None
        self._series(pattern, failed).add(execution.duration_s, failed=failed, slow=slow)
        if slow and len(self.slow) < MAX_SLOW_PER_WINDOW:
            rows = max(execution.rows, 0)
            self.slow.append(SlowQuery(at, pattern.id, execution.duration_s, rows, execution.error))

    def is_over(self, now: datetime) -> bool:
        """Whether the current window has ended."""
        return not 0 <= (now - self.current.start).total_seconds() < self._config.window_s  # a clock may be set back

    def close(self, now: datetime) -> Batch:
        """What the current window counted; the next one begins."""
        batch = self.batch()
        self.current = Window(self._start_of(now), {})
        self.patterns, self.slow = {}, []
        return batch

    def batch(self) -> Batch:
        """What the current window counted so far."""
        windows = [self.current] if self.current.tallies else []
        return Batch(tuple(self.patterns.values()), windows, tuple(self.slow))

    def _counted_as(self, pattern: Pattern) -> Pattern:
        """The pattern itself, or "other" once the window tells as many apart as it may."""
        tallies = self.current.tallies
        known = pattern.id in tallies or len(tallies) < self._config.max_patterns
        return pattern if known else OTHER

    def _read(self, statement: str) -> Pattern:
        print_ = fingerprint(statement, self._syntax)
        known = self._known.get(print_.id)
        if known is None:
            tables = tables_of(statement, self._syntax)
            known = self._known[print_.id] = Pattern(print_.id, print_.text, print_.operation, tables)
        self._known.move_to_end(print_.id)
        while len(self._known) > self._config.max_patterns * TEXTS_PER_PATTERN:
            self._known.popitem(last=False)
        return known

    def _series(self, pattern: Pattern, failed: bool) -> Series:
        """The metrics' series for this pattern; a statement that failed may name any table, and begins none."""
        key = (pattern.operation, pattern.tables[0] if pattern.tables else "none")
        if key not in self.series and (failed or len(self.series) >= MAX_SERIES):
            key = (pattern.operation, "other")
        return self.series.setdefault(key, Series())

    def _start_of(self, now: datetime) -> datetime:
        """The start of the window that ``now`` falls in; windows of all processes start at the same instants."""
        length_s = self._config.window_s
        return datetime.fromtimestamp(int(now.timestamp()) // length_s * length_s, UTC)
