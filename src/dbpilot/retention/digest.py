"""What rows hold, as one number that every database and file gives alike.

Each value is brought to a canonical text, by what it is worth and not by which driver read it; a row's texts are
hashed together, and the hashes of all rows are added up. The sum does not depend on their order, and a doubled row
counts twice.

Values that compare alike: numbers by their decimal digits (``Decimal('1.50')``, ``1.5``; ``1``, ``1.0``, ``True``;
a float is worth the shortest digits that tell it apart, so ``0.1`` is ``Decimal('0.1')``), instants as UTC (a naive
datetime is one in UTC), bytes of any kind, UUIDs and their dashed text, members of an enumeration and their names, JSON
by its content. Apart are NULL, ``''`` and ``0``; a date and its midnight; text and number; true and 1 inside of JSON.

What cannot be compared, because it is not the same value after a round trip:

- PostgreSQL's ``CHAR(n)`` is padded with blanks, others' is not; its ``BIT`` is a text, MariaDB's a number.
- JSON that one side reads as text (a reflected MariaDB column is ``LONGTEXT``) and the other as JSON; both sides must
  read it alike. As JSON, its ``null`` is read as NULL.
- PostgreSQL's ``INTERVAL`` with months, which drivers take for 30 days each.
- MariaDB shows six digits of a ``FLOAT``: what a client reads is not what is stored. ``DOUBLE`` has all.
- ``Numeric`` in SQLite is a float in the file: 15 digits survive, and of those as many decimals as the type has.
- A ``Uuid`` that is read as 32 digits without dashes by one side.
- ``TIME WITH TIME ZONE`` is compared with its offset, which other databases do not keep.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from itertools import islice
from typing import Any, Final
from uuid import UUID

from dbpilot.errors import RefusedError

HASH_BYTES: Final = 8
ROWS_AT_ONCE: Final = 1000
MODULUS: Final = 2 ** (8 * HASH_BYTES)
BETWEEN: Final = "\x1f"
"""Between values; a text may contain it, and therefore bears its length."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Rows, and what they hold, whatever their order; digests of parts add up to that of the whole."""

    rows: int
    checksum: int
    """The sum of the rows' checksums modulo 2**64."""

    def __add__(self, other: "Digest") -> "Digest":
        return Digest(self.rows + other.rows, (self.checksum + other.checksum) % MODULUS)


def digest_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Digest:
    """The digest of these columns of all rows.

    Raises:
        RefusedError: a value of a type that is none of the known ones.
    """
    total = Digest(0, 0)
    rest = iter(rows)
    while part := list(islice(rest, ROWS_AT_ONCE)):
        total += digest_of_columns([[row[name] for row in part] for name in columns])
    return total


def digest_of_columns(columns: Sequence[Sequence[Any]]) -> Digest:
    """The same for rows that lie column by column; raises as :func:`digest_of`."""
    rows = [_checksum(BETWEEN.join(texts)) for texts in zip(*map(_texts, columns), strict=True)]
    return Digest(len(rows), sum(rows) % MODULUS)


def row_checksum(row: Mapping[str, Any], columns: Sequence[str]) -> int:
    """What these columns of the row hold, from 0 to 2**64 - 1; raises as :func:`digest_of`."""
    return _checksum(canonical(row, columns))


def canonical(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """A text that rows with the same values in these columns have in common, and no others; raises as the rest."""
    return BETWEEN.join([FORMS.get(type(value), _uncommon)(value) for value in map(row.__getitem__, columns)])


def _checksum(text: str) -> int:
    # Half of a character, which Python can have in a text, must not stop the comparison.
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest())


def _texts(values: Sequence[Any]) -> list[str]:
    """The canonical text of each value of a column, whose values are mostly of one type."""
    forms = {kind: FORMS.get(kind, _uncommon) for kind in set(map(type, values))}
    if len(forms) == 1:
        return list(map(next(iter(forms.values())), values))
    return [forms[type(value)](value) for value in values]


def _null(_: None) -> str:
    return "-"


def _text(value: str) -> str:
    return f"s{len(value)}:{value}"


def _whole(value: int) -> str:
    return f"n{value:d}"


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        return "nnan" if value.is_nan() else f"n{float(value)}"
    digits = f"{value:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return f"n{digits if value else 0}"


def _float(value: float) -> str:
    digits = repr(value)
    if "e" in digits or not value:
        return _decimal(Decimal(digits))
    return f"n{digits.removesuffix('.0')}"


def _instant(value: dt.datetime) -> str:
    if value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    return f"t{value.isoformat()}"


def _date(value: dt.date) -> str:
    return f"d{value.isoformat()}"


def _time(value: dt.time) -> str:
    return f"h{value.isoformat()}"


def _duration(value: dt.timedelta) -> str:
    return f"i{value // dt.timedelta(microseconds=1)}"


def _bytes(value: bytes | bytearray | memoryview) -> str:
    return f"b{value.hex()}"


def _said(value: object) -> str:
    return _text(str(value))


def _member(value: Enum) -> str:
    return _text(value.name)


def _list(values: Iterable[Any]) -> str:
    parts = [_inner(value) for value in values]
    return f"l{len(parts)}:{BETWEEN.join(parts)}"


def _object(value: Mapping[str, Any]) -> str:
    parts = [f"{_text(key)}{BETWEEN}{_inner(value[key])}" for key in sorted(value)]
    return f"o{len(parts)}:{BETWEEN.join(parts)}"


def _set(values: Set[str]) -> str:
    return _list(sorted(values))


def _inner(value: Any) -> str:
    """A value inside of JSON or of an array, where true is no number."""
    if isinstance(value, bool):
        return f"?{value:d}"
    return FORMS.get(type(value), _uncommon)(value)


FORMS: Final[Mapping[type, Callable[[Any], str]]] = {
    type(None): _null,
    str: _text,
    int: _whole,
    bool: _whole,
    float: _float,
    Decimal: _decimal,
    dt.datetime: _instant,
    dt.date: _date,
    dt.time: _time,
    dt.timedelta: _duration,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    UUID: _said,
    list: _list,
    tuple: _list,
    dict: _object,
    set: _set,
    frozenset: _set,
    **dict.fromkeys((IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network), _said),
}


def _uncommon(value: Any) -> str:
    """The form of a type that drivers or applications derived from a known one."""
    if isinstance(value, Enum):
        return _member(value)
    for kind in type(value).__mro__:
        if form := FORMS.get(kind):
            return form(value)
    raise RefusedError(
        f"values of type {type(value).__name__} cannot be compared across databases; archive this table beside the "
        "live one, where rows are moved within one database, or read the column as text"
    )
