"""What is known of the indexes, and what could be done about them; sizes in bytes, costs in the database's own
unit, shares of one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from dbpilot.dialects.catalog import Index, Table
from dbpilot.indexes.analysis import Analysis
from dbpilot.indexes.apply import Outcome
from dbpilot.indexes.audit import Finding
from dbpilot.indexes.changes import Change
from dbpilot.indexes.ledger import Entry
from dbpilot.indexes.patterns import PatternVerdict
from dbpilot.indexes.score import Score
from dbpilot.indexes.suggestions import Suggestion
from dbpilot.unsupported import Unsupported

Status = Literal["none", "running", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class ScorePart:
    """One of the shares that make up a score."""

    name: str
    share: float
    """What is amiss, from 0 to 1."""
    weight: float
    """How much of the score is lost where all is amiss."""
    sentence: str


@dataclass(frozen=True, slots=True)
class GainReport:
    """What a new index does for one pattern."""

    pattern_id: str
    query: str
    sources: tuple[str, ...]
    calls: float
    total_s: float | None
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step that could be taken; never taken by itself."""

    id: str
    act: Literal["create", "drop", "rebuild"]
    why: str
    """``workload``, ``recommended``, ``foreign key``, or the kind of finding."""
    table: str
    index: str
    columns: tuple[str, ...]
    ddl: str
    undo: str | None
    reason: str
    evidence: tuple[str, ...]
    grade: str
    """How its effect is known: ``measured``, ``what-if`` or ``estimate``."""
    safe: bool
    """Whether nothing is known that somebody should look at first."""
    size_bytes: float | None
    """What it will take, or what is freed."""
    saves: float | None
    """The share of the workload that is saved by it."""
    write_price: float | None
    """The share of the workload that it costs to keep up."""
    gains: list[GainReport]
    covered_by: str | None
    waits_for: str | None
    """The new index that has to be there before this step is taken."""


@dataclass(frozen=True, slots=True)
class FindingReport:
    """What is amiss with no statement that would put it right, or looks amiss and is kept."""

    kind: str
    table: str
    indexes: tuple[str, ...]
    reason: str
    kept_because: str | None
    rewrite: str | None
    evidence: tuple[str, ...]
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One index that is there."""

    name: str
    columns: tuple[str, ...]
    include: tuple[str, ...]
    unique: bool
    constraint: str | None
    method: str
    where: str | None
    valid: bool
    ignored: bool
    size_bytes: int | None
    uses: int | None
    """How often it was read since ``uses_since``; None where the database does not count: see the notes."""
    last_used: datetime | None
    used_by: tuple[str, ...]
    """The patterns of the workload whose plans use it now."""


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table."""

    name: str
    rows: float
    rows_exact: bool
    size_bytes: int | None
    index_bytes: int | None
    score: float | None
    """From 0 to 100; None where no statement that reads it was seen."""
    score_reason: str
    score_parts: list[ScorePart]
    indexes: list[IndexRow]
    missing: list[StepReport]
    duplicate: list[StepReport]
    unused: list[StepReport]
    findings: list[FindingReport]


@dataclass(frozen=True, slots=True)
class PatternReport:
    """What became of an index that somebody recommended."""

    table: str
    columns: tuple[str, ...]
    unique: bool
    status: str
    reason: str
    index: str | None
    statements: int | None
    """How many patterns of the workload could use it; None where no workload is known."""
    calls: float | None
    total_s: float | None


@dataclass(frozen=True, slots=True)
class WorkloadReport:
    """What the advice rests on."""

    source: str
    statements: int
    judged: int
    not_judged: Mapping[str, str]
    """Reasons by pattern id."""
    left_out: int
    reasons: tuple[str, ...]
    """Why executions were left out, each with their number."""
    covers_s: float | None
    method: str | None
    grade: str | None
    explains: int
    """How often the optimizer was asked."""
    saves: float | None
    """The share of the workload's cost that all advice together would save."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """All of it, as of ``as_of``."""

    status: Status
    doing: str | None
    """What a running analysis does now."""
    error: str | None
    """Why the last analysis failed."""
    as_of: datetime | None
    took_s: float | None
    score: float | None
    score_reason: str | None
    score_parts: list[ScorePart]
    tables: list[TableReport]
    steps: list[StepReport]
    """Everything that could be done, in the order to do it."""
    patterns: list[PatternReport]
    workload: WorkloadReport | None
    why_no_advice: str | None
    """Why no statement could be judged: that there are no steps then does not mean that none is needed."""
    uses_since: datetime | None
    notes: list[Unsupported]
    """What this database does not tell, and what would change that."""


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """The indexes in a few figures, as of the last analysis; none is begun for them."""

    status: Status
    as_of: datetime | None
    score: float | None
    score_reason: str | None
    create: int
    drop: int
    """How many steps could be taken."""


@dataclass(frozen=True, slots=True)
class IndexSql:
    """The statements, for review; nothing is executed."""

    table: str | None
    create: list[str]
    drop: list[str]
    """Each may be executed after somebody has looked at its reason."""
    undo: dict[str, str | None]
    """By statement."""
    reasons: dict[str, str]
    """By statement."""
    kept: list[str]
    """Why nothing is to be done about what was recommended, or looks needless."""
    as_of: datetime | None


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """What became of one step, or would."""

    number: int | None
    """In the ledger; None where nothing was begun."""
    act: str
    table: str
    index: str
    step: str
    """``planned``, ``building``, ``watching``, ``finishing``, ``reverting``, ``kept``, ``reverted``, ``failed``,
    ``already there``, ``not now`` or ``refused``."""
    text: str
    ddl: tuple[str, ...]
    undo: str
    who: str | None = None
    began: datetime | None = None
    changed: datetime | None = None
    """When it came to this step."""
    until: datetime | None = None
    """The end of its trial."""


def outcome_report(outcome: Outcome) -> ChangeReport:
    """What became of a step just now."""
    return _change(outcome.entry, outcome.change, outcome.step, outcome.text, outcome.ddl, outcome.undo)


def entry_report(entry: Entry) -> ChangeReport:
    """What the ledger tells of a change."""
    told = _change(entry.id, entry.change, entry.state, entry.note or "", entry.ddl, entry.undo)
    return replace(told, who=entry.who, began=entry.began, changed=entry.changed, until=entry.until)


def _change(number: int | None, change: Change, step: str, text: str, ddl: tuple[str, ...], undo: str) -> ChangeReport:
    return ChangeReport(number, change.act, change.table, change.name, step, text, ddl, undo)


def index_report(
    status: Status,
    doing: str | None,
    error: str | None,
    analysis: Analysis | None,
    steps: Sequence[Suggestion],
) -> IndexReport:
    """What is known by now."""
    if analysis is None:
        return IndexReport(status, doing, error, None, None, None, None, [], [], [], [], None, None, None, [])
    reported = [step_report(step) for step in steps]
    used = analysis.proposal.used if analysis.proposal is not None else {}
    tables = analysis.catalog.tables.values()
    return IndexReport(
        status=status,
        doing=doing,
        error=error,
        as_of=analysis.at,
        took_s=analysis.took_s,
        score=analysis.overall.value,
        score_reason=analysis.overall.reason,
        score_parts=_parts(analysis.overall),
        tables=[_table(table, analysis, reported, used) for table in tables],
        steps=reported,
        patterns=[_pattern(verdict) for verdict in analysis.verdicts],
        workload=_workload(analysis),
        why_no_advice=analysis.why_no_advice,
        uses_since=analysis.catalog.uses_since,
        notes=list(analysis.notes),
    )


def index_summary(report: IndexReport) -> IndexSummary:
    """The report in a few figures."""
    create = sum(step.act == "create" for step in report.steps)
    return IndexSummary(
        report.status, report.as_of, report.score, report.score_reason, create, len(report.steps) - create
    )


def step_report(step: Suggestion) -> StepReport:
    """The step, for whoever reads it."""
    advice = step.advice
    part = step.new or step.present
    return StepReport(
        id=step.id,
        act=step.act,
        why=step.kind or step.why,
        table=step.table,
        index=step.name,
        columns=part.columns if part is not None else (),
        ddl=step.ddl,
        undo=step.undo,
        reason=step.reason,
        evidence=step.evidence,
        grade=step.grade,
        safe=step.safe,
        size_bytes=step.size_bytes,
        saves=advice.saves if advice is not None else None,
        write_price=advice.write_price if advice is not None else None,
        gains=[
            GainReport(one.pattern_id, one.query, one.sources, one.calls, one.total_s, one.before, one.after)
            for one in (advice.gains if advice is not None else ())
        ],
        covered_by=step.covered_by,
        waits_for=step.waits_for,
    )


def index_sql(analysis: Analysis, steps: Iterable[Suggestion], table: str | None) -> IndexSql:
    """The statements for one table, or for all."""
    wanted = [step for step in steps if table is None or step.table == table]
    kept = [
        f"{verdict.recommended.table}: {verdict.reason}"
        for verdict in analysis.verdicts
        if verdict.create is None and table in (None, verdict.recommended.table)
    ]
    kept += [
        f"{finding.table}: {finding.reason} It is kept: {finding.kept_because}."
        for finding in analysis.findings
        if finding.kept_because is not None and table in (None, finding.table)
    ]
    return IndexSql(
        table=table,
        create=[step.ddl for step in wanted if step.act == "create"],
        drop=[step.ddl for step in wanted if step.act != "create"],
        undo={step.ddl: step.undo for step in wanted},
        reasons={step.ddl: step.reason for step in wanted},
        kept=kept,
        as_of=analysis.at,
    )


def _parts(score: Score) -> list[ScorePart]:
    return [ScorePart(part.name, part.share, part.weight, part.sentence) for part in score.parts]


def _table(
    table: Table, analysis: Analysis, steps: Sequence[StepReport], used: Mapping[str, tuple[str, ...]]
) -> TableReport:
    mine = [step for step in steps if step.table == table.name]
    score = analysis.scores[table.name]
    return TableReport(
        name=table.name,
        rows=table.rows,
        rows_exact=table.rows_exact,
        size_bytes=table.size_bytes,
        index_bytes=table.index_bytes,
        score=score.value,
        score_reason=score.reason,
        score_parts=_parts(score),
        indexes=[_index(index, used.get(f"{table.name}.{index.name}", ())) for index in table.indexes],
        missing=[step for step in mine if step.act == "create"],
        duplicate=[step for step in mine if step.why in ("duplicate", "prefix")],
        unused=[step for step in mine if step.why in ("unused", "ignored")],
        findings=[_finding(one) for one in analysis.findings if one.table == table.name and not one.is_proposal],
    )


def _index(index: Index, used_by: tuple[str, ...]) -> IndexRow:
    return IndexRow(
        name=index.name,
        columns=index.columns,
        include=index.include,
        unique=index.unique,
        constraint=index.constraint,
        method=index.method,
        where=index.where,
        valid=index.valid,
        ignored=index.ignored,
        size_bytes=index.size_bytes,
        uses=index.uses,
        last_used=index.last_used,
        used_by=used_by,
    )


def _finding(finding: Finding) -> FindingReport:
    return FindingReport(
        finding.kind,
        finding.table,
        finding.indexes,
        finding.reason,
        finding.kept_because,
        finding.rewrite,
        finding.evidence,
        finding.statements,
    )


def _pattern(verdict: PatternVerdict) -> PatternReport:
    wanted, demand = verdict.recommended, verdict.demand
    return PatternReport(
        table=wanted.table,
        columns=wanted.columns,
        unique=wanted.unique,
        status=verdict.status,
        reason=verdict.reason,
        index=verdict.index,
        statements=None if demand is None else len(demand.statements),
        calls=None if demand is None else demand.calls,
        total_s=None if demand is None else demand.total_s,
    )


def _workload(analysis: Analysis) -> WorkloadReport:
    workload, proposal = analysis.workload, analysis.proposal
    return WorkloadReport(
        source=workload.source,
        statements=len(workload.statements),
        judged=proposal.statements if proposal is not None else 0,
        not_judged=dict(proposal.not_judged) if proposal is not None else {},
        left_out=workload.left_out,
        reasons=workload.reasons,
        covers_s=workload.covers_s,
        method=proposal.method if proposal is not None else None,
        grade=proposal.grade if proposal is not None else None,
        explains=proposal.calls if proposal is not None else 0,
        saves=proposal.before - proposal.after if proposal is not None else None,
    )
