"""The JSON API and the metrics endpoint, as routers for any FastAPI application."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from dbpilot.export.prometheus import PilotCollector
from dbpilot.pilot import Autopilot, StatsOrder
from dbpilot.reports import PerformanceSummary, QueryStatsReport, SlowQueryReport

MAX_HOURS = 24 * 366
Hours = Annotated[float, Query(gt=0, le=MAX_HOURS, description="How far back to look, in hours.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many entries.")]
Order = Annotated[StatsOrder, Query(description="The figure that ranks the patterns, highest first.")]


def make_api(pilot: Autopilot) -> APIRouter:
    """A router that answers for this pilot; the host chooses the prefix."""
    router = APIRouter(tags=["database"])

    @router.get("/query-stats", summary="What runs, by pattern")
    def query_stats(hours: Hours = 1, limit: Limit = 50, order: Order = "mean_s") -> QueryStatsReport:
        """Every statement pattern of the last hours: how often, how long, how many rows and errors; slowest first."""
        return pilot.query_stats(hours, limit, order)

    @router.get("/slow-queries", summary="Slow executions, one by one")
    def slow_queries(hours: Hours = 24, limit: Limit = 100) -> SlowQueryReport:
        """Executions that took as long as the threshold or longer, latest first, without their values."""
        return pilot.slow_queries(hours, limit)

    @router.get("/performance-summary", summary="The database's health on one page")
    def performance_summary(hours: Hours = 1) -> PerformanceSummary:
        """Totals, the slowest and the busiest patterns, the connection pool, and how the pilot itself is doing."""
        return pilot.performance_summary(hours)

    return router


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
