"""The dashboard: pages for whoever is on call, as a router for any FastAPI application.

What a page shows is what the JSON API answers; all of a page's state is in its address.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from dbpilot.clock import SYSTEM, Clock
from dbpilot.pilot import Autopilot
from dbpilot.web.access import LOGIN_PAGE, Access, Authorize, make_login
from dbpilot.web.pages.activity import add_activity
from dbpilot.web.pages.assets import make_assets, read_assets
from dbpilot.web.pages.indexes import add_indexes
from dbpilot.web.pages.maintenance import add_maintenance
from dbpilot.web.pages.overview import add_overview
from dbpilot.web.pages.pool import add_pool
from dbpilot.web.pages.queries import add_queries
from dbpilot.web.pages.query import add_query
from dbpilot.web.pages.setup import add_setup
from dbpilot.web.pages.site import Site, form_of, make_templates, route_of, shown, view_of
from dbpilot.web.pages.words import all_words

ADDING: Final = (
    add_overview,
    add_queries,
    add_query,
    add_indexes,
    add_pool,
    add_maintenance,
    add_activity,
    add_setup,
)


def make_dashboard(
    pilot: Autopilot, authorize: Authorize | None = None, *, title: str = "dbpilot", clock: Clock = SYSTEM
) -> APIRouter:
    """A router that shows this pilot's pages; the host chooses the prefix.

    ``authorize`` says who a request is from, in the place of keys; ``title`` is the application's name.

    Raises:
        ConfigError: a configured key is none.
    """
    access = Access(pilot.config.web, authorize)
    site = Site(pilot, title, all_words(), read_assets(), make_templates())

    def now() -> datetime:
        return clock.now().astimezone(UTC)

    route = route_of(site, now)
    # The body is read first, and kept: access looks for a token in it, and a page for its fields.
    pages = APIRouter(
        include_in_schema=False, route_class=route, dependencies=[Depends(form_of), Depends(access.shows)]
    )
    for add in ADDING:
        add(pages, site, now)
    router = APIRouter(include_in_schema=False)
    router.include_router(pages)
    router.include_router(_login_page(access, site, route, now))
    router.include_router(make_login(access))
    router.include_router(make_assets(site.assets))
    return router


def _login_page(access: Access, site: Site, route: type, now: Callable[[], datetime]) -> APIRouter:
    router = APIRouter(include_in_schema=False, route_class=route)

    @router.get("/login", name=LOGIN_PAGE)
    def login(request: Request, wrong: bool = False) -> HTMLResponse:
        wanted = request.query_params.get("next", "")
        return shown(
            view_of(site, request, now()), "login", wrong=wrong, wanted=wanted, asks_for_keys=access.asks_for_keys
        )

    return router
