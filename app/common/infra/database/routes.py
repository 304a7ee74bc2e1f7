"""Where the database's own state is served: ``/dashboard`` for people, ``/api/database`` for programs, and ``/metrics``
under the names the alerts use."""

from typing import Final

from fastapi import APIRouter

from app.common.infra.database.monitoring.query_monitor import query_monitor
from dbpilot.web.api import make_api, make_metrics
from dbpilot.web.dashboard import make_dashboard

METRICS_NAMESPACE: Final = "finstage"

router = APIRouter(prefix="/api/database")
router.include_router(make_api(query_monitor.pilot))

metrics_router = make_metrics(query_monitor.pilot, METRICS_NAMESPACE)

dashboard_router = APIRouter(prefix="/dashboard")
dashboard_router.include_router(make_dashboard(query_monitor.pilot, title="Finstage"))
