"""What a column may do in an index: how many bytes it takes there, and whether the database takes it at all."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from dbpilot.dialects.catalog import Catalog, Column, Family, Key, Table

MAX_PAYLOAD_BYTES: Final = 40
"""More of them make an index nearly as large as the table."""
FIXED: Final[dict[Family, float]] = {
    "integer": 8, "decimal": 8, "float": 8, "boolean": 1, "date": 4, "time": 8, "datetime": 8, "uuid": 16,
}  # fmt: skip
MAX_KEY_BYTES: Final = {"mysql": 3072, "mariadb": 3072, "postgresql": 2700}
"""InnoDB's bound for a key; PostgreSQL's for a whole entry (a third of a page)."""
MAX_KEYS: Final = {"mysql": 16, "mariadb": 16, "postgresql": 32, "sqlite": 64}
"""Columns; of MariaDB 32 are allowed, of SQLite 2,000."""
BYTES_OF_A_CHARACTER: Final = 4
BEGINNING: Final = 32
"""Characters of a long text that an index of MySQL holds: few texts that differ have them in common."""
LONGEST_WHOLE: Final = 191
"""Characters of a declared length up to which a text is indexed as a whole: older row formats take no more."""
LONG_TEXT_BYTES: Final = 200
LONG_SAMPLE: Final = 1000
"""On the average, and of a sample, characters: beyond these, PostgreSQL might refuse to write some row."""
MYSQLS: Final = frozenset({"mysql", "mariadb"})
DECLARED: Final = re.compile(r"\((\d+)\)")
UNSORTED: Final = re.compile(
    r"json|xml|\bpoint|\bline|lseg|\bbox|path|polygon|circle|geom|geography|tsvector|tsquery|vector|\[\]|bytea|image",
    re.IGNORECASE,
)
"""Types without an order, or one that nobody asks for."""
MIXED_SINCE: Final = {"mysql": (8, 0), "mariadb": (10, 8)}


def indexable(column: Column, catalog: Catalog) -> bool:
    """Whether an ordinary index may hold the column, or its beginning."""
    if column.family == "json" or UNSORTED.search(column.type):
        return False
    if column.family == "binary":
        return catalog.dialect in MYSQLS and not column.type.lower().endswith("blob")
    return not (catalog.dialect == "postgresql" and _is_long(column))


def _is_long(column: Column) -> bool:
    """Whether some of its texts may be too long for an index."""
    if column.family != "text":
        return False
    longest = max((len(text) for text in column.bounds if isinstance(text, str)), default=0)
    declared = declared_length(column)
    if declared is not None and declared * BYTES_OF_A_CHARACTER <= MAX_KEY_BYTES["postgresql"]:
        return False
    return longest > LONG_SAMPLE or (column.width or 0) > LONG_TEXT_BYTES


def declared_length(column: Column) -> int | None:
    """The most characters that the type allows; None where it has no bound, or none is told."""
    match = DECLARED.search(column.type)
    return int(match[1]) if match and column.family in ("text", "binary") else None


def beginning_of(column: Column, catalog: Catalog) -> int | None:
    """How many characters of the column an index has to be content with; None where it may hold the whole."""
    if catalog.dialect not in MYSQLS or column.family not in ("text", "binary"):
        return None
    if column.type.lower().startswith(("enum", "set")):
        return None
    declared = declared_length(column)
    is_unbounded = declared is None or "text" in column.type.lower() or "blob" in column.type.lower()
    return BEGINNING if is_unbounded or (declared or 0) > LONGEST_WHOLE * BYTES_OF_A_CHARACTER else None


def bytes_of(column: Column) -> float:
    """What a value takes, on the average where that is known; infinite where a text may have any length."""
    if column.family in FIXED:
        return FIXED[column.family]
    if column.width is not None:
        return column.width
    declared = declared_length(column)
    return float("inf") if declared is None else float(declared)


def payload_bytes(columns: Iterable[Column], catalog: Catalog) -> float:
    """What these columns add to an entry; infinite where an index cannot carry one of them as a whole."""
    found = 0.0
    for column in columns:
        is_whole = indexable(column, catalog) and beginning_of(column, catalog) is None
        found += bytes_of(column) if is_whole else float("inf")
    return found


def fits(keys: Sequence[Key], table: Table, catalog: Catalog) -> bool:
    """Whether the database takes a key of these columns."""
    most = MAX_KEY_BYTES.get(catalog.dialect, float("inf"))
    total = sum(_most_bytes(key, table, catalog) for key in keys)
    return total <= most and len(keys) <= MAX_KEYS.get(catalog.dialect, 16)


def _most_bytes(key: Key, table: Table, catalog: Catalog) -> float:
    column = table.by_name.get(key.column or "")
    if column is None or column.family not in ("text", "binary"):
        return 16
    if catalog.dialect not in MYSQLS:
        return min(bytes_of(column), LONG_TEXT_BYTES)
    characters = key.length or declared_length(column) or BEGINNING
    return characters * (BYTES_OF_A_CHARACTER if column.family == "text" else 1) + 2


def mixed_directions(catalog: Catalog) -> bool:
    """Whether an index may hold one column ascending and another descending."""
    return catalog.version >= MIXED_SINCE.get(catalog.dialect, ())


def text_order(key: Key, column: Column, catalog: Catalog) -> Key | None:
    """The key with the order that a search for the beginnings of texts needs; None where there is none."""
    if catalog.dialect == "postgresql" and (column.collation or "").split(".")[0].upper() not in ("C", "POSIX"):
        is_char = re.match(r"char(?:acter)?\b(?! varying)|bpchar", column.type, re.IGNORECASE)
        if column.case_insensitive:
            return None
        return replace(key, opclass="bpchar_pattern_ops" if is_char else "text_pattern_ops")
    if catalog.dialect == "sqlite" and not column.case_insensitive:
        return replace(key, collation="NOCASE")
    return key


def expression_key(expression: str, catalog: Catalog, *, prefix: bool) -> Key:
    """A key of an expression; whose beginnings are looked for where ``prefix`` says so."""
    return Key(None, expression, opclass="text_pattern_ops" if prefix and catalog.dialect == "postgresql" else None)
