"""Rows on their way to another system, as values that are the same there.

JSON, and whatever only one kind of database knows, goes as the database's own text of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from dbpilot.errors import RefusedError
from dbpilot.retention.digest import MODULUS, Digest
from dbpilot.retention.live import Live, plain, plain_names

BINARY: Final = (sa.LargeBinary, sa.BINARY, sa.VARBINARY, mysql.TINYBLOB, mysql.MEDIUMBLOB, mysql.LONGBLOB)
MYSQL_TEXT: Final = (sa.Enum, mysql.SET, sa.Time, sa.JSON)
"""Types of MariaDB and MySQL of which the text says all."""
SUMMED_DIGITS: Final = 16
"""Of a fingerprint's 32, as many as make the 64 bits of a :class:`Digest`."""
COMMON: Final = (
    sa.Integer,
    sa.Numeric,
    sa.String,
    sa.DateTime,
    sa.Date,
    sa.Boolean,
    *BINARY,
    sa.Uuid,
    sa.ARRAY,
    mysql.BIT,
    mysql.YEAR,
    postgresql.OID,
)
"""Types whose values drivers give exactly, and others take."""


class ExactDecimal(sa.types.TypeDecorator[Decimal]):
    """A decimal that SQLite keeps as a double: the shortest digits that tell it apart."""

    impl = sa.Float
    cache_ok = True

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Any:
        return Decimal(repr(value)) if isinstance(value, float) else Decimal(value) if isinstance(value, int) else value

    def process_bind_param(self, value: Any, _dialect: sa.Dialect) -> Any:
        return float(value) if isinstance(value, Decimal) else value


@dataclass(frozen=True, slots=True)
class Portable:
    """How the rows of one live table travel."""

    live: Live
    table: sa.Table
    """The live table as an archive elsewhere sees it: with the types that arrive, and its key as primary key."""
    selected: tuple[sa.ColumnElement[Any], ...]
    """What is read for each column."""
    given: Mapping[str, sa.ColumnElement[Any]]
    """What is bound for each column that a row can be given back to."""

    key_places: tuple[int, ...]
    """Where the key's columns are in a row that was read."""
    fingerprint: sa.ColumnElement[str] | None
    """What the database itself makes of a row's content, where it can: 32 digits instead of all values."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in the order in which they are read."""
        return tuple(plain_names(self.table.columns))

    def read(self, condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
        """The rows, in the order of their key, each with its fingerprint or NULL at its end."""
        fingerprint: sa.ColumnElement[Any] = sa.null() if self.fingerprint is None else self.fingerprint
        return sa.select(*self.selected, fingerprint).where(condition).order_by(*self.live.key)

    def read_fingerprints(self, condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
        """The rows' keys, each with its fingerprint at its end."""
        return sa.select(*self.live.key, sa.null() if self.fingerprint is None else self.fingerprint).where(condition)

    def as_mappings(self, rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        """The rows by column, without their fingerprints."""
        names = self.names
        return [dict(zip(names, row, strict=False)) for row in rows]

    def key_of(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """The key of a row that was read."""
        return tuple([row[place] for place in self.key_places])


def portable(live: Live, dialect: sa.Dialect) -> Portable:
    """How rows of this table travel.

    Raises:
        RefusedError: nobody knows the type of a column.
    """
    columns, selected, given = [], [], {}
    for column in live.table.columns:
        arrives, read, bound = _travels(column, dialect)
        columns.append(sa.Column(column.name, arrives, autoincrement=False))
        selected.append(read.label(column.name))
        if column.computed is None:
            given[column.name] = bound
    key = sa.PrimaryKeyConstraint(*live.key_names)
    table = sa.Table(live.table.name, sa.MetaData(), *columns, key)
    names = plain_names(table.columns)
    places = tuple(names.index(name) for name in live.key_names)
    return Portable(live, table, tuple(selected), given, places, fingerprint_of(selected, dialect))


def fingerprint_of(columns: Sequence[sa.ColumnElement[Any]], dialect: sa.Dialect) -> sa.ColumnElement[str] | None:
    """A hash of these columns, alike for the same values in every database of this kind; None where it has no hashes.

    NULL for a row of MariaDB's or MySQL's that is longer than a packet.
    """
    bare = [column.element if isinstance(column, sa.Label) else column for column in columns]
    if dialect.name == "postgresql":
        return sa.func.md5(sa.cast(sa.func.row(*bare), sa.Text))
    if dialect.name in ("mysql", "mariadb"):
        return sa.func.md5(sa.func.concat(*(_told_apart(column) for column in bare)))
    return None


def digest_of_fingerprints(fingerprints: Iterable[str]) -> Digest:
    """The fingerprints, added up as a database does by :func:`read_digest`."""
    parts = [int(one[:SUMMED_DIGITS], 16) for one in fingerprints]
    return Digest(len(parts), sum(parts) % MODULUS)


def read_digest(
    fingerprint: sa.ColumnElement[str], condition: sa.ColumnElement[bool], dialect: sa.Dialect, *, lock: bool = False
) -> sa.Select[int, int]:
    """How many rows there are, and their fingerprints added up by the database itself: one row instead of all.

    A row without a fingerprint adds nothing, so its absence is seen.
    """
    if dialect.name == "postgresql":  # which locks rows, but not what is made of several
        rows = sa.select(fingerprint.label("dbpilot_fingerprint")).where(condition)
        found = (rows.with_for_update() if lock else rows).subquery()
        bits = sa.func.concat("x", sa.func.left(found.c.dbpilot_fingerprint, SUMMED_DIGITS))
        return sa.select(sa.func.count(), sa.func.sum(sa.cast(sa.cast(bits, postgresql.BIT(64)), sa.BigInteger)))
    part = sa.cast(sa.func.conv(sa.func.left(fingerprint, SUMMED_DIGITS), 16, 10), mysql.INTEGER(unsigned=True))
    summed = sa.select(sa.func.count(), sa.func.sum(part)).where(condition)
    return summed.with_for_update() if lock else summed


def digest_from(row: sa.Row[int, int]) -> Digest:
    """What a database answered to :func:`read_digest`."""
    rows, sum_ = row
    return Digest(rows, int(sum_ or 0) % MODULUS)  # PostgreSQL's numbers have a sign, which the modulus takes off


def _told_apart(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The value with its length before it, so that what follows is no part of it; and NULL as something."""
    whatever = sa.type_coerce(column, sa.Text())
    value = sa.cast(whatever, sa.LargeBinary)
    said = sa.func.concat(sa.func.length(value), sa.literal_column("':'"), value)
    return sa.case((whatever.is_(None), sa.literal_column("'-'")), else_=said)


def _travels(
    column: sa.Column[Any], dialect: sa.Dialect
) -> tuple[sa.types.TypeEngine[Any], sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    """The type as which the column's values arrive, how they are read, and how they are given back."""
    kind, name = column.type, column.name
    if isinstance(kind, postgresql.DOMAIN):
        kind = kind.data_type
    if isinstance(kind, sa.types.NullType):
        raise _unknown(column)
    if dialect.name == "sqlite" and isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
        return kind, sa.type_coerce(column, ExactDecimal()), sa.bindparam(name, type_=ExactDecimal())
    if isinstance(kind, sa.Float):
        # MariaDB and MySQL show six digits of a FLOAT, and all of a DOUBLE, of which SQLAlchemy would make a rounded
        # decimal.
        short = dialect.name in ("mysql", "mariadb") and not isinstance(kind, sa.Double)
        read: sa.ColumnElement[Any] = sa.cast(column, sa.Double()) if short else sa.type_coerce(column, sa.Double())
        return sa.Double(), read, sa.bindparam(name, type_=sa.Double())
    if isinstance(kind, COMMON) and not isinstance(kind, sa.Enum | mysql.SET):
        return plain(kind), column, sa.bindparam(name, type_=column.type)
    if dialect.name == "sqlite":
        return sa.Text(), sa.type_coerce(column, sa.Text()), sa.bindparam(name, type_=sa.Text())
    text = sa.bindparam(name, type_=sa.Text())
    if dialect.name == "postgresql":
        return sa.Text(), sa.cast(column, sa.Text()), sa.cast(text, plain(column.type))
    if not isinstance(kind, MYSQL_TEXT):
        raise _unknown(column)
    return sa.Text(), sa.type_coerce(sa.cast(column, sa.Text()), sa.Text()), text


def _unknown(column: sa.Column[Any]) -> RefusedError:
    return RefusedError(
        f"column {column.table.name}.{column.name} is {column.type!r}, whose values nobody here knows how to take "
        "along; archive the table beside the live one, where rows are moved within the database"
    )
