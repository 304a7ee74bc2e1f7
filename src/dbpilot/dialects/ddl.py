"""How indexes are made and taken away while the application reads and writes: every database has statements of its own
for that, and its own ways to hold others up."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.compiler import compiles

from dbpilot.dialects.catalog import Key
from dbpilot.dialects.whatif import NewIndex
from dbpilot.unsupported import Unsupported

FORMATTED: Final = frozenset({"format", "pyformat"})
"""Styles of parameters under which SQLAlchemy writes each percent sign twice."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
SPACE: Final = 2.0
"""How many times its size an index wants while it is built: itself, and what is sorted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When an index is not touched, because others would suffer; None for never minded."""

    oldest_transaction_s: float | None = 60.0
    """An open transaction of this age holds a build up for as long as it goes on, or is held up behind it."""
    lag_s: float | None = 10.0
    """A replica that is so far behind gets no more to do."""
    lock_waits: int | None = 5
    """So many statements that wait for locks are trouble enough."""


@dataclass(frozen=True, slots=True)
class Hindrances:
    """Why an index should not be touched now."""

    reasons: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """What could not be looked at, and why."""


@dataclass(frozen=True, slots=True)
class Look:
    """A statement at work, seen from another connection."""

    phase: str
    """In the database's own words; they hold no values."""
    done: float | None = None
    """The share of the phase that is done, from 0 to 1; None where the database does not tell."""
    holds_up: bool = False
    """Whether it waits for a lock, and others wait behind it."""
    statement: int | None = None
    """Which of its connection's statements it is, where the database numbers them."""


class Ddl(Protocol):
    """One database's statements, and what is known of them while they run."""

    passing: frozenset[str]
    """Codes of errors that mean: not now, but perhaps the next time."""
    interrupted: frozenset[str]
    """Codes of a statement that somebody ended."""
    taken: frozenset[str]
    """Codes of: there is an index of this name already."""
    poll_s: float
    """How often a look at a running statement is worth its price."""
    transactional: bool
    """Whether an index is made as a whole or not at all, whatever happens."""

    def hides(self, dialect: sa.Dialect) -> Unsupported | None:
        """None where an index can be hidden from the optimizer and shown again at once."""

    def create(self, dialect: sa.Dialect, index: sa.Index, *, hidden: bool) -> str:
        """The statement that makes the index while others write."""

    def again(self, dialect: sa.Dialect, definition: str) -> str:
        """The statement that makes an index anew from its definition while others write."""

    def drop(self, dialect: sa.Dialect, index: sa.Index) -> str:
        """The statement that takes it away while others write."""

    def rebuild(self, dialect: sa.Dialect, index: sa.Index) -> str:
        """The statement that builds it anew while others use it, or, where there is none, the least that does."""

    def hide(self, dialect: sa.Dialect, index: sa.Index, *, hidden: bool) -> str:
        """The statement that hides it from the optimizer, or shows it again."""

    def analyze(self, connection: sa.Connection, index: sa.Index) -> tuple[str, ...]:
        """The statements after which the optimizer knows what is in the index; none where it knows anyhow."""

    def limit(self, connection: sa.Connection, wait_s: float, patience_s: float) -> None:
        """From now on this connection's statements give up a lock when others would have to wait behind them for
        ``wait_s``, 0 for not at all; or, where nobody waits behind them, when they waited for ``patience_s``."""

    def backend(self, connection: sa.Connection) -> int | None:
        """The server's number of this connection; None where there is no server."""

    def look(self, connection: sa.Connection, backend: int) -> Look | None:
        """What that connection's statement does now; None where it does nothing, or cannot be seen."""

    def stop(self, connection: sa.Connection, backend: int, look: Look) -> None:
        """The statement that was seen has been told to end, and no other."""

    def broken(self, connection: sa.Connection, table: sa.Table) -> tuple[str, ...]:
        """The names of the table's indexes whose build failed, and that nobody is building."""

    def hindrances(
        self, connection: sa.Connection, table: sa.Table, size_bytes: float | None, limits: Limits
    ) -> Hindrances:
        """Why the table should be left alone at this moment."""


def index_of(new: NewIndex, name: str, schema: str | None = None) -> sa.Index:
    """The index as SQLAlchemy knows it, on a table of its own that has no more than its columns."""
    plain = dict.fromkeys([*(key.column for key in new.keys if key.column), *new.include])
    table = sa.Table(new.table, sa.MetaData(), *(sa.Column(column) for column in plain), schema=schema)
    return sa.Index(
        name,
        *(_part(table, key) for key in new.keys),
        unique=new.unique,
        postgresql_include=list(new.include),
        _table=table,
    )


class _Beginning(sa.ColumnElement[Any]):
    """The first characters of a column; SQLAlchemy's own way knows no direction."""

    inherit_cache = False

    def __init__(self, column: sa.ColumnElement[Any], length: int) -> None:
        self.column = column
        self.length = length


@compiles(_Beginning)
def _write_beginning(element: _Beginning, compiler: Any, **options: Any) -> str:
    return f"{compiler.process(element.column, **options)}({element.length})"


class _Classed(sa.ColumnElement[Any]):
    """With PostgreSQL's operator class; SQLAlchemy's own way knows no direction, and no expression."""

    inherit_cache = False

    def __init__(self, part: sa.ColumnElement[Any], opclass: str) -> None:
        self.part = part
        self.opclass = opclass


@compiles(_Classed)
def _write_classed(element: _Classed, compiler: Any, **options: Any) -> str:
    return f"{compiler.process(element.part, **options)} {compiler.preparer.quote(element.opclass)}"


def _part(table: sa.Table, key: Key) -> Any:
    part: Any = sa.literal_column(f"({key.expression})") if key.column is None else table.c[key.column]
    if key.length is not None:
        part = _Beginning(part, key.length)
    if key.collation is not None:
        part = sa.collate(part, key.collation)
    if key.opclass is not None:
        part = _Classed(part, key.opclass)
    if key.descending:
        part = part.desc()
    if key.nulls_first is not None:
        part = part.nulls_first() if key.nulls_first else part.nulls_last()
    return part


def named(table: str, name: str, schema: str | None = None) -> sa.Index:
    """An index of which no more than its place and its name is known."""
    return sa.Index(name, _table=sa.Table(table, sa.MetaData(), schema=schema))


def written(dialect: sa.Dialect, element: sa.schema.ExecutableDDLElement) -> str:
    """The statement as the server shall read it."""
    said = str(element.compile(dialect=dialect)).strip()
    return said.replace("%%", "%") if dialect.paramstyle in FORMATTED else said


def quoted(dialect: sa.Dialect, thing: sa.Table | sa.Index) -> str:
    """The name, with its schema where a table has one, as the server shall read it."""
    preparer = dialect.identifier_preparer
    said = preparer.format_table(thing) if isinstance(thing, sa.Table) else preparer.format_index(thing)
    return said.replace("%%", "%") if dialect.paramstyle in FORMATTED else said


def asked(connection: sa.Connection, question: sa.TextClause, **values: Any) -> Sequence[Any] | None:
    """The first row of the answer; None when the account may not ask."""
    try:
        return connection.execute(question, values).first()
    except SQLAlchemyError:
        if connection.invalidated:
            raise
        return None


def too_little_space(folder: Path | None, size_bytes: float | None, host: str | None) -> Hindrances:
    """Whether the folder's disk, where it is this machine's and can be looked at, has room for a build."""
    if size_bytes is None:
        return Hindrances(unknown=("whether the disk has room: the size of the index is not known",))
    if folder is None or host not in LOOPBACK | {None, ""} or not folder.exists():
        return Hindrances(unknown=("whether the server's disk has room: it is not this machine's, or not to be seen",))
    free = disk_free(folder)
    if free >= SPACE * size_bytes:
        return Hindrances()
    return Hindrances((f"the disk has {free / 1e6:,.0f} MB free, and a build wants {SPACE * size_bytes / 1e6:,.0f}",))


def disk_free(folder: Path) -> int:
    """Bytes that are free where the folder is."""
    from shutil import disk_usage

    return disk_usage(folder).free
