"""What is in a database: tables, columns with their statistics, indexes and foreign keys, as plain values.

Samples of values (common ones, bounds of histograms) are the application's data: they are used to estimate, live as
long as the catalogue does, and are neither stored nor shown.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Final, Literal, Protocol

from sqlalchemy import Connection

from dbpilot.sql.predicates import DialectName
from dbpilot.unsupported import Unsupported

Family = Literal[
    "integer", "decimal", "float", "boolean", "text", "binary", "date", "time", "datetime", "uuid", "json", "other"
]
"""What values of a column are, whatever a database calls the type."""

ConstraintKind = Literal["PRIMARY KEY", "UNIQUE", "EXCLUDE"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column, with what the database knows of its values."""

    name: str
    type: str
    """As the database writes it."""
    family: Family
    nullable: bool
    width: float | None = None
    """Bytes of a value on the average; of a type of fixed length, its length."""
    distinct: float | None = None
    """How many different values; None where the database keeps no statistics of this column."""
    nulls: float | None = None
    """The share of rows without a value."""
    correlation: float | None = None
    """How far the order of the values is that of the rows on disk, from -1 to 1."""
    collation: str | None = None
    """What its texts are compared by, be it the column's own or the database's."""
    case_insensitive: bool = False
    """Whether texts compare equal that differ in case only."""
    generated: bool = False
    common: tuple[tuple[Any, float], ...] = field(default=(), repr=False)
    """The most common values, each with its share of the rows."""
    bounds: tuple[Any, ...] = field(default=(), repr=False)
    """Values that cut the other rows into parts of equal size, in order."""


@dataclass(frozen=True, slots=True)
class Key:
    """One part of an index's key: a column, or an expression."""

    column: str | None
    expression: str | None = None
    """As the database writes it; None for a plain column."""
    descending: bool = False
    nulls_first: bool | None = None
    """None where it is as usual for this database and direction."""
    length: int | None = None
    """Of a key that holds only the first characters of a text; None for the whole."""
    collation: str | None = None
    """Where it is not the column's own."""
    opclass: str | None = None
    """PostgreSQL's operator class, where it is not the type's default."""

    @property
    def is_plain(self) -> bool:
        """Whether it holds the whole column in its own order of comparison; its direction may be any."""
        return self.column is not None and (self.length, self.collation, self.opclass) == (None, None, None)


@dataclass(frozen=True, slots=True)
class Index:
    """One index as the database has it."""

    name: str
    table: str
    keys: tuple[Key, ...]
    include: tuple[str, ...] = ()
    """Columns that it carries besides its key."""
    unique: bool = False
    constraint: ConstraintKind | None = None
    """What it keeps true."""
    method: str = "btree"
    where: str | None = None
    """The condition of a partial index, as the database writes it."""
    valid: bool = True
    """False for one whose build failed, or goes on."""
    ignored: bool = False
    """Whether the optimizer is told to leave it alone (MariaDB's IGNORED, MySQL's INVISIBLE)."""
    clustered: bool = False
    """Whether the table's rows lie in it."""
    nulls_distinct: bool = True
    size_bytes: int | None = None
    """Of a clustered one, with the rows."""
    bloat_bytes: int | None = None
    """How much of that is thought to be empty; None where the database cannot tell."""
    distinct: tuple[float | None, ...] = ()
    """How many different values the first key has, the first two together, and so on, as far as it is known."""
    uses: int | None = None
    """How often it was read since :attr:`Catalog.uses_since`; None where the database does not count that: nothing at
    all (see :attr:`Catalog.uses_unknown`), or rows only."""
    last_used: datetime | None = None
    rows_read: int | None = None
    """How many of its entries were read in that time; None where the database does not count."""
    needed_by: tuple[str, ...] = ()
    """What in the database rests on this very index, besides its constraint, in words."""
    definition: str | None = None
    """The statement that makes it anew: the undo of its removal; None where there is no such statement."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its key's columns; of an expression, its text."""
        return tuple(key.column or key.expression or "" for key in self.keys)

    @property
    def is_plain(self) -> bool:
        """Whether it is a B-tree of whole columns over all rows."""
        return self.method == "btree" and self.where is None and all(key.is_plain for key in self.keys)

    @property
    def is_used(self) -> bool | None:
        """Whether anything was read from it since the database began to count; None where it does not."""
        counts = [count for count in (self.uses, self.rows_read) if count is not None]
        return any(counts) if counts else None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A reference to another table, or the same one."""

    name: str | None
    table: str
    columns: tuple[str, ...]
    referred_table: str
    referred_columns: tuple[str, ...]
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"


@dataclass(frozen=True, slots=True)
class Changes:
    """How many rows were written since the database began to count."""

    inserted: int
    updated: int
    deleted: int


@dataclass(frozen=True)
class Table:
    """One table."""

    name: str
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    """Those of this table's columns to others."""
    rows: float = 0
    rows_exact: bool = False
    """Whether they were counted; otherwise it is the database's own estimate."""
    size_bytes: int | None = None
    """Of the rows, without indexes (but with a clustered one)."""
    index_bytes: int | None = None
    """Of all indexes together, but for a clustered one."""
    changes: Changes | None = None
    full_scans: int | None = None
    """How often the whole table was read, where the database counts that."""
    analyzed: bool = True
    """Whether there are statistics: without them every estimate is a guess."""
    without_rowid: bool = False
    """SQLite's WITHOUT ROWID: the primary key is the table."""

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """The columns by their names."""
        return {column.name: column for column in self.columns}

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Its columns; empty where there is none."""
        found = (index.columns for index in self.indexes if index.constraint == "PRIMARY KEY")
        return next(found, ())


@dataclass(frozen=True)
class Catalog:
    """All tables of one database or schema, as they were at one moment."""

    dialect: DialectName
    """SQLAlchemy's name of the dialect, ``mariadb`` told apart from ``mysql``."""
    version: tuple[int, ...]
    schema: str | None
    """The schema (PostgreSQL) or database (MariaDB/MySQL) that was read; None where there is only one."""
    tables: Mapping[str, Table]
    uses_since: datetime | None = None
    """Since when uses are counted, where it is known."""
    uses_unknown: Unsupported | None = None
    """Why uses of indexes are not known."""
    notes: tuple[Unsupported, ...] = ()
    """What else this database does not tell, and what would change that."""

    @cached_property
    def referring(self) -> Mapping[str, tuple[ForeignKey, ...]]:
        """The foreign keys that refer to each table."""
        found: dict[str, tuple[ForeignKey, ...]] = {}
        for table in self.tables.values():
            for key in table.foreign_keys:
                found[key.referred_table] = (*found.get(key.referred_table, ()), key)
        return found

    @cached_property
    def columns(self) -> Mapping[str, Mapping[str, str]]:
        """Types by column by table, as a parser wants to know them."""
        return {name: {column.name: column.type for column in table.columns} for name, table in self.tables.items()}


class ReadsCatalog(Protocol):
    """A dialect's way to read its catalogue."""

    def __call__(
        self, connection: Connection, schema: str | None = None, tables: Collection[str] | None = None
    ) -> Catalog:
        """What is in a schema, by default the connection's own; of these tables only, where they are named.

        Reads no table of the application, but for SQLite in a file of bounded size. What this user may not read is
        left open, and a note tells.
        """


class SamplesTable(Protocol):
    """A dialect's way to learn from rows what no statistics tell."""

    def __call__(
        self, connection: Connection, table: Table, rows: int = 10_000, schema: str | None = None
    ) -> Mapping[str, Column]:
        """All columns of the table, those without statistics with what about so many of its rows tell of them."""


MIN_ROWS: Final = 1000
"""A smaller table is read as fast as any index of it."""
