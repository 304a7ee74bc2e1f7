"""The first page: what needs a person, what is well, and how the database is doing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from dbpilot.history.store import CLEANUP
from dbpilot.reports.cleanup import runs_of
from dbpilot.reports.indexes import IndexReport
from dbpilot.reports.pool import PoolHistory, PoolReport
from dbpilot.reports.timeline import Point, TimelineReport
from dbpilot.unsupported import Unsupported
from dbpilot.web.access import Caller, requires
from dbpilot.web.pages import attention, charts, figures
from dbpilot.web.pages.site import USUAL_H, Form, Hours, Site, View, first, gone_to, shown, view_of
from dbpilot.web.pages.words import Words

POINTS: Final = 180
SHOWN_QUERIES: Final = 10
SHOWN_ALERTS: Final = 100
SHOWN_MARKS: Final = 40
NOTABLE_ERRORS: Final = 0.001
"""The share of failed calls from which on the figure is coloured."""
MUTED_H: Final = 8.0
"""A working day; who wants another time asks the API."""
By = Annotated[Caller, Depends(requires("operator"))]
A_YEAR_H: Final = 24 * 366


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure, with its course."""

    label: str
    value: str
    course: list[float | None]
    page: str
    level: str = ""
    note: str = ""


def add_overview(router: APIRouter, site: Site, clock: Callable[[], datetime]) -> None:
    """The router answers with the overview."""

    @router.get("/", name="dbpilot_overview")
    def overview(request: Request, hours: Hours = USUAL_H) -> HTMLResponse:
        return _page(view_of(site, request, clock()), hours)

    @router.post("/alerts/mute")
    def mute(request: Request, form: Form, by: By) -> Response:
        site.pilot.mute_alert(first(form, "alert"), MUTED_H, by.name)
        return gone_to(view_of(site, request, clock()), "overview", said="muted")

    @router.post("/alerts/unmute")
    def unmute(request: Request, form: Form, by: By) -> Response:
        site.pilot.unmute_alert(first(form, "alert"), by.name)
        return gone_to(view_of(site, request, clock()), "overview", said="unmuted")


def _page(view: View, hours: float) -> HTMLResponse:
    pilot, t = view.pilot, view.t
    timeline = pilot.timeline(hours, POINTS)
    top = pilot.search(hours, SHOWN_QUERIES)
    pool, history = pilot.pool(), pilot.pool_history(hours)
    alerts = pilot.alerts(hours, SHOWN_ALERTS).alerts
    named = pilot.named({alert.pattern_id for alert in alerts if alert.pattern_id})
    indexes, watching, silence = pilot.indexing.latest(), pilot.watching(), pilot.silence()
    runs = runs_of(pilot.events(CLEANUP, A_YEAR_H, 1).events)
    marks = charts.marks_of(t, pilot.activity(hours, SHOWN_MARKS).activities)
    sentences = [
        *attention.of_watching(t, watching, silence, running=pilot.is_running),
        *attention.of_alerts(t, alerts, named),
        *attention.of_pool(t, pool, alerts),
        *attention.of_indexes(t, indexes),
        *attention.of_cleanup(t, runs, ()),
    ]
    return shown(
        view,
        "overview",
        page="overview",
        sentences=attention.in_order(sentences),
        well=attention.what_is_well(t, watching, pool, indexes, runs, watched=pilot.is_running and silence is None),
        tiles=tiles_of(t, timeline, pool, history, indexes),
        rate=charts.rate_chart(t, timeline, timeline.points, marks),
        latency=charts.latency_chart(t, timeline, timeline.points, marks),
        pool_chart=charts.pool_chart(t, history, marks),
        heat=charts.heat_spec(timeline, [_at(view, timeline, point) for point in timeline.points]),
        top=top,
        short=attention.short,
        alerts=[alert for alert in alerts if alert.resolved_at is not None][:SHOWN_QUERIES],
        history_error=timeline.history_error or top.history_error,
    )


def _at(view: View, timeline: TimelineReport, point: Point) -> str:
    """The queries of one step."""
    return view.link("queries", at=int(point.start.timestamp()), step=timeline.step_s, sort="p95_s")


def tiles_of(
    t: Words, timeline: TimelineReport, pool: PoolReport, history: PoolHistory, indexes: IndexReport
) -> list[Tile]:
    """The figures that tell most."""
    points, total = timeline.points, timeline.total
    size = [table.size_bytes for table in indexes.tables if table.size_bytes is not None]
    return [
        Tile(
            t("tile.rate"),
            figures.count(total.per_s),
            [point.per_s for point in points],
            "queries",
            note=t("tile.per_s"),
        ),
        Tile(t("tile.p95"), figures.duration(total.p95_s), [point.p95_s for point in points], "queries"),
        _errors(t, total, points),
        _use(t, pool, history),
        Tile(
            t("tile.wait"),
            figures.duration(pool.checkouts.p95_s),
            [one.sample.longest_p95_s if one.sample.checkouts else None for one in history.samples],
            "pool",
        ),
        _score(t, indexes),
        Tile(t("tile.size"), figures.size(sum(size) if size else None), [], "indexes"),
    ]


def _errors(t: Words, total: Point, points: Sequence[Point]) -> Tile:
    part = total.errors / total.calls if total.calls else None
    course = [point.errors / point.calls if point.calls else None for point in points]
    level = "amber" if part is not None and part >= NOTABLE_ERRORS else ""
    note = t("tile.errors_of", errors=figures.count(total.errors), calls=figures.count(total.calls))
    return Tile(t("tile.errors"), figures.share(part), course, "queries", level, note if total.calls else "")


def _use(t: Words, pool: PoolReport, history: PoolHistory) -> Tile:
    course: list[float | None] = [one.sample.in_use for one in history.samples]
    if isinstance(pool.in_use, Unsupported) or isinstance(pool.limit, Unsupported):
        return Tile(t("tile.pool"), figures.NONE, course, "pool")
    level = {"near": "amber", "reached": "red"}.get(pool.exhaustion.state, "")
    return Tile(t("tile.pool"), f"{pool.in_use} / {pool.limit}", course, "pool", level, t("tile.pool_of"))


def _score(t: Words, indexes: IndexReport) -> Tile:
    value = figures.NONE if indexes.score is None else f"{indexes.score:.0f}"
    level = "amber" if indexes.score is not None and indexes.score < attention.GOOD_SCORE else ""
    return Tile(t("tile.score"), value, [], "indexes", level, t("tile.of_hundred") if indexes.score is not None else "")
