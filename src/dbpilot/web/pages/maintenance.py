"""Cleaning by rules: what is due, what goes on, what was done; and running, ending and undoing it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from dbpilot.errors import ConfigError
from dbpilot.reports.cleanup import CleanupReport
from dbpilot.retention import Plan, RestorePlan
from dbpilot.web.access import Caller, expensive, requires
from dbpilot.web.pages.site import Form, Site, View, first, gone_to, shown, typed, view_of

EVERYTHING: Final = "all"
"""What is typed where the rules of every table are run."""
By = Annotated[Caller, Depends(requires("operator"))]
Admin = Annotated[Caller, Depends(requires("admin"))]
DAY: Final = timedelta(days=1)


def add_maintenance(router: APIRouter, site: Site, clock: Callable[[], datetime]) -> None:
    """The router answers with the rules' page, and does what its forms ask for."""
    cleaning = site.pilot.cleaning
    costly = [Depends(expensive)]

    @router.get("/maintenance")
    def maintenance(request: Request) -> HTMLResponse:
        return _page(view_of(site, request, clock()))

    @router.post("/maintenance/dry-run", dependencies=costly)
    def dry_run(request: Request, form: Form, _by: By) -> HTMLResponse:
        table = first(form, "table") or None
        return _page(view_of(site, request, clock()), plan=cleaning.plan(table), table=table)

    @router.post("/maintenance/run", dependencies=costly)
    def run(request: Request, form: Form, by: By) -> Response:
        table = first(form, "table") or None
        typed(form, table or EVERYTHING)
        cleaning.begin(table, by.name)
        return gone_to(view_of(site, request, clock()), "maintenance", said="begun")

    @router.post("/maintenance/cancel")
    def cancel(request: Request, _form: Form, by: By) -> Response:
        ended = cleaning.cancel(by.name)
        return gone_to(view_of(site, request, clock()), "maintenance", said="cancelled" if ended else "nothing_ran")

    _add_restoring(router, site, clock)


def _add_restoring(router: APIRouter, site: Site, clock: Callable[[], datetime]) -> None:
    cleaning = site.pilot.cleaning

    @router.post("/maintenance/restore/dry-run", dependencies=[Depends(expensive)])
    def look(request: Request, form: Form, _by: By) -> HTMLResponse:
        rule, since, until = _wanted(form)
        found = cleaning.found(rule, since, until)
        return _page(
            view_of(site, request, clock()), found=found, found_between=(first(form, "since"), first(form, "until"))
        )

    @router.post("/maintenance/restore", dependencies=[Depends(expensive)])
    def restore(request: Request, form: Form, by: Admin) -> Response:
        rule, since, until = _wanted(form)
        typed(form, rule)
        result = cleaning.restore(rule, since, until, None, by.name)
        view = view_of(site, request, clock())
        return gone_to(view, "maintenance", said="restored" if result.ok else "restored_in_part", count=result.restored)

    @router.post("/maintenance/holds/{hold_id}/release")
    def release(hold_id: int, request: Request, _form: Form, by: Admin) -> Response:
        released = cleaning.release(hold_id, by.name)
        return gone_to(view_of(site, request, clock()), "maintenance", said="released" if released else "nothing_ran")


def _page(
    view: View,
    plan: Plan | None = None,
    table: str | None = None,
    found: RestorePlan | None = None,
    found_between: tuple[str, str] = ("", ""),
) -> HTMLResponse:
    report = view.pilot.cleanup()
    return shown(
        view,
        "maintenance",
        page="maintenance",
        report=report,
        due=due_of(report),
        plan=plan,
        table=table,
        everything=EVERYTHING,
        found=found,
        found_between=found_between,
        progress=_progress(report),
    )


def due_of(report: CleanupReport) -> dict[str, Any]:
    """What is due by rule, as far as it could be counted."""
    return {step.rule: step for step in report.due.steps} if report.due else {}


def _progress(report: CleanupReport) -> list[tuple[Any, float]]:
    """How far each rule of the run is, as a share."""
    running = report.running
    return [(one, one.deleted / one.planned if one.planned else 1.0) for one in running.progress] if running else []


def _wanted(form: dict[str, list[str]]) -> tuple[str, datetime | None, datetime | None]:
    return first(form, "rule"), _day(form, "since"), _day(form, "until", DAY)


def _day(form: dict[str, list[str]], name: str, later: timedelta = timedelta(0)) -> datetime | None:
    """The beginning of a day in UTC, or some time after it.

    Raises:
        ConfigError: this is no day.
    """
    said = first(form, name)
    try:
        return datetime.fromisoformat(f"{said}T00:00:00+00:00") + later if said else None
    except (ValueError, OverflowError):
        raise ConfigError(f"{name}: {said[:20]} is no day; write it as 2026-01-31") from None
