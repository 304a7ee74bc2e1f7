"""The API, the metrics and the dashboard of one pilot as an application of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from dbpilot.pilot import Autopilot
from dbpilot.web.api import make_api, make_metrics
from dbpilot.web.dashboard import make_dashboard

NAMESPACE: Final = "dbpilot"


def make_application(pilot: Autopilot) -> FastAPI:
    """An application that starts and stops the pilot with itself.

    Raises:
        ConfigError: a configured key is none.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with pilot:
            yield

    app = FastAPI(title="dbpilot", version=version("dbpilot"), lifespan=lifespan)
    app.include_router(make_api(pilot), prefix="/api/database")
    app.include_router(make_metrics(pilot, NAMESPACE))
    app.include_router(make_dashboard(pilot), prefix="/dashboard")
    app.add_api_route("/", _first_page, include_in_schema=False)
    return app


def _first_page() -> RedirectResponse:
    """Leads to the dashboard."""
    return RedirectResponse("/dashboard/")
