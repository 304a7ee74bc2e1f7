"""How many rows of a table have the same key: from statistics, or from a sample of hashes where those leave it open."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import Connection, Text, text
from sqlalchemy.exc import DBAPIError

from dbpilot.dialects.catalog import Column, Table
from dbpilot.dialects.postgresql.btree import PAGE, Group
from dbpilot.dialects.sampling import relation

Floats = npt.NDArray[np.float64]

SAMPLE_PAGES: Final = 5_000
SAMPLE_ROWS: Final = 10_000
"""What is read of a table at most. Of each page few rows are taken: those that lie together are alike more often."""
CLUSTERED: Final = 0.8
"""Equal values of a column with this correlation lie on few pages: if only some are read, too many seem to be alike."""
WIDE: Final = 128
"""Bytes; wider columns are hardly ever part of a key, and dear to read."""
NEVER_SHARED: Final = frozenset({"decimal", "float", "json"})
"""Families whose equal values may be different bytes (1.0 and 1.00), so that rows never share entries."""

OFTEN: Final = 12
"""A key that was seen more often has as many rows as its share of the sample says."""
STEP: Final = 1.3
"""Between the numbers of rows that a key may be thought to have."""
PASSES: Final = 200
ROWS_COUNT: Final = 100.0
"""How much the number of all rows, which is known, weighs against what was seen."""

EXTENDED: Final = text(
    """SELECT attnames, n_distinct::text FROM pg_stats_ext
    WHERE schemaname = coalesce(:schema, current_schema()) AND tablename = :table AND n_distinct IS NOT NULL"""
)


def of_column(column: Column, rows: float) -> Iterator[Group]:
    """The keys of one column: those without a value, the common ones, and the others."""
    nulls = column.nulls or 0.0
    if nulls:
        yield Group(1, nulls * rows)
    for _, share in column.common:
        yield Group(1, share * rows)
    left = rows * max(0.0, 1 - nulls - sum(share for _, share in column.common))
    if left >= 1:
        keys = min(max(distinct_of(column, rows) - len(column.common), 1.0), left)
        yield Group(keys, left / keys, spread=True)


def distinct_of(column: Column, rows: float) -> float:
    """How many different values it has; as many as there are rows where nobody knows."""
    return min(column.distinct or rows, rows)


def combinations(distinct: Sequence[float], rows: float) -> float:
    """How many different combinations of independent columns so many rows would have."""
    product = math.prod(max(1.0, one) for one in distinct)
    return min(rows, product * -math.expm1(-rows / product))


def of_sample(seen: Mapping[int, int], share: float, rows: float) -> list[Group]:
    """Keys by their numbers of rows in the table, from how many were ``seen`` once, twice, ... in a share of it.

    That mixture of numbers which makes what was seen most likely, in the sense of least squares, as proposed by Valiant
    and Valiant, "Estimating the unseen" (2017); the usual estimators of the number of distinct values take the keys for
    equally frequent, and find far too few where they are not.
    """
    if share >= 1:
        return [Group(keys, times) for times, keys in seen.items()]
    often = [Group(keys, times / share) for times, keys in seen.items() if times > OFTEN]
    few = np.array([float(seen.get(times, 0)) for times in range(1, OFTEN + 1)])
    left = max(rows - sum(group.keys * group.rows for group in often), float(few @ np.arange(1, OFTEN + 1)))
    if not few.any():
        return often
    sizes = np.unique(np.geomspace(1, 2 * OFTEN / share, math.ceil(math.log(2 * OFTEN / share, STEP)) + 1).round())
    chances = np.array([[_chance(int(size), times, share) for size in sizes] for times in range(1, OFTEN + 1)])
    weights = 1 / np.sqrt(np.maximum(few, 1))
    matrix = np.vstack([chances * weights[:, None], ROWS_COUNT * sizes[None, :] / left])
    keys = _nonnegative(matrix, np.append(few * weights, ROWS_COUNT))
    return often + [Group(float(count), float(size)) for count, size in zip(keys, sizes, strict=True) if count > 0]


def _chance(size: int, times: int, share: float) -> float:
    """That of so many rows, of which each is drawn with this chance, so many are drawn."""
    if times > size:
        return 0.0
    drawn = math.lgamma(size + 1) - math.lgamma(times + 1) - math.lgamma(size - times + 1)
    return math.exp(drawn + times * math.log(share) + (size - times) * math.log1p(-share))


def _nonnegative(matrix: Floats, wanted: Floats) -> Floats:
    """The least squares solution without a negative number (Lawson and Hanson, "Solving Least Squares Problems",
    1974, chapter 23)."""
    count = matrix.shape[1]
    solution, free = np.zeros(count), np.zeros(count, dtype=bool)
    for _ in range(PASSES):
        gradient = matrix.T @ (wanted - matrix @ solution)
        gradient[free] = -np.inf
        best = int(gradient.argmax())
        if gradient[best] <= 1e-9 * float(np.abs(matrix.T @ wanted).max()):
            break
        free[best] = True
        solution = _feasible(matrix, wanted, solution, free)
    return solution


def _feasible(matrix: Floats, wanted: Floats, solution: Floats, free: npt.NDArray[np.bool_]) -> Floats:
    """The least squares solution in the free numbers; those that would become negative are free no longer."""
    while True:
        trial = np.zeros_like(solution)
        trial[free] = np.linalg.lstsq(matrix[:, free], wanted, rcond=None)[0]
        below = free & (trial <= 0)
        if not below.any():
            return trial
        step = float((solution[below] / np.maximum(solution[below] - trial[below], 1e-300)).min())
        solution = solution + step * (trial - solution)
        free &= solution > 1e-12
        solution = np.where(free, solution, 0.0)


class Keys:
    """What is known of the keys of each table, read when it is asked for first."""

    def __init__(self, connection: Connection, schema: str | None) -> None:
        self._connection = connection
        self._schema = schema
        self._known: dict[str, Mapping[frozenset[str], float]] = {}
        self._samples: dict[str, Sample | None] = {}

    def counted(self, table: Table, names: Sequence[str]) -> float | None:
        """How many combinations there are, where CREATE STATISTICS made the server count them."""
        if table.name not in self._known:
            found = self._connection.execute(EXTENDED, {"schema": self._schema, "table": table.name}).all()
            counted = [_counted(numbered, said, table.rows) for numbered, said in found]
            self._known[table.name] = {names: count for one in counted for names, count in one.items()}
        return self._known[table.name].get(frozenset(names))

    def sampled(self, table: Table, names: Sequence[str]) -> list[Group] | None:
        """The keys by a sample; None where this user may read none, or a column is too wide."""
        if table.name not in self._samples:
            self._samples[table.name] = self._read(table)
        sample = self._samples[table.name]
        return sample.groups(names) if sample else None

    def _read(self, table: Table) -> "Sample | None":
        share = min(1.0, SAMPLE_PAGES * PAGE / max(1, table.size_bytes or 0))
        names = [column.name for column in table.columns if _may_share(column) and (share == 1 or _is_strewn(column))]
        taken = min(1.0, SAMPLE_ROWS / max(1.0, table.rows * share))
        source: sa.FromClause = relation(table, self._schema)
        if share < 1:
            source = source.tablesample(sa.func.system(100 * share), seed=sa.literal(1))
        hashes = [sa.func.hashtext(sa.cast(source.c[name], Text)) for name in names]
        query = sa.select(*hashes).where(sa.func.random() < taken) if taken < 1 else sa.select(*hashes)
        try:
            rows = self._connection.execute(query).all()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            return None
        return Sample(table.rows, names, rows) if rows else None


def _may_share(column: Column) -> bool:
    return (column.width or 0) <= WIDE and column.family not in NEVER_SHARED


def _is_strewn(column: Column) -> bool:
    return abs(column.correlation or 0.0) < CLUSTERED


class Sample:
    """Hashes of some of a table's rows: enough to tell equal values, and nothing of what they are."""

    def __init__(self, total: float, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self._total = max(total, len(rows))
        self._columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        self._share = len(rows) / self._total

    def groups(self, names: Sequence[str]) -> list[Group] | None:
        """The keys of these columns; None where one of them was not read."""
        if not all(name in self._columns for name in names):
            return None
        rows = zip(*(self._columns[name] for name in names), strict=True)
        return of_sample(Counter(Counter(rows).values()), self._share, self._total)


def _counted(names: Sequence[str], said: str, rows: float) -> dict[frozenset[str], float]:
    """``{"1, 2": 25, "1, 3": -0.5}``: columns by their numbers, in the order of the names; less than 0: a share of the
    rows."""
    found = {tuple(map(int, numbers.split(","))): count for numbers, count in json.loads(said).items()}
    named = dict(zip(sorted({number for numbers in found for number in numbers}), names, strict=False))
    return {
        frozenset(named[number] for number in numbers): count if count >= 0 else -count * rows
        for numbers, count in found.items()
    }
