"""What a sample of rows tells of the whole table."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, quoted_name

from dbpilot.dialects.catalog import Column, Family, Table

SAMPLED: Final[frozenset[Family]] = frozenset(
    {"integer", "decimal", "float", "boolean", "text", "date", "time", "datetime", "uuid"}
)
"""Families whose values are compared and kept; others may be large, or have no order."""
MAX_CHARACTERS: Final = 256
"""A longer text is cut: two that begin alike for so long are taken for equal."""
MAX_COMMON: Final = 25
MAX_BOUNDS: Final = 26
OFTEN: Final = 1.25
"""A value is a common one when it is so much more frequent than the average."""
KEYS_AT_ONCE: Final = 500
"""MariaDB turns longer lists into subqueries, and makes other plans of them."""
SPARSE: Final = 0.25
"""Fewer hits than this share, and keys with large gaps are assumed."""
BLOCKS: Final = 100
SEED: Final = 7
"""The same rows are read each time, as far as they are the same."""

Row = Sequence[Any]


def relation(table: Table, schema: str | None) -> sa.TableClause:
    """The table for a statement, every name quoted."""
    columns: list[sa.ColumnClause[Any]] = [sa.column(quoted_name(column.name, quote=True)) for column in table.columns]
    within = quoted_name(schema, quote=True) if schema is not None else None
    return sa.table(quoted_name(table.name, quote=True), *columns, schema=within)


def unknown(table: Table) -> list[Column]:
    """The columns that a sample can tell something of, and statistics do not, or not all."""
    return [
        column
        for column in table.columns
        if column.family in SAMPLED and (None in (column.distinct, column.nulls) or _is_bare(column))
    ]


def _is_bare(column: Column) -> bool:
    """Whether its values are not known, only how many there are."""
    return not column.common and not column.bounds


def values_of(columns: Iterable[Column], of: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """What to select of these columns, texts cut."""
    return [
        sa.func.substr(of.c[column.name], 1, MAX_CHARACTERS) if column.family == "text" else of.c[column.name]
        for column in columns
    ]


def rows_by_key(
    connection: Connection, query: sa.Select[Any], key: sa.ColumnElement[Any], most: int
) -> tuple[list[Row], bool]:
    """Rows from all over the table, found by an integer key that an index holds; and whether these are all."""
    low, high = connection.execute(
        query.with_only_columns(sa.func.min(key), sa.func.max(key), maintain_column_froms=True)
    ).one()
    if low is None or high - low < most:
        return first_rows(connection, query, most)
    drawn = Random(SEED)  # noqa: S311 - nothing secret: it shall draw the same again
    keys = list(dict.fromkeys(drawn.randint(low, high) for _ in range(most)))
    found: list[Row] = []
    for start in range(0, len(keys), KEYS_AT_ONCE):
        asked = query.where(key.in_(keys[start : start + KEYS_AT_ONCE]))
        found += connection.execute(asked.limit(most - len(found))).all()
        if len(found) >= most or (start and len(found) < SPARSE * (start + KEYS_AT_ONCE)):
            break
    if len(found) < SPARSE * most:
        found = _blocks(connection, query, key, keys[:: max(1, len(keys) // BLOCKS)], most)
    return _cut(found), False


def _blocks(
    connection: Connection, query: sa.Select[Any], key: sa.ColumnElement[Any], starts: Sequence[int], most: int
) -> list[Row]:
    """A few rows from each of these keys on: neighbours are alike, but keys with gaps give nothing better."""
    found: dict[int, Row] = {}
    each = max(1, most // len(starts))
    for start in starts:
        for row in connection.execute(query.add_columns(key).where(key >= start).order_by(key).limit(each)):
            found[row[-1]] = row[:-1]
    return list(found.values())


def _cut(rows: Iterable[Row]) -> list[Row]:
    return [tuple(row) for row in rows]


def first_rows(connection: Connection, query: sa.Select[Any], most: int) -> tuple[list[Row], bool]:
    """The first rows, in whichever order the database reads them; and whether these are all."""
    found = connection.execute(query.limit(most + 1)).all()
    return _cut(found[:most]), len(found) <= most


def learned(table: Table, columns: Sequence[Column], rows: Sequence[Row], *, all_rows: bool) -> Mapping[str, Column]:
    """All columns of the table, these with what the rows tell."""
    total = float(len(rows)) if all_rows else max(table.rows, float(len(rows)))
    found = {
        column.name: _learned(column, [row[place] for row in rows], total)
        for place, column in enumerate(columns)
        if rows
    }
    return {column.name: found.get(column.name, column) for column in table.columns}


def _learned(column: Column, sample: Sequence[Any], total: float) -> Column:
    values = [value for value in sample if value is not None]
    counts = Counter(values)
    share = len(values) / len(sample)
    distinct = distinct_in(counts, len(sample), total, share)
    often = OFTEN * len(values) / max(distinct, 1.0)
    complete = len(counts) <= MAX_COMMON
    common = [(value, n) for value, n in counts.most_common(MAX_COMMON) if complete or (n > 1 and n > often)]
    rare = [value for value in values if value not in dict(common)]
    return replace(
        column,
        distinct=column.distinct if column.distinct is not None else distinct,
        nulls=1 - share,
        width=column.width if column.width is not None else _width(values),
        common=tuple((value, n / len(sample)) for value, n in common),
        bounds=_bounds(rare),
    )


def distinct_in(counts: Mapping[Any, int], sampled: int, total: float, share: float) -> float:
    """How many different values the whole table is thought to have.

    The guaranteed-error estimator (Charikar, Chaudhuri, Motwani, Narasayya: Towards estimation error guarantees for
    distinct values, PODS 2000): each value that was seen once stands for sqrt(total / sampled) others. Where none was
    seen twice, all of them are taken for different.
    """
    most = total * share
    if sampled >= total:
        return float(len(counts))
    once = sum(1 for n in counts.values() if n == 1)
    if once == len(counts):
        return most
    return min(most, math.sqrt(total / sampled) * once + len(counts) - once)


def _bounds(values: list[Any]) -> tuple[Any, ...]:
    """SQLite keeps numbers and texts in one column, numbers first."""
    if not values:
        return ()
    ordered = sorted(values, key=lambda value: (isinstance(value, str), value))
    parts = min(MAX_BOUNDS, len(ordered)) - 1
    return tuple(ordered[round(part * (len(ordered) - 1) / max(parts, 1))] for part in range(parts + 1))


def _width(values: Sequence[Any]) -> float | None:
    sizes = [len(value.encode()) if isinstance(value, str) else 8 for value in values]
    return sum(sizes) / len(sizes) if sizes else None
