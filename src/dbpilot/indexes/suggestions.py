"""What could be done about indexes: each step with its statement, its undo and its reasons, in the order to take them.

Advice, recommendations and findings may ask for the same index, or for one that another serves as well: each is
suggested once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

import sqlalchemy as sa

from dbpilot.dialects.catalog import Catalog, Index, Table
from dbpilot.dialects.ddl import Ddl, index_of, named
from dbpilot.dialects.whatif import Grade, NewIndex
from dbpilot.indexes.advisor import PRICE_OF_A_WRITE, NewIndexAdvice, touches
from dbpilot.indexes.analysis import Analysis, is_served
from dbpilot.indexes.audit import Finding
from dbpilot.indexes.candidates import name_of
from dbpilot.indexes.changes import Change, Promise, create, drop
from dbpilot.indexes.workload import Statement

Act = Literal["create", "drop", "rebuild"]
Why = Literal["workload", "recommended", "foreign key", "finding"]
MODEL: Final[Grade] = "estimate"
LEAST_TOLD: Final = 0.001
LEAST_PRICE_TOLD: Final = 0.0001
"""Smaller shares are told as such."""
MOST_WATCHED: Final = 200
"""As many patterns are watched for a change, those first that take most time."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One step."""

    id: str
    """Eight digits; the same for the same step tomorrow."""
    act: Act
    why: Why
    table: str
    name: str
    """The index's."""
    ddl: str
    undo: str | None
    """None where what was there cannot be made again from what the database tells."""
    reason: str
    evidence: tuple[str, ...]
    safe: bool
    """Whether nothing is known that somebody should look at first."""
    grade: Grade
    size_bytes: float | None = None
    """Of an index to create, what it will take; of one to drop, what is freed."""
    advice: NewIndexAdvice | None = None
    new: NewIndex | None = None
    present: Index | None = None
    covered_by: str | None = None
    waits_for: str | None = None
    """The new index that has to be there before this step is taken."""
    kind: str = ""
    """Of a finding: which."""
    promises: tuple[Promise, ...] = ()
    """What it does to the statements that touch the table: to those that it is for, and to the others."""

    def change(self) -> Change | None:
        """The step as what an applier takes; None for one that it does not do."""
        if self.act == "create" and self.new is not None:
            return create(self.new, self.name, self.reason, promises=self.promises, grade=self.grade,
                          size_bytes=self.size_bytes)  # fmt: skip
        if self.act == "drop" and self.present is not None:
            return drop(self.present, self.reason, promises=self.promises, served_by=self.covered_by)
        return None


def suggestions(analysis: Analysis, ddl: Ddl, dialect: sa.Dialect) -> tuple[Suggestion, ...]:
    """All steps: indexes to create, those first that save most, and then those to drop."""
    return tuple(_Suggesting(analysis, ddl, dialect).all())


class _Suggesting:
    def __init__(self, analysis: Analysis, ddl: Ddl, dialect: sa.Dialect) -> None:
        self._analysis = analysis
        self._catalog: Catalog = analysis.catalog
        self._schema = analysis.catalog.schema if analysis.catalog.dialect == "postgresql" else None
        self._ddl = ddl
        self._dialect = dialect
        self._new: list[NewIndex] = []

    def all(self) -> Iterator[Suggestion]:
        yield from self._advised()
        yield from self._recommended()
        yield from self._for_foreign_keys()
        yield from self._needless()

    def _advised(self) -> Iterator[Suggestion]:
        proposal = self._analysis.proposal
        for advice in proposal.advice if proposal is not None else ():
            self._new.append(advice.index)
            yield self._create(advice.index, "workload", _praise(advice), _evidence(advice), advice=advice)

    def _recommended(self) -> Iterator[Suggestion]:
        for verdict in self._analysis.verdicts:
            if verdict.create is not None and not is_served(verdict.create, self._new):
                self._new.append(verdict.create)
                demand = verdict.demand
                asked = () if demand is None else (f"{len(demand.statements)} statements of the workload could use it",)
                yield self._create(verdict.create, "recommended", verdict.reason, asked, safe=not verdict.create.unique)

    def _for_foreign_keys(self) -> Iterator[Suggestion]:
        for finding in self._analysis.findings:
            if finding.create is not None and finding.is_proposal and not is_served(finding.create, self._new):
                self._new.append(finding.create)
                safe = finding.risk == "safe"
                yield self._create(finding.create, "foreign key", finding.reason, finding.evidence, safe=safe)

    def _create(
        self,
        index: NewIndex,
        why: Why,
        reason: str,
        evidence: tuple[str, ...],
        *,
        safe: bool = True,
        advice: NewIndexAdvice | None = None,
    ) -> Suggestion:
        name = advice.name if advice is not None else name_of(index, self._catalog)
        made = index_of(index, name, self._schema)
        tried = self._analysis.taken_back.get((index.table, name))
        return Suggestion(
            id=_id("create", index.table, repr(index)),
            act="create",
            why=why,
            table=index.table,
            name=name,
            ddl=self._ddl.create(self._dialect, made, hidden=False),
            undo=self._ddl.drop(self._dialect, named(index.table, name, self._schema)),
            reason=reason,
            evidence=(*evidence, *((f"it was tried, and taken back on {tried}",) if tried else ())),
            safe=safe and tried is None,
            grade=advice.grade if advice is not None else MODEL,
            size_bytes=advice.size_bytes if advice is not None else None,
            advice=advice,
            new=index,
            promises=self._promises(index, advice),
        )

    def _needless(self) -> Iterator[Suggestion]:
        for finding in self._analysis.findings:
            if finding.is_proposal and (finding.drop or finding.rebuild):
                yield self._drop(finding)

    def _drop(self, finding: Finding) -> Suggestion:
        name = finding.drop or finding.rebuild or ""
        present = self._index(self._catalog.tables[finding.table], name)
        act: Act = "drop" if finding.drop is not None else "rebuild"
        index = named(finding.table, name, self._schema)
        is_drop = finding.drop is not None
        anew = self._ddl.again(self._dialect, present.definition) if present and present.definition else None
        waits_for = name_of(finding.waits_for, self._catalog) if finding.waits_for is not None else None
        return Suggestion(
            id=_id(act, finding.table, name),
            act=act,
            why="finding",
            table=finding.table,
            name=name,
            ddl=self._ddl.drop(self._dialect, index) if is_drop else self._ddl.rebuild(self._dialect, index),
            undo=anew if is_drop else None,
            reason=finding.reason,
            evidence=(*finding.evidence, *((f"only once {waits_for} is there",) if waits_for else ())),
            safe=finding.risk == "safe",
            grade=MODEL,
            size_bytes=finding.frees_bytes,
            present=present,
            covered_by=finding.covered_by or waits_for,
            waits_for=waits_for,
            kind=finding.kind,
            promises=self._unchanged(finding.table, name),
        )

    def _index(self, table: Table, name: str) -> Index | None:
        return next((index for index in table.indexes if index.name == name), None)

    def _promises(self, index: NewIndex, advice: NewIndexAdvice | None) -> tuple[Promise, ...]:
        """What the index is for becomes faster, what writes it a little slower, and the rest stays as it is."""
        gains = {gain.pattern_id: gain.ratio for gain in advice.gains} if advice is not None else {}
        return tuple(
            Promise(one.id, gains.get(one.id, _ratio(one, index)), one.mean_s) for one in self._watched(index.table)
        )

    def _unchanged(self, table: str, index: str) -> tuple[Promise, ...]:
        """What is answered by the index must not become slower without it; where that is not known, nothing may that
        reads the table."""
        proposal = self._analysis.proposal
        users = None if proposal is None else proposal.used.get(f"{table}.{index}", ())
        return tuple(
            Promise(one.id, 1.0, one.mean_s) for one in self._watched(table) if users is None or one.id in users
        )

    def _watched(self, table: str) -> list[Statement]:
        """The statements that touch the table, those first that take most time."""
        return [one for one in self._analysis.workload.statements if _is_about(one, table)][:MOST_WATCHED]


def _is_about(statement: Statement, table: str) -> bool:
    found = statement.predicates
    if found is None:
        return False
    return any(use.table == table for use in found.uses) or (found.written is not None and found.written.table == table)


def _ratio(statement: Statement, index: NewIndex) -> float:
    """What becomes of a statement that the index is not for."""
    written = statement.predicates.written if statement.predicates is not None else None
    pays = written is not None and written.table == index.table and touches(written.columns, index)
    return 1 + PRICE_OF_A_WRITE if pays else 1.0


def _id(*parts: str) -> str:
    return blake2b("\x00".join(parts).encode(), digest_size=4).hexdigest()


def _praise(advice: NewIndexAdvice) -> str:
    gains = advice.gains
    if not gains:
        return f"It saves {share_told(advice.saves)} of the workload."
    times = _times(min(gain.ratio for gain in gains))
    saved = _saved(advice)
    if len(gains) == 1:
        return f"It would make one statement {times} times cheaper, and {saved}."
    return f"It would serve {len(gains)} statements, one of them {times} times cheaper, and {saved}."


def _saved(advice: NewIndexAdvice) -> str:
    saves, other = share_told(advice.saves), advice.stand_in
    if other is None:
        return f"saves {saves} of what the whole workload costs"
    alone = share_told(other.saves)
    if other.name is None:
        return (
            f"saves {saves} of what the whole workload costs, or {alone} without the other advised indexes, which"
            " could do nearly the same"
        )
    return (
        f"saves {saves} of what the whole workload costs, or {alone} without {other.name}, which is advised as well and"
        " could do nearly the same"
    )


def share_told(share: float) -> str:
    """A share that is saved, in percent; little is not said to be nothing."""
    return f"{share:.1%}" if share >= LEAST_TOLD else "less than 0.1%"


def _times(ratio: float) -> str:
    times = 1 / max(ratio, 1e-9)
    return f"{times:,.0f}" if times >= 100 else f"{times:.3g}"


def _evidence(advice: NewIndexAdvice) -> tuple[str, ...]:
    values = (
        "asked with values that were really sent"
        if advice.real_values
        else "asked with values made up from statistics: none that was really sent was at hand"
    )
    upkeep = None
    if advice.write_price >= LEAST_PRICE_TOLD:
        upkeep = f"its upkeep costs about {advice.write_price:.2%} of the workload"
    elif advice.write_price:
        upkeep = "its upkeep costs less than 0.01% of the workload"
    return tuple(filter(None, (values, upkeep)))


def not_there(what: str, name: str, known: Iterable[str]) -> str:
    """That there is none of this name, and which ones somebody may have meant."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 3)
    return f"there is no {what} {name}" + (f"; did you mean {' or '.join(near)}?" if near else "")
