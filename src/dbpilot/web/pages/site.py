"""What all pages share: the reader's language and scheme, links, templates, and the headers of every answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, urlencode

from fastapi import Depends, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.types import Receive, Scope, Send

from dbpilot.errors import ConfigError, NotThereError, PilotError, RefusedError
from dbpilot.pilot import Autopilot
from dbpilot.unsupported import Unsupported
from dbpilot.web.access import CSRF_FIELD, LOGIN_PAGE, caller_of, csrf_token
from dbpilot.web.answers import bounded
from dbpilot.web.keys import Role
from dbpilot.web.pages import drawing, figures, sentences
from dbpilot.web.pages.assets import Asset
from dbpilot.web.pages.words import LANGUAGES, Words, language_of
from dbpilot.web.sharing import Budget

SCHEMES: Final = ("auto", "light", "dark")
LANGUAGE: Final = "dbpilot_language"
SCHEME: Final = "dbpilot_scheme"
"""Cookies that remember a reader's choice."""
A_YEAR_S: Final = 365 * 86_400
RANGES_H: Final = (1, 3, 24, 168, 720)
USUAL_H: Final = 1.0
MAX_HOURS: Final = 24 * 366
PAGES: Final = ("overview", "queries", "indexes", "pool", "maintenance", "activity", "setup")
REFUSALS: Final[tuple[tuple[type[PilotError], int], ...]] = (
    (NotThereError, 404),
    (RefusedError, 409),
    (ConfigError, 422),
)

SECURITY: Final = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; "
        "frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "no-store",
    }
)
"""Nothing runs that this server did not send as a file, and no other site shows a page in a frame."""

Hours = Annotated[float, Query(gt=0, le=MAX_HOURS)]


@dataclass(frozen=True, slots=True)
class Site:
    """The dashboard of one pilot."""

    pilot: Autopilot
    title: str
    words: Mapping[str, Words]
    assets: Mapping[str, Asset]
    templates: Environment


@dataclass(frozen=True, slots=True)
class View:
    """One page for one reader."""

    site: Site
    request: Request
    t: Words
    scheme: str
    base: str
    """The path that the dashboard is mounted at."""
    now: datetime
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def pilot(self) -> Autopilot:
        """Whom the page asks."""
        return self.site.pilot

    @property
    def hours(self) -> float:
        """How far back the page looks."""
        try:
            asked = float(self.request.query_params.get("hours", USUAL_H))
        except ValueError:
            return USUAL_H
        return asked if 0 < asked <= MAX_HOURS else USUAL_H

    @property
    def here(self) -> str:
        """This page's path."""
        return self.request.url.path

    def may(self, role: str) -> bool:
        """Whether the reader has this role."""
        least: Role = self.extra.get("role", Role.METRICS)
        return least >= Role.named(role)

    def link(self, page: str, **query: object) -> str:
        """Another page's address, for the same range of time unless another one is asked for."""
        path = self.base + ("/" if page == "overview" else f"/{page}")
        asked = {"hours": self.hours, **query}
        kept = {name: _written(value) for name, value in asked.items() if value not in (None, "", False)}
        if kept.get("hours") == _written(USUAL_H):
            del kept["hours"]
        return f"{path}?{urlencode(kept)}" if kept else path

    def with_query(self, **changes: object) -> str:
        """This very page with some of its state changed."""
        kept = dict(parse_qsl(self.request.url.query))
        for name, value in changes.items():
            kept.pop(name, None)
            if value not in (None, ""):
                kept[name] = _written(value)
        for name in ("said",) if "said" not in changes else ():
            kept.pop(name, None)
        return f"{self.here}?{urlencode(kept)}" if kept else self.here

    def asset(self, path: str) -> str:
        """The address of a file that pages load."""
        return f"{self.base}/static/{path}?v={self.site.assets[path].version}"

    def duration(self, seconds: float | None) -> str:
        """As :func:`dbpilot.web.pages.figures.duration`."""
        return figures.duration(seconds)


def make_templates() -> Environment:
    """Templates that escape everything, and fail where a value is missing."""
    environment = Environment(
        loader=PackageLoader("dbpilot.web"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=figures.duration,
        count=figures.count,
        whole=figures.whole,
        size=figures.size,
        share=figures.share,
        breakable=figures.breakable,
        sentence=sentences.sentence,
        said=sentences.said,
    )
    environment.globals.update(
        sparkline=drawing.sparkline,
        meter=drawing.meter,
        stack=drawing.stack,
        is_unknown=lambda value: isinstance(value, Unsupported),
        usual_ranges=RANGES_H,
        pages=PAGES,
        languages=LANGUAGES,
        schemes=SCHEMES,
        csrf_field=CSRF_FIELD,
    )
    return environment


def view_of(site: Site, request: Request, now: datetime) -> View:
    """The page as this reader wants it."""
    query, cookies = request.query_params, request.cookies
    accepted = request.headers.get("accept-language", "")
    language = language_of(query.get("lang"), cookies.get(LANGUAGE), accepted)
    scheme = next((one for one in (query.get("scheme"), cookies.get(SCHEME)) if one in SCHEMES), "auto")
    base = request.url_for(LOGIN_PAGE).path.removesuffix("/login")
    view = View(site, request, site.words[language], scheme, base, now)
    if hasattr(request.state, "dbpilot"):
        caller = caller_of(request)
        view.extra.update(role=caller.role, caller=caller, csrf=csrf_token(request))
    return view


def shown(view: View, template: str, status: int = 200, **values: object) -> HTMLResponse:
    """The page, with what its reader chose remembered."""
    context = {"view": view, "t": view.t, "caller": None, "csrf": "", **view.extra, **values}
    response = HTMLResponse(view.site.templates.get_template(f"{template}.html").render(context), status)
    for name, cookie, known in (("lang", LANGUAGE, tuple(LANGUAGES)), ("scheme", SCHEME, SCHEMES)):
        chosen = view.request.query_params.get(name)
        if chosen in known:
            secure = view.request.url.scheme == "https"
            response.set_cookie(cookie, chosen, max_age=A_YEAR_S, samesite="strict", httponly=True, secure=secure)
    return response


def gone_to(view: View, page: str, **query: object) -> RedirectResponse:
    """After something was done, another page is shown, so that loading it again does nothing twice."""
    return RedirectResponse(view.link(page, **query), 303)


def refusal(error: PilotError) -> tuple[int, str]:
    """The status and the words for something that was not done."""
    return next((status for kind, status in REFUSALS if isinstance(error, kind)), 503), str(error)


def route_of(site: Site, clock: Callable[[], datetime]) -> type[APIRoute]:
    """Routes that answer with pages, also when they refuse, and with the headers that pages need."""

    class PageRoute(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            await super().handle(scope, bounded(receive), send)

        def get_route_handler(self) -> Callable[[Request], Any]:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                response = await _answered(site, request, clock(), handle)
                if request.method != "GET":
                    Budget.of(site.pilot).changed()
                response.headers.update(SECURITY)
                return response

            return handled

    return PageRoute


async def _answered(site: Site, request: Request, now: datetime, handle: Callable[[Request], Any]) -> Response:
    try:
        response: Response = await handle(request)
    except HTTPException as error:
        if error.status_code < 400:  # it leads elsewhere
            return RedirectResponse((error.headers or {})["Location"], error.status_code)
        return _refused(site, request, now, error.status_code, str(error.detail), error.headers)
    except RequestValidationError as error:
        return _refused(site, request, now, 422, "; ".join(_complaint(one) for one in error.errors()), None)
    except PilotError as error:
        return _refused(site, request, now, *refusal(error), None)
    return response


def _refused(
    site: Site, request: Request, now: datetime, status: int, why: str, headers: Mapping[str, str] | None
) -> Response:
    response = shown(view_of(site, request, now), "error", status, why=why, code=status)
    response.headers.update(headers or {})
    return response


def _complaint(problem: Mapping[str, Any]) -> str:
    return f"{problem['loc'][-1]}: {problem['msg']}"


async def form_of(request: Request) -> dict[str, list[str]]:
    """The fields of a form that a page sent."""
    body = await request.body()  # kept by the request, so that it can be read again
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(body.decode(errors="replace"), keep_blank_values=True):
        found.setdefault(name, []).append(value)
    return found


Form = Annotated[dict[str, list[str]], Depends(form_of)]


def first(form: Mapping[str, Sequence[str]], name: str) -> str:
    """The field's value; empty where there is none."""
    return next(iter(form.get(name, ())), "").strip()


def typed(form: Mapping[str, Sequence[str]], wanted: str) -> None:
    """Returns only where the reader typed the name of what will be changed.

    Raises:
        RefusedError: something else was typed.
    """
    if first(form, "typed") != wanted:
        raise RefusedError(f"nothing was done: to go on, type {wanted}")


def since_of(now: datetime, hours: float) -> datetime:
    """The beginning of the range."""
    return now - timedelta(hours=hours)


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
