"""Which columns of which tables does a statement filter, join, group and sort by?"""

from dataclasses import dataclass
from typing import Literal

Trouble = Literal["function", "cast", "leading wildcard", "negation", "or"]


@dataclass(frozen=True, slots=True)
class Join:
    """A column that is compared with another table's."""

    column: str
    other_table: str
    other_column: str


@dataclass(frozen=True, slots=True)
class Sort:
    """A column that rows are put in order by."""

    column: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Defeat:
    """A condition that no plain index on the column can serve."""

    column: str
    trouble: Trouble
    condition: str
    """Values hidden."""
    rewrite: str | None
    """In a sentence, what would let an index serve; None where nothing is known to."""
    expression: str | None = None
    """What an index on an expression would hold, where this database has such indexes and the expression is
    deterministic; as this database writes it."""


@dataclass(frozen=True, slots=True)
class TableUse:
    """What one statement asks of one table where it names it: a table that is joined to itself is used twice."""

    table: str
    alias: str
    equal: tuple[str, ...] = ()
    """Columns that have to equal a value, be in a short list, or be NULL."""
    joins: tuple[Join, ...] = ()
    ranges: tuple[str, ...] = ()
    """Columns between bounds, or beginning with a text."""
    group: tuple[str, ...] = ()
    order: tuple[Sort, ...] = ()
    """Only where all of the order is by this table's columns, and an index could give it."""
    limited: bool = False
    """Whether only the first rows in that order are asked for."""
    distinct: tuple[str, ...] = ()
    arms: tuple[tuple[str, ...], ...] = ()
    """Of an OR on this table alone: the columns of each arm."""
    all: tuple[str, ...] = ()
    """Every column of the table that the statement names, ``SELECT *`` expanded."""
    defeats: tuple[Defeat, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """Which table a statement writes, and which columns an UPDATE sets (all for INSERT and DELETE)."""

    table: str
    operation: Literal["INSERT", "UPDATE", "DELETE"]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Predicates:
    """What a statement asks, table by table."""

    uses: tuple[TableUse, ...]
    written: Written | None = None
