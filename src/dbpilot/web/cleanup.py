"""The JSON API of cleaning: looking is free; what changes the database is asked for by POST, from this machine only."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, HTTPException, Query, Response, params
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from dbpilot.pilot import Autopilot
from dbpilot.reports.cleanup import CleanupReport
from dbpilot.retention import Hold, Plan, RestorePlan, RestoreResult, VerifyResult
from dbpilot.web.answers import only_from_here, said

BY: Final = "API"
Table = Annotated[str | None, Query(max_length=255, description="One table only.")]


class Asked(BaseModel):
    """What is not known is refused: a misspelt bound would bring everything back."""

    model_config = ConfigDict(extra="forbid")


class Restore(Asked):
    """Which archived rows are wanted back: of a range of time, or with these keys."""

    rule: str = Field(max_length=255)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    keys: list[Any] | None = Field(default=None, max_length=10_000)


class HoldRequest(Asked):
    """Rows that must stay whatever the rules say: those with these values, or the whole table."""

    table: str = Field(max_length=255)
    where: dict[str, Any] | None = None
    reason: str = Field(min_length=1, max_length=500)


class Begun(BaseModel):
    """The run goes on in the background; ``GET cleanup`` tells how far it is."""

    begun: bool = True


class Cancelled(BaseModel):
    """Whether there was a run; it ends after the batch in hand."""

    cancelled: bool


class Released(BaseModel):
    """The hold with this number is over."""

    released: int


def add_cleanup(router: APIRouter, pilot: Autopilot) -> None:
    """The router answers about cleaning, too."""
    here = [Depends(only_from_here)]

    @router.get("/cleanup", summary="What is due by the rules of retention")
    def cleanup() -> CleanupReport:
        """The rules, what they would take now, how far a run is, the next one, the holds, and the last runs."""
        return pilot.cleanup()

    @router.post("/cleanup/run", summary="Clean", responses={202: {"model": Begun}, 409: {}}, dependencies=here)
    def run(response: Response, dry_run: bool = True, table_name: Table = None) -> Plan | Begun:
        """A dry run, which is the default, says what would go and changes nothing; a run begins in the background.

        What is due is archived, seen to be there, and only then deleted. 409 where a run goes on already, or the rules
        must not be run on this database, with the reason.
        """
        if dry_run:
            return said(lambda: pilot.cleaning.plan(table_name))
        said(lambda: pilot.cleaning.begin(table_name, BY))
        response.status_code = 202
        return Begun()

    @router.post("/cleanup/cancel", summary="End the run after the batch in hand", dependencies=here)
    def cancel() -> Cancelled:
        """Nothing is lost: the next run goes on where this one ends."""
        return Cancelled(cancelled=pilot.cleaning.cancel())

    _add_archives(router, pilot, here)

    @router.post("/cleanup/holds", summary="Keep rows whatever the rules say", responses={409: {}}, dependencies=here)
    def hold(wanted: HoldRequest) -> Hold:
        """These rows stay until the hold is released."""
        return said(lambda: pilot.cleaning.hold(wanted.table, wanted.where, wanted.reason, BY))

    @router.delete("/cleanup/holds/{hold_id}", summary="Release a hold", responses={404: {}}, dependencies=here)
    def release(hold_id: int) -> Released:
        """The rules apply to these rows again."""
        if not said(lambda: pilot.cleaning.release(hold_id, BY)):
            raise HTTPException(404, "there is no such hold")
        return Released(released=hold_id)


def _add_archives(router: APIRouter, pilot: Autopilot, here: Sequence[params.Depends]) -> None:
    @router.post("/cleanup/restore", summary="Bring archived rows back", responses={409: {}}, dependencies=here)
    def restore(wanted: Restore, response: Response, dry_run: bool = True) -> RestorePlan | RestoreResult:
        """A dry run, which is the default, says what would come back; else archived rows are live again.

        One whose key is live already stays in the archive, and is told, as is what the archive should have and has not:
        the answer is 207 then.
        """
        which = wanted.rule, wanted.since, wanted.until, wanted.keys
        if dry_run:
            return said(lambda: pilot.cleaning.found(*which))
        result = said(lambda: pilot.cleaning.restore(*which, BY))
        response.status_code = 200 if result.ok else 207
        return result

    @router.post("/cleanup/verify", summary="Read an archive again", responses={409: {}}, dependencies=here)
    def verify(rule: Annotated[str, Query(max_length=255)]) -> VerifyResult:
        """The archive of a rule is read, and compared with what was put there."""
        return said(lambda: pilot.cleaning.verify(rule))
