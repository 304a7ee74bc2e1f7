"""The application's tables in a schema of our own: a part of their rows, and what the server knows of them.

Nothing of it is in the application's schema, whose tables are read, without a lock on any row, and nothing else.
"""

import math
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, quoted_name, text
from sqlalchemy.exc import DBAPIError

from dbpilot.dialects.catalog import Key
from dbpilot.dialects.mysql import innodb
from dbpilot.dialects.mysql.innodb import Statistics
from dbpilot.dialects.mysql.scratch import DENIED, LEFT_BEHIND_S, NAMES, PREFIX, number_of
from dbpilot.dialects.mysql.size import Measured
from dbpilot.dialects.whatif import NewIndex
from dbpilot.unsupported import Unsupported

MOST_KEYS: Final = 64
"""As many indexes InnoDB has on one table."""
FEW_CHARACTERS: Final = 255
KEPT_CHARACTERS: Final = 64
"""Longer texts are cut to so much: no index holds more of them."""
LONG_TYPES: Final = frozenset("tinytext text mediumtext longtext tinyblob blob mediumblob longblob".split())
INTEGERS: Final = frozenset("tinyint smallint mediumint int bigint".split())
SEED: Final = 7
"""The same rows are drawn each time, as far as they are the same."""
BLOCKS: Final = 200
"""Of a large table so many runs of neighbours are read, from all over its key."""
LOCK_WAIT_S: Final = 2

TOO_MANY: Final = 1069
"""The server's number for a table that has as many indexes as it can."""
TOO_SLOW: Final = frozenset({1205, 1969, 3024})
"""The server's numbers for a statement that took, or waited, longer than it may."""

TABLE: Final = text(
    """SELECT ENGINE, TABLE_ROWS, DATA_LENGTH, CREATE_OPTIONS FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = :schema AND TABLE_NAME = :table AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')"""
)
COLUMNS: Final = text(
    """SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, IS_NULLABLE FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = :schema AND TABLE_NAME = :table AND COALESCE(GENERATION_EXPRESSION, '') = ''
    ORDER BY ORDINAL_POSITION"""
)
KEYS: Final = text(
    """SELECT INDEX_NAME, NON_UNIQUE, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS
    WHERE TABLE_SCHEMA = :schema AND TABLE_NAME = :table ORDER BY INDEX_NAME, SEQ_IN_INDEX"""
)


@dataclass(frozen=True, slots=True)
class Copying:
    """How much of each table is copied at the most, and how long each statement may take that does it."""

    rows: int = 50_000
    rows_without_statistics: int = 1_000_000
    """Where the server cannot be told of the whole table's statistics: then only a whole copy is planned like it."""
    bytes: int = 64 * 2**20
    scanned_rows: int = 2_000_000
    """A larger table is not read as a whole to draw a sample from it."""
    statement_s: float = 10.0
    left_behind_s: float = LEFT_BEHIND_S


@dataclass(frozen=True, slots=True)
class Filled:
    """A column that is filled in a copy."""

    name: str
    type: str
    characters: int | None
    nullable: bool


@dataclass(slots=True)
class Copy:
    """A table of the application's, and what there is of it in the shadow."""

    name: str
    columns: tuple[Filled, ...]
    uniques: tuple[tuple[str, ...], ...]
    """Columns that no two rows have in common."""
    primary: tuple[str, ...]
    present: Mapping[str, frozenset[str]]
    """The columns that are whole in each index of the application's table, by its name."""
    share: float = 1.0
    """How much of its rows was copied."""
    known: Mapping[frozenset[str], float] = field(default_factory=dict)
    """How many different values columns have together in the whole table, as far as its indexes tell."""
    statistics: Statistics | None = None
    """What the server is told of the copy; None where it finds out by itself."""
    built: dict[NewIndex, str] = field(default_factory=dict)
    """The new indexes that the copy has, with their names; the one that was asked for last at the end."""

    def alike(self, index: str, parts: int) -> float | None:
        """How many rows have the same values in so many of an index's first columns, on the average."""
        name = f"{innodb.DISTINCT}{parts:02}"
        if self.statistics is None:
            return None
        found = (one.value for one in self.statistics.figures if (one.index, one.name) == (index, name))
        return next((self.statistics.rows / max(values, 1.0) for values in found), None)

    def columns_of(self, index: str) -> frozenset[str]:
        """The columns that are in an index of the copy: InnoDB adds the primary key to each."""
        built = (frozenset((*new.columns, *new.include)) for new, name in self.built.items() if name == index)
        return (self.present.get(index) or next(built, frozenset())) | frozenset(self.primary)

    @property
    def whole_rows(self) -> float:
        """How many rows the application's table has, where that is known."""
        return self.statistics.rows if self.statistics is not None else math.inf

    def cuts(self, column: Filled) -> bool:
        """Whether the values of this column are cut."""
        if any(column.name in unique for unique in self.uniques):
            return False
        return column.type in LONG_TYPES or (column.characters or 0) > FEW_CHARACTERS


class Shadow:
    """The schema, and what is in it; used by one thread, on one connection."""

    def __init__(self, connection: Connection, schema: str, name: str, copying: Copying) -> None:
        self._connection = connection
        self._schema = schema
        self._copying = copying
        self._folded = bool(connection.execute(text("SELECT @@lower_case_table_names")).scalar_one())
        self._page = int(connection.execute(text("SELECT @@innodb_page_size")).scalar_one())
        self._tables: dict[str, Copy | Unsupported] = {}
        self._impossible: dict[NewIndex, Unsupported] = {}
        self._fetched: set[tuple[Any, ...]] = set()
        self._measured: dict[str, Mapping[str, Measured]] = {}
        self._numbers = 0
        self.name = name
        self.writes_statistics = _may_write_statistics(connection, name)

    def quote(self, name: str) -> str:
        """The name as the server reads it."""
        return NAMES.quote_identifier(name)

    def folded(self, table: str) -> str:
        """The table's name as the server compares it."""
        return table.lower() if self._folded else table

    def copy(self, table: str) -> Copy | Unsupported:
        """What there is of the table; copied when it is asked for first."""
        name = self.folded(table)
        if name not in self._tables:
            try:
                self._tables[name] = self._copied(name)
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
                self._tables[name] = _refused(f"{name} cannot be copied", error)
        return self._tables[name]

    def _copied(self, name: str) -> Copy | Unsupported:
        named = {"schema": self._schema, "table": name}
        found = self._connection.execute(TABLE, named).one_or_none()
        if found is None:
            return Unsupported(f"{name} is no table of {self._schema}", "ask about its tables, rather than about views")
        copy = self._described(name)
        self._say("CREATE TABLE", (self.name, name), "LIKE", (self._schema, name))
        is_plain = found.ENGINE == "InnoDB" and "partitioned" not in (found.CREATE_OPTIONS or "")
        whole = innodb.read(self._connection, self._schema, name) if is_plain and self.writes_statistics else None
        if is_plain:
            self._say("ALTER TABLE", (self.name, name), "STATS_PERSISTENT = 1, STATS_AUTO_RECALC = 0")
        rows = whole.rows if whole is not None else float(found.TABLE_ROWS or 0)
        size = whole.clustered_pages * self._page if whole is not None else float(found.DATA_LENGTH or 0)
        copy.share = min(1.0, max(self._fill(copy, rows, size), 1.0 / max(rows, 1.0)))
        if whole is None:
            self._say("ANALYZE LOCAL TABLE", (self.name, name))
        else:
            copy.known, copy.statistics = whole.distinct, whole
            self._tell(copy)
        return copy

    def _described(self, name: str) -> Copy:
        named = {"schema": self._schema, "table": name}
        columns = tuple(
            Filled(column, type_, characters, nullable == "YES")
            for column, type_, characters, nullable in self._connection.execute(COLUMNS, named)
        )
        keys: dict[str, list[sa.Row[Any]]] = {}
        for key in self._connection.execute(KEYS, named):
            keys.setdefault(key.INDEX_NAME, []).append(key)
        uniques = {
            name: tuple(part.COLUMN_NAME for part in parts)
            for name, parts in keys.items()
            if not int(parts[0].NON_UNIQUE) and all(part.COLUMN_NAME and part.SUB_PART is None for part in parts)
        }
        present = {
            name: frozenset(part.COLUMN_NAME for part in parts if part.COLUMN_NAME and part.SUB_PART is None)
            for name, parts in keys.items()
        }
        return Copy(name, columns, tuple(uniques.values()), uniques.get("PRIMARY", ()), present)

    def _fill(self, copy: Copy, rows: float, size: float) -> float:
        """The copy has rows; returns how much of all that is."""
        fit = round(self._copying.bytes / max(size / max(rows, 1.0), 1.0))
        wanted = self._copying.rows if self.writes_statistics else self._copying.rows_without_statistics
        most = max(1, min(wanted, fit))
        with self._settled():
            try:
                return self._drawn(copy, rows, most)
            except DBAPIError as error:
                if number_of(error) not in TOO_SLOW:
                    raise
                return self._insert(copy, self._selected(copy).limit(max(1, most // 10))) / max(rows, 1.0)

    def _drawn(self, copy: Copy, rows: float, most: int) -> float:
        select = self._selected(copy)
        if rows <= most:
            # Its statistics may be old, and the table large: what is more than twice as many is not copied.
            copied = self._insert(copy, select.limit(2 * most))
            return 1.0 if copied < 2 * most else copied / max(rows, copied + 1.0)
        if rows <= self._copying.scanned_rows:
            self._insert(copy, select.where(sa.func.rand(SEED) < most / rows).limit(2 * most))
            return most / rows
        return self._in_blocks(copy, select, most) / rows

    def _in_blocks(self, copy: Copy, select: sa.Select[Any], most: int) -> int:
        """Runs of neighbours are copied, from all over the key; from its beginning where it is no number."""
        types = {column.name: column.type for column in copy.columns}
        if not copy.primary or types.get(copy.primary[0]) not in INTEGERS:
            return self._insert(copy, select.limit(most))
        key = _column(copy.primary[0])
        low, high = self._connection.execute(select.with_only_columns(sa.func.min(key), sa.func.max(key))).one()
        if low is None:
            return 0
        starts = [low + (high - low) * place // BLOCKS for place in range(BLOCKS)]
        runs = (select.where(key >= start).order_by(key).limit(max(1, most // BLOCKS)) for start in starts)
        return sum(self._insert(copy, run) for run in runs)

    def _selected(self, copy: Copy) -> sa.Select[Any]:
        values = (self._value(copy, column) for column in copy.columns)
        return sa.select(*values).select_from(_relation(self._schema, copy))

    def _value(self, copy: Copy, column: Filled) -> sa.ColumnElement[Any]:
        name = _column(column.name)
        if column.type == "json":  # MySQL's own type, of which nothing can be cut off
            return sa.null() if column.nullable else sa.literal("{}")
        return sa.func.left(name, KEPT_CHARACTERS) if copy.cuts(column) else name

    def _insert(self, copy: Copy, select: sa.Select[Any]) -> int:
        names = [column.name for column in copy.columns]
        insert = sa.insert(_relation(self.name, copy)).prefix_with("IGNORE").from_select(names, select)
        return int(self._connection.execute(insert).rowcount)

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """What the application's own settings allowed is copied as it is; they hold again afterwards."""
        mode = self._connection.execute(text("SELECT @@sql_mode")).scalar_one()
        self._connection.execute(text("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'"))
        try:
            yield
        finally:
            if not self._connection.invalidated:
                self._connection.execute(text("SET SESSION sql_mode = :mode"), {"mode": mode})

    # What the server is told of a copy, it reads when the copy's name changes.

    def _tell(self, copy: Copy) -> None:
        if copy.statistics is not None:
            innodb.write(self._connection, self.name, copy.name, copy.statistics)
            here, there = (self.name, copy.name), (self.name, self._next_name())
            self._say("RENAME TABLE", here, "TO", there)
            self._say("RENAME TABLE", there, "TO", here)

    def fetch(self, copy: Copy, equal: Mapping[str, Any]) -> None:
        """The row with these values is among those that were copied, where at most one has them.

        The server reads such a row while it plans, and plans nothing where there is none.
        """
        for unique in copy.uniques if copy.share < 1.0 else ():
            values = tuple(equal.get(column) for column in unique)
            if not all(isinstance(value, Hashable) and value is not None for value in values):
                continue
            if (copy.name, unique, values) in self._fetched:
                continue
            self._fetched.add((copy.name, unique, values))
            named = zip(unique, values, strict=True)
            where = [_column(column) == value for column, value in named]
            with self._settled():
                self._try(copy, self._selected(copy).where(*where).limit(1))

    def _try(self, copy: Copy, select: sa.Select[Any]) -> None:
        """The rows are copied, unless the server makes nothing of the values in the statement."""
        try:
            self._insert(copy, select)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise

    # -- new indexes

    def build(self, copy: Copy, indexes: Collection[NewIndex]) -> Unsupported | None:
        """The copy has these indexes; otherwise, why there is no such index."""
        for index in indexes:
            if index in copy.built:
                copy.built[index] = copy.built.pop(index)
            elif index in self._impossible:
                return self._impossible[index]
        missing = [index for index in indexes if index not in copy.built]
        if not missing:
            return None
        self._make_room(copy, len(missing), indexes)
        refused = self._add(copy, missing)
        if refused is not None and len(missing) > 1:
            found = [self._add(copy, [index]) for index in missing]
            refused = next((one for one in found if one is not None), None)
        if copy.statistics is not None:
            self._tell(copy)
        return refused

    def _make_room(self, copy: Copy, wanted: int, kept: Collection[NewIndex]) -> None:
        too_many = len(copy.present) + len(copy.built) + wanted - MOST_KEYS
        for index in [index for index in copy.built if index not in kept][: max(0, too_many)]:
            name = copy.built.pop(index)
            self._say("ALTER TABLE", (self.name, copy.name), f"DROP INDEX {self.quote(name)}")
            if copy.statistics is not None:
                copy.statistics = copy.statistics.without(name)

    def _add(self, copy: Copy, indexes: Sequence[NewIndex]) -> Unsupported | None:
        names = {index: self._next_name() for index in indexes}
        added = ", ".join(
            f"ADD {'UNIQUE ' if index.unique else ''}INDEX {self.quote(name)} ({self._keys(index)})"
            for index, name in names.items()
        )
        try:
            self._say("ALTER TABLE", (self.name, copy.name), added)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            refused = _refused("the server does not build such an index", error)
            if len(indexes) == 1 and number_of(error) != TOO_MANY:
                self._impossible[indexes[0]] = refused
            return refused
        copy.built |= names
        if copy.statistics is not None:
            copy.statistics = self._counted(copy, copy.statistics, names)
        return None

    def _next_name(self) -> str:
        self._numbers += 1
        return f"{PREFIX}{self._numbers}"

    def _keys(self, index: NewIndex) -> str:
        keys = (*index.keys, *(Key(column) for column in index.include))
        return ", ".join(self._key(key) for key in keys)

    def _key(self, key: Key) -> str:
        held = self.quote(key.column) if key.column is not None else f"({key.expression})"
        return f"{held}{f'({int(key.length)})' if key.length else ''}{' DESC' if key.descending else ''}"

    def _counted(self, copy: Copy, statistics: Statistics, names: Mapping[NewIndex, str]) -> Statistics:
        """The statistics with what the server counted of new indexes, corrected for what was not copied."""
        found = innodb.read(self._connection, self.name, copy.name)
        for index, name in names.items():
            figures = [figure for figure in (found.figures if found else ()) if figure.index == name]
            columns = [*index.columns, *index.include]
            prefixes = [tuple(columns[: place + 1]) for place in range(len(columns))] if copy.share < 1.0 else []
            distinct = {prefix: self._distinct(copy, prefix) for prefix in prefixes}
            statistics = innodb.with_index(statistics, figures, distinct, copy.share)
        return statistics

    def _distinct(self, copy: Copy, columns: Sequence[str]) -> float:
        """How many different values these columns have together in the whole table."""
        known = copy.known.get(frozenset(columns))
        return known if known is not None else self._estimated(copy, columns)

    def _estimated(self, copy: Copy, columns: Sequence[str]) -> float:
        """By the estimator Duj1 (Haas and Stokes: Estimating the number of classes in a finite population, JASA 1998)
        from how many values the copy has, and how many of them once."""
        keys = [_column(name) for name in columns]
        groups = (
            sa.select(sa.func.count().label("n")).select_from(_relation(self.name, copy)).group_by(*keys).subquery()
        )
        once = sa.func.sum(sa.case((groups.c.n == 1, 1), else_=0))
        select = sa.select(sa.func.count(), once, sa.func.sum(groups.c.n))
        values, single, rows = (float(one or 0) for one in self._connection.execute(select).one())
        left = rows - single + single * copy.share
        return rows * values / left if left else rows / copy.share

    def measured(self, copy: Copy) -> Mapping[str, Measured]:
        """What the copy tells of how long the values of each column are."""
        if copy.name not in self._measured:
            names = [column.name for column in copy.columns]
            values = [sa.func.avg(sa.func.length(_column(name))) for name in names]
            counts = [sa.func.count(_column(name)) for name in names]
            select = sa.select(sa.func.count(), *values, *counts).select_from(_relation(self.name, copy))
            rows, *found = self._connection.execute(select).one()
            self._measured[copy.name] = {
                name: Measured(float(width), count / rows)
                for name, width, count in zip(names, found[: len(names)], found[len(names) :], strict=True)
                if width is not None
            }
        return self._measured[copy.name]

    def _say(self, *parts: str | tuple[str, str]) -> None:
        """The statement of these words and tables is executed."""
        said = (part if isinstance(part, str) else f"{self.quote(part[0])}.{self.quote(part[1])}" for part in parts)
        answer = self._connection.exec_driver_sql(" ".join(said), None, execution_options={"no_parameters": True})
        answer.close()


def _column(name: str) -> sa.ColumnClause[Any]:
    return sa.column(quoted_name(name, quote=True))


def _relation(schema: str, copy: Copy) -> sa.TableClause:
    columns = (_column(column.name) for column in copy.columns)
    return sa.table(quoted_name(copy.name, quote=True), *columns, schema=quoted_name(schema, quote=True))


def _refused(what: str, error: DBAPIError) -> Unsupported:
    number = number_of(error)
    if number in DENIED:
        return Unsupported(f"{what}: this user may not", "GRANT SELECT on the tables that are asked about to this user")
    return Unsupported(f"{what}: error {number}", "ask about other tables or indexes")


def _may_write_statistics(connection: Connection, name: str) -> bool:
    try:
        innodb.write(connection, name, "tried", Statistics(0, 1, 0, ()))
        innodb.forget(connection, name, "tried")
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return False
    return True
