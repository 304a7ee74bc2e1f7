"""Counts executions per pattern and window of time; bounded whatever the application sends."""

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from dbpilot.config import QueriesConfig
from dbpilot.history.store import OTHER_ID, Pattern, Window, described
from dbpilot.history.tally import LatencyHistogram, Tally
from dbpilot.queries.recorder import Execution

OTHER: Final = described(None, OTHER_ID)
MAX_SERIES: Final = 200
"""Pairs of operation and table that metrics tell apart; a label per table of a huge schema would sink Prometheus."""


@dataclass(slots=True)
class Series:
    """What metrics show of one operation on one table, counted since the start."""

    succeeded: int = 0
    failed: int = 0
    slow_succeeded: int = 0
    slow_failed: int = 0
    total_s: float = 0.0
    histogram: LatencyHistogram = field(default_factory=LatencyHistogram)

    def add(self, tally: Tally, slow_failed: int) -> None:
        """Add what was counted of one pattern."""
        self.succeeded += tally.calls - tally.failed
        self.failed += tally.failed
        self.slow_succeeded += tally.slow - slow_failed
        self.slow_failed += slow_failed
        self.total_s += tally.total_s
        self.histogram.merge(tally.histogram)
        self.histogram.settle()  # it lives as long as the process: it must not hold every window that it ever saw


SeriesByKey = dict[tuple[str, str], Series]
"""By operation and main table."""


class QueryWindows:
    """The window that is being counted, and the totals since the start. One thread at a time may use it."""

    def __init__(self, config: QueriesConfig, now: datetime) -> None:
        self._config = config
        self.current = Window(self._start_of(now), {})
        self.patterns: dict[str, Pattern] = {}
        """Those of the current window."""
        self._slow_failed: Counter[str] = Counter()
        self._closed: SeriesByKey = {}

    def add(self, pattern: Pattern, execution: Execution, at: datetime, slow_s: float) -> Pattern:
        """Count one execution that ended ``at``, in the current window.

        Answers the pattern that it was counted as: "other" once the window tells as many apart as it may.
        """
        tallies = self.current.tallies
        tally = tallies.get(pattern.id)
        if tally is None:
            pattern = pattern if len(tallies) < self._config.max_patterns else OTHER
            tally = tallies.setdefault(pattern.id, Tally())
            self.patterns[pattern.id] = pattern
        detail, duration_s = execution.detail, execution.duration_s
        error, wait_s = (detail.error, detail.wait_s) if detail else (None, 0.0)
        tally.add(at, duration_s, execution.fetch_s, execution.rows, error, slow_s, execution.first_row_s, wait_s)
        if error is not None and duration_s >= slow_s:
            self._slow_failed[pattern.id] += 1
        return pattern

    def merge(self, pattern: Pattern, counted: Tally) -> None:
        """Count many executions that somebody else added up, in the current window; ``counted`` stays as it is."""
        tallies = self.current.tallies
        if pattern.id not in tallies and len(tallies) >= self._config.max_patterns:
            pattern = OTHER
        tallies.setdefault(pattern.id, Tally()).merge(counted)
        self.patterns[pattern.id] = pattern

    def is_over(self, now: datetime) -> bool:
        """Whether the current window has ended."""
        return not 0 <= (now - self.current.start).total_seconds() < self._config.window_s  # a clock may be set back

    def close(self, now: datetime) -> Window:
        """What the current window counted; the next one begins."""
        closed = self.current
        self._add_to(self._closed)
        self.current = Window(self._start_of(now), {})
        self.patterns, self._slow_failed = {}, Counter()
        return closed

    def series(self) -> SeriesByKey:
        """Totals since the start, a copy."""
        totals = deepcopy(self._closed)
        self._add_to(totals)
        return totals

    def _add_to(self, totals: SeriesByKey) -> None:
        for id_, tally in self.current.tallies.items():
            key = self._series_key(self.patterns[id_], tally, totals)
            totals.setdefault(key, Series()).add(tally, self._slow_failed[id_])

    def _series_key(self, pattern: Pattern, tally: Tally, totals: SeriesByKey) -> tuple[str, str]:
        """The metrics' series for this pattern; a statement that only failed may name any table, and begins none."""
        key = (pattern.operation, pattern.tables[0] if pattern.tables else "none")
        if key in totals:
            return key
        named_before = any(table == key[1] for _, table in totals)
        if len(totals) >= MAX_SERIES or (tally.failed == tally.calls and not named_before):
            return pattern.operation, "other"
        return key

    def _start_of(self, now: datetime) -> datetime:
        """The start of the window that ``now`` falls in; windows of all processes start at the same instants."""
        length_s = self._config.window_s
        return datetime.fromtimestamp(int(now.timestamp()) // length_s * length_s, UTC)
