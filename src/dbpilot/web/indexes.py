"""The JSON API of index advice: looking is free; what changes the database is asked for by POST, from this machine
only."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from dbpilot.indexes.apply import Outcome
from dbpilot.pilot import Autopilot
from dbpilot.reports.indexes import IndexReport, IndexSql
from dbpilot.web.answers import only_from_here, said

BY: Final = "API"
WAIT_S: Final = 10.0
"""The first analysis is waited for so long; after that the answer says that it goes on."""


class Steps(BaseModel):
    """Which steps of the last analysis are wanted, by their ids."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(min_length=1, max_length=100)


class OutcomeReport(BaseModel):
    """What became of one step, or would."""

    act: str
    table: str
    index: str
    step: str
    """``planned``, ``building``, ``watching``, ``kept``, ``reverted``, ``failed``, ``already there``, ``not now`` or
    ``refused``."""
    text: str
    ddl: list[str]
    undo: str


class Applied(BaseModel):
    """The outcomes of a dry run; without that the steps are taken in the background: ``GET indexes/changes`` tells."""

    dry_run: bool
    outcomes: list[OutcomeReport]


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

    @router.get("/indexes/changes", summary="What became of the steps that were taken last")
    def changes() -> list[OutcomeReport]:
        """Of the process that answers."""
        return [_reported(outcome) for outcome in pilot.indexing.changes()]

    @router.post(
        "/indexes/apply",
        summary="Take steps",
        dependencies=[Depends(only_from_here)],
        responses={403: {}, 404: {}, 409: {}, 503: {}},
    )
    def apply(steps: Steps, dry_run: bool = True) -> Applied:
        """Tries what would be done; with ``dry_run=false`` it is done, in the background, and watched from then on:
        what does not keep its promise, or makes another statement slower, is taken back.

        409 where indexes are not changed, with the setting that would allow it.
        """
        if not dry_run:
            said(lambda: pilot.indexing.begin_apply(steps.ids, BY))
            return Applied(dry_run=False, outcomes=[])
        outcomes = said(lambda: pilot.indexing.apply(steps.ids, dry_run=True, by=BY))
        return Applied(dry_run=True, outcomes=[_reported(outcome) for outcome in outcomes])


def _reported(outcome: Outcome) -> OutcomeReport:
    change = outcome.change
    return OutcomeReport(
        act=change.act,
        table=change.table,
        index=change.name,
        step=outcome.step,
        text=outcome.text,
        ddl=list(outcome.ddl),
        undo=outcome.undo,
    )
