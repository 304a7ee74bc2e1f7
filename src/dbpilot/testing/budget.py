"""What a test may ask of the database: so many statements, none repeated for each row of another, no large table read
whole."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy import table as named_table
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from dbpilot.dialects import Dialect, dialect_of
from dbpilot.dialects.catalog import MIN_ROWS, Catalog
from dbpilot.dialects.ddl import index_of
from dbpilot.dialects.plan import Plan
from dbpilot.errors import ConfigError, PilotError
from dbpilot.indexes.candidates import candidates, name_of
from dbpilot.queries.advice import repetition_advice
from dbpilot.queries.callsite import calling_frame, is_ours
from dbpilot.queries.plans import may_explain
from dbpilot.queries.relationship import lazy_relationship
from dbpilot.queries.request import CURRENT, unrecorded
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.predicates import predicates_of
from dbpilot.sql.syntax import POSTGRESQL

LAZY_LOADS: Final = 3
"""One object's relationship may be loaded when it is wanted, and a second one's; a third is a loop."""
REPEATED: Final = 10
"""As many executions of one SELECT by one line, within one request, are a loop: the same as a pilot's default."""
COUNTED: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "CALL", "TRUNCATE"})
STOPPING: Final = frozenset({"LIMIT", "FETCH"})
READING_ON: Final = frozenset({"WHERE", "JOIN", "GROUP", "HAVING", "DISTINCT", "UNION", "INTERSECT", "EXCEPT", "OVER"})
SORTING: Final = ("sort", "temp b-tree", "aggregate")
SHOWN: Final = 8
"""Patterns that a failure names."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What is allowed."""

    max: int | None = None
    """So many statements; None for any number."""
    n_plus_one: bool = False
    """Whether a SELECT may be repeated for each row of another."""
    full_scan_rows: int | None = MIN_ROWS
    """A table of so many rows must not be read whole; None for not minding."""


@dataclass(frozen=True, slots=True)
class Place:
    """Statements that are counted together."""

    request: str | None
    pattern_id: str
    query: str
    callsite: str | None
    function: str | None
    relationship: str | None


@dataclass(frozen=True, slots=True)
class Scan:
    """A table that a statement read whole."""

    table: str
    rows: int
    """At least so many are in it."""
    finding: str
    fix: str | None
    """The statement that makes an index for it; None where none would help."""


@dataclass(slots=True)
class Spent:
    """What was asked until now."""

    places: Counter[Place] = field(default_factory=Counter)
    scans: dict[str, tuple[Scan, ...]] = field(default_factory=dict)
    """By the id of the pattern."""
    unexplained: dict[str, str] = field(default_factory=dict)
    """Why some plans are not known, by the id of the pattern."""

    @property
    def count(self) -> int:
        """How many statements ran."""
        return self.places.total()

    @property
    def queries(self) -> list[str]:
        """Their patterns, each once, in the order in which they ran first."""
        return list(dict.fromkeys(place.query for place in self.places))

    def complaints(self, budget: Budget) -> list[str]:
        """What is beyond the budget, each with the line of code and what to do; empty where all is within it."""
        found = [self._too_many(budget.max)] if budget.max is not None and self.count > budget.max else []
        if not budget.n_plus_one:
            found += self._repeated()
        return [*found, *(_scan_told(scan, place) for place, scan in self._read_whole())]

    def _too_many(self, most: int) -> str:
        lines = [f"  {calls} x {_told(place)}" for place, calls in _joined(self.places).most_common(SHOWN)]
        return "\n".join([f"{self.count} statements ran, and {most} may:", *lines])

    def _repeated(self) -> list[str]:
        found = [(place, calls) for place, calls in self.places.items() if calls >= _least(place)]
        return [
            f"N+1: {calls} x {_told(place)}\n  "
            + repetition_advice({"calls": calls, "route": None, "relationship": place.relationship}).partition(": ")[2]
            for place, calls in sorted(found, key=lambda one: one[1], reverse=True)
            if place.query.startswith("SELECT")
        ]

    def _read_whole(self) -> Iterator[tuple[Place, Scan]]:
        for id_, scans in self.scans.items():
            place = next((place for place in self.places if place.pattern_id == id_), None)
            yield from ((place, scan) for scan in scans if place is not None)


def _least(place: Place) -> int:
    return LAZY_LOADS if place.relationship else REPEATED


def _joined(places: Counter[Place]) -> Counter[Place]:
    """Whatever the request."""
    found = Counter[Place]()
    for place, calls in places.items():
        found[replace(place, request=None)] += calls
    return found


def _told(place: Place) -> str:
    where = f"\n      at {place.callsite} in {place.function}" if place.callsite else ""
    return f"{place.query}{where}"


def _scan_told(scan: Scan, place: Place) -> str:
    fix = f"\n  {scan.fix}" if scan.fix else ""
    return f"full scan: {scan.table} has {scan.rows:,} rows or more: {_told(place)}\n  {scan.finding}{fix}"


@contextmanager
def watching(engine: Engine | AsyncEngine | None, full_scan_rows: int | None) -> Iterator[Spent]:
    """What is asked of this engine, or of all, in this process meanwhile, the pilots' own statements left out."""
    onlooker = _Onlooker(full_scan_rows)
    target: Any = Engine if engine is None else getattr(engine, "sync_engine", engine)
    event.listen(target, "after_cursor_execute", onlooker.executed)
    event.listen(target, "handle_error", onlooker.failed)
    try:
        yield onlooker.spent
    finally:
        event.remove(target, "after_cursor_execute", onlooker.executed)
        event.remove(target, "handle_error", onlooker.failed)


class _Onlooker:
    """Told of every statement, by whichever thread executes it."""

    def __init__(self, full_scan_rows: int | None) -> None:
        self.spent = Spent()
        self._rows = full_scan_rows
        self._lock = threading.Lock()

    def executed(
        self,
        connection: Connection,
        _cursor: Any,
        statement: str,
        parameters: Any,
        context: ExecutionContext,
        many: Any,
    ) -> None:
        """It is counted; of the first of each pattern that reads, the plan is asked for."""
        if is_ours():
            return
        place = self._count(connection, statement, context)
        if place is None or many or self._rows is None or getattr(context, "_is_server_side", False):
            return
        with self._lock:
            new = place.pattern_id not in self.spent.scans
            self.spent.scans.setdefault(place.pattern_id, ())
        if new:
            try:
                with unrecorded():
                    self.spent.scans[place.pattern_id] = tuple(_scans(connection, statement, parameters, self._rows))
            except (SQLAlchemyError, PilotError, ValueError) as error:
                self.spent.unexplained[place.pattern_id] = type(error).__name__

    def failed(self, context: Any) -> None:
        """A statement that failed was asked all the same."""
        if context.execution_context is not None and context.connection is not None and not is_ours():
            self._count(context.connection, context.statement or "", context.execution_context)

    def _count(self, connection: Connection, statement: str, context: ExecutionContext) -> Place | None:
        dialect = _dialect(connection)
        print_ = fingerprint(statement, dialect.syntax if dialect else POSTGRESQL)
        if print_.operation not in COUNTED:
            return None
        frame, request = calling_frame(), CURRENT.get()
        place = Place(
            request.id if request else None,
            print_.id,
            print_.text,
            frame.callsite if frame else None,
            frame.function if frame else None,
            lazy_relationship(context),
        )
        with self._lock:
            self.spent.places[place] += 1
        return place


def _dialect(connection: Connection) -> Dialect | None:
    try:
        return dialect_of(connection.engine)
    except ConfigError:
        return None


def _scans(connection: Connection, statement: str, parameters: Any, least: int) -> Iterator[Scan]:
    """The large tables that the statement, which ran a moment ago on this connection, reads whole."""
    dialect = _dialect(connection)
    if dialect is None or not may_explain(statement, dialect.syntax):
        return
    root = dialect.explain(connection, statement, parameters)
    read_whole = {node.table: node for _, node in root.walk() if node.reads_all and node.table}
    if not read_whole or _stops_early(statement, dialect, [node.operation for _, node in root.walk()]):
        return
    catalog = dialect.catalog(connection)
    names = _tables(statement, catalog)
    for alias, node in read_whole.items():
        table = names.get(alias, alias)
        if table in catalog.tables and (rows := _rows(connection, catalog, table, least)) >= least:
            finding = Plan(replace(node, table=table, children=())).findings[0]
            yield Scan(table, rows, finding, _fix(connection, dialect, catalog, table, statement))


def _stops_early(statement: str, dialect: Dialect, operations: Iterable[str]) -> bool:
    """Whether it reads a table in its order only until it has enough."""
    words = set(fingerprint(statement, dialect.syntax).text.split())
    sorts = any(word in operation.lower() for operation in operations for word in SORTING)
    return bool(words & STOPPING) and not words & READING_ON and not sorts


def _tables(statement: str, catalog: Catalog) -> dict[str, str]:
    """What the statement calls its tables."""
    asked = predicates_of(statement, catalog.dialect, catalog.columns, catalog.schema)
    return {use.alias: use.table for use in asked.uses} if asked else {}


def _rows(connection: Connection, catalog: Catalog, table: str, most: int) -> int:
    """How many rows there are, counted up to so many."""
    some = select(1).select_from(named_table(table, schema=_schema(catalog))).limit(most).subquery()
    return int(connection.scalar(select(func.count()).select_from(some)) or 0)


def _schema(catalog: Catalog) -> str | None:
    return catalog.schema if catalog.dialect == "postgresql" and catalog.schema != "public" else None


def _fix(connection: Connection, dialect: Dialect, catalog: Catalog, table: str, statement: str) -> str | None:
    """The statement that makes the most promising index."""
    asked = predicates_of(statement, catalog.dialect, catalog.columns, catalog.schema)
    found = [index for index in candidates([asked], catalog) if index.table == table] if asked else []
    if not found:
        return None
    made = index_of(found[0], name_of(found[0], catalog), _schema(catalog))
    return dialect.ddl.create(connection.dialect, made, hidden=False)
