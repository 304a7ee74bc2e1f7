"""What a plan of SQLite's costs: the planner weighs costs, and tells nobody.

The unit is reading one row of a table that is read from end to end. The plan's steps are nested loops, outermost
first: each is entered as often as the steps before it let rows through. How many rows a step reads is what sqlite_stat1
says of its index; how many it lets through does not depend on how they were found: the table's rows, times the share
of each condition that the statement puts on it (one over the number of different values for an equality, a fixed one
for a range or a condition that is not understood), as far as the other tables it is compared with have been read. A row
that an index points at is dear where it lies anywhere, and cheap where the one before it lay beside it: the rows are
stored in the index's order, or it holds so many of one value that each page has some. What is sorted is paid per row
and step of the sorting. An ordered read that is stopped by LIMIT pays for that share only. Writing is not counted,
neither of rows nor of indexes.

Beside times measured on real indexes (52 changed plans of TPC-H's queries, SQLite 3.40) the ratio of costs with and
without an index is off by a factor of two in the median, of five in a tenth of the cases; nine it thought better were
slower, the worst of them four times. What decides between two plans that are near each other is a
measurement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log2
from re import Match
from typing import Final, Protocol

from dbpilot.dialects.sqlite.explain import NO_TABLE, STEP, Line
from dbpilot.sql.predicates import TableUse

SEEK: Final = 0.25
"""A step down a B-tree with twice as many rows costs so much more: a row of a million is found for the price of 5."""
NEAR: Final = 1.0
"""Finding a row that lies beside the one found before."""
ROWS_PER_PAGE: Final = 30
COVERING: Final = 0.6
"""An entry of an index is shorter than a row."""
LOOKUP: Final = 0.45
"""The same for a row that an index points at: those of neighbouring entries lie apart."""
SORTING: Final = 0.25
RANGE_SHARES: Final = (1.0, 1 / 3, 1 / 16)
"""Of the rows, between so many bounds."""
NOT_UNDERSTOOD: Final = 1 / 8
LISTED: Final = 25
"""Values in a list that a subquery makes; SQLite's own guess."""
LEAST: Final = 0.01
"""Rows that a loop is thought to let through, where conditions leave less than one on the average."""
UNKNOWN_ROWS: Final = 20.0
"""Rows of one value where nobody knows how many there are; SQLite's own guess for indexes it makes on the way."""


class Facts(Protocol):
    """What is known of the tables and indexes."""

    def rows(self, table: str) -> float:
        """Of the table."""

    def rows_per_value(self, table: str, index: str, columns: int) -> float:
        """Rows for each combination of values of so many of the index's first columns."""

    def distinct(self, table: str, column: str) -> float | None:
        """Different values of the column; None where they are not known."""

    def is_in_order(self, table: str, column: str) -> bool:
        """Whether the table's rows are stored in the order of this column."""

    def first_column(self, table: str, index: str) -> str | None:
        """The first column of the index's key; None for an expression."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the model has to know of the statement."""

    tables: Mapping[str, str]
    """By the names that the plan uses."""
    uses: Mapping[str, TableUse] = field(default_factory=dict)
    """By the same names."""
    bounds: Mapping[str, int] = field(default_factory=dict)
    """How many bounds it puts to columns, by their names in lower case."""
    limit: float | None = None
    """Rows after which its outermost part stops."""

    def table(self, name: str) -> str:
        """The table that the plan calls so."""
        return self.tables.get(name.lower(), name)


@dataclass(slots=True)
class _Block:
    """Steps below one another in one loop."""

    cost: float = 0.0
    rows: float = 1.0
    sorts: bool = False
    scanned: str | None = None
    """The table whose rows come in the order in which they are stored."""
    order: frozenset[tuple[str, str]] = frozenset()
    """Table and column that rows come in the order of, as far as an index gives one."""


def cost_of(lines: Sequence[Line], asked: Asked, facts: Facts) -> float:
    """The plan's cost; see above."""
    block = _Costing(asked, facts).block(lines)
    if asked.limit is None or block.sorts or block.rows <= asked.limit:
        return block.cost
    return block.cost * asked.limit / block.rows


class _Costing:
    def __init__(self, asked: Asked, facts: Facts) -> None:
        self._asked = asked
        self._facts = facts
        self._made: dict[str, float] = {}
        """Rows of what was made on the way."""

    def block(self, lines: Sequence[Line], outer: frozenset[str] = frozenset()) -> _Block:
        """``outer``: tables that the loops around it have read."""
        block, read = _Block(), set(outer)
        for number, line in enumerate(lines):
            step = STEP.fullmatch(line.detail)
            if step is not None:
                times = self._listed(step, lines[number + 1 : number + 2])
                self._step(block, step, frozenset(read), times)
                read.add(self._asked.table(step["table"]))
            elif line.detail == "MULTI-INDEX OR":
                self._either(block, line, read)
            elif line.detail.startswith("USE TEMP B-TREE"):
                block.cost += block.rows * (1 + SORTING * _depth(block.rows))
                block.sorts = True
            else:
                self._inner(block, line, frozenset(read))
        return block

    def _inner(self, block: _Block, line: Line, read: frozenset[str]) -> None:
        """A subquery: each time anew where it depends on the loops around it, otherwise once."""
        correlated = line.detail.startswith("CORRELATED")
        inner = self.block(line.children, read if correlated else frozenset())
        block.cost += inner.cost * (block.rows if correlated else 1)
        if line.made is not None:
            self._made[line.made] = inner.rows
        elif line.children and "SUBQUERY" not in line.detail:  # a part of a UNION
            block.rows = inner.rows if block.rows == 1 else block.rows + inner.rows

    def _either(self, block: _Block, line: Line, read: set[str]) -> None:
        """Each arm of an OR finds rows of its own, through an index of its own."""
        before, found = block.rows, 0.0
        for arm in line.children:
            part = _Block(rows=before)
            for child in arm.children:
                step = STEP.fullmatch(child.detail)
                if step is not None:
                    self._step(part, step, frozenset(read), 1)
                    read.add(self._asked.table(step["table"]))
            block.cost += part.cost
            found += part.rows
        block.rows = found

    def _listed(self, step: Match[str], following: Sequence[Line]) -> float:
        """How many values a step looks up one by one."""
        is_list = any(line.detail.startswith("LIST SUBQUERY") for line in following)
        return LISTED if is_list and "=?" in (step["condition"] or "") else 1

    def _step(self, block: _Block, step: Match[str], read: frozenset[str], times: float) -> None:
        table = self._asked.table(step["table"])
        if step["table"] == NO_TABLE:
            return
        rows = self._made.get(step["table"]) or self._facts.rows(table)
        visited = min(rows, times * self._visited(step, table, rows))
        if step["automatic"]:
            block.cost += rows * (1 + LOOKUP * _depth(rows))
        entering = 0.0
        if step["operation"] == "SEARCH":
            entering = times * (NEAR if self._follows(step["table"], block) else SEEK * _depth(rows))
        block.cost += block.rows * (entering + visited * self._price(step, table, rows))
        if step["index"] is not None and block.rows == 1:
            block.order = frozenset({(table, self._facts.first_column(table, step["index"]) or "")})
        if step["operation"] == "SCAN" and step["index"] is None and block.scanned is None:
            block.scanned = table
        block.rows = max(block.rows * min(visited, self._passing(step["table"], rows, read)), LEAST)

    def _price(self, step: Match[str], table: str, rows: float) -> float:
        """Of reading one row, in the way the step does it."""
        if step["covering"]:
            return COVERING
        if step["index"] is None:
            return 1.0
        column = self._facts.first_column(table, step["index"])
        shared = self._facts.rows_per_value(table, step["index"], 1)
        # Entries with the same key lie in the order of their rows: where there are many, so do the rows.
        is_near = shared * ROWS_PER_PAGE >= rows or (column is not None and self._facts.is_in_order(table, column))
        return COVERING + (NEAR if is_near else LOOKUP * _depth(rows))

    def _follows(self, name: str, block: _Block) -> bool:
        """Whether the rows that it is searched for come in the order in which it is read."""
        use = self._asked.uses.get(name.lower())
        for join in use.joins if use is not None else ():
            other = join.other_table, join.other_column
            if other in block.order or (other[0] == block.scanned and self._facts.is_in_order(*other)):
                return True
        return False

    def _visited(self, step: Match[str], table: str, rows: float) -> float:
        """Rows that it reads each time."""
        if step["operation"] == "SCAN":
            return rows
        terms = (step["condition"] or "").split(" AND ")
        equal = [term.removesuffix("=?") for term in terms if term.endswith("=?") and not term.startswith("(")]
        skipped = sum(term.startswith("ANY(") for term in terms)
        share = RANGE_SHARES[min(sum(">" in term or "<" in term for term in terms), 2)]
        if step["index"] is not None:
            found = self._facts.rows_per_value(table, step["index"], len(equal) + skipped)
            values = rows / self._facts.rows_per_value(table, step["index"], skipped) if skipped else 1.0
            return found * values * share
        if not step["automatic"]:  # its own key, or the least or greatest of all
            return 1.0 if equal or share == 1.0 else rows * share
        known = [self._facts.distinct(table, column) for column in equal]
        return rows / max((one for one in known if one), default=max(rows / UNKNOWN_ROWS, 1.0)) * share

    def _passing(self, name: str, rows: float, read: frozenset[str]) -> float:
        """Rows that meet the conditions put on them so far, however they are found."""
        use = self._asked.uses.get(name.lower())
        if use is None:
            return rows
        joined = [join.column for join in use.joins if join.other_table in read]
        share = 1.0
        for column in dict.fromkeys([*use.equal, *joined]):
            share /= self._facts.distinct(use.table, column) or 1.0
        for column in dict.fromkeys(use.ranges):
            share *= RANGE_SHARES[self._asked.bounds.get(column.lower(), 1)]
        return rows * share * NOT_UNDERSTOOD ** len(use.defeats)


def _depth(rows: float) -> float:
    return log2(max(rows, 2))
