"""Indexes that somebody recommends: is each of them there, does another one serve in its place, and does the workload
want it at all?"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from dbpilot.dialects.catalog import Catalog, Index, Key, Table
from dbpilot.dialects.whatif import NewIndex
from dbpilot.indexes.redundancy import uses_of
from dbpilot.indexes.workload import Workload
from dbpilot.sql.predicates import TableUse

Status = Literal["present", "satisfied", "missing", "unknown table", "unknown column"]


@dataclass(frozen=True, slots=True)
class Recommended:
    """An index that should be there, or one that serves in its place."""

    table: str
    columns: tuple[str, ...]
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """What a workload asks for that the recommended index could serve."""

    statements: tuple[str, ...]
    """Pattern ids, in the workload's order."""
    calls: float
    total_s: float | None
    """None where nobody measured any of them."""


@dataclass(frozen=True, slots=True)
class PatternVerdict:
    """What became of one recommendation."""

    recommended: Recommended
    status: Status
    reason: str
    """In a sentence."""
    index: str | None = None
    """The present index that is it, or serves in its place."""
    create: NewIndex | None = None
    """What is to be made; None where nothing is."""
    demand: Demand | None = None
    """None where no workload is known."""


def check(recommended: Recommended, catalog: Catalog, workload: Workload | None = None) -> PatternVerdict:
    """Whether the index is there, in whatever form serves, and what the workload would do with it."""
    table = catalog.tables.get(recommended.table)
    if table is None:
        near = _near(recommended.table, catalog.tables)
        return PatternVerdict(recommended, "unknown table", f"There is no table {recommended.table}{near}")
    for column in recommended.columns:
        if column not in table.by_name:
            said = f"{recommended.table} has no column {column}{_near(column, table.by_name)}"
            return PatternVerdict(recommended, "unknown column", said)
    status, reason, index, create = _verdict(recommended, table)
    return PatternVerdict(recommended, status, reason, index, create, _demand(recommended, workload))


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), 3)
    return f"; did you mean {' or '.join(near)}?" if near else "."


def _verdict(wanted: Recommended, table: Table) -> tuple[Status, str, str | None, NewIndex | None]:
    listed = ", ".join(wanted.columns)
    serving = sorted(_serving(wanted.columns, table), key=lambda index: (len(index.keys), not index.unique, index.name))
    ruling = _ruling(wanted.columns, table) if wanted.unique else None
    if wanted.unique and ruling is None:
        return _not_unique(wanted, serving)
    if not serving:
        return "missing", _missing(wanted, table, ruling), None, _new(wanted, unique=False)
    best = serving[0]
    if ruling is not None and ruling is not best:
        kept = f"{ruling.name} keeps ({listed}) unique, and {best.name} finds rows by it."
        return "satisfied", kept, best.name, None
    if len(best.keys) == len(wanted.columns):
        return "present", f"{best.name} is this index{_as_a(best)}.", best.name, None
    reason = f"({listed}) is a prefix of {best.name} ({', '.join(best.columns)}), which serves it."
    return "satisfied", reason, best.name, None


def _serving(columns: tuple[str, ...], table: Table) -> Iterator[Index]:
    """The indexes that find rows by these columns, and sort by them."""
    for index in table.indexes:
        directions = {key.descending for key in index.keys[: len(columns)]}
        usable = index.is_plain and index.valid and not index.ignored and len(directions) == 1
        if usable and index.columns[: len(columns)] == columns:
            yield index


def _ruling(columns: tuple[str, ...], table: Table) -> Index | None:
    """The index that forbids that two rows have the same in these columns, or in some of them."""
    rules = (index for index in table.indexes if index.unique and index.valid and index.is_plain)
    fitting = [index for index in rules if set(index.columns) <= set(columns)]
    return min(fitting, key=lambda index: (index.columns != columns, index.name), default=None)


def _not_unique(wanted: Recommended, serving: list[Index]) -> tuple[Status, str, str | None, NewIndex | None]:
    listed, create = ", ".join(wanted.columns), _new(wanted, unique=True)
    same = next((index for index in serving if len(index.keys) == len(wanted.columns)), None)
    first = "Rows that repeat in them have to go first, or it cannot be made."
    if same is None:
        return "missing", f"Nothing forbids that two rows have the same ({listed}). {first}", None, create
    said = f"{same.name} has these columns and does not forbid that two rows have the same. {first}"
    return "missing", said, same.name, create


def _missing(wanted: Recommended, table: Table, ruling: Index | None) -> str:
    listed = ", ".join(wanted.columns)
    if ruling is not None:
        return f"{ruling.name} keeps ({listed}) unique, and no index begins with {listed} in this order."
    return f"No index begins with ({listed}){_but(wanted.columns, table)}."


def _but(columns: tuple[str, ...], table: Table) -> str:
    """Why an index that seems to be the one is not."""
    for index in table.indexes:
        if index.columns[: len(columns)] == columns:
            return f": {index.name} {_why_not(index)}"
        if len(columns) > 1 and set(index.columns[: len(columns)]) == set(columns):
            return f" in this order; {index.name} ({', '.join(index.columns)}) serves only where all of them are given"
    return ""


def _why_not(index: Index) -> str:
    laws = (
        (not index.valid, "was never finished"),
        (index.ignored, "is there, and the optimizer is told to leave it alone"),
        (index.method != "btree", f"is a {index.method} index"),
        (index.where is not None, f"holds only the rows WHERE {index.where}"),
        (any(key.length for key in index.keys), "holds only the first characters"),
        (any(key.collation or key.opclass for key in index.keys), "compares in another way"),
    )
    return next((why for holds, why in laws if holds), "sorts in another way")


def _as_a(index: Index) -> str:
    return {"PRIMARY KEY": ", as the primary key", "UNIQUE": ", as a unique constraint"}.get(index.constraint or "", "")


def _new(wanted: Recommended, *, unique: bool) -> NewIndex:
    return NewIndex(wanted.table, tuple(Key(column) for column in wanted.columns), unique=unique)


def _demand(wanted: Recommended, workload: Workload | None) -> Demand | None:
    if workload is None:
        return None
    found = {one.id: one for one, use in uses_of(workload, wanted.table) if _could_use(wanted.columns, use)}
    times = [one.total_s for one in found.values() if one.total_s is not None]
    return Demand(tuple(found), sum(one.calls for one in found.values()), sum(times) if times else None)


def _could_use(columns: tuple[str, ...], use: TableUse) -> bool:
    """Whether the first column narrows down, groups or orders what the statement reads; the rest follows."""
    joined = (join.column for join in use.joins)
    sorted_by = (use.order[0].column,) if use.order else ()
    arms = (arm[0] for arm in use.arms if arm)
    return columns[0] in {*use.equal, *joined, *use.ranges, *sorted_by, *use.group[:1], *use.distinct[:1], *arms}
