"""How large InnoDB makes an index.

The form of records and pages is MariaDB's and MySQL's COMPACT or DYNAMIC one
(https://dev.mysql.com/doc/refman/8.0/en/innodb-row-format.html); pages that are built from sorted rows are full.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dbpilot.dialects.catalog import Column, Table
from dbpilot.dialects.whatif import NewIndex

PAGE_BYTES: Final = 16 * 1024
PAGE_OVERHEAD: Final = 128
"""Headers, trailer, and the two records that every page has."""
RECORD_OVERHEAD: Final = 5.5
"""A record's header, and its part of the page's directory."""
POINTER: Final = 4
EXTENT_PAGES: Final = 64
SINGLE_PAGES: Final = 32
"""So many pages a tree takes one by one, before it takes extents."""
RESERVED: Final = 8 / 7
"""It takes another extent as soon as less than an eighth of what it has is free."""
FIXED: Final = {
    "tinyint": 1, "bool": 1, "boolean": 1, "year": 1, "smallint": 2, "mediumint": 3, "int": 4, "integer": 4,
    "float": 4, "bigint": 8, "double": 8, "real": 8, "date": 3, "datetime": 5, "timestamp": 4, "time": 3, "uuid": 16,
    "inet6": 16, "inet4": 4, "enum": 2, "set": 8,
}  # fmt: skip
TYPE: Final = re.compile(r"(\w+)\s*(?:\((\d+)(?:,\s*(\d+))?)?")
DIGITS: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""Bytes of so many decimal digits, below nine and nine."""
UNKNOWN: Final = 16.0
"""Bytes of a value of which nothing is known."""
SHORT: Final = 128
"""The length of a shorter value takes one byte."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a column's values from some of them."""

    width: float
    """Bytes, on the average of those that are not NULL."""
    present: float
    """The share of those."""


def built_bytes(index: NewIndex, table: Table, measured: Mapping[str, Measured]) -> float:
    """The bytes of the index when it has just been built; ``measured``: what is known of columns by their names."""
    lengths = {key.column: key.length for key in index.keys if key.length}
    names = [*index.columns, *index.include]
    names += [name for name in table.primary_key if name not in names or name in lengths]
    columns = [table.by_name.get(name) for name in names]
    held = sum(
        _held(column, measured.get(column.name), lengths.get(column.name)) if column else UNKNOWN for column in columns
    )
    nulls = math.ceil(sum(1 for column in columns if column is not None and column.nullable) / 8)
    record = held + nulls + RECORD_OVERHEAD
    if not table.primary_key:
        record += 6  # InnoDB numbers the rows itself
    usable = PAGE_BYTES - PAGE_OVERHEAD
    leaves = max(1, math.ceil(table.rows * record / usable))
    return PAGE_BYTES * float(_taken(leaves) + _taken(_above(leaves, record + POINTER, usable)))


def _above(pages: int, record: float, usable: float) -> int:
    """The pages of all levels above so many, up to the root."""
    found = 0
    while pages > 1:
        pages = math.ceil(pages * record / usable)
        found += pages
    return found


def _taken(pages: int) -> int:
    """What a tree takes to have so many pages."""
    if pages <= SINGLE_PAGES:
        return pages
    return SINGLE_PAGES + EXTENT_PAGES * math.ceil((pages * RESERVED - SINGLE_PAGES) / EXTENT_PAGES)


def _held(column: Column, known: Measured | None, length: int | None) -> float:
    """Bytes of a value of this column in a record, on the average; NULL has none."""
    present = known.present if known is not None else 1.0 - (column.nulls or 0.0)
    found = TYPE.match(column.type.lower())
    kind, first, second = (found[1], found[2], found[3]) if found else ("", None, None)
    fixed = _fixed(kind, int(first or 0), int(second or 0))
    if fixed is not None:
        return present * fixed
    width = known.width if known is not None else column.width if column.width is not None else UNKNOWN
    width = max(width, float(first or 1)) if kind == "char" else width
    return present * ((min(width, float(length)) if length else width) + (1 if width < SHORT else 2))


def _fixed(kind: str, first: int, second: int) -> float | None:
    """Bytes of any value of a type; None where that depends on the value."""
    match kind:
        case "decimal" | "numeric":
            return _digits((first or 10) - second) + _digits(second)
        case "datetime" | "timestamp" | "time":
            return FIXED[kind] + (first + 1) // 2
        case "binary":
            return first or 1
        case "bit":
            return ((first or 1) + 7) // 8
    return FIXED.get(kind)


def _digits(count: int) -> int:
    return count // 9 * 4 + DIGITS[count % 9]
