"""The JSON API of index advice: looking is for viewers; operators try steps out, admins take them."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from dbpilot.pilot import Autopilot
from dbpilot.reports.indexes import ChangeReport, IndexReport, IndexSql, outcome_report
from dbpilot.web.access import Admin, Operator, Role, admitted, expensive
from dbpilot.web.answers import problems

WAIT_S: Final = 10.0
"""The first analysis is waited for so long; after that the answer says that it goes on."""


class Steps(BaseModel):
    """Which steps of the last analysis are wanted, by their ids."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(min_length=1, max_length=100)


class Applied(BaseModel):
    """The outcomes of a dry run; without that the steps are taken in the background: ``GET indexes/changes`` tells."""

    dry_run: bool
    outcomes: list[ChangeReport]


def add_indexes(router: APIRouter, pilot: Autopilot) -> None:
    """The router answers what is known of indexes."""

    @router.get("/indexes/analysis", summary="The indexes, and what could be done about them")
    def analysis() -> IndexReport:
        """Every table with its score and its indexes; what is missing, duplicate or unused; what the workload wants.

        The first analysis is waited for some seconds; later ones are made in the background, and ``as_of`` tells of
        when the answer is.
        """
        return pilot.indexes(WAIT_S)

    @router.get(
        "/indexes/optimization-sql", summary="SQL to create and drop indexes", responses=problems(404, 409, 503)
    )
    def optimization_sql(
        table_name: Annotated[str | None, Query(max_length=255, description="One table only.")] = None,
    ) -> IndexSql:
        """Statements for review; nothing is executed. 404 for a table that is not there, with near names."""
        return pilot.indexing.sql(table_name, WAIT_S)

    @router.get("/indexes/changes", summary="What became of the steps that were taken", responses=problems(409, 503))
    def changes() -> list[ChangeReport]:
        """Of all processes, the latest first, as the watched database's own ledger tells; and those that the process
        which answers did not begin."""
        return pilot.indexing.changes()

    _add_changing(router, pilot)


def _add_changing(router: APIRouter, pilot: Autopilot) -> None:
    @router.post(
        "/indexes/apply",
        summary="Take steps",
        dependencies=[Depends(expensive)],
        responses={202: {"model": Applied}, **problems(400, 404, 409, 503)},
    )
    def apply(by: Operator, steps: Steps, response: Response, dry_run: bool = True) -> Applied:
        """Tries what would be done; with ``dry_run=false`` it is done, in the background, and watched from then on:
        what does not keep its promise, or makes another statement slower, is taken back.

        409 where indexes are not changed, with the setting that would allow it. Only admins take steps.
        """
        if not dry_run:
            admitted(by, Role.ADMIN)
            pilot.indexing.begin_apply(steps.ids, by.name)
            response.status_code = 202
            return Applied(dry_run=False, outcomes=[])
        outcomes = pilot.indexing.apply(steps.ids, dry_run=True, by=by.name)
        return Applied(dry_run=True, outcomes=[outcome_report(outcome) for outcome in outcomes])

    @router.post(
        "/indexes/changes/{number}/undo",
        summary="Take a change back",
        responses=problems(404, 409, 503),
    )
    def undo(by: Admin, number: Annotated[int, Path(ge=1, le=2**31 - 1)]) -> ChangeReport:
        """A change that is on trial, or was kept, is taken back; ``GET indexes/changes`` has the numbers."""
        return outcome_report(pilot.indexing.undo(number, by=by.name))
