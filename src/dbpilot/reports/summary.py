"""The database's health on one page."""

from dataclasses import dataclass
from datetime import datetime

from dbpilot.dialects.base import Identity
from dbpilot.pool.sampler import PoolReading
from dbpilot.reports.indexes import IndexSummary
from dbpilot.reports.queries import QueryStats, QueryTotals


@dataclass(frozen=True, slots=True)
class Watching:
    """How the pilot itself is doing."""

    since: datetime
    dropped: int
    """Executions not counted because the worker did not keep up."""
    failures: int
    """Errors of the pilot's own, which never reach the application."""
    restarts: int
    """Threads of the pilot that died and were replaced."""
    unwritten_windows: int
    """Finished windows that wait for the history."""
    lost_windows: int
    history_error: str | None


@dataclass(frozen=True, slots=True)
class PerformanceSummary:
    """The last hours on one page."""

    since: datetime
    until: datetime
    database: Identity
    queries: QueryTotals
    slowest: list[QueryStats]
    busiest: list[QueryStats]
    """The patterns with the highest mean, and those on which most time was spent."""
    connections: PoolReading
    indexes: IndexSummary
    watching: Watching
