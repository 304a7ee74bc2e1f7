"""What requests ran: receipts, and statements repeated within one request (N+1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from dbpilot.history.store import Event, Pattern, described
from dbpilot.queries.advice import repetition_advice


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """What one request ran of one pattern; durations in seconds."""

    pattern_id: str
    query: str
    operation: str
    calls: int
    errors: int
    slow: int
    rows: int
    total_s: float
    max_s: float
    callsite: str | None
    """The application's line, where one of the calls was asked for it."""
    function: str | None
    relationship: str | None
    """The ORM relationship that it loaded lazily."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything one request, or job, ran."""

    request_id: str
    route: str
    trace_id: str | None
    started: datetime
    last: datetime
    """The ends of its first and its latest statement."""
    calls: int
    total_s: float
    """Time in the driver, of all its statements."""
    lines: list[ReceiptLine]


@dataclass(frozen=True, slots=True)
class Repetition:
    """A SELECT that one request ran over and over."""

    at: datetime
    pattern_id: str
    query: str
    tables: tuple[str, ...]
    calls: int
    total_s: float
    route: str
    request_id: str
    callsite: str | None
    function: str | None
    relationship: str | None
    advice: str


@dataclass(frozen=True, slots=True)
class RequestReport:
    """Receipts between ``since`` and ``until``, those with most time first."""

    since: datetime
    until: datetime
    receipts: list[Receipt]
    history_error: str | None


@dataclass(frozen=True, slots=True)
class RepetitionReport:
    """N+1s between ``since`` and ``until``, latest first."""

    since: datetime
    until: datetime
    repetitions: list[Repetition]
    history_error: str | None


def receipt_of(event: Event, patterns: Mapping[str, Pattern]) -> Receipt:
    """The event as a report."""
    body = event.body
    lines = []
    for line in body["lines"]:
        pattern = described(patterns.get(line["pattern_id"]), line["pattern_id"])
        lines.append(ReceiptLine(query=pattern.text, **{**line, "operation": pattern.operation}))
    started = datetime.fromtimestamp(body["started_s"], UTC)
    return Receipt(event.key, body["route"], body["trace_id"], started, event.at, body["calls"], event.value, lines)


def repetition_of(event: Event, patterns: Mapping[str, Pattern]) -> Repetition:
    """The event as a report line."""
    pattern = described(patterns.get(event.key), event.key)
    body = event.body
    return Repetition(
        at=event.at,
        pattern_id=pattern.id,
        query=pattern.text,
        tables=pattern.tables,
        calls=body["calls"],
        total_s=body["total_s"],
        route=body["route"],
        request_id=body["request_id"],
        callsite=body["callsite"],
        function=body["function"],
        relationship=body["relationship"],
        advice=repetition_advice(body),
    )
