"""The JSON API of statements as the dashboard shows them: searched, one by one, and over time."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query
from pydantic import StringConstraints

from dbpilot.errors import NotThereError
from dbpilot.pilot import Autopilot, StatsOrder
from dbpilot.reports.search import Having, QueryFilter, QueryList, QueryReport
from dbpilot.reports.timeline import TimelineReport
from dbpilot.web.answers import problems

MAX_HOURS: Final = 24 * 366
Hours = Annotated[float, Query(gt=0, le=MAX_HOURS, description="How far back to look, in hours.")]
AN_ID: Final = "^([0-9a-f]{16}|other)$"
PatternId = Annotated[str, StringConstraints(pattern=AN_ID)]


def _wanted(
    q: Annotated[str | None, Query(max_length=500, description="Somewhere in the statement, or its id.")] = None,
    table_name: Annotated[str | None, Query(max_length=255, description="A table that the statement names.")] = None,
    operation_type: Annotated[str | None, Query(max_length=32, description="The verb: SELECT, UPDATE, ...")] = None,
    callsite: Annotated[
        str | None, Query(max_length=500, description="Somewhere in a line, function or route.")
    ] = None,
    having: Annotated[Having | None, Query(description="Only those with that.")] = None,
) -> QueryFilter:
    return QueryFilter(q, table_name, operation_type, callsite, having)


def add_queries(router: APIRouter, pilot: Autopilot) -> None:
    """The router answers about statements, searched and one by one, and how all of them went."""

    @router.get("/queries", summary="Search the patterns")
    def search(
        wanted: Annotated[QueryFilter, Depends(_wanted)],
        hours: Hours = 1,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
        order: StatsOrder = "total_s",
    ) -> QueryList:
        """The patterns that match, highest ``order`` first, and how many there are."""
        return pilot.search(hours, limit, wanted, order, offset)

    @router.get("/queries/{pattern_id}", summary="Everything about one pattern", responses=problems(404))
    def query(pattern_id: Annotated[str, Path(pattern=AN_ID)], hours: Hours = 24) -> QueryReport:
        """Its figures, where its time went, its plans old and new, its slow executions, and its lines of code."""
        found = pilot.query(pattern_id, hours)
        if found is None:
            raise NotThereError("no pattern is known under this id; it may have been forgotten")
        return found

    @router.get("/timeline", summary="How the statements went")
    def timeline(
        hours: Hours = 1,
        points: Annotated[int, Query(ge=1, le=1000, description="At most so many steps.")] = 180,
        pattern_id: Annotated[list[PatternId], Query(max_length=20)] = [],  # noqa: B006 - FastAPI copies it
    ) -> TimelineReport:
        """Calls, errors and latencies step by step, also of these patterns apart; a step without calls says so."""
        return pilot.timeline(hours, points, pattern_id)
