"""The indexes: how good they are, what could be done about them, and doing it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from dbpilot.errors import PilotError, RefusedError
from dbpilot.indexing import INDEXES
from dbpilot.reports.indexes import ChangeReport, IndexReport, StepReport, outcome_report
from dbpilot.web.access import Caller, expensive, requires
from dbpilot.web.pages import charts
from dbpilot.web.pages.site import USUAL_H, Form, Hours, Site, View, gone_to, shown, typed, view_of

By = Annotated[Caller, Depends(requires("operator"))]
Admin = Annotated[Caller, Depends(requires("admin"))]
MAX_SCORES: Final = 1000
UNDOABLE: Final = ("watching", "kept")
A_MONTH_H: Final = 24 * 30


def add_indexes(router: APIRouter, site: Site, clock: Callable[[], datetime]) -> None:
    """The router answers with the indexes' page, and does what its forms ask for."""
    indexing = site.pilot.indexing

    @router.get("/indexes")
    def indexes(request: Request, hours: Hours = USUAL_H) -> HTMLResponse:  # noqa: ARG001 - the page keeps it
        return _page(view_of(site, request, clock()))

    @router.post("/indexes/dry-run", dependencies=[Depends(expensive)])
    def dry_run(request: Request, form: Form, by: By) -> HTMLResponse:
        ids = _ids(form)
        tried = [outcome_report(outcome) for outcome in indexing.apply(ids, dry_run=True, by=by.name)]
        return _page(view_of(site, request, clock()), tried=tried, ids=ids)

    @router.post("/indexes/apply", dependencies=[Depends(expensive)])
    def apply(request: Request, form: Form, by: Admin) -> Response:
        ids = _ids(form)
        typed(form, word_for(indexing.latest().steps, ids))
        indexing.begin_apply(ids, by.name)
        return gone_to(view_of(site, request, clock()), "indexes", said="applying")

    @router.post("/indexes/changes/{number}/undo")
    def undo(number: int, request: Request, form: Form, by: Admin) -> Response:
        typed(form, str(number))
        indexing.undo(number, by=by.name)
        return gone_to(view_of(site, request, clock()), "indexes", said="undone")


def word_for(steps: Sequence[StepReport], ids: Sequence[str]) -> str:
    """What is typed to take these steps: the table's name, or ``apply`` where there are several."""
    tables = {step.table for step in steps if step.id in ids}
    return tables.pop() if len(tables) == 1 else "apply"


def _page(view: View, tried: Sequence[ChangeReport] | None = None, ids: Sequence[str] = ()) -> HTMLResponse:
    report = view.pilot.indexes()
    changes, changes_error = _changes(view)
    return shown(
        view,
        "indexes",
        page="indexes",
        report=report,
        create=[step for step in report.steps if step.act == "create"],
        drop=[step for step in report.steps if step.act != "create"],
        findings=[finding for table in report.tables for finding in table.findings],
        score_chart=_scores(view, report),
        changes=changes,
        changes_error=changes_error,
        undoable=UNDOABLE,
        tried=tried,
        ids=list(ids),
        word=word_for(report.steps, ids),
        may_change=view.pilot.config.indexes.apply,
    )


def _ids(form: dict[str, list[str]]) -> list[str]:
    """The steps that were ticked.

    Raises:
        RefusedError: none was.
    """
    ids = form.get("id", [])
    if not ids:
        raise RefusedError("no step was chosen")
    return ids


def _changes(view: View) -> tuple[list[ChangeReport], str | None]:
    try:
        return view.pilot.indexing.changes(), None
    except PilotError as error:
        return [], str(error)


def _scores(view: View, report: IndexReport) -> charts.Chart:
    """The score of every analysis of the last month."""
    known = sorted(view.pilot.events(INDEXES, A_MONTH_H, MAX_SCORES).events, key=lambda event: event.at)
    scores = [(event.at, event.body.get("score")) for event in known]
    if report.as_of is not None:
        scores.append((report.as_of, report.score))
    line = charts.Line(view.t("series.score"), [score for _, score in scores], "blue", "step")
    more = {"range": [0, 100]}
    return charts.Chart("score", view.t("chart.score"), "count", [at for at, _ in scores], [line], more=more)
