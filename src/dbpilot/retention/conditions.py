"""Which rows are meant, as conditions that say the same on every database, and of NULL too."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from dbpilot.errors import RefusedError
from dbpilot.retention.targets import Key


def older(column: sa.ColumnElement[Any], instant: datetime) -> sa.ColumnElement[bool]:
    """The column's value lies before the instant; a column without time zone is in UTC."""
    return column < comparable(column, instant)


def comparable(column: sa.ColumnElement[Any], instant: datetime) -> date | datetime:
    """The instant as a value that this column is compared with."""
    utc = instant.astimezone(UTC)
    if isinstance(column.type, sa.DateTime):
        return utc if getattr(column.type, "timezone", False) else utc.replace(tzinfo=None)
    return utc.date()


def matches(table: sa.FromClause, where: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """Every column has its value, or one of its values; true of every row where nothing is named."""
    return sa.and_(sa.true(), *(_has(table.c[name], value) for name, value in where.items()))


def differs(table: sa.FromClause, where: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """:func:`matches` is not true, which for NULL is more than its negation."""
    return sa.or_(sa.false(), *(_has_not(table.c[name], value) for name, value in where.items()))


def _has(column: sa.ColumnElement[Any], value: Any) -> sa.ColumnElement[bool]:
    if not _is_list(value):
        return column.is_(None) if value is None else column == value
    others = [one for one in value if one is not None]
    return sa.or_(column.in_(others), column.is_(None)) if None in value else column.in_(others)


def _has_not(column: sa.ColumnElement[Any], value: Any) -> sa.ColumnElement[bool]:
    if not _is_list(value):
        return column.is_not(None) if value is None else sa.or_(column.is_(None), column != value)
    others = [one for one in value if one is not None]
    if None in value:
        return sa.and_(column.is_not(None), column.not_in(others))
    return sa.or_(column.is_(None), column.not_in(others))


def _is_list(value: Any) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


def untrue(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """The condition is false, or cannot be told because of a NULL."""
    return sa.case((condition, 1), else_=0) == 0


def check_where(table: sa.Table, where: Mapping[str, Any], whose: str) -> None:
    """Returns when every column exists and its values are of its type.

    Raises:
        RefusedError: says which column, and what would do.
    """
    for name, value in where.items():
        if name not in table.c:
            raise RefusedError(f"{whose}: {table.name} has no column {name!r}; it has {', '.join(table.c.keys())}")
        for one in value if _is_list(value) else [value]:
            if not _fits(table.c[name].type, one):
                raise RefusedError(
                    f"{whose}: {one!r} is no value of {table.name}.{name}, which is {table.c[name].type!r}"
                )


def _fits(type_: sa.types.TypeEngine[Any], value: Any) -> bool:
    """Whether a value can be meant for a column of this type; of types that Python has no class for, any can."""
    if value is None:
        return True
    try:
        wanted = type_.python_type
    except NotImplementedError:
        return isinstance(value, str | int | bytes)
    if wanted is bool or (wanted is int and isinstance(value, bool)):
        return value in (0, 1)
    if issubclass(wanted, int | float) or wanted.__name__ == "Decimal":
        return isinstance(value, int | float) or type(value).__name__ == "Decimal"
    if wanted is date:
        return isinstance(value, date) and not isinstance(value, datetime)
    return isinstance(value, wanted)


def beyond(columns: Sequence[sa.ColumnElement[Any]], key: Key) -> sa.ColumnElement[bool]:
    """The key comes after this one."""
    return _ordered(columns, key, after=True, closed=False)


def within(columns: Sequence[sa.ColumnElement[Any]], first: Key, last: Key) -> sa.ColumnElement[bool]:
    """The key lies between these two, both included."""
    return sa.and_(_ordered(columns, first, after=True, closed=True), _ordered(columns, last, after=False, closed=True))


def one_of(columns: Sequence[sa.ColumnElement[Any]], keys: Collection[Key]) -> sa.ColumnElement[bool]:
    """The key is one of these."""
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return sa.tuple_(*columns).in_(list(keys))


def _ordered(
    columns: Sequence[sa.ColumnElement[Any]], key: Key, *, after: bool, closed: bool
) -> sa.ColumnElement[bool]:
    column, value = columns[0], key[0]
    strictly: sa.ColumnElement[bool] = column > value if after else column < value
    loosely: sa.ColumnElement[bool] = column >= value if after else column <= value
    if len(columns) == 1:
        return loosely if closed else strictly
    # Comparing rows, (a, b) > (1, 2), says the same, but MariaDB and MySQL read the whole index for it.
    return sa.and_(loosely, sa.or_(strictly, _ordered(columns[1:], key[1:], after=after, closed=closed)))
