"""The JSON API and the metrics endpoint, as routers for any FastAPI application."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response

from dbpilot.alerts import LONGEST_MUTE, Mute
from dbpilot.dialects.base import Identity
from dbpilot.export.catalogue import Scope
from dbpilot.export.prometheus import Exposition
from dbpilot.health import Examined, State
from dbpilot.pilot import Autopilot, StatsOrder
from dbpilot.reports.pool import PoolHistory, PoolReport, PoolReview
from dbpilot.reports.requests import Receipt
from dbpilot.reports.server import ServerReport
from dbpilot.reports.slow import SlowFilter, SlowQueryStatistics
from dbpilot.reports.summary import PerformanceSummary
from dbpilot.web.access import Access, Authorize, Operator, expensive
from dbpilot.web.answers import problems
from dbpilot.web.cleanup import add_cleanup
from dbpilot.web.indexes import add_indexes
from dbpilot.web.paging import (
    ActivityPage,
    AlertPage,
    From,
    QueryStatsPage,
    RepetitionPage,
    RequestPage,
    SlowPatternPage,
    SlowQueryPage,
)
from dbpilot.web.queries import add_queries
from dbpilot.web.sharing import Budget, SharedAnswers

MAX_HOURS: Final = 24 * 366
MAX_DURATION_S: Final = 7 * 24 * 3600
MAY_LOOK: Final = problems(401, 403, 422, 429)
"""What each route may answer, whatever it is asked."""

Hours = Annotated[float, Query(gt=0, le=MAX_HOURS, description="How far back to look, in hours.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many entries.")]
Order = Annotated[StatsOrder, Query(description="The figure that ranks the patterns, highest first.")]
AlertId = Annotated[
    str, Path(pattern=r"^[a-z_]{1,40}:[A-Za-z0-9._-]{1,200}$", description="``kind:key``, as ``GET alerts`` says them.")
]
MuteHours = Annotated[
    float, Query(gt=0, le=LONGEST_MUTE.total_seconds() / 3600, description="For how long nobody is told.")
]
RequestId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="As ``X-Request-ID`` said it.")]


def _slow_filter(
    min_duration: Annotated[
        float | None, Query(ge=0, le=MAX_DURATION_S, description="Seconds; only executions that took longer.")
    ] = None,
    operation_type: Annotated[str | None, Query(max_length=32, description="The verb: SELECT, UPDATE, ...")] = None,
    table_name: Annotated[str | None, Query(max_length=255, description="A table that the statement names.")] = None,
) -> SlowFilter:
    return SlowFilter(min_duration, operation_type, table_name)


Wanted = Annotated[SlowFilter, Depends(_slow_filter)]


@dataclass(frozen=True, slots=True)
class Health:
    """How the database is, and every check that says so."""

    state: State
    """That of the worst check."""
    at: datetime
    database: Identity
    place: str
    checks: tuple[Examined, ...]


def make_api(pilot: Autopilot, authorize: Authorize | None = None) -> APIRouter:
    """A router that answers for this pilot; the host chooses the prefix.

    Who may ask is said by the keys of ``pilot.config.web``, or by the host with ``authorize``: see
    :mod:`dbpilot.web.access`.

    Raises:
        ConfigError: a configured key is none.
    """
    access = Access(pilot.config.web, authorize)
    router = APIRouter(
        tags=["database"],
        route_class=SharedAnswers(access.looks, Budget.of(pilot)).route(),
        dependencies=[Depends(access.looks)],
        responses=MAY_LOOK,
    )
    _add_summary(router, pilot)
    add_queries(router, pilot)
    _add_slow(router, pilot)
    _add_requests(router, pilot)
    _add_watching(router, pilot)
    _add_pool(router, pilot)
    add_cleanup(router, pilot)
    add_indexes(router, pilot)
    return router


def _add_summary(router: APIRouter, pilot: Autopilot) -> None:
    @router.get("/query-stats", summary="What runs, by pattern")
    def query_stats(place: From, hours: Hours = 1, limit: Limit = 50, order: Order = "mean_s") -> QueryStatsPage:
        """Every statement pattern of the last hours: how often, how long, how many rows and errors; slowest first."""
        return place.page(QueryStatsPage, lambda most, until: pilot.query_stats(hours, most, order, until=until), limit)

    @router.get("/performance-summary", summary="The database's health on one page")
    def performance_summary(hours: Hours = 1) -> PerformanceSummary:
        """Totals, the slowest and the busiest patterns, the connection pool, and how the pilot itself is doing."""
        return pilot.performance_summary(hours)


def _add_slow(router: APIRouter, pilot: Autopilot) -> None:
    @router.get("/slow-queries", summary="Slow executions, one by one")
    def slow_queries(place: From, wanted: Wanted, hours: Hours = 24, limit: Limit = 100) -> SlowQueryPage:
        """Executions that took as long as the threshold or longer, latest first, without their values."""
        return place.page(
            SlowQueryPage, lambda most, until: pilot.slow_queries(hours, most, wanted, until=until), limit
        )

    @router.get("/slow-queries/statistics", summary="Slow executions, added up")
    def slow_statistics(wanted: Wanted, hours: Hours = 24) -> SlowQueryStatistics:
        """How many, how long, and how they spread over severities, operations, tables and hours."""
        return pilot.slow_statistics(hours, wanted)

    @router.get("/slow-queries/patterns", summary="Slow executions, by pattern")
    def slow_patterns(place: From, wanted: Wanted, hours: Hours = 24, limit: Limit = 100) -> SlowPatternPage:
        """The patterns behind them, most time first, with the lines of code, the routes and the plan."""
        return place.page(
            SlowPatternPage, lambda most, until: pilot.slow_patterns(hours, most, wanted, until=until), limit
        )


def _add_requests(router: APIRouter, pilot: Autopilot) -> None:
    @router.get("/requests", summary="Requests by their time in the database")
    def requests(place: From, hours: Hours = 1, limit: Limit = 50) -> RequestPage:
        """Receipts of the last hours, those with most time in the database first."""
        return place.page(RequestPage, lambda most, until: pilot.receipts(hours, most, until=until), limit)

    @router.get("/requests/{request_id}", summary="One request's receipt", responses=problems(404))
    def receipt(request_id: RequestId) -> Receipt:
        """Which patterns the request ran, how often, how long, and from which line of code."""
        found = pilot.receipt(request_id)
        if found is None:
            raise HTTPException(404, "no receipt is kept under this id")
        return found

    @router.get("/n-plus-one", summary="Statements repeated within one request")
    def repetitions(place: From, hours: Hours = 24, limit: Limit = 100) -> RepetitionPage:
        """SELECTs that a request ran over and over, with the line of code and what to do about it."""
        return place.page(RepetitionPage, lambda most, until: pilot.repetitions(hours, most, until=until), limit)


def _add_watching(router: APIRouter, pilot: Autopilot) -> None:
    @router.get("/alerts", summary="What deserved attention")
    def alerts(place: From, hours: Hours = 24, limit: Limit = 100) -> AlertPage:
        """Alerts of the last hours and open ones, the latest first, and how telling of them goes."""
        return place.page(AlertPage, lambda most, until: pilot.alerts(hours, most, until=until), limit)

    @router.post("/alerts/{alert_id}/mute", summary="Do not tell of an alert for a while", responses=problems(404))
    def mute(by: Operator, alert_id: AlertId, hours: MuteHours = 4) -> Mute:
        """Nobody is told of it until then, by any process that shares the history; what goes on after that is told of.

        It is still counted, and shown.
        """
        return pilot.mute_alert(alert_id, hours, by.name)

    @router.post("/alerts/{alert_id}/unmute", summary="Tell of an alert again", responses=problems(404))
    def unmute(by: Operator, alert_id: AlertId) -> Mute:
        """What goes on is told of within a minute. 404 where the alert is not muted."""
        return pilot.unmute_alert(alert_id, by.name)

    @router.get("/activity", summary="What was done, and by whom")
    def activity(place: From, hours: Hours = 24 * 7, limit: Limit = 100) -> ActivityPage:
        """Everything that the pilot or somebody who asked it did: who, what, why, and how to undo it."""
        return place.page(ActivityPage, lambda most, until: pilot.activity(hours, most, until=until), limit)

    @router.get("/health", summary="What is off, and how to mend it")
    def health() -> Health:
        """What was looked at on this database and in the history, what is worst first; each finding with its fix."""
        found = pilot.doctor()
        return Health(found.state, found.at, found.database, found.place, found.checks)

    @router.get(
        "/server-statements",
        summary="What the server counted",
        responses=problems(503),
        dependencies=[Depends(expensive)],
    )
    def server_statements(limit: Limit = 50) -> ServerReport:
        """The server's own statistics beside the application's: load that comes from elsewhere shows here."""
        return pilot.server_statements(limit)


def _add_pool(router: APIRouter, pilot: Autopilot) -> None:
    @router.get("/connection-pool", summary="The connection pool")
    def pool() -> PoolReport:
        """The pool of the process that answers: how much is in use, why it has this size, who holds connections."""
        return pilot.pool()

    @router.get("/connection-pool/metrics", summary="How the pools were")
    def pool_history(hours: Hours = 24) -> PoolHistory:
        """Samples of the last hours, of all processes that share the history, oldest first."""
        return pilot.pool_history(hours)

    @router.post(
        "/connection-pool/optimize",
        summary="Review the pool's size now",
        responses=problems(409),
        dependencies=[Depends(expensive)],
    )
    def review(by: Operator) -> PoolReview:
        """Reviews the pool whenever the last review was, resizes it if that comes to another size, and says why.

        409 where this pool is not resized, with the reason.
        """
        return pilot.review_pool(by.name)


def make_metrics(pilot: Autopilot, namespace: str, authorize: Authorize | None = None) -> APIRouter:
    """A router with ``/metrics`` for Prometheus; every metric's name begins with the namespace."""
    exposition = Exposition(pilot, namespace)
    access = Access(pilot.config.web, authorize)
    router = APIRouter(
        tags=["database"],
        route_class=SharedAnswers(access.scrapes, Budget.of(pilot)).route(),
        dependencies=[Depends(access.scrapes)],
        responses=MAY_LOOK,
    )

    @router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    def metrics(request: Request, scope: Scope = "process") -> Response:
        """Read from the pilot at this moment, as text or as OpenMetrics; in scope ``all``, what all processes that
        share the history counted."""
        text, content_type = exposition.answer(request.headers.get("accept", ""), scope)
        return Response(text, headers={"Content-Type": content_type})

    return router
