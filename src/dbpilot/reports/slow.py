"""Slow executions: one by one, added up, and by pattern."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from dbpilot.config import QueriesConfig
from dbpilot.history.store import Event, Pattern, described

Severity = Literal["slow", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class SlowFilter:
    """Which slow executions are wanted; None for any."""

    min_duration_s: float | None = None
    operation: str | None = None
    table: str | None = None

    def admits(self, pattern: Pattern) -> bool:
        """Whether executions of this pattern may be wanted; case does not matter."""
        if self.operation is not None and pattern.operation != self.operation.upper():
            return False
        return self.table is None or self.table.lower() in {name.lower() for name in _with_last_parts(pattern.tables)}


ANY_SLOW: Final = SlowFilter()


def _with_last_parts(tables: Iterable[str]) -> Iterable[str]:
    """``shop.orders`` is asked for as ``orders`` as well."""
    for table in tables:
        yield table
        yield table.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class SlowQueryRecord:
    """One execution that took as long as the threshold or longer."""

    at: datetime
    pattern_id: str
    query: str
    operation: str
    tables: tuple[str, ...]
    duration_s: float
    execute_s: float
    fetch_s: float
    wait_s: float
    """In the driver altogether; executing; fetching; and waiting for the connection before."""
    severity: Severity
    rows: int
    error: str | None
    callsite: str | None
    """The application's line, ``shop/orders.py:41``, and its function."""
    function: str | None
    route: str | None
    request_id: str | None
    trace_id: str | None
    parameters: Any
    """Types and lengths in the place of values."""
    plan: dict[str, Any] | None
    """The latest plan of this pattern, if the database gave one."""


@dataclass(frozen=True, slots=True)
class SlowQueryReport:
    """The slow executions between ``since`` and ``until``, latest first."""

    since: datetime
    until: datetime
    threshold_s: float
    queries: list[SlowQueryRecord]
    history_error: str | None


@dataclass(frozen=True, slots=True)
class SlowQueryStatistics:
    """The slow executions of a time range added up."""

    since: datetime
    until: datetime
    threshold_s: float
    count: int
    total_s: float
    mean_s: float | None
    max_s: float | None
    by_severity: dict[str, int]
    by_operation: dict[str, int]
    by_table: dict[str, int]
    by_hour: dict[str, int]
    """Hours in UTC, ``2026-01-31T09``."""
    complete: bool
    """False when there were more than could be read; then the latest are counted."""
    history_error: str | None


@dataclass(frozen=True, slots=True)
class SlowPattern:
    """The slow executions of one pattern."""

    pattern_id: str
    query: str
    operation: str
    tables: tuple[str, ...]
    count: int
    total_s: float
    mean_s: float
    max_s: float
    last_seen: datetime
    callsites: dict[str, int]
    routes: dict[str, int]
    plan: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class SlowPatternReport:
    """The patterns with slow executions, most time first."""

    since: datetime
    until: datetime
    threshold_s: float
    patterns: list[SlowPattern]
    history_error: str | None


def severity_of(duration_s: float, config: QueriesConfig) -> Severity:
    """How bad a slow execution of this duration is."""
    if duration_s >= config.critical_s:
        return "critical"
    return "warning" if duration_s >= config.warning_s else "slow"


def slow_record(
    event: Event, pattern: Pattern | None, config: QueriesConfig, plan: Mapping[str, Any] | None
) -> SlowQueryRecord:
    """The event as a report line."""
    known = described(pattern, event.key)
    body = event.body
    return SlowQueryRecord(
        at=event.at,
        pattern_id=known.id,
        query=known.text,
        operation=known.operation,
        tables=known.tables,
        duration_s=event.value,
        execute_s=body["execute_s"],
        fetch_s=body["fetch_s"],
        wait_s=body["wait_s"],
        severity=severity_of(event.value, config),
        rows=body["rows"],
        error=body["error"],
        callsite=body["callsite"],
        function=body["function"],
        route=body["route"],
        request_id=body["request_id"],
        trace_id=body["trace_id"],
        parameters=body["parameters"],
        plan=dict(plan) if plan else None,
    )


def slow_statistics(
    since: datetime, until: datetime, threshold_s: float, records: list[SlowQueryRecord], most: int, error: str | None
) -> SlowQueryStatistics:
    """The records added up; with ``most`` of them, there may have been more."""
    durations = [record.duration_s for record in records]
    tables = Counter(table for record in records for table in record.tables)
    return SlowQueryStatistics(
        since=since,
        until=until,
        threshold_s=threshold_s,
        count=len(records),
        total_s=sum(durations),
        mean_s=sum(durations) / len(durations) if durations else None,
        max_s=max(durations, default=None),
        by_severity=dict(Counter(record.severity for record in records).most_common()),
        by_operation=dict(Counter(record.operation for record in records).most_common()),
        by_table=dict(tables.most_common()),
        by_hour=dict(sorted(Counter(record.at.strftime("%Y-%m-%dT%H") for record in records).items())),
        complete=len(records) < most,
        history_error=error,
    )


def slow_patterns(records: Iterable[SlowQueryRecord]) -> list[SlowPattern]:
    """The records by pattern, those that took most time first."""
    by_pattern: dict[str, list[SlowQueryRecord]] = {}
    for record in records:
        by_pattern.setdefault(record.pattern_id, []).append(record)
    return sorted(map(_slow_pattern, by_pattern.values()), key=lambda line: line.total_s, reverse=True)


def _slow_pattern(records: list[SlowQueryRecord]) -> SlowPattern:
    first, total_s = records[0], sum(record.duration_s for record in records)
    return SlowPattern(
        pattern_id=first.pattern_id,
        query=first.query,
        operation=first.operation,
        tables=first.tables,
        count=len(records),
        total_s=total_s,
        mean_s=total_s / len(records),
        max_s=max(record.duration_s for record in records),
        last_seen=max(record.at for record in records),
        callsites=dict(Counter(record.callsite for record in records if record.callsite).most_common()),
        routes=dict(Counter(record.route for record in records if record.route).most_common()),
        plan=first.plan,
    )
