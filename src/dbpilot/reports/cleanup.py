"""Cleaning by rules: what is due, what goes on, what was done, and when it is done next."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, Engine, Index, MetaData, Table, inspect
from sqlalchemy.schema import CreateIndex

from dbpilot.history.store import CLEANUP, Event
from dbpilot.retention import CleanupFinished, CleanupProgress, CleanupResult, Hold, Plan, Rule

NAME_LENGTH: Final = 63
"""The least of what the databases allow."""


@dataclass(frozen=True, slots=True)
class RuleReport:
    """One rule as it is configured."""

    rule: str
    table: str
    time_column: str | None
    keep_days: float
    where: Mapping[str, Any]
    duplicates: tuple[str, ...]
    kind: str
    """What becomes of the rows: beside, server, files or purge."""
    batch: int


@dataclass(frozen=True, slots=True)
class CleanupRunning:
    """A cleaning that goes on in this process."""

    since: datetime
    table: str | None
    """The table that it was asked for; None for all."""
    progress: list[CleanupProgress]
    """How far each rule is that has begun, in their order."""
    cancelled: bool
    """It ends after the batch in hand."""


@dataclass(frozen=True, slots=True)
class CleanupRun:
    """A cleaning that is over."""

    started: datetime
    ended: datetime
    by: str
    """Who asked for it: a schedule, or a caller."""
    process: str
    ok: bool
    deleted: int
    error: str | None
    """Why nothing was done."""
    results: list[dict[str, Any]]
    """Per rule, as :class:`dbpilot.retention.CleanupResult` has it."""
    advice: list[str]
    """What gives the freed space back to the system, and what that costs; what keeps duplicates out from now on."""


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """All of it."""

    rules: list[RuleReport]
    due: Plan | None
    """What a run would do; counted at most every few minutes, and in the background where that takes long. None where
    it is not known yet, or could not be found out."""
    due_error: str | None
    running: CleanupRunning | None
    schedule: str | None
    """The cron line; None where nothing is scheduled in this process."""
    next_run: datetime | None
    notices: list[str]
    """Runs that were missed, died or failed."""
    holds: list[Hold]
    last_runs: list[CleanupRun]
    """Of all processes that share the history, the latest first."""
    history_error: str | None


def rule_report(rule: Rule) -> RuleReport:
    """The rule, without its target's password."""
    return RuleReport(
        rule.name,
        rule.table,
        rule.time_column,
        rule.keep / timedelta(days=1),
        dict(rule.where),
        rule.duplicates,
        rule.kind,
        rule.batch,
    )


def run_event(finished: CleanupFinished, by: str, process: str, advice: list[str], error: str | None = None) -> Event:
    """The cleaning as the history keeps it."""
    body = {
        "started_s": finished.started.timestamp(),
        "by": by,
        "ok": finished.ok and error is None,
        "deleted": finished.deleted,
        "error": error,
        "results": [_result(result) for result in finished.results],
        "advice": advice,
    }
    return Event(CLEANUP, finished.ended, process, float(finished.deleted), body)


def runs_of(events: Iterable[Event]) -> list[CleanupRun]:
    """The cleanings that events of the history tell of."""
    return [
        CleanupRun(
            datetime.fromtimestamp(event.body["started_s"], event.at.tzinfo),
            event.at,
            event.body["by"],
            event.key,
            event.body["ok"],
            event.body["deleted"],
            event.body["error"],
            event.body["results"],
            event.body["advice"],
        )
        for event in events
    ]


def words_of(finished: CleanupFinished, error: str | None) -> str:
    """The cleaning in a few lines, for whoever is notified."""
    if error is not None:
        return f"Nothing was cleaned: {error}"
    took_s = (finished.ended - finished.started).total_seconds()
    lines = [f"{finished.deleted:,} of {finished.planned:,} rows were cleaned away in {took_s:.0f} s."]
    for one in finished.results:
        said = f"{one.rule}: {one.deleted:,} of {one.planned:,} rows of {one.table}"
        resumed = recovery(one) if one.recovered else None
        lines.append(said + "".join(f"; {why}" for why in (resumed, one.error, one.stopped) if why))
    return "\n".join(lines)


def recovery(result: CleanupResult) -> str:
    """What was put right first: it is all that tells of a run that was killed."""
    batches = f"{result.recovered} {'batch' if result.recovered == 1 else 'batches'}"
    since = f" at {result.recovered_from:%Y-%m-%d %H:%M:%S} UTC" if result.recovered_from else ""
    return f"put right {batches} that a run or a restore had begun{since} when it died"


def space_advice(finished: CleanupFinished, dialect: str) -> list[str]:
    """How freed space is given back to the system, where much was freed: databases keep it for new rows."""
    how = {
        "postgresql": "VACUUM FULL {} gives it back, and locks the table until it is rewritten; plain VACUUM lets new "
        "rows use it, and autovacuum does that by itself",
        "mysql": "OPTIMIZE TABLE {} gives it back; it rebuilds the table, which needs its size in free space, and "
        "writers wait at the beginning and the end",
        "sqlite": "VACUUM gives it back; it rewrites the whole file, and writers wait meanwhile ({} alone cannot be)",
    }[{"mariadb": "mysql"}.get(dialect, dialect)]
    freed = [(one.table, one.bytes * one.deleted // one.planned) for one in finished.results if one.planned]
    return [
        f"about {size / 2**20:,.0f} MiB of {table} are free: {how.format(table)}"
        for table, size in freed
        if size >= WORTH_BYTES
    ]


def is_unique(rule: Rule, engine: Engine) -> bool:
    """Whether the database itself lets no row of the rule's table be there twice, in these columns or fewer."""
    inspector = inspect(engine)
    keys: list[list[str | None]] = [[*inspector.get_pk_constraint(rule.table)["constrained_columns"]]]
    keys += [[*key["column_names"]] for key in inspector.get_unique_constraints(rule.table)]
    keys += [index["column_names"] for index in inspector.get_indexes(rule.table) if index["unique"]]
    return any(key and set(key) <= set(rule.duplicates) for key in keys)


def uniqueness_advice(rule: Rule, engine: Engine) -> str:
    """The DDL that keeps duplicates out."""
    table = Table(rule.table, MetaData(), *(Column(name) for name in rule.duplicates))
    index = Index(f"uq_{rule.table}_{'_'.join(rule.duplicates)}"[:NAME_LENGTH], *table.columns, unique=True)
    ddl = CreateIndex(index).compile(engine)
    return f"no row of {rule.table} is there twice any more, and nothing keeps it so; this does: {ddl}"


WORTH_BYTES: Final = 64 * 2**20
"""Less freed space than this is used by new rows soon enough."""


def _result(result: CleanupResult) -> dict[str, Any]:
    since = None if result.recovered_from is None else result.recovered_from.isoformat()
    return {**asdict(result), "recovered_from": since, "rows_per_s": result.rows_per_s}
