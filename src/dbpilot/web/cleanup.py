"""The JSON API of cleaning: looking is for viewers; operators clean and hold rows, admins restore and release."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from dbpilot.pilot import Autopilot
from dbpilot.reports.cleanup import CleanupReport
from dbpilot.retention import Hold, Plan, RestorePlan, RestoreResult, VerifyResult
from dbpilot.web.access import Admin, Operator, expensive
from dbpilot.web.answers import problems

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
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

    @router.get("/cleanup", summary="What is due by the rules of retention")
    def cleanup() -> CleanupReport:
        """The rules, what they would take now, how far a run is, the next one, the holds, and the last runs."""
        return pilot.cleanup()

    @router.post(
        "/cleanup/run",
        summary="Clean",
        responses={202: {"model": Begun}, **problems(404, 409, 503)},
        dependencies=[Depends(expensive)],
    )
    def run(by: Operator, response: Response, dry_run: bool = True, table_name: Table = None) -> Plan | Begun:
        """A dry run, which is the default, says what would go and changes nothing; a run begins in the background.

        What is due is archived, seen to be there, and only then deleted. 409 where a run goes on already, or the rules
        must not be run on this database, with the reason.
        """
        if dry_run:
            return pilot.cleaning.plan(table_name)
        pilot.cleaning.begin(table_name, by.name)
        response.status_code = 202
        return Begun()

    @router.post("/cleanup/cancel", summary="End the run after the batch in hand")
    def cancel(by: Operator) -> Cancelled:
        """Nothing is lost: the next run goes on where this one ends."""
        return Cancelled(cancelled=pilot.cleaning.cancel(by.name))

    _add_archives(router, pilot)
    _add_holds(router, pilot)


def _add_holds(router: APIRouter, pilot: Autopilot) -> None:
    @router.post("/cleanup/holds", summary="Keep rows whatever the rules say", responses=problems(400, 404, 409, 503))
    def hold(by: Operator, wanted: HoldRequest) -> Hold:
        """These rows stay until the hold is released."""
        return pilot.cleaning.hold(wanted.table, wanted.where, wanted.reason, by.name)

    @router.delete("/cleanup/holds/{hold_id}", summary="Release a hold", responses=problems(404, 409, 503))
    def release(by: Admin, hold_id: Number) -> Released:
        """The rules apply to these rows again."""
        if not pilot.cleaning.release(hold_id, by.name):
            raise HTTPException(404, "there is no such hold")
        return Released(released=hold_id)


def _add_archives(router: APIRouter, pilot: Autopilot) -> None:
    @router.post(
        "/cleanup/restore",
        summary="Bring archived rows back",
        responses={207: {"model": RestoreResult}, **problems(400, 404, 409, 503)},
        dependencies=[Depends(expensive)],
    )
    def restore(by: Admin, wanted: Restore, response: Response, dry_run: bool = True) -> RestorePlan | RestoreResult:
        """A dry run, which is the default, says what would come back; else archived rows are live again.

        One whose key is live already stays in the archive, and is told, as is what the archive should have and has not:
        the answer is 207 then.
        """
        which = wanted.rule, wanted.since, wanted.until, wanted.keys
        if dry_run:
            return pilot.cleaning.found(*which)
        result = pilot.cleaning.restore(*which, by.name)
        response.status_code = 200 if result.ok else 207
        return result

    @router.post(
        "/cleanup/verify",
        summary="Read an archive again",
        responses=problems(404, 409, 503),
        dependencies=[Depends(expensive)],
    )
    def verify(_by: Operator, rule: Annotated[str, Query(max_length=255)]) -> VerifyResult:
        """The archive of a rule is read, and compared with what was put there."""
        return pilot.cleaning.verify(rule)
