"""The connection pool: how it went, why it has its size, and who holds connections."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from dbpilot.reports.pool import PoolReport
from dbpilot.web.access import Caller, expensive, requires
from dbpilot.web.pages import charts
from dbpilot.web.pages.overview import SHOWN_MARKS
from dbpilot.web.pages.site import USUAL_H, Form, Hours, Site, gone_to, shown, view_of

KEY = "pool"
"""What the pool's activity is filed under."""


def add_pool(router: APIRouter, site: Site, clock: Callable[[], datetime]) -> None:
    """The router answers with the pool's page, and reviews the pool when it is asked to."""

    @router.get("/pool")
    def pool(request: Request, hours: Hours = USUAL_H) -> HTMLResponse:
        view = view_of(site, request, clock())
        report, history = site.pilot.pool(), site.pilot.pool_history(hours)
        done = [one for one in site.pilot.activity(hours, SHOWN_MARKS).activities if one.subject == KEY]
        marks = charts.marks_of(view.t, done)
        return shown(
            view,
            "pool",
            page="pool",
            report=report,
            state=state_of(report),
            pool_chart=charts.pool_chart(view.t, history, marks),
            wait_chart=charts.wait_chart(view.t, history, marks),
            wait_heat=charts.wait_heat(history) if any(one.sample.checkouts for one in history.samples) else None,
            done=done,
            history_error=history.history_error,
        )

    @router.post("/pool/review", dependencies=[Depends(expensive)])
    def review(request: Request, _form: Form, by: Annotated[Caller, Depends(requires("operator"))]) -> Response:
        site.pilot.review_pool(by.name)
        return gone_to(view_of(site, request, clock()), "pool", said="reviewed")


def state_of(report: PoolReport) -> list[tuple[str, Any]]:
    """Keys of words, and the figures that they stand beside."""
    return [
        ("pool.in_use", report.in_use),
        ("pool.idle", report.idle),
        ("pool.size", report.size),
        ("pool.limit", report.limit),
        ("pool.waiting", report.waiting),
    ]
