"""The schema of a SQLite database without its rows, in memory: what its planner says there, it would say of the file.

What the application taught its own connections (functions, collations) is stood in for by the name: the planner needs
to know that they are there, and nothing is executed.
"""

import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    ClauseElement,
    Connection,
    Select,
    TableClause,
    column,
    literal_column,
    quoted_name,
    select,
    table,
)
from sqlalchemy.dialects import sqlite

from dbpilot.dialects.sqlite.explain import Line, lines_of
from dbpilot.dialects.sqlite.sample import Part

MAX_STUBS: Final = 50
"""Functions and collations of the application's own that one statement may name."""
NO_FUNCTION: Final = re.compile(
    r"no such function: (?P<name>.+)|wrong number of arguments to function (?P<other>.+)\(\)"
)
NO_COLLATION: Final = re.compile(r"no such collation sequence: (?P<name>.+)")
BINDINGS: Final = re.compile(r"current statement uses (\d+)")
VIRTUAL: Final = re.compile(r"\s*CREATE\s+VIRTUAL\s", re.IGNORECASE)
SHAPING: Final = ("foreign_keys", "automatic_index", "encoding", "page_size")
"""Settings of a connection or file that plans or sizes depend on."""
MASTER: Final = table("sqlite_master", *map(column, ("type", "name", "tbl_name", "sql", "rootpage")))
STATISTICS: Final = {
    "sqlite_stat1": ("tbl", "idx", "stat"),
    "sqlite_stat4": ("tbl", "idx", "neq", "nlt", "ndlt", "sample"),
}
ROWID_NAMES: Final = ("rowid", "_rowid_", "oid")
ORDER: Final = ("virtual", "table", "view", "index", "trigger")
"""A virtual table brings tables of its own, which must not be there before it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a schema."""

    kind: str
    name: str
    table: str
    sql: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """What a clone is made of."""

    entries: tuple[Entry, ...]
    settings: Mapping[str, Any]
    stat1: tuple[tuple[str, str | None, str], ...] = ()
    """Rows of sqlite_stat1: table, index, figures."""
    stat4: tuple[tuple[Any, ...], ...] = field(default=(), repr=False)
    """Rows of sqlite_stat4, which hold values of the application's."""


@dataclass(frozen=True, slots=True)
class Present:
    """An index that a table has."""

    name: str
    unique: bool
    is_constraint: bool
    """Whether it keeps a constraint true, and cannot be dropped."""
    is_key: bool
    """Whether it is the table's primary key."""
    is_partial: bool


def read_source(connection: Connection) -> Source:
    """The schema and its statistics as the file has them."""
    rows = connection.execute(select(MASTER.c.type, MASTER.c.name, MASTER.c.tbl_name, MASTER.c.sql)).all()
    entries = tuple(
        Entry("virtual" if sql and VIRTUAL.match(sql) else kind, name, table_, sql) for kind, name, table_, sql in rows
    )
    names = {entry.name for entry in entries}
    settings = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in SHAPING}
    return Source(entries, settings, *(_all(connection, name) if name in names else () for name in STATISTICS))


def _all(connection: Connection, name: str) -> tuple[Any, ...]:
    statistics = table(name, *map(column, STATISTICS[name]))
    return tuple(tuple(row) for row in connection.execute(select(statistics)))


class Clone:
    """Planned in and never filled; used by one thread."""

    def __init__(self, source: Source) -> None:
        """The schema is there, as far as this SQLite library can make it; see :attr:`missing`."""
        self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
        self._stubs: set[str] = set()
        self.missing: set[str] = set()
        """Names of what could not be made: virtual tables whose module the application loads."""
        for name, value in source.settings.items():
            self._connection.execute(f"PRAGMA {name} = '{value}'")
        for entry in sorted(source.entries, key=lambda entry: ORDER.index(entry.kind)):
            self._make(entry)
        self.execute("ANALYZE")  # makes the tables of statistics that this library knows
        self._keeps_samples = bool(self.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat4'"))
        self._stat4 = source.stat4
        self.page_size = int(source.settings["page_size"])

    def _make(self, entry: Entry) -> None:
        if entry.sql is None or entry.name.startswith("sqlite_"):
            return
        try:
            self.execute(entry.sql)
        except sqlite3.Error:
            if not self.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (entry.name,)):
                self.missing.add(entry.name)

    def execute(self, statement: str, parameters: Any = ()) -> list[Any]:
        """The rows answered; what the application's own functions and collations are called is learned on the way.

        Raises:
            sqlite3.Error: the statement makes no sense here.
        """
        for _ in range(MAX_STUBS):
            try:
                return self._connection.execute(statement, parameters).fetchall()
            except sqlite3.OperationalError as error:
                if not self._stand_in(str(error)):
                    raise
        raise sqlite3.OperationalError("too many functions of the application's own")

    def _stand_in(self, message: str) -> bool:
        """Whether it complains about something that is there from now on."""
        function, collation = NO_FUNCTION.fullmatch(message), NO_COLLATION.fullmatch(message)
        found = function or collation
        if found is None or message in self._stubs:
            return False
        self._stubs.add(message)
        if function:
            name = function["name"] or function["other"]
            self._connection.create_function(name, -1, _answer_nothing, deterministic=True)
        elif collation:
            self._connection.create_collation(collation["name"], _compare)
        return True

    def plan(self, statement: str, parameters: Any) -> tuple[Line, ...]:
        """How the statement would be answered; without parameters its placeholders are NULL.

        Raises:
            sqlite3.Error: it cannot be planned here.
        """
        asked = "EXPLAIN QUERY PLAN " + statement
        if parameters is not None:
            return lines_of(self.execute(asked, parameters))
        try:
            return lines_of(self.execute(asked))
        except sqlite3.ProgrammingError as error:
            wanted = BINDINGS.search(str(error))
            if wanted is None:
                raise
        try:
            return lines_of(self.execute(asked, _Open()))
        except sqlite3.ProgrammingError:  # they have no names
            return lines_of(self.execute(asked, (None,) * int(wanted[1])))

    def columns(self, table: str) -> tuple[str, ...]:
        """The names of a table's columns, hidden ones included."""
        return tuple(name for (name,) in self.execute("SELECT name FROM pragma_table_xinfo(?)", (table,)))

    def tables(self) -> frozenset[str]:
        """The names of the tables that are there."""
        return frozenset(name for (name,) in self.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))

    def indexes(self, table: str) -> tuple[Present, ...]:
        """The table's indexes, those of its constraints included."""
        found = self.execute('SELECT name, "unique", origin, partial FROM pragma_index_list(?)', (table,))
        return tuple(
            Present(name, bool(unique), origin != "c", origin == "pk", bool(partial))
            for name, unique, origin, partial in found
        )

    def parts(self, index: str) -> tuple[Part, ...]:
        """What the index's key holds; expressions without their text. What it carries to find the row is left out."""
        found = self.execute("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", (index,))
        return tuple(Part(name, None, collation) for name, collation in found)

    def carried(self, index: str) -> tuple[Part, ...]:
        """What the index finds the row by: the columns of the table's key that are not in its own; none for a rowid."""
        found = self.execute("SELECT name, coll FROM pragma_index_xinfo(?) WHERE NOT key ORDER BY seqno", (index,))
        return tuple(Part(name, None, collation) for name, collation in found if name is not None)

    def rowid_of(self, table: str) -> str | None:
        """What the table calls its rows' own number; None where it has none, or where columns took all its names."""
        taken = {name.lower() for name in self.columns(table)}
        for name in ROWID_NAMES:
            if name not in taken and self._answers(select(literal_column(name)).select_from(named(table))):
                return name
        return None

    def _answers(self, query: Select[Any]) -> bool:
        try:
            self.execute(said(query))
        except sqlite3.Error:
            return False
        return True

    def learn(self, rows: Iterable[tuple[str, str | None, str]]) -> None:
        """The planner knows these statistics, rows of sqlite_stat1, and no others."""
        self._connection.execute("BEGIN")
        self._connection.execute("DELETE FROM sqlite_stat1")
        self._connection.executemany("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", rows)
        if self._keeps_samples:
            self._connection.execute("DELETE FROM sqlite_stat4")
            self._connection.executemany("INSERT INTO sqlite_stat4 VALUES (?, ?, ?, ?, ?, ?)", self._stat4)
        self._connection.execute("COMMIT")
        self._connection.execute("ANALYZE sqlite_master")

    def close(self) -> None:
        """It is gone."""
        self._connection.close()


def named(table_name: str) -> TableClause:
    """The table of exactly this name."""
    return table(quoted_name(table_name, quote=True))


def said(clause: ClauseElement) -> str:
    """The clause in SQLite's words."""
    return str(clause.compile(dialect=sqlite.dialect()))


class _Open(dict[str, None]):
    """Every named placeholder is NULL."""

    def __missing__(self, name: str) -> None:
        return None


def _answer_nothing(*_: Any) -> None:
    """Never called: a plan executes nothing."""


def _compare(one: str, other: str) -> int:
    return (one > other) - (one < other)
