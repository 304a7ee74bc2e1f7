"""The JSON API of index advice: looking is free; what changes the database is asked for by POST, from this machine
only."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from dbpilot.pilot import Autopilot
from dbpilot.reports.indexes import ChangeReport, IndexReport, IndexSql, outcome_report
from dbpilot.web.answers import only_from_here, said

BY: Final = "API"
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

    @router.get("/indexes/optimization-sql", summary="SQL to create and drop indexes", responses={404: {}, 409: {}})
    def optimization_sql(
        table_name: Annotated[str | None, Query(max_length=255, description="One table only.")] = None,
    ) -> IndexSql:
        """Statements for review; nothing is executed. 404 for a table that is not there, with near names."""
        return said(lambda: pilot.indexing.sql(table_name, WAIT_S))

    @router.get("/indexes/changes", summary="What became of the steps that were taken", responses={503: {}})
    def changes() -> list[ChangeReport]:
        """Of all processes, the latest first, as the watched database's own ledger tells; and those that the process
        which answers did not begin."""
        return said(pilot.indexing.changes)

    _add_changing(router, pilot)


def _add_changing(router: APIRouter, pilot: Autopilot) -> None:
    here = [Depends(only_from_here)]

    @router.post(
        "/indexes/apply",
        summary="Take steps",
        dependencies=here,
        responses={202: {"model": Applied}, 403: {}, 404: {}, 409: {}, 503: {}},
    )
    def apply(steps: Steps, response: Response, dry_run: bool = True) -> Applied:
        """Tries what would be done; with ``dry_run=false`` it is done, in the background, and watched from then on:
        what does not keep its promise, or makes another statement slower, is taken back.

        409 where indexes are not changed, with the setting that would allow it.
        """
        if not dry_run:
            said(lambda: pilot.indexing.begin_apply(steps.ids, BY))
            response.status_code = 202
            return Applied(dry_run=False, outcomes=[])
        outcomes = said(lambda: pilot.indexing.apply(steps.ids, dry_run=True, by=BY))
        return Applied(dry_run=True, outcomes=[outcome_report(outcome) for outcome in outcomes])

    @router.post(
        "/indexes/changes/{number}/undo",
        summary="Take a change back",
        dependencies=here,
        responses={403: {}, 409: {}, 503: {}},
    )
    def undo(number: int) -> ChangeReport:
        """A change that is on trial, or was kept, is taken back; ``GET indexes/changes`` has the numbers."""
        return outcome_report(said(lambda: pilot.indexing.undo(number, by=BY)))
