"""Long lists in pages: ``limit`` entries, and ``next`` to give back as ``cursor``, until it is null.

A cursor holds the end of the range that the first page was about, so that what happens meanwhile moves nothing from one
page to the other.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Query
from fastapi.exceptions import RequestValidationError

from dbpilot.alerting import AlertReport
from dbpilot.reports.activity import ActivityReport
from dbpilot.reports.queries import QueryStatsReport
from dbpilot.reports.requests import RepetitionReport, RequestReport
from dbpilot.reports.slow import SlowPatternReport, SlowQueryReport

MAX_SKIP: Final = 100_000
FIRST_YEAR: Final = 2000
"""Nothing is older, and ranges that end later can be counted back from."""

Page = TypeVar("Page")


@dataclass(frozen=True, slots=True)
class QueryStatsPage(QueryStatsReport):
    """A page of the patterns."""

    next: str | None


@dataclass(frozen=True, slots=True)
class SlowQueryPage(SlowQueryReport):
    """A page of the slow executions."""

    next: str | None


@dataclass(frozen=True, slots=True)
class SlowPatternPage(SlowPatternReport):
    """A page of the patterns with slow executions."""

    next: str | None


@dataclass(frozen=True, slots=True)
class RequestPage(RequestReport):
    """A page of the receipts."""

    next: str | None


@dataclass(frozen=True, slots=True)
class RepetitionPage(RepetitionReport):
    """A page of the N+1s."""

    next: str | None


@dataclass(frozen=True, slots=True)
class AlertPage(AlertReport):
    """A page of the alerts."""

    next: str | None


@dataclass(frozen=True, slots=True)
class ActivityPage(ActivityReport):
    """A page of what was done."""

    next: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a list a page begins."""

    until: datetime | None = None
    """The end of the range that the list is about; None for now."""
    skip: int = 0

    @classmethod
    def read(cls, cursor: str) -> "Place":
        """The place that a cursor names.

        Raises:
            ValueError: it is no cursor that was answered here.
        """
        padded = cursor + "=" * (-len(cursor) % 4)
        until, _, skip = urlsafe_b64decode(padded.encode("ascii")).decode("ascii").partition(" ")
        place = cls(datetime.fromisoformat(until), int(skip))
        if place.until is None or place.until.tzinfo is None or not 0 <= place.skip <= MAX_SKIP:
            raise ValueError("no cursor")
        if place.until.year < FIRST_YEAR or place.until > datetime.now(UTC):
            raise ValueError("a cursor of another time")
        return place

    def cursor(self, until: datetime, limit: int) -> str | None:
        """The cursor of the page that comes after this one of so many entries."""
        if self.skip + limit > MAX_SKIP:
            return None
        text = f"{(self.until or until).isoformat()} {self.skip + limit}"
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def page(self, kind: Callable[..., Page], ask: Callable[[int, datetime | None], Any], limit: int) -> Page:
        """The page, from a report of at most so many entries until that time; its list is its first one."""
        report = ask(self.skip + limit + 1, self.until)
        values = {field.name: getattr(report, field.name) for field in fields(report)}
        name = next(name for name, value in values.items() if isinstance(value, list))
        found = values[name]
        more = len(found) > self.skip + limit
        values[name] = found[self.skip : self.skip + limit]
        return kind(**values, next=self.cursor(report.until, limit) if more else None)


def _place(
    cursor: Annotated[str | None, Query(max_length=100, description="`next` of the page before this one.")] = None,
) -> Place:
    if cursor is None:
        return Place()
    try:
        return Place.read(cursor)
    except ValueError:
        wrong = {"type": "value_error", "loc": ("query", "cursor"), "msg": "this is no `next` of a page before"}
        raise RequestValidationError([wrong]) from None


From = Annotated[Place, Depends(_place)]
"""Where the page that is asked for begins."""
