"""SQLite's what-if: its own planner, asked about a clone of the schema that has the file's statistics and no rows.

The file is read, a few thousand rows at a time, and never written. What a new index's statistics would be is estimated
from rows drawn at random; tables that were never analysed are treated as if they had been, for whoever makes an index
here has ANALYZE run afterwards. The planner looks at the statement's values only for LIKE and partial indexes (and for
everything where it was built with STAT4, which is rare), so that placeholders may stay open.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Column as SqlColumn
from sqlalchemy import ColumnElement, Connection, Engine, MetaData, literal_column, quoted_name
from sqlalchemy import Index as SqlIndex
from sqlalchemy import Table as SqlTable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, DropIndex

from dbpilot.dialects.catalog import Catalog, Key
from dbpilot.dialects.sqlite.clone import Clone, read_source, said
from dbpilot.dialects.sqlite.cost import Asked, cost_of
from dbpilot.dialects.sqlite.explain import STEP, Line, tree_of
from dbpilot.dialects.sqlite.sample import Sampler
from dbpilot.dialects.sqlite.statistics import Figures
from dbpilot.dialects.whatif import Cost, Grade, NewIndex, Query
from dbpilot.errors import RefusedError, WatchedDatabaseError
from dbpilot.sql.fingerprint import operation_of, pattern_tokens
from dbpilot.sql.predicates import TableUse, predicates_of
from dbpilot.sql.syntax import SQLITE
from dbpilot.sql.tables import tables_of
from dbpilot.unsupported import Unsupported

PLANNED: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE"})
NEW: Final = "dbpilot_new_"
DEFAULT_LIMIT: Final = 100.0
"""Rows that a LIMIT is thought to ask for when it does not say how many."""
ROWID_KEY: Final = "INTEGER PRIMARY KEY"
WORDS: Final = frozenset({"BETWEEN", "LIKE", "GLOB"})
BOUNDING: Final = {"<": "<", "<=": "<", ">": ">", ">=": ">", **dict.fromkeys(WORDS, "<>")}
"""Which sides of a column an operator after it bounds."""
OPPOSITE: Final = {"<": ">", ">": "<"}
QUOTES: Final = '"`[]'
FOR_IN: Final = re.compile(r"USING INDEX (?P<index>.+) FOR IN-OPERATOR")
PLAIN: Final = re.compile(r"[a-z ]+")
LIMIT: Final = re.compile(r"\bLIMIT\s+(\d+)\s*(?:(?:,|OFFSET)\s*(\d+)\s*)?;?\s*\Z", re.IGNORECASE)


@contextmanager
def open_what_if(engine: Engine, catalog: Catalog) -> Iterator["SqliteWhatIf"]:
    """Answers for the database as it is now; see :class:`dbpilot.dialects.whatif.OpensWhatIf`."""
    with reading(), engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        what_if = SqliteWhatIf(connection, catalog)
        try:
            yield what_if
        finally:
            what_if.close()


@contextmanager
def reading() -> Iterator[None]:
    """Errors of the file are told without their words, which may repeat values."""
    try:
        yield
    except DBAPIError as error:
        raise WatchedDatabaseError(f"the watched database: {type(error.orig).__name__}") from None


class SqliteWhatIf:
    """See :class:`dbpilot.dialects.whatif.WhatIf`."""

    grade: Grade = "what-if"
    method = (
        "SQLite's planner on an empty copy of the schema with the file's statistics; those of new indexes are "
        "estimated from a sample of rows, and costs from the plan's steps"
    )

    def __init__(self, connection: Connection, catalog: Catalog) -> None:
        self.calls = 0
        source = read_source(connection)
        connection.rollback()
        self._clone = Clone(source)
        self._figures = Figures(self._clone, Sampler(connection, self._clone.rowid_of), catalog, source.stat1)
        self._catalog = catalog
        self._tables = {name.lower(): name for name in self._clone.tables()}
        self._views = {entry.name.lower(): entry.sql or "" for entry in source.entries if entry.kind == "view"}
        self._present = {f"{entry.table}.{entry.name}": entry for entry in source.entries if entry.kind == "index"}
        self._full_names = {entry.name: name for name, entry in self._present.items()}
        self._new: dict[NewIndex, str] = {}
        self._count = 0
        self._gone: frozenset[str] = frozenset()
        self._asked: dict[str, Asked] = {}

    def cost(self, query: Query, indexes: Iterable[NewIndex] = (), without: Iterable[str] = ()) -> Cost | Unsupported:
        wanted = frozenset(without)
        refusal = self._why_not(query, wanted)
        if refusal is not None:
            return refusal
        try:
            with reading():
                self._arrange(frozenset(indexes), wanted)
                asked = self._asked_of(query.statement)
            if self._figures.is_new:
                self._clone.learn(self._figures.texts())
            self.calls += 1
            lines = self._clone.plan(query.statement, query.parameters)
        except sqlite3.Error as error:
            return self._failure(query, error)
        with reading():
            return self._answer(lines, asked, cost_of(lines, asked, self._figures))

    def size_bytes(self, index: NewIndex) -> float:
        try:
            with reading():
                self._arrange(frozenset({*self._new, index}), self._gone)
                return self._figures.size_bytes(index, self._new[index])
        except sqlite3.Error as error:
            raise RefusedError(f"SQLite cannot make that index: {kind_of(error)}") from None

    def close(self) -> None:
        """The clone is gone; in the file nothing was changed."""
        self._clone.close()

    def _why_not(self, query: Query, without: Set[str]) -> Unsupported | None:
        """Why there can be no answer; None where there can."""
        if operation_of(pattern_tokens(query.statement, SQLITE)) not in PLANNED:
            return Unsupported("it neither reads nor changes rows", "ask about SELECT, INSERT, UPDATE or DELETE")
        for name in without:
            entry = self._present.get(name)
            if entry is None and not name.endswith(f".{ROWID_KEY}"):
                return Unsupported(f"there is no index {name}", "read the catalogue again")
            if entry is None or entry.sql is None:
                return Unsupported(f"{name} keeps a constraint", "drop the constraint by making the table anew")
        return None

    def _arrange(self, indexes: Set[NewIndex], without: Set[str]) -> None:
        """The clone has these new indexes, and all present ones but those."""
        for index in self._new.keys() - indexes:
            self._drop_new(index)
        for name in self._gone - without:
            self._clone.execute(str(self._present[name].sql))
            self._figures.is_new = True  # it comes back without
        for name in without - self._gone:
            self._drop(self._present[name].name)
        self._gone = frozenset(without)
        for index in sorted(indexes - self._new.keys(), key=repr):
            self._make(index)

    def _make(self, index: NewIndex) -> None:
        self._count += 1
        name = f"{NEW}{self._count}"
        self._clone.execute(said(CreateIndex(_sql_index(index, name))))
        self._new[index] = name
        try:
            self._figures.study_new(index, name)
        except DBAPIError:  # an index without figures must not stay: nobody would look for them again
            self._drop_new(index)
            raise

    def _drop_new(self, index: NewIndex) -> None:
        name = self._new.pop(index)
        self._drop(name)
        self._figures.forget(index.table, name)

    def _drop(self, name: str) -> None:
        self._clone.execute(said(DropIndex(SqlIndex(quoted_name(name, quote=True)))))

    def _asked_of(self, statement: str) -> Asked:
        """What the model has to know of the statement; its tables have figures."""
        asked = self._asked.get(statement)
        if asked is None:
            tokens = pattern_tokens(statement, SQLITE)
            for table in self._named(tokens):
                self._figures.study(table)
            uses = self._uses(statement)
            for use in uses.values():
                self._figures.count(use.table, [*use.equal, *(join.column for join in use.joins)])
            tables = {**aliases_of(tokens, self._tables), **{name: use.table for name, use in uses.items()}}
            asked = Asked(tables, uses, bounds_of(tokens), limit_of(statement, tokens))
            self._asked[statement] = asked
        return asked

    def _named(self, tokens: Sequence[str], views: frozenset[str] = frozenset()) -> Iterator[str]:
        """The tables that a statement reads or writes, those behind views included."""
        for name in tables_of(tokens):
            plain = name.rpartition(".")[2].lower()
            if plain in self._tables:
                yield self._tables[plain]
            elif plain in self._views and plain not in views:
                yield from self._named(pattern_tokens(self._views[plain], SQLITE), views | {plain})

    def _uses(self, statement: str) -> dict[str, TableUse]:
        """What it asks of its tables, by the names it gives them; nothing where it cannot be read."""
        predicates = predicates_of(statement, "sqlite", self._catalog.columns)
        return {use.alias.lower(): use for use in predicates.uses} if predicates is not None else {}

    def _answer(self, lines: Sequence[Line], asked: Asked, total: float) -> Cost:
        steps = [step for first in lines for line in first.walk() if (step := step_of(line.detail)) is not None]
        names = {step["index"] for step in steps}
        used = frozenset(index for index, name in self._new.items() if name in names)
        present = {self._full_names[name] for name in names if name in self._full_names}
        keys = {self._key_of(asked.table(step["table"])) for step in steps if step.groupdict().get("key")}
        return Cost(total, used, frozenset(present | keys), tree_of(lines))

    def _key_of(self, table: str) -> str:
        """What the catalogue calls the key that the table lies in."""
        if self._clone.rowid_of(table) is not None:
            return f"{table}.{ROWID_KEY}"
        own = (index.name for index in self._clone.indexes(table) if index.is_key)
        return f"{table}.{next(own, ROWID_KEY)}"

    def _failure(self, query: Query, error: sqlite3.Error) -> Unsupported:
        tokens = pattern_tokens(query.statement, SQLITE)
        missing = [name for name in tables_of(tokens) if name.rpartition(".")[2] in self._clone.missing]
        if missing:
            return Unsupported(f"{missing[0]} cannot be made here", "a virtual table needs its module: leave it out")
        return Unsupported(f"SQLite cannot plan it here: {kind_of(error)}", "ask about a statement of this database")


def _sql_index(index: NewIndex, name: str) -> SqlIndex:
    """SQLite's indexes carry nothing but their key: what is to be included comes last in it."""
    keys = (*index.keys, *map(Key, index.include))
    names = dict.fromkeys(key.column for key in keys if key.column is not None)
    columns: dict[str | None, SqlColumn[Any]] = {column: SqlColumn(quoted_name(column, quote=True)) for column in names}
    made = SqlIndex(quoted_name(name, quote=True), *(_sql_key(key, columns) for key in keys), unique=index.unique)
    SqlTable(quoted_name(index.table, quote=True), MetaData(), *columns.values(), made)
    return made


def _sql_key(key: Key, columns: Mapping[str | None, SqlColumn[Any]]) -> ColumnElement[Any]:
    found: ColumnElement[Any] = literal_column(f"({key.expression})") if key.column is None else columns[key.column]
    if key.collation is not None:
        found = found.collate(key.collation)
    return found.desc() if key.descending else found


def step_of(detail: str) -> re.Match[str] | None:
    """The step of a plan that reads a table or an index; None for other lines."""
    return STEP.fullmatch(detail) or FOR_IN.fullmatch(detail)


def aliases_of(tokens: Sequence[str], tables: Mapping[str, str]) -> dict[str, str]:
    """Tables by the names that a statement gives them; ``tables`` are by their own names in lower case."""
    found = {}
    for token, *after in zip(tokens, tokens[1:], [*tokens[2:], ""], strict=False):
        table = tables.get(plain_name(token))
        if table is not None:
            alias = after[1] if after[0] == "AS" else after[0]
            if alias[:1].isalpha() or alias[:1] in QUOTES:
                found[plain_name(alias)] = table
    return found


def bounds_of(tokens: Sequence[str]) -> dict[str, int]:
    """How many bounds a statement puts to columns, at the most two, by their names in lower case."""
    found: dict[str, set[str]] = {}
    for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False):
        sides = found.setdefault(plain_name(token), set())
        if after in BOUNDING:
            sides.update(BOUNDING[after])
        if before in BOUNDING and before not in WORDS:
            sides.update(OPPOSITE[side] for side in BOUNDING[before])
    return {name: len(sides) for name, sides in found.items() if sides}


def plain_name(token: str) -> str:
    """A name in lower case, without quotation marks and schema."""
    return token.rpartition(".")[2].strip(QUOTES).lower()


def limit_of(statement: str, tokens: Sequence[str]) -> float | None:
    """Rows after which the statement stops; None where it has no LIMIT of its own."""
    written = LIMIT.search(statement)
    if written is not None:
        return float(sum(int(number) for number in written.groups() if number)) or 1.0
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if token == "LIMIT" and depth == 0:
            return DEFAULT_LIMIT
    return None


def kind_of(error: sqlite3.Error) -> str:
    """What an error is about, without the words of the statement that SQLite repeats."""
    words = str(error).partition(":")[0]
    return "syntax error" if words.startswith(("near ", "unrecognized ")) or not PLAIN.fullmatch(words) else words
