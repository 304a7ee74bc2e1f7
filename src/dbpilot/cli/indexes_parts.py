"""What is known of indexes, as tables and words."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from dbpilot.cli.render import Column, Heading, Part, Row, Table, count, duration, moment, size
from dbpilot.indexes.suggestions import LEAST_PRICE_TOLD, share_told
from dbpilot.reports.indexes import (
    ChangeReport,
    FindingReport,
    GainReport,
    IndexReport,
    PatternReport,
    ScorePart,
    StepReport,
    TableReport,
)

RED: Final = "red"
FAINT: Final = "dim"
GAINS_SHOWN: Final = 5
QUERY_LENGTH: Final = 160
BAD: Final = frozenset({"reverted", "failed", "refused", "not now"})


def audit_parts(report: IndexReport, *, everything: bool) -> Iterator[Part]:
    """What is amiss; with ``everything`` also what looks amiss and is kept."""
    yield from _amiss(report.steps)
    findings = [finding for table in report.tables for finding in table.findings]
    yield from (part for finding in findings if finding.kept_because is None for part in _finding(finding))
    kept = [finding for finding in findings if finding.kept_because is not None]
    if everything and kept:
        yield Heading("kept")
        yield from (f"{one.table}: {one.reason} It stays: {one.kept_because}." for one in kept)
    elif kept:
        yield f"{len(kept)} more look needless and are kept: --all says why"
    yield from _notes(report)


def _amiss(steps: Sequence[StepReport]) -> Iterator[Part]:
    if not steps:
        yield "nothing is to be done"
        return
    columns = [Column(name) for name in ("step", "table", "index", "what")]
    columns += [Column("frees", figures=True), Column("risk"), Column("why")]
    yield Table(columns, [_audited(step) for step in steps])


def _audited(step: StepReport) -> Row:
    frees = "-" if step.act == "create" or step.size_bytes is None else size(step.size_bytes)
    risk = "safe" if step.safe else "look first"
    return Row((step.id, step.table, _index(step), f"{step.act}: {step.why}", frees, risk, _why(step)))


def _index(step: StepReport) -> str:
    return f"({', '.join(step.columns)})" if step.act == "create" else step.index


def _why(step: StepReport) -> str:
    return "; ".join((step.reason.rstrip("."), *step.evidence))


def _finding(finding: FindingReport) -> Iterator[Part]:
    yield f"{finding.table}: {finding.kind}: {finding.reason}"
    if finding.rewrite:
        yield f"  {finding.rewrite}"


def _notes(report: IndexReport) -> Iterator[Part]:
    yield from (f"not known: {note.reason}; {note.fix}" for note in report.notes)


def advice_parts(report: IndexReport) -> Iterator[Part]:
    """The set of steps with its reasons, the scores, and what was not judged."""
    yield from _basis(report)
    for step in report.steps:
        yield Heading(_title(step))
        yield from _step(step)
    if not report.steps and report.why_no_advice is None:
        yield "nothing is to be done"
    elif not report.steps:
        yield "nothing is amiss that can be told without a workload; what the workload wants could not be judged"
    yield from _recommended(report.patterns)
    yield Heading("scores")
    yield _scores(report)
    yield from _notes(report)


def _basis(report: IndexReport) -> Iterator[Part]:
    """What the advice rests on."""
    workload = report.workload
    if report.why_no_advice is not None or workload is None:
        yield f"no advice by a workload: {report.why_no_advice}"
        return
    saved = f"; all steps together save {_rounded(workload.saves)} of its cost" if workload.saves else ""
    yield f"{workload.source}: {count(workload.judged)} of {_statements(workload.statements)} judged{saved}"
    yield f"how: {workload.method} ({workload.explains} questions)"
    reasons = Counter(workload.not_judged.values())
    yield from (f"not judged: {_statements(number)}: {why}" for why, number in reasons.most_common())
    yield from (f"left out: {why}" for why in workload.reasons)


def _rounded(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"


def _title(step: StepReport) -> str:
    return f"{step.id}  {step.act} {step.index} on {step.table}"


def _step(step: StepReport) -> Iterator[Part]:
    yield f"  {step.ddl}"
    yield f"  {_why(step)}"
    yield f"  {', '.join(_figures(step))}"
    for gain in step.gains[:GAINS_SHOWN]:
        yield f"  {_gain(gain)}"
    if len(step.gains) > GAINS_SHOWN:
        yield f"  and {_statements(len(step.gains) - GAINS_SHOWN)} more"
    if step.act != "rebuild":
        yield f"  undo: {step.undo or 'not known'}"


def _figures(step: StepReport) -> Iterator[str]:
    yield f"known by: {step.grade}"
    if step.size_bytes is not None:
        yield f"{'frees' if step.act != 'create' else 'about'} {size(step.size_bytes)}"
    if step.saves is not None:
        yield f"saves {share_told(step.saves)}"
    if step.write_price:
        yield f"upkeep {step.write_price:.2%}" if step.write_price >= LEAST_PRICE_TOLD else "upkeep less than 0.01%"
    if not step.safe:
        yield "look at it first"


def _gain(gain: GainReport) -> str:
    text = gain.query if len(gain.query) <= QUERY_LENGTH else f"{gain.query[:QUERY_LENGTH]}..."
    ratio = gain.before / gain.after if gain.after else float("inf")
    took = f", {duration(gain.total_s)} in all" if gain.total_s is not None else ""
    where = f", from {gain.sources[0]}" if gain.sources else ""
    return f"{ratio:,.4g} times cheaper ({count(round(gain.calls))} calls{took}{where}): {text}"


def _statements(number: int) -> str:
    return "1 statement" if number == 1 else f"{count(number)} statements"


def _recommended(patterns: Sequence[PatternReport]) -> Iterator[Part]:
    if patterns:
        yield Heading("recommended")
        columns = [Column(name) for name in ("table", "columns", "status")]
        columns += [Column("statements", figures=True), Column("why")]
        yield Table(columns, [_pattern(one) for one in patterns])


def _pattern(pattern: PatternReport) -> Row:
    unique = ", unique" if pattern.unique else ""
    columns = f"({', '.join(pattern.columns)}){unique}"
    asked = "-" if pattern.statements is None else count(pattern.statements)
    return Row((pattern.table, columns, pattern.status, asked, pattern.reason))


def _scores(report: IndexReport) -> Table:
    columns = [Column("table"), Column("rows", figures=True), Column("indexes", figures=True)]
    columns += [Column(name, figures=True) for name in ("score", "spared", "needless", "unserved")]
    columns += [Column("why")]
    rows = [_scored(table) for table in report.tables]
    return Table(columns, [*rows, _overall(report)])


def _scored(table: TableReport) -> Row:
    rows = f"{'' if table.rows_exact else 'about '}{count(round(table.rows))}"
    held = "-" if table.index_bytes is None else size(table.index_bytes)
    shares = _shares(table.score, table.score_parts)
    cells = (table.name, rows, held, _score(table.score), *shares, table.score_reason)
    return Row(cells, FAINT if table.score is None else "")


def _overall(report: IndexReport) -> Row:
    shares = _shares(report.score, report.score_parts)
    return Row(("all", "", "", _score(report.score), *shares, report.score_reason or ""))


def _shares(score: float | None, parts: Sequence[ScorePart]) -> list[str]:
    """Of each part; what its statements could be spared is not known where there is no score."""
    return ["-" if score is None and part.name == "spared" else f"{part.share:.0%}" for part in parts]


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.1f}"


def changes_parts(changes: Sequence[ChangeReport]) -> Iterator[Part]:
    """What became of steps, or would."""
    columns = [Column("number", figures=True), *(Column(name) for name in ("what", "outcome", "why"))]
    yield Table(columns, [_change(change) for change in changes])


def _change(change: ChangeReport) -> Row:
    number = "-" if change.number is None else str(change.number)
    what = f"{change.act} {change.index} on {change.table}"
    return Row((number, what, change.step, change.text), RED if change.step in BAD else "")


def planned_parts(changes: Sequence[ChangeReport]) -> Iterator[Part]:
    """What would be executed, and what would take it back."""
    for change in changes:
        yield Heading(f"{change.act} {change.index} on {change.table}: {change.step}")
        yield f"  {change.text}"
        yield from (f"  {statement}" for statement in change.ddl)
        if change.undo:
            yield f"  undo: {change.undo}"


def history_parts(changes: Iterable[ChangeReport]) -> Iterator[Part]:
    """What the ledger tells, the latest first."""
    columns = [Column("number", figures=True), Column("began (UTC)"), Column("by")]
    columns += [Column(name) for name in ("what", "outcome", "on trial until (UTC)", "why", "undo")]
    rows = [
        Row(
            (
                str(one.number),
                moment(one.began),
                one.who or "-",
                f"{one.act} {one.index} on {one.table}",
                one.step,
                moment(one.until),
                one.text,
                one.undo,
            ),
            RED if one.step in BAD else "",
        )
        for one in changes
    ]
    yield Table(columns, rows)
