"""Which statements run: filtered, ranked, paged."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, cast, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from dbpilot.pilot import StatsOrder
from dbpilot.reports.search import Having, QueryFilter, QueryList
from dbpilot.reports.timeline import BANDS_S
from dbpilot.web.pages.attention import short
from dbpilot.web.pages.site import MAX_HOURS, USUAL_H, Hours, Site, View, shown, view_of

PER_PAGE: Final = 50
COURSE_POINTS: Final = 28
ORDERS: Final[tuple[StatsOrder, ...]] = ("total_s", "p95_s", "mean_s", "max_s", "calls", "errors", "slow", "rows")
VERBS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "OTHER")
Text = Annotated[str, Query(max_length=500)]


def add_queries(router: APIRouter, site: Site, clock: Callable[[], datetime]) -> None:
    """The router answers with the list of statements, and with the courses that its rows show."""

    @router.get("/queries")
    def queries(
        request: Request,
        q: Text = "",
        table: Text = "",
        verb: Text = "",
        callsite: Text = "",
        has: Text = "",
        sort: Text = "total_s",
        hours: Hours = USUAL_H,
        start: Annotated[int, Query(ge=0, le=100_000)] = 0,
        at: Annotated[int, Query(ge=0, le=2**36)] = 0,
        step: Annotated[int, Query(ge=1, le=MAX_HOURS * 3600)] = 60,
        band: Annotated[int | None, Query(ge=0, le=len(BANDS_S))] = None,
    ) -> HTMLResponse:
        view = view_of(site, request, clock())
        having = cast("Having", has) if has in get_args(Having) else None
        took_s = None if band is None else _band(band)
        wanted = QueryFilter(q or None, table or None, verb or None, callsite or None, having, took_s)
        order = next((one for one in ORDERS if one == sort), ORDERS[0])
        between = _between(at, step) if at else None
        found = site.pilot.search(hours, PER_PAGE, wanted, order, start, between)
        ids = [one.pattern_id for one in found.patterns]
        return shown(
            view,
            "queries",
            page="queries",
            found=found,
            wanted=wanted,
            order=order,
            orders=ORDERS,
            verbs=VERBS,
            having=get_args(Having),
            between=between,
            start=start,
            before=view.with_query(start=max(0, start - PER_PAGE) or None) if start else None,
            after=view.with_query(start=start + PER_PAGE) if start + PER_PAGE < found.found else None,
            courses=_courses(site, view, found, ids, between),
            short=short,
        )


def _band(number: int) -> tuple[float, float]:
    """The bounds of a band of the heatmap."""
    bounds_s = (0.0, *BANDS_S, float("inf"))
    return bounds_s[number], bounds_s[number + 1]


def _between(at: int, step: int) -> tuple[datetime, datetime]:
    since = datetime.fromtimestamp(at, UTC)
    return since, since + timedelta(seconds=step)


def _courses(
    site: Site, view: View, found: QueryList, ids: list[str], between: tuple[datetime, datetime] | None
) -> dict[str, list[float | None]]:
    """How each row's time went; nothing for a moment, which has no course."""
    return {} if between or not found.patterns else site.pilot.sparks(view.hours, ids, COURSE_POINTS)
