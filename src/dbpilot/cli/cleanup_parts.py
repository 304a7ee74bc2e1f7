"""What is known of a cleaning, as tables and words, and as JSON documents."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic_core import to_jsonable_python

from dbpilot.cli.render import Column, Heading, Part, Row, Table, count, duration, moment, size
from dbpilot.reports.cleanup import CleanupRun, recovery
from dbpilot.retention import CleanupFinished, CleanupResult, Hold, Plan, RestorePlan, RestoreResult, Step, VerifyResult

NOWHERE: Final = "deleted for good"
SHOWN_CONFLICTS: Final = 10
RED: Final = "red"


def document(**what: Any) -> dict[str, Any]:
    """The document of a command: its version, and what it found; instants in UTC, and null where nothing is known."""
    return {"version": 1, **{name: to_jsonable_python(value, bytes_mode="hex") for name, value in what.items()}}


def plan_parts(plan: Plan) -> Iterator[Part]:
    """What a run would do."""
    figures = ("rows", "about")
    times = ("oldest (UTC)", "older than (UTC)")
    columns = [Column(name) for name in ("rule", "from", "to")]
    columns += [Column(name, figures=True) for name in figures]
    columns += [Column(name) for name in times]
    columns += [Column(name, figures=True) for name in ("on hold", "pointed at")]
    yield Table(columns, [_step(step) for step in plan.steps])
    for step in plan.steps:
        yield from (f"{step.rule}: before, at the archive: {change}" for change in step.differences)
    yield f"in all {count(plan.rows)} rows, about {size(sum(step.bytes for step in plan.steps))}"


def _step(step: Step) -> Row:
    return Row(
        (
            step.rule,
            step.table,
            step.target or NOWHERE,
            f"{'at most ' if step.at_most else ''}{count(step.rows)}",
            size(step.bytes),
            moment(step.oldest),
            moment(step.cutoff),
            count(step.held),
            count(step.needed),
        )
    )


def finished_parts(finished: CleanupFinished, advice: Sequence[str]) -> Iterator[Part]:
    """What a run did."""
    columns = [Column(name) for name in ("rule", "from", "to")]
    figures = ("planned", "archived", "verified", "deleted", "stayed", "took", "rows/s")
    columns += [Column(name, figures=True) for name in figures]
    yield Table(columns, [_result(result) for result in finished.results])
    for result in finished.results:
        yield from (f"{result.rule}: {words}" for words in _remarks(result))
    yield from advice


def _result(result: CleanupResult) -> Row:
    cells = (
        result.rule,
        result.table,
        result.target or NOWHERE,
        count(result.planned),
        count(result.copied),
        count(result.verified),
        count(result.deleted),
        count(result.left),
        duration(result.seconds),
        f"{result.rows_per_s:,.0f}",
    )
    return Row(cells, RED if result.error else "")


def _remarks(result: CleanupResult) -> Iterator[str]:
    if result.batches or not (result.error or result.stopped):
        yield from (f"done before, at the archive: {change}" for change in result.differences)
    if result.recovered:
        yield recovery(result)
    if result.left:
        yield f"{count(result.left)} rows stayed: {'; '.join(result.why_left)}"
    if result.paused_s:
        yield f"waited {duration(result.paused_s)} for others"
    yield from (why for why in (result.error, result.stopped) if why)


def runs_parts(database: str, runs: Sequence[CleanupRun]) -> Iterator[Part]:
    """The cleanings of one database that the history tells of."""
    yield Heading(database)
    if not runs:
        yield "no cleaning is in this history"
        return
    columns = [Column("began (UTC)"), Column("took", figures=True), Column("by"), Column("process")]
    columns += [Column("deleted", figures=True), Column("outcome")]
    yield Table(columns, [_run(run) for run in runs])


def _run(run: CleanupRun) -> Row:
    took_s = (run.ended - run.started).total_seconds()
    cells = (moment(run.started), duration(took_s), run.by, run.process, count(run.deleted), _outcome(run))
    return Row(cells, "" if run.ok else RED)


def _outcome(run: CleanupRun) -> str:
    if run.error is not None:
        return f"nothing was done: {run.error}"
    unfinished = [f"{one['rule']}: {one['error'] or one['stopped']}" for one in run.results if _is_unfinished(one)]
    resumed = sum(one["recovered"] for one in run.results)
    after = [f"after one that died, of which {resumed} batches were put right"] if resumed else []
    return "; ".join([*(unfinished or ["done"]), *after])


def _is_unfinished(result: Mapping[str, Any]) -> bool:
    return bool(result["error"] or result["stopped"])


def verified_parts(result: VerifyResult) -> Iterator[Part]:
    """What an archive was found to hold."""
    yield f"{result.archive}: {count(result.found)} of {count(result.expected)} rows"
    if not result.content_checked:
        yield "rows were counted, and values not compared"
    yield from result.problems or ("no problem was found",)


def restored_parts(result: RestoreResult) -> Iterator[Part]:
    """What came back."""
    yield f"{count(result.restored)} rows of {result.archive} are in {result.table} again"
    if result.in_conflict:
        yield f"{count(result.in_conflict)} stay in the archive:"
        yield from (f"  {why}" for why in result.parents_first)
        for one in result.conflicts[:SHOWN_CONFLICTS]:
            yield f"  {', '.join(map(str, one.key))}: {one.reason}"
        if len(result.conflicts) > SHOWN_CONFLICTS:
            yield "  and more: --json has the first hundred"
    yield from _missing(result)


def found_parts(plan: RestorePlan) -> Iterator[Part]:
    """What would come back."""
    yield f"{count(plan.found)} archived rows would be in {plan.table} again, but those whose key is live there"
    yield from _missing(plan)


def _missing(found: RestorePlan | RestoreResult) -> Iterator[Part]:
    """What the archive should have, and has not."""
    if found.missing_rows:
        yield f"{count(found.missing_rows)} rows are missing from {found.archive}; bring them back from a backup"
    yield from (f"  gone as a whole: {place}" for place in found.missing[:SHOWN_CONFLICTS])
    if len(found.missing) > SHOWN_CONFLICTS:
        yield "  and more: --json has the first hundred"


def holds_parts(holds: Sequence[Hold]) -> Iterator[Part]:
    """The holds that are in force."""
    if not holds:
        yield "nothing is on hold"
        return
    columns = [Column("id", figures=True), *(Column(name) for name in ("table", "rows", "since (UTC)", "reason"))]
    yield Table(columns, [Row((str(one.id), one.table, _rows(one), moment(one.since), one.reason)) for one in holds])


def _rows(hold: Hold) -> str:
    return ", ".join(f"{name}={_or(value)}" for name, value in hold.where.items()) or "all"


def _or(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
