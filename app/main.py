"""Finstage Market Data as a web application."""

from asyncio import Semaphore
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from anyio import to_thread
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from sqlalchemy import literal, select
from starlette.types import ASGIApp, Receive, Scope, Send

from app.common.infra.database import routes as database
from app.common.infra.database.config.database_config import engine
from app.common.infra.database.monitoring.query_monitor import query_monitor
from app.market import analysis, news, prices, signals, symbols
from app.market.requests import Db
from app.problems import FAILURES, Unexpected, add_problem_details, documented
from dbpilot.web.requests import RequestsMiddleware
from dbpilot.web.sharing import SharingMiddleware

DESCRIPTION: Final = """
Daily prices, news and technical signals.

- Amounts and fractions are JSON numbers with at most six decimals, the same on every database.
- Instants are in UTC; a day's data is labelled with the day.
- Lists answer `items` and `next`; give `next` as `cursor` to go on, until it is null.
- Errors are problem details (RFC 9457, `application/problem+json`).
"""

AT_ONCE: Final = 60
"""Requests of the market that are under way together; more than the pool has connections, so that who waits for one is
seen to."""
SPARE_THREADS: Final = 20
"""So many threads are left when each of these requests waits in one."""

LANDING: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Finstage Market Data</title>
<link rel="icon" href="/dashboard/static/icon.svg" type="image/svg+xml">
<h1>Finstage Market Data</h1>
<ul>
<li><a href="/docs">The API</a>
<li><a href="/api/market/symbols">Symbols</a>
<li><a href="/dashboard/">How the database is doing</a>
<li><a href="/api/database/performance-summary">The same for programs</a>
<li><a href="/metrics">Metrics for Prometheus</a>
<li><a href="/healthz">Health</a>
</ul>
</html>
"""


class InTurn:
    """So many requests of the market are under way; the others wait for their turn, without a thread.

    A request keeps its connection from one thread to the next. Were there more of them than threads, those that wait
    for a connection could hold all threads, and nobody would have one left to give a connection back.
    """

    def __init__(self, app: ASGIApp, at_once: int) -> None:
        self._app = app
        self._turns = Semaphore(at_once)
        self._threads = at_once + SPARE_THREADS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(("/api/market/", "/healthz")):
            limiter = to_thread.current_default_thread_limiter()
            if limiter.total_tokens < self._threads:
                limiter.total_tokens = self._threads
            async with self._turns:
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Health(BaseModel):
    """The program answers, and so does its database."""

    status: str = "ok"


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """What runs beside the requests, started before the first and ended after the last."""
    with query_monitor:
        yield
    engine.dispose()


def create_app() -> FastAPI:
    """The whole application, on the database that ``DATABASE_URL`` names."""
    app = FastAPI(
        title="Finstage Market Data",
        version=version("finstage-market-data"),
        description=DESCRIPTION,
        lifespan=lifespan,
    )
    for subject in (symbols, prices, news, signals, analysis):
        app.include_router(subject.router)
    app.include_router(database.router, responses=documented(Unexpected()))
    app.include_router(database.metrics_router)
    app.include_router(database.dashboard_router)
    app.add_api_route("/", landing, include_in_schema=False, response_class=HTMLResponse)
    app.add_api_route("/healthz", healthz, tags=["health"], responses=FAILURES)
    add_problem_details(app)
    app.add_middleware(SharingMiddleware)  # the first one added is the innermost
    app.add_middleware(InTurn, at_once=AT_ONCE)
    app.add_middleware(RequestsMiddleware)  # the last one added is the outermost
    return app


def landing() -> str:
    """A page that says where everything is."""
    return LANDING


def healthz(db: Db) -> Health:
    """Whether the program and its database answer; 503 when the database does not."""
    db.execute(select(literal(1)))
    return Health()
