"""What each request ran: its receipt, and the patterns that it ran once for every row of another (N+1)."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from dbpilot.history.store import OTHER_ID, Event, Pattern
from dbpilot.queries.callsite import Frame
from dbpilot.queries.recorder import Execution
from dbpilot.queries.request import Request

RECEIPT: Final = "receipt"
N_PLUS_ONE: Final = "n_plus_one"
MAX_LINES: Final = 100
"""Patterns told apart in one request."""
MAX_LINES_KEPT: Final = 10_000
"""Patterns told apart in all requests together: a few megabytes."""
MAX_REMARKABLE: Final = 20
MAX_ORDINARY: Final = 5
"""Receipts that go to the history per window: of requests with slow, failed or repeated statements, and of others."""
ROWS_OF_A_BATCH: Final = 50
"""A SELECT that answers so many rows each time reads in batches, as it should; a lazy load never does."""


@dataclass(slots=True)
class Line:
    """What one request ran of one pattern; durations in seconds."""

    pattern_id: str
    operation: str
    calls: int = 0
    errors: int = 0
    slow: int = 0
    rows: int = 0
    total_s: float = 0.0
    max_s: float = 0.0
    callsite: str | None = None
    function: str | None = None
    relationship: str | None = None

    @property
    def reads_in_batches(self) -> bool:
        return self.relationship is None and self.rows >= ROWS_OF_A_BATCH * self.calls

    def add(self, execution: Execution, slow: bool) -> None:
        """Count one execution."""
        self.calls += 1
        self.slow += slow
        self.rows += max(execution.rows, 0)
        self.total_s += execution.duration_s
        self.max_s = max(self.max_s, execution.duration_s)
        detail = execution.detail
        if detail is not None:
            self.errors += detail.error is not None
            self._ran_by(detail.frame)
            self.relationship = detail.relationship or self.relationship

    def _ran_by(self, frame: Frame | None) -> None:
        if frame is not None and self.callsite is None:
            self.callsite, self.function = frame.callsite, frame.function


@dataclass(slots=True)
class Receipt:
    """What one request ran, as far as it got."""

    request: Request
    started: datetime
    last: datetime
    lines: dict[str, Line] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)
    """Patterns whose repetition is reported."""

    @property
    def calls(self) -> int:
        return sum(line.calls for line in self.lines.values())

    @property
    def remarkable(self) -> bool:
        return any(line.slow or line.errors for line in self.lines.values()) or bool(self.reported)

    def repeated(self, least: int) -> Iterator[Line]:
        """The SELECTs that ran at least so often, and do not read in batches."""
        for line in self.lines.values():
            if line.operation == "SELECT" and line.calls >= least and not line.reads_in_batches:
                yield line

    def event(self) -> Event:
        """The receipt as the history keeps it."""
        lines = sorted(self.lines.values(), key=lambda line: line.total_s, reverse=True)
        body: dict[str, Any] = {
            "route": self.request.route,
            "trace_id": self.request.trace_id,
            "started_s": self.started.timestamp(),
            "calls": self.calls,
            "lines": [asdict(line) for line in lines],
        }
        total_s = sum(line.total_s for line in lines)
        return Event(RECEIPT, self.last, self.request.id, total_s, body)


class Receipts:
    """The receipts of the latest requests. One thread at a time may use it."""

    def __init__(self, kept: int, n_plus_one: int) -> None:
        self._kept = kept
        self._least = n_plus_one
        self._open: OrderedDict[str, Receipt] = OrderedDict()
        self._touched: dict[str, Receipt] = {}
        """Those that ran something since the last window."""
        self._parted: list[Receipt] = []
        """Those of them that there was no room for any more."""
        self._lines = 0

    def add(self, request: Request, pattern: Pattern, execution: Execution, at: datetime, slow: bool) -> None:
        """One execution ran in that request and ended ``at``."""
        receipt = self._open.get(request.id)
        if receipt is None or receipt.request is not request:
            receipt = self._begin(request, at)
        self._touched[request.id] = receipt
        receipt.last = max(receipt.last, at)
        lines = receipt.lines
        line = lines.get(pattern.id)
        if line is None:
            id_ = pattern.id if len(lines) < MAX_LINES else OTHER_ID
            self._lines += id_ not in lines
            line = lines.setdefault(id_, Line(id_, pattern.operation if id_ == pattern.id else "OTHER"))
        line.add(execution, slow)

    def _begin(self, request: Request, at: datetime) -> Receipt:
        known = self._open.pop(request.id, None)  # the same id came from outside before
        self._lines -= len(known.lines) if known else 0
        receipt = self._open[request.id] = Receipt(request, at, at)
        while len(self._open) > max(self._kept, 1) or (self._lines > MAX_LINES_KEPT and len(self._open) > 1):
            id_, oldest = self._open.popitem(last=False)
            self._lines -= len(oldest.lines)
            if self._touched.get(id_) is oldest:
                del self._touched[id_]
                self._part_with(oldest)
        return receipt

    def _part_with(self, receipt: Receipt) -> None:
        """It is kept until the history has it, if the history is to have it, and there are not too many."""
        worth_keeping = receipt.remarkable or any(receipt.repeated(self._least))
        if worth_keeping and len(self._parted) < MAX_REMARKABLE:
            self._parted.append(receipt)

    def find(self, request_id: str) -> Event | None:
        """The receipt with this id, if this process still has it."""
        receipt = self._open.get(request_id)
        return receipt.event() if receipt else None

    def latest(self) -> list[Event]:
        """The receipts that this process still has."""
        return [receipt.event() for receipt in self._open.values()]

    def repetitions(self) -> list[Event]:
        """N+1s that were not reported yet."""
        return [event for receipt in self._of_window() for event in self._repetitions(receipt)]

    def _of_window(self) -> list[Receipt]:
        return [*self._parted, *self._touched.values()]

    def _repetitions(self, receipt: Receipt) -> Iterator[Event]:
        for line in receipt.repeated(self._least):
            if line.pattern_id not in receipt.reported:
                yield _repetition(receipt, line)

    def close(self) -> list[Event]:
        """What the history should have of the requests that ran something since the last time.

        Of a request that goes on the receipt is written again later, under the same id.
        """
        found = self.repetitions()
        touched = sorted(self._of_window(), key=lambda receipt: receipt.calls, reverse=True)
        for receipt in touched:
            receipt.reported.update(line.pattern_id for line in receipt.repeated(self._least))
        self._touched, self._parted = {}, []
        remarkable = [receipt for receipt in touched if receipt.remarkable]
        ordinary = [receipt for receipt in touched if not receipt.remarkable]
        written = remarkable[:MAX_REMARKABLE] + ordinary[:MAX_ORDINARY]
        return [*found, *(receipt.event() for receipt in written)]


def _repetition(receipt: Receipt, line: Line) -> Event:
    body = {
        "route": receipt.request.route,
        "request_id": receipt.request.id,
        "callsite": line.callsite,
        "function": line.function,
        "relationship": line.relationship,
        "calls": line.calls,
        "total_s": line.total_s,
    }
    return Event(N_PLUS_ONE, receipt.last, line.pattern_id, line.calls, body, pattern_id=line.pattern_id)
