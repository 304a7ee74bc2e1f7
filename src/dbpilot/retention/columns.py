"""How the values of a column lie in a Parquet file, and come out of it again."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine

from dbpilot.errors import RefusedError
from dbpilot.retention.live import plain_names

AT_ONCE: Final = 500
"""So many values pyarrow turns into its own, or back, in one go: no other thread of Python runs meanwhile."""
MAX_DIGITS: Final = 38
"""The most that a decimal128 has, and that every reader of Parquet understands."""
BINARY: Final = (sa.LargeBinary, sa.BINARY, sa.VARBINARY, mysql.TINYBLOB, mysql.MEDIUMBLOB, mysql.LONGBLOB)
WORDS: Final = (
    sa.String,
    sa.JSON,
    postgresql.INET,
    postgresql.CIDR,
    postgresql.MACADDR,
    postgresql.MACADDR8,
    postgresql.MONEY,
    postgresql.BIT,
    postgresql.TSVECTOR,
)
"""What is text in a file; JSON is handed over as text."""
NETWORKS: Final = (IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network)

Turn = Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Form:
    """How a column's values lie in a file."""

    arrow: Any
    """pyarrow's type."""
    keep: Mapping[type, Turn]
    """How each type of Python's is turned into what the file holds; what is not named here does not fit."""
    give: Turn = field(default=_same)
    """And how it is turned back."""

    def array(self, values: Sequence[Any]) -> Any:
        """The values as pyarrow's array.

        Raises:
            TypeError: values of a type that the column does not have.
            ValueError: a value that does not fit (pyarrow's errors are such).
        """
        import pyarrow as pa

        parts = [self._part(values[start : start + AT_ONCE]) for start in range(0, len(values), AT_ONCE)]
        return pa.chunked_array(parts, self.arrow)

    def _part(self, values: Sequence[Any]) -> Any:
        import pyarrow as pa

        turns = {kind: self._turn(kind) for kind in set(map(type, values))}
        if any(turn is not _same for turn in turns.values()):
            values = [turns[type(value)](value) for value in values]
        return pa.array(values, self.arrow)

    def values(self, array: Any) -> list[Any]:
        """What was kept, as Python's values. A type that the column no longer has is given as it is."""
        starts = range(0, len(array), AT_ONCE)
        found: list[Any] = [value for start in starts for value in array.slice(start, AT_ONCE).to_pylist()]
        if self.give is _same or array.type != self.arrow:
            return found
        return [None if value is None else self.give(value) for value in found]

    def _turn(self, kind: type) -> Turn:
        if kind is type(None):
            return _same
        for base in kind.__mro__:
            if turn := self.keep.get(base):
                return turn
        raise TypeError(kind.__name__)


def forms_of(table: sa.Table) -> dict[str, Form]:
    """The form of every column.

    Raises:
        RefusedError: a column that Parquet has no form for; names it.
    """
    forms = dict(zip(plain_names(table.columns), (form_of(column.type) for column in table.columns), strict=True))
    for name, form in forms.items():
        if form is None:
            raise RefusedError(
                f"column {table.name}.{name} is {table.columns[name].type!r}, which has no form in Parquet; archive "
                "the table beside the live one or on a server of the same kind"
            )
    return {name: form for name, form in forms.items() if form is not None}


def arrow_table(rows: Sequence[Mapping[str, Any]], table: sa.Table, about: Mapping[str, str]) -> Any:
    """The rows as pyarrow's table, with words about them.

    Raises:
        RefusedError: a value that does not fit its column; names the column, not the value.
    """
    import pyarrow as pa

    forms = forms_of(table)
    arrays = [_array(name, form, [row[name] for row in rows], table) for name, form in forms.items()]
    fields = [pa.field(name, form.arrow) for name, form in forms.items()]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=about))


def _array(name: str, form: Form, values: Sequence[Any], table: sa.Table) -> Any:
    try:
        return form.array(values)
    except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
        said = f" (a {error})" if type(error) is TypeError else ""  # pyarrow's own words repeat the value
        raise RefusedError(
            f"column {table.name}.{name} holds a value that {form.arrow} in Parquet cannot keep{said}; exempt its row "
            "from the rule, mend it, or archive the table beside the live one"
        ) from None


def rows_of(read: Any, forms: Mapping[str, Form]) -> list[dict[str, Any]]:
    """The rows of pyarrow's table, in the columns that both have."""
    columns = columns_of(read, forms)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def columns_of(read: Any, forms: Mapping[str, Form]) -> dict[str, list[Any]]:
    """The values of the columns that both have."""
    return {name: forms[name].values(read.column(name)) for name in forms if name in read.column_names}


def form_of(kind: TypeEngine[Any]) -> Form | None:
    """The form of a column type; None if there is none that keeps every value exactly."""
    kind = _bare(kind)
    found = (family(kind) for family in (_number, _time, _choice, _plain))
    return next((form for form in found if form is not None), None)


def _bare(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type in the database, without what was put around it."""
    if isinstance(kind, postgresql.DOMAIN):
        return _bare(kind.data_type)
    if isinstance(kind, sa.TypeDecorator) and not isinstance(kind, sa.Interval):
        return _bare(kind.impl_instance)
    return kind


def _number(kind: TypeEngine[Any]) -> Form | None:
    import pyarrow as pa

    match kind:
        case sa.Boolean():
            return Form(pa.bool_(), _as_is(bool))
        case sa.Float():
            return Form(pa.float64(), {float: _same, int: float, Decimal: float})
        case sa.Numeric():
            return _exact(kind.precision, kind.scale)
        case sa.Integer() | mysql.YEAR() | mysql.BIT() | postgresql.OID():
            unsigned = getattr(kind, "unsigned", False) or isinstance(kind, mysql.BIT)
            return Form(pa.uint64() if unsigned else pa.int64(), {int: _same, bool: int})
    return None


def _exact(precision: int | None, scale: int | None) -> Form:
    """Decimals; as text where the column sets no limit, or one that few readers know."""
    import pyarrow as pa

    if precision is not None and precision <= MAX_DIGITS and 0 <= (scale or 0) <= precision:
        return Form(pa.decimal128(precision, scale or 0), {Decimal: _same, int: _same, float: _shortest})
    return Form(pa.string(), {Decimal: str, int: str, float: repr}, Decimal)


def _time(kind: TypeEngine[Any]) -> Form | None:
    import pyarrow as pa

    match kind:
        case sa.Interval() | postgresql.INTERVAL():
            return Form(pa.duration("us"), _as_is(dt.timedelta))
        case sa.DateTime():
            return Form(pa.timestamp("us", "UTC" if kind.timezone else None), _as_is(dt.datetime))
        case sa.Date():
            return Form(pa.date32(), _as_is(dt.date))
        case sa.Time(timezone=True):  # Parquet keeps no offset
            return Form(pa.string(), {dt.time: dt.time.isoformat}, dt.time.fromisoformat)
        case sa.Time():
            return Form(pa.time64("us"), _as_is(dt.time))
    return None


def _choice(kind: TypeEngine[Any]) -> Form | None:
    """One of several, or several of them."""
    import pyarrow as pa

    match kind:
        case mysql.SET():
            return Form(pa.string(), {set: _joined, str: _same}, _split)
        case sa.Enum():
            members = kind.enum_class
            return Form(pa.string(), {Enum: _name, str: _same}, members.__getitem__ if members else _same)
        case sa.Uuid():
            return Form(pa.string(), {UUID: str, str: _same}, UUID if kind.as_uuid else _same)
        case sa.ARRAY():
            return _list(form_of(kind.item_type), kind.dimensions or 1)
    return None


def _plain(kind: TypeEngine[Any]) -> Form | None:
    import pyarrow as pa

    if isinstance(kind, BINARY):
        return Form(pa.binary(), {bytes: _same, bytearray: bytes, memoryview: bytes})
    if isinstance(kind, WORDS):
        return Form(pa.string(), {str: _same, **dict.fromkeys(NETWORKS, str)})
    return None


def _as_is(kind: type) -> dict[type, Turn]:
    return {kind: _same}


def _shortest(value: float) -> Decimal:
    return Decimal(repr(value))


def _name(member: Enum) -> str:
    return member.name


def _joined(words: Iterable[str]) -> str:
    return ",".join(sorted(words))


def _split(words: str) -> set[str]:
    return set(filter(None, words.split(",")))


def _list(item: Form | None, dimensions: int) -> Form | None:
    import pyarrow as pa

    if item is None:
        return None
    form = item
    for _ in range(dimensions):
        form = Form(pa.list_(form.arrow), {list: _each(form._turn), tuple: _each(form._turn)}, _all(form.give))
    return form


def _each(turn_of: Callable[[type], Turn]) -> Turn:
    return lambda values: [turn_of(type(value))(value) for value in values]


def _all(give: Turn) -> Turn:
    return lambda values: [None if value is None else give(value) for value in values]
