"""Which columns of which tables does a statement filter, join, group and sort by?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

DialectName = Literal["mysql", "mariadb", "postgresql", "sqlite"]

Trouble = Literal["function", "cast", "leading wildcard", "negation", "or", "row values"]


@dataclass(frozen=True, slots=True)
class Join:
    """A column that is compared with another table's."""

    column: str
    other_table: str
    other_column: str
    """Both empty where it is no column of a table, but what was computed from some."""


@dataclass(frozen=True, slots=True)
class Sort:
    """A column that rows are put in order by."""

    column: str
    descending: bool = False
    nulls_first: bool | None = None
    """None where it is as usual for this database and direction."""


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
    prefix: bool = False
    """Whether the text's beginning is looked for: an index may need an order of its own for that."""


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
    prefixes: tuple[str, ...] = ()
    """Of the ranges, those by how a text begins (LIKE): an index may need an order of its own for that."""


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


def predicates_of(
    statement: str, dialect: DialectName, columns: Mapping[str, Mapping[str, str]], schema: str | None = None
) -> Predicates | None:
    """What a statement asks of the tables that are known; None where it cannot be read.

    It may be as a driver sends it, as a server's statistics show it, or as our own pattern with ``?`` for values. A
    LIKE whose pattern is open counts as one that says how the text begins. Never raises.

    Args:
        columns: types by column by table, see :attr:`dbpilot.dialects.catalog.Catalog.columns`.
        schema: where these tables are; a name in another one is not theirs.
    """
    from dbpilot.sql.analysis import analysed  # the parser takes a while to load, and few need it

    return analysed(statement, dialect, columns, schema)


def placeholders_of(
    statement: str, dialect: DialectName, columns: Mapping[str, Mapping[str, str]], schema: str | None = None
) -> tuple[tuple[str, str] | None, ...]:
    """Table and column that each placeholder is compared with or stored in, in order of appearance; None where it is
    neither, or where that cannot be told. Never raises.
    """
    from dbpilot.sql.analysis import compared  # as above

    return compared(statement, dialect, columns, schema)


def filled(statement: str, dialect: DialectName, values: Sequence[Any]) -> str:
    """The statement with these values written where its placeholders are, one for each in order of appearance.

    A list stands for a list of values.

    Raises:
        ValueError: there are more or fewer placeholders than values, or the statement is too long.
    """
    from dbpilot.sql.literals import written_in  # as above

    return written_in(statement, dialect, values)
