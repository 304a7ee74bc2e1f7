"""Everything that can be said of the indexes of one database, from one look at it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from dbpilot.clock import Clock
from dbpilot.dialects import Dialect
from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.connections import OwnConnections
from dbpilot.dialects.whatif import Cost, Grade, NewIndex, Query, WhatIf
from dbpilot.errors import PilotError, RefusedError
from dbpilot.indexes.advisor import Limits, Proposal, advise, is_prefix
from dbpilot.indexes.audit import Finding, Observed, audit, unknowns
from dbpilot.indexes.candidates import name_of
from dbpilot.indexes.ledger import Entry, Ledger
from dbpilot.indexes.patterns import PatternVerdict, Recommended, check
from dbpilot.indexes.score import Score, TableEvidence, evidence_of, overall, score
from dbpilot.indexes.workload import Statement, Workload
from dbpilot.unsupported import Unsupported

OUR_TABLES: Final = "dbpilot_"
CATALOG_S: Final = 30.0
"""A question about the catalogue may take so long."""
NOT_ASKED: Final = "the optimizer was not asked"
REMEMBERED: Final = timedelta(days=30)
"""What was tried and taken back is worth another try after so long."""

Progress = Callable[[str], None]
"""Told what is done next, in words; what it raises ends the analysis."""


@dataclass(frozen=True)
class Analysis:
    """What was found at one moment."""

    at: datetime
    took_s: float
    catalog: Catalog
    workload: Workload
    proposal: Proposal | None
    why_no_advice: str | None
    """Why no statement could be judged, and what would change that."""
    findings: tuple[Finding, ...]
    verdicts: tuple[PatternVerdict, ...]
    scores: Mapping[str, Score]
    overall: Score
    notes: tuple[Unsupported, ...]
    """What this database does not tell."""
    taken_back: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Of indexes (table and name) that were made lately and did not stay: when, and why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an analysis is to look at, and by which bounds."""

    recommended: tuple[Recommended, ...] = ()
    limits: Limits = field(default_factory=Limits)
    unused_after: timedelta = timedelta(days=30)
    schema: str | None = None
    observed: Observed = field(default_factory=Observed)
    advice: bool = True
    """Whether the optimizer is asked; without that there is an audit, and no score."""
    notes: tuple[Unsupported, ...] = ()
    """What else is not known."""


class Analyst:
    """Looks at one database; what it asks is asked on connections of its own, and changes nothing."""

    def __init__(self, own: OwnConnections, dialect: Dialect, clock: Clock) -> None:
        self._own = own
        self._dialect = dialect
        self._clock = clock

    def catalog(self, schema: str | None = None) -> Catalog:
        """What is in the database.

        Raises:
            RefusedError: there is no second connection to it.
            WatchedDatabaseError: it cannot be reached, or refuses.
        """
        found = self._own.run(lambda connection: self._dialect.catalog(connection, schema), CATALOG_S)
        if isinstance(found, Unsupported):
            raise RefusedError(f"{found.reason}; {found.fix}")
        theirs = {name: table for name, table in found.tables.items() if not name.startswith(OUR_TABLES)}
        return replace(found, tables=theirs)

    def analyse(self, workload_of: Callable[[Catalog], Workload], wanted: Wanted, progress: Progress) -> Analysis:
        """All of it; where the optimizer cannot be asked, what is known without it.

        Raises:
            PilotError: the database cannot be reached, or the workload cannot be read.
        """
        began = self._clock.ticks()
        progress("reading the catalogue")
        catalog = self.catalog(wanted.schema)
        found = self._own.run(lambda connection: Ledger(connection).entries(), CATALOG_S)
        entries: list[Entry] = [] if isinstance(found, Unsupported) else found
        taken_back = _taken_back(entries, self._clock.now() - REMEMBERED)
        progress("reading the workload")
        workload = workload_of(catalog)
        proposal, why = (
            self._proposal(catalog, workload, wanted.limits, taken_back, progress)
            if wanted.advice
            else (None, NOT_ASKED)
        )
        progress("adding up")
        observed = replace(wanted.observed, on_trial=_on_trial(entries))
        wanted = replace(wanted, observed=observed)
        return self._concluded(began, catalog, workload, proposal, why, wanted, taken_back)

    def _proposal(
        self,
        catalog: Catalog,
        workload: Workload,
        limits: Limits,
        taken_back: Mapping[tuple[str, str], str],
        progress: Progress,
    ) -> tuple[Proposal | None, str | None]:
        if not workload.statements:
            return None, f"no statement is known that could be judged ({workload.source})"
        open_what_if = self._dialect.what_if

        def ask(engine: Engine) -> Proposal:
            with open_what_if(engine, catalog) as what_if:
                progress(f"asking the optimizer about {len(workload.statements)} statements")
                return advise(catalog, workload, _Told(what_if, progress), limits, taken_back)

        try:
            found = self._own.lend(ask)
        except PilotError as error:
            return None, str(error)
        if isinstance(found, Unsupported):
            return None, f"{found.reason}; {found.fix}"
        return found, _why_none_judged(found)

    def _concluded(
        self,
        began: float,
        catalog: Catalog,
        workload: Workload,
        proposal: Proposal | None,
        why: str | None,
        wanted: Wanted,
        taken_back: Mapping[tuple[str, str], str],
    ) -> Analysis:
        now = self._clock.now()
        # Without statements nothing is known of what they want, which is not that they want nothing.
        known = workload if workload.statements else None
        verdicts = tuple(check(one, catalog, known) for one in wanted.recommended)
        used = proposal.used if proposal is not None else None
        planned = _planned(proposal, verdicts)
        observed = replace(wanted.observed, used_by=used, workload=known, planned=planned)
        findings = audit(catalog, now, wanted.unused_after, observed)
        served = proposal.served if proposal is not None else {}
        counted = [one for one in findings if one.create is None or _place(one.create, catalog) not in taken_back]
        evidence = evidence_of(catalog, counted, served, _read_tables(workload))
        of_all = TableEvidence(seen=any(_may_read(one) for one in workload.statements))
        return Analysis(
            at=now,
            took_s=self._clock.ticks() - began,
            catalog=catalog,
            workload=workload,
            proposal=proposal,
            why_no_advice=why,
            findings=findings,
            verdicts=verdicts,
            scores={name: score(one) for name, one in evidence.items()},
            overall=overall([*evidence.values(), of_all]),
            notes=(*wanted.notes, *unknowns(catalog, now, wanted.unused_after), *catalog.notes),
            taken_back=taken_back,
        )


def _why_none_judged(proposal: Proposal) -> str | None:
    """The reason that most statements share; None where any was judged."""
    if proposal.statements or not proposal.not_judged:
        return None
    [(reason, _)] = Counter(proposal.not_judged.values()).most_common(1)
    return f"none of the statements could be judged: {reason}"


def _place(index: NewIndex, catalog: Catalog) -> tuple[str, str]:
    """The table, and the name that the index would have."""
    return index.table, name_of(index, catalog)


def _may_read(statement: Statement) -> bool:
    """Whether it reads a table, as far as it could be read itself."""
    return statement.predicates is None or bool(statement.predicates.uses)


def _read_tables(workload: Workload) -> frozenset[str]:
    known = (one.predicates for one in workload.statements if one.predicates is not None)
    return frozenset(use.table for predicates in known for use in predicates.uses)


def _on_trial(entries: Iterable[Entry]) -> frozenset[str]:
    """Indexes (``table.index``) that are hidden, or going."""
    changes = (entry.change for entry in entries if entry.state in ("watching", "finishing"))
    return frozenset(f"{change.table}.{change.name}" for change in changes if change.act == "drop")


def _taken_back(entries: Iterable[Entry], since: datetime) -> dict[tuple[str, str], str]:
    """What the last change of each index was that was to be made, where that did not stay."""
    last = {(one.change.table, one.change.name): one for one in entries if one.change.act == "create"}
    return {
        place: f"{entry.changed:%Y-%m-%d}: {entry.note}"
        for place, entry in last.items()
        if entry.state == "reverted" and entry.changed >= since
    }


def _planned(proposal: Proposal | None, verdicts: Iterable[PatternVerdict]) -> tuple[NewIndex, ...]:
    """The indexes that are to be made: advised ones, and recommended ones in whose place none of those serves."""
    found = [advice.index for advice in proposal.advice] if proposal is not None else []
    for verdict in verdicts:
        # The rows may refuse a unique one: nothing waits for it where another one answers the same questions.
        if verdict.create is not None and not is_served(replace(verdict.create, unique=False), found):
            found.append(verdict.create)
    return tuple(found)


def is_served(index: NewIndex, others: Iterable[NewIndex]) -> bool:
    """Whether one of the others does what the index would."""
    return any(index == one or is_prefix(index, one) for one in others)


class _Told:
    """A what-if of which somebody is told how often it was asked."""

    def __init__(self, what_if: WhatIf, progress: Progress) -> None:
        self.grade: Grade = what_if.grade
        self.method = what_if.method
        self.calls = what_if.calls
        self._what_if = what_if
        self._progress = progress

    def cost(self, query: Query, indexes: Iterable[NewIndex] = (), without: Iterable[str] = ()) -> Cost | Unsupported:
        self._progress(f"asking the optimizer: {self.calls} questions so far")
        answer = self._what_if.cost(query, indexes, without)
        self.calls = self._what_if.calls
        return answer

    def size_bytes(self, index: NewIndex) -> float:
        return self._what_if.size_bytes(index)
