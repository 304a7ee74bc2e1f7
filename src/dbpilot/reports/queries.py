"""What runs, by pattern; durations in seconds, instants in UTC."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dbpilot.history.store import Pattern, Source
from dbpilot.history.tally import Tally


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
    execute_s: float
    fetch_s: float
    """The two parts of it."""
    first_row_s: float
    """Time until the first rows were there, of the calls that answered any."""
    wait_s: float
    """Time in which connections were waited for, before and apart from the rest; waits under a millisecond are none."""
    mean_s: float
    min_s: float
    max_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    """Percentiles from a histogram; at most 1.6 % off."""
    last_seen: datetime
    sources: tuple[Source, ...]
    """Lines of the application's code that ran it, as sampled, the most frequent first."""
    advice: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueryStatsReport:
    """The patterns that ran between ``since`` and ``until``."""

    since: datetime
    until: datetime
    patterns: list[QueryStats]
    history_error: str | None
    """Set when the history could not be read: then only what this process still holds is in the answer."""


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


def query_stats(pattern: Pattern, tally: Tally, advice: tuple[str, ...] = ()) -> QueryStats:
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
        execute_s=tally.execute_s,
        fetch_s=tally.fetch_s,
        first_row_s=tally.first_row_s,
        wait_s=tally.wait_s,
        mean_s=tally.mean_s,
        min_s=tally.min_s,
        max_s=tally.max_s,
        p50_s=p50_s,
        p95_s=p95_s,
        p99_s=p99_s,
        last_seen=tally.last_seen,
        sources=pattern.sources,
        advice=advice,
    )


def query_totals(tallies: Iterable[Tally]) -> QueryTotals:
    """The sum over all patterns."""
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    if not total.calls:
        return QueryTotals(0, 0, 0, None, None, None, None, None)
    quantiles = (_within(total, total.histogram.quantile(share)) for share in (0.5, 0.95, 0.99))
    return QueryTotals(total.calls, total.failed, total.slow, total.slow / total.calls, total.mean_s, *quantiles)


def _within(tally: Tally, quantile_s: float | None) -> float:
    return min(max(quantile_s or 0.0, tally.min_s), tally.max_s)
