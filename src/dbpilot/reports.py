"""What the pilot answers; plain values, durations in seconds, instants in UTC."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from dbpilot.dialects.base import Identity
from dbpilot.history.store import Pattern
from dbpilot.history.tally import Tally
from dbpilot.pool.sampler import PoolReading

Severity = Literal["slow", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class QueryStats:
    """What is known of one pattern over a time range."""

    pattern_id: str
    query: str
    """The statement with ``?`` for every value."""
    operation: str
    tables: tuple[str, ...]
    calls: int
    errors: int
    """Calls that failed; they are among ``calls``."""
    error_classes: dict[str, int]
    slow: int
    rows: int
    """Rows affected or fetched, where the driver says."""
    total_s: float
    """Time in the driver: executing statements and fetching their rows."""
    fetch_s: float
    """Of which fetching."""
    mean_s: float
    min_s: float
    max_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    """Percentiles from a histogram; at most 1.6 % off."""
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class QueryStatsReport:
    """The patterns that ran between ``since`` and ``until``."""

    since: datetime
    until: datetime
    patterns: list[QueryStats]
    history_error: str | None
    """Set when the history could not be read: then only what this process still holds is in the answer."""


@dataclass(frozen=True, slots=True)
class SlowQueryRecord:
    """One execution that took as long as the threshold or longer."""

    at: datetime
    pattern_id: str
    query: str
    operation: str
    tables: tuple[str, ...]
    duration_s: float
    severity: Severity
    rows: int
    error: str | None


@dataclass(frozen=True, slots=True)
class SlowQueryReport:
    """The slow executions between ``since`` and ``until``, latest first."""

    since: datetime
    until: datetime
    threshold_s: float
    queries: list[SlowQueryRecord]
    history_error: str | None


@dataclass(frozen=True, slots=True)
class QueryTotals:
    """All statements of a time range together; durations are None when nothing ran."""

    calls: int
    errors: int
    slow: int
    slow_share: float | None
    """Slow calls as a fraction of all calls."""
    mean_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True)
class Watching:
    """How the pilot itself is doing."""

    since: datetime
    dropped: int
    """Executions not counted because the worker did not keep up."""
    failures: int
    """Errors of the pilot's own, which never reach the application."""
    unwritten_windows: int
    """Finished windows that wait for the history."""
    lost_windows: int
    history_error: str | None


@dataclass(frozen=True, slots=True)
class PerformanceSummary:
    """The database's health on one page."""

    since: datetime
    until: datetime
    database: Identity
    queries: QueryTotals
    slowest: list[QueryStats]
    busiest: list[QueryStats]
    """The patterns with the highest mean, and those on which most time was spent."""
    connections: PoolReading
    watching: Watching


def query_stats(pattern: Pattern, tally: Tally) -> QueryStats:
    """The tally as a report line. A percentile never leaves the range that was measured exactly."""
    p50_s, p95_s, p99_s = (_within(tally, tally.histogram.quantile(share)) for share in (0.5, 0.95, 0.99))
    return QueryStats(
        pattern_id=pattern.id,
        query=pattern.text,
        operation=pattern.operation,
        tables=pattern.tables,
        calls=tally.calls,
        errors=tally.failed,
        error_classes=dict(tally.errors),
        slow=tally.slow,
        rows=tally.rows,
        total_s=tally.total_s,
        fetch_s=tally.fetch_s,
        mean_s=tally.mean_s,
        min_s=tally.min_s,
        max_s=tally.max_s,
        p50_s=p50_s,
        p95_s=p95_s,
        p99_s=p99_s,
        last_seen=tally.last_seen,
    )


def query_totals(tallies: dict[str, Tally]) -> QueryTotals:
    """The sum over all patterns."""
    total = Tally()
    for tally in tallies.values():
        total.merge(tally)
    if not total.calls:
        return QueryTotals(0, 0, 0, None, None, None, None, None)
    quantiles = (_within(total, total.histogram.quantile(share)) for share in (0.5, 0.95, 0.99))
    return QueryTotals(total.calls, total.failed, total.slow, total.slow / total.calls, total.mean_s, *quantiles)


def _within(tally: Tally, quantile_s: float | None) -> float:
    return min(max(quantile_s or 0.0, tally.min_s), tally.max_s)
