"""The JSON API and the metrics endpoint, as routers for any FastAPI application."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from dbpilot.alerting import AlertReport
from dbpilot.errors import RefusedError, WatchedDatabaseError
from dbpilot.export.prometheus import PilotCollector
from dbpilot.pilot import Autopilot, StatsOrder
from dbpilot.reports.pool import PoolHistory, PoolReport, PoolReview
from dbpilot.reports.queries import QueryStatsReport
from dbpilot.reports.requests import Receipt, RepetitionReport, RequestReport
from dbpilot.reports.server import ServerReport
from dbpilot.reports.slow import SlowFilter, SlowPatternReport, SlowQueryReport, SlowQueryStatistics
from dbpilot.reports.summary import PerformanceSummary
from dbpilot.web.cleanup import add_cleanup
from dbpilot.web.indexes import add_indexes

MAX_HOURS = 24 * 366
Hours = Annotated[float, Query(gt=0, le=MAX_HOURS, description="How far back to look, in hours.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many entries.")]
Order = Annotated[StatsOrder, Query(description="The figure that ranks the patterns, highest first.")]


def _slow_filter(
    min_duration: Annotated[float | None, Query(ge=0, description="Seconds; only executions that took longer.")] = None,
    operation_type: Annotated[str | None, Query(max_length=32, description="The verb: SELECT, UPDATE, ...")] = None,
    table_name: Annotated[str | None, Query(max_length=255, description="A table that the statement names.")] = None,
) -> SlowFilter:
    return SlowFilter(min_duration, operation_type, table_name)


Wanted = Annotated[SlowFilter, Depends(_slow_filter)]


def make_api(pilot: Autopilot) -> APIRouter:
    """A router that answers for this pilot; the host chooses the prefix."""
    router = APIRouter(tags=["database"])
    _add_summary(router, pilot)
    _add_slow(router, pilot)
    _add_requests(router, pilot)
    _add_pool(router, pilot)
    add_cleanup(router, pilot)
    add_indexes(router, pilot)
    return router


def _add_summary(router: APIRouter, pilot: Autopilot) -> None:
    @router.get("/query-stats", summary="What runs, by pattern")
    def query_stats(hours: Hours = 1, limit: Limit = 50, order: Order = "mean_s") -> QueryStatsReport:
        """Every statement pattern of the last hours: how often, how long, how many rows and errors; slowest first."""
        return pilot.query_stats(hours, limit, order)

    @router.get("/performance-summary", summary="The database's health on one page")
    def performance_summary(hours: Hours = 1) -> PerformanceSummary:
        """Totals, the slowest and the busiest patterns, the connection pool, and how the pilot itself is doing."""
        return pilot.performance_summary(hours)


def _add_slow(router: APIRouter, pilot: Autopilot) -> None:
    @router.get("/slow-queries", summary="Slow executions, one by one")
    def slow_queries(wanted: Wanted, hours: Hours = 24, limit: Limit = 100) -> SlowQueryReport:
        """Executions that took as long as the threshold or longer, latest first, without their values."""
        return pilot.slow_queries(hours, limit, wanted)

    @router.get("/slow-queries/statistics", summary="Slow executions, added up")
    def slow_statistics(wanted: Wanted, hours: Hours = 24) -> SlowQueryStatistics:
        """How many, how long, and how they spread over severities, operations, tables and hours."""
        return pilot.slow_statistics(hours, wanted)

    @router.get("/slow-queries/patterns", summary="Slow executions, by pattern")
    def slow_patterns(wanted: Wanted, hours: Hours = 24, limit: Limit = 100) -> SlowPatternReport:
        """The patterns behind them, most time first, with the lines of code, the routes and the plan."""
        return pilot.slow_patterns(hours, limit, wanted)


def _add_requests(router: APIRouter, pilot: Autopilot) -> None:
    @router.get("/requests", summary="Requests by their time in the database")
    def requests(hours: Hours = 1, limit: Limit = 50) -> RequestReport:
        """Receipts of the last hours, those with most time in the database first."""
        return pilot.receipts(hours, limit)

    @router.get("/requests/{request_id}", summary="One request's receipt", responses={404: {}})
    def receipt(request_id: str) -> Receipt:
        """Which patterns the request ran, how often, how long, and from which line of code."""
        found = pilot.receipt(request_id)
        if found is None:
            raise HTTPException(404, "no receipt is kept under this id")
        return found

    @router.get("/alerts", summary="What deserved attention")
    def alerts(hours: Hours = 24, limit: Limit = 100) -> AlertReport:
        """Alerts of the last hours and open ones, the latest first, and how telling of them goes."""
        return pilot.alerts(hours, limit)

    @router.get("/server-statements", summary="What the server counted", responses={503: {}})
    def server_statements(limit: Limit = 50) -> ServerReport:
        """The server's own statistics beside the application's: load that comes from elsewhere shows here."""
        try:
            return pilot.server_statements(limit)
        except WatchedDatabaseError as error:
            raise HTTPException(503, str(error)) from None

    @router.get("/n-plus-one", summary="Statements repeated within one request")
    def repetitions(hours: Hours = 24, limit: Limit = 100) -> RepetitionReport:
        """SELECTs that a request ran over and over, with the line of code and what to do about it."""
        return pilot.repetitions(hours, limit)


def _add_pool(router: APIRouter, pilot: Autopilot) -> None:
    @router.get("/connection-pool", summary="The connection pool")
    def pool() -> PoolReport:
        """The pool of the process that answers: how much is in use, why it has this size, who holds connections."""
        return pilot.pool()

    @router.get("/connection-pool/metrics", summary="How the pools were")
    def pool_history(hours: Hours = 24) -> PoolHistory:
        """Samples of the last hours, of all processes that share the history, oldest first."""
        return pilot.pool_history(hours)

    @router.post("/connection-pool/optimize", summary="Review the pool's size now", responses={409: {}})
    def review() -> PoolReview:
        """Reviews the pool whenever the last review was, resizes it if that comes to another size, and says why.

        409 where this pool is not resized, with the reason.
        """
        try:
            return pilot.review_pool()
        except RefusedError as error:
            raise HTTPException(409, str(error)) from None


def make_metrics(pilot: Autopilot, namespace: str) -> APIRouter:
    """A router with ``/metrics`` for Prometheus; every metric's name begins with the namespace."""
    registry = CollectorRegistry()
    registry.register(PilotCollector(pilot, namespace))
    router = APIRouter(tags=["database"])

    @router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    def metrics() -> Response:
        """The exposition format, read from the pilot at this moment."""
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router
