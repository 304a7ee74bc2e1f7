"""What a database is asked, as far as it is known: statements, how often, and how long they take."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from dbpilot.dialects.base import ServerStatement
from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.whatif import Query
from dbpilot.history.store import OTHER_ID, Pattern
from dbpilot.history.tally import Tally
from dbpilot.indexes.made_up import made_up
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.predicates import DialectName, Predicates, placeholders_of, predicates_of
from dbpilot.sql.syntax import MYSQL, POSTGRESQL, SQLITE, Syntax

SYNTAXES: Final[Mapping[DialectName, Syntax]] = {
    "mysql": MYSQL,
    "mariadb": MYSQL,
    "postgresql": POSTGRESQL,
    "sqlite": SQLITE,
}
JUDGED: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE"})
SAMPLES: Final = 5
"""Executions kept of one pattern."""
MAX_SAMPLE: Final = 8_192
"""Characters of an execution that is kept."""
MAX_PATTERNS: Final = 10_000
"""Told apart while they are counted."""
MOST_STATEMENTS: Final = 1000
"""Looked at, those first that take most time."""
MAX_KEPT: Final = 20_000_000
"""Characters of all samples together; beyond that each pattern has one."""
HOLES: Final = re.compile(r"[?%:$@]|\.\.\.")
"""What a statement holds if values are missing in it."""
SEED: Final = 7
UNREADABLE: Final = "not understood by the parser"
OTHER_KIND: Final = "neither read nor changed rows"
ELSEWHERE: Final = "of tables that are not in this database"
FORGOTTEN: Final = "of patterns whose text is not kept"
TOO_MANY: Final = f"of patterns beyond the first {MAX_PATTERNS:,}"
TOO_FEW: Final = f"of patterns that matter less than {MOST_STATEMENTS:,} others"


@dataclass(frozen=True, slots=True)
class Statement:
    """One pattern of the workload."""

    id: str
    """The pattern's id, see :func:`dbpilot.sql.fingerprint.fingerprint`."""
    text: str
    """Values hidden; to be shown and stored."""
    samples: tuple[Query, ...] = field(repr=False)
    """Executions to ask about, with the values of real ones where they are known; neither shown nor stored."""
    predicates: Predicates | None
    """None where the statement could not be read."""
    calls: float
    """How often it ran in the time that the workload covers."""
    total_s: float | None
    """How long all of that took, in seconds; None where nobody measured."""
    sources: tuple[str, ...] = ()
    """The lines of code that send it, most often first."""
    real_values: bool = True
    """Whether the samples' values are real ones, rather than made up from statistics or left open."""

    @property
    def mean_s(self) -> float | None:
        """Of one execution."""
        return None if self.total_s is None or not self.calls else self.total_s / self.calls


@dataclass(frozen=True, slots=True)
class Workload:
    """Statements, most time first where it is known."""

    statements: tuple[Statement, ...]
    source: str
    """In words: where it is from."""
    covers_s: float | None = None
    """How long it was watched; None where it is not known."""
    left_out: int = 0
    """Statements that could not be read."""
    reasons: tuple[str, ...] = ()
    """Why executions were left out, or could not be read, each with their number; the most frequent first."""


def of_history(
    patterns: Mapping[str, Pattern],
    tallies: Mapping[str, Tally],
    samples: Mapping[str, Sequence[Query]],
    catalog: Catalog,
    dialect_name: DialectName,
    covers_s: float | None,
) -> Workload:
    """What the application's pilot counted in ``covers_s`` seconds; ``samples`` are executions it remembers."""
    book = Book(catalog, dialect_name)
    for id_, tally in tallies.items():
        pattern = patterns.get(id_)
        if pattern is None or id_ == OTHER_ID:
            book.leave_out(FORGOTTEN, tally.calls)
            continue
        sources = tuple(dict.fromkeys(source.callsite for source in pattern.sources))
        book.put(id_, pattern.text, pattern.operation, tally.calls, tally.total_s, samples.get(id_, ()), sources)
    return book.workload("statements that the application sent", covers_s)


def of_server(
    statements: Iterable[ServerStatement], catalog: Catalog, dialect_name: DialectName, covers_s: float | None = None
) -> Workload:
    """What the server counted itself, whoever sent it; see :attr:`dbpilot.dialects.Dialect.server_statements`."""
    book = Book(catalog, dialect_name)
    for one in statements:
        operation = fingerprint(one.query, SYNTAXES[dialect_name]).operation
        book.put(one.pattern_id, one.query, operation, one.calls, one.total_s)
    return book.workload("statements that the server counted", covers_s)


@dataclass(slots=True)
class _Counted:
    """Of one pattern, until now."""

    text: str
    calls: float = 0
    total_s: float | None = None
    samples: list[Query] = field(default_factory=list, repr=False)
    sources: tuple[str, ...] = ()
    offered: int = 0


class Book:
    """Counts executions by their patterns; bounded, however many there are."""

    def __init__(self, catalog: Catalog, dialect_name: DialectName) -> None:
        self._catalog = catalog
        self._dialect = dialect_name
        self._syntax = SYNTAXES[dialect_name]
        self._counted: dict[str, _Counted] = {}
        self._reasons = Counter[str]()
        self._kept = 0
        """Characters of samples."""
        self._rng = Random(SEED)  # noqa: S311 - no secret depends on it

    def add(self, statement: str, duration_s: float | None = None) -> None:
        """One execution, with its values in it, is counted, and may be kept as a sample."""
        print_ = fingerprint(statement, self._syntax)
        counted = self._of(print_.id, print_.text, print_.operation, 1)
        if counted is not None:
            self._add(counted, 1, duration_s)
            self._offer(counted, statement)

    def put(
        self,
        id_: str,
        text: str,
        operation: str,
        calls: float,
        total_s: float | None,
        samples: Sequence[Query] = (),
        sources: tuple[str, ...] = (),
    ) -> None:
        """Executions that somebody else counted."""
        counted = self._of(id_, text, operation, calls)
        if counted is not None:
            self._add(counted, calls, total_s)
            counted.samples.extend(samples[: SAMPLES - len(counted.samples)])
            counted.sources = tuple(dict.fromkeys((*counted.sources, *sources)))

    def leave_out(self, reason: str, calls: float = 1) -> None:
        """So many executions are not looked at."""
        self._reasons[reason] += round(calls)

    def workload(self, source: str, covers_s: float | None) -> Workload:
        """What was counted, most time first, and where nobody measured, the most frequent."""
        ranked = sorted(self._counted.items(), key=lambda item: (item[1].total_s or 0.0, item[1].calls), reverse=True)
        for _, counted in ranked[MOST_STATEMENTS:]:
            self.leave_out(TOO_FEW, counted.calls)
        statements = [self._statement(id_, counted) for id_, counted in ranked[:MOST_STATEMENTS]]
        found = tuple(statement for statement in statements if statement is not None)
        unread = sum(statement.predicates is None for statement in found)
        reasons = tuple(f"{count:,} {reason}" for reason, count in self._reasons.most_common())
        return Workload(found, source, covers_s, unread, reasons)

    def _of(self, id_: str, text: str, operation: str, calls: float) -> _Counted | None:
        if operation not in JUDGED:
            self.leave_out(OTHER_KIND, calls)
        elif id_ in self._counted or len(self._counted) < MAX_PATTERNS:
            return self._counted.setdefault(id_, _Counted(text))
        else:
            self.leave_out(TOO_MANY, calls)
        return None

    @staticmethod
    def _add(counted: _Counted, calls: float, total_s: float | None) -> None:
        counted.calls += calls
        if total_s is not None:
            counted.total_s = (counted.total_s or 0.0) + total_s

    def _offer(self, counted: _Counted, statement: str) -> None:
        """Each execution that differs from those kept has the same chance to be one of them (Vitter's algorithm R)."""
        query = Query(statement)
        if len(statement) > MAX_SAMPLE or query in counted.samples or (counted.samples and self._kept > MAX_KEPT):
            return
        counted.offered += 1
        if len(counted.samples) < SAMPLES:
            self._kept += len(statement)
            counted.samples.append(query)
        elif (place := self._rng.randrange(counted.offered)) < SAMPLES:
            counted.samples[place] = query

    def _statement(self, id_: str, counted: _Counted) -> Statement | None:
        """None where it is about no table of this database."""
        asked = counted.samples[0].statement if counted.samples else counted.text
        predicates = predicates_of(asked, self._dialect, self._catalog.columns, self._catalog.schema)
        if predicates is None:
            self.leave_out(UNREADABLE, counted.calls)
        elif not predicates.uses and predicates.written is None:
            self.leave_out(ELSEWHERE, counted.calls)
            return None
        samples, real = self._samples(counted)
        return Statement(
            id_, counted.text, samples, predicates, counted.calls, counted.total_s, counted.sources, real_values=real
        )

    def _samples(self, counted: _Counted) -> tuple[tuple[Query, ...], bool]:
        """What to ask with, and whether the values are real ones."""
        real = [query for query in counted.samples if query.parameters is not None or not self._is_open(query)]
        if real:
            return tuple(real), True
        return made_up(counted.text, self._catalog, self._dialect), False

    def _is_open(self, query: Query) -> bool:
        """Whether values are missing in the statement."""
        if HOLES.search(query.statement) is None:
            return False
        return bool(placeholders_of(query.statement, self._dialect, self._catalog.columns, self._catalog.schema))
