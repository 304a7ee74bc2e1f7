"""Rows drawn from a table, and how many different values the table must hold for them to look like that.

No value is kept: of each there is a hash, to tell whether two are equal, and how many bytes it takes in a record.
"""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from math import log
from random import Random
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    bindparam,
    column,
    func,
    literal_column,
    quoted_name,
    select,
    table,
)

SHARE: Final = 0.1
"""Of a table's rows that are drawn."""
LEAST_ROWS: Final = 10_000
MOST_ROWS: Final = 60_000
"""A table that has no more than LEAST_ROWS is read whole; of none are more drawn than MOST_ROWS."""
CHUNK_ROWS: Final = 2_000
"""Read by one statement: no read holds a writer up for longer."""
OFTEN: Final = 50
"""A value that is seen so often in a sample is one that the table has; nothing is to be guessed about it."""
LOOKED_AT: Final = 20
"""Of so many rows one is measured; hashes are made of all."""
ENOUGH_HITS: Final = 400
"""Places drawn that have a row from which the share of those is known to 5 %; with fewer, rows are thought to lie at
random, and it is their mean distance that tells."""
SEED: Final = 1
"""The same database is answered for in the same way every time."""
SMALL: Final[Mapping[int, int]] = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
COLLATIONS: Final[Mapping[str, Callable[[str], str]]] = {
    # SQLite's own: letters of ASCII alone are alike.
    "NOCASE": lambda value: value.translate(SMALL),
    "RTRIM": lambda value: value.rstrip(" "),
}


@dataclass(frozen=True, slots=True)
class Part:
    """What an index's key holds: a column or an expression, and how texts compare there."""

    column: str | None
    expression: str | None = None
    collation: str = "BINARY"

    @property
    def sql(self) -> ColumnElement[Any]:
        """As a column of a SELECT."""
        if self.column is None:
            return literal_column(f"({self.expression})")
        return column(quoted_name(self.column, quote=True))


@dataclass(slots=True)
class Drawn:
    """What is known of one table from the rows drawn."""

    rows: float
    """Of the table, as far as it is known."""
    rowids: Sequence[int]
    """Of the rows drawn; their numbers in order where the table has none."""
    hashes: dict[Part, "array[int]"] = field(default_factory=dict, repr=False)
    widths: dict[Part, float] = field(default_factory=dict)
    """Bytes in a record, on the average."""
    in_order: dict[Part, float] = field(default_factory=dict)
    """Of two neighbouring rows with different values: how often they go the way that most go; from 0.5 to 1."""

    @property
    def rowid_width(self) -> float:
        """Bytes of a row's number in a record, on the average."""
        some = self.rowids[:: LOOKED_AT if len(self.rowids) >= CHUNK_ROWS else 1]
        return sum(map(width_of, some)) / max(len(some), 1)

    def distinct(self, parts: Sequence[Part]) -> float:
        """How many different combinations of values the table has."""
        columns = [self.hashes[part] for part in parts]
        seen = Counter(columns[0] if len(columns) == 1 else zip(*columns, strict=True))
        return estimated_distinct(Counter(seen.values()), self.rows)


def estimated_distinct(classes: Mapping[int, int], rows: float) -> float:
    """How many different values there are in so many ``rows``, of which a sample was drawn.

    ``classes``: how many values were seen once, twice, and so on. Values seen often are taken as counted; of the rest
    it is the second-order jackknife, D_uj2a of Haas and Stokes ("Estimating the Number of Classes in a Finite
    Population", JASA 93, 1998). On drawn tenths of 13 distributions, uniform to very skewed, it was at most 1.5 times
    off, the Guaranteed-Error Estimator 3 times.
    """
    seldom = {times: values for times, values in classes.items() if times <= OFTEN}
    seen, once = sum(seldom.values()), seldom.get(1, 0)
    often = sum(classes.values()) - seen
    drawn = sum(times * values for times, values in seldom.items())
    share = sum(times * values for times, values in classes.items()) / max(rows, 1)
    if share >= 1 or not drawn:
        return often + seen
    unseen = once * (1 - share)
    first = drawn * seen / (drawn - unseen)
    pairs = sum(times * (times - 1) * values for times, values in seldom.items())
    variation = max(0.0, first / (drawn * drawn) * pairs + first * share / drawn - 1)
    second = (seen - unseen * log(1 - share) * variation / share) / (1 - unseen / drawn)
    return min(rows, often + max(second, seen))


class Sampler:
    """Reads rows through a connection, a few thousand at a time, and holds no lock between."""

    def __init__(self, connection: Connection, rowid_of: Callable[[str], str | None]) -> None:
        """``rowid_of``: what a table calls its rows' own number; None where it has none."""
        self._connection = connection
        self._rowid_of = rowid_of
        self._drawn: dict[str, Drawn] = {}

    def of(self, name: str, parts: Sequence[Part], rows: float | None) -> Drawn:
        """What is known of these parts of a table; what was read once is not read again.

        ``rows``: how many the table has, if that is known.

        Raises:
            sqlalchemy.exc.DBAPIError: the table cannot be read.
        """
        drawn = self._drawn.get(name)
        if drawn is None:
            drawn = self._drawn[name] = self._draw(name, rows)
        missing = [part for part in dict.fromkeys(parts) if part not in drawn.hashes]
        if missing:
            self._read(name, drawn, missing)
        return drawn

    def _draw(self, name: str, rows: float | None) -> Drawn:
        rowid = self._rowid(name)
        if rowid is None:  # the first ones in the order of its key
            count = len(self._rows(select(literal_column("1")).select_from(_table(name)).limit(MOST_ROWS)))
            return Drawn(max(count, rows or 0) if count >= MOST_ROWS else count, range(count))
        few = self._rows(select(rowid).select_from(_table(name)).order_by(rowid).limit(LEAST_ROWS + 1))
        if len(few) <= LEAST_ROWS:
            return Drawn(len(few), [number for (number,) in few])
        highest = self._rows(select(func.max(rowid)).select_from(_table(name)))[0][0]
        return self._draw_some(name, rowid, few[0][0], highest, rows)

    def _draw_some(self, name: str, rowid: ColumnElement[int], lowest: int, highest: int, rows: float | None) -> Drawn:
        """Rows at random places; a place between two rows is that of the next."""
        span, rng = highest - lowest + 1, Random(SEED)  # noqa: S311 - no secret depends on it
        wanted = max(LEAST_ROWS, min(MOST_ROWS, int(SHARE * (rows or span))))
        places = sorted({lowest + rng.randrange(span) for _ in range(wanted)})
        found = list(self._next_to(name, rowid, places))
        rowids = sorted({number for _, number in found})
        return Drawn(max(rows or span * _filled(found), len(rowids)), rowids)

    def _next_to(self, name: str, rowid: ColumnElement[int], places: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Each place with the number of the first row there or after it."""
        place = _listed()
        number = select(func.min(rowid)).select_from(_table(name)).where(rowid >= place).scalar_subquery()
        query = select(place, number)
        for chunk in _chunks(places):
            yield from ((at, found) for at, found in self._rows(query, chunk) if found is not None)

    def _read(self, name: str, drawn: Drawn, parts: Sequence[Part]) -> None:
        seen = [_Seen(COLLATIONS.get(part.collation.upper())) for part in parts]
        nothing = (None,) * (1 + len(parts))
        for numbers, rows in self._values(name, drawn.rowids, parts):
            found = {row[0]: row for row in rows}
            aligned = [found.get(number, nothing) for number in numbers]  # one may be gone since it was drawn
            for one, values in zip(seen, islice(zip(*aligned, strict=True), 1, None), strict=True):
                one.add(values)
        for part, one in zip(parts, seen, strict=True):
            drawn.hashes[part] = one.hashes
            drawn.widths[part] = one.bytes / max(one.looked_at, 1)
            drawn.in_order[part] = one.in_order

    def _values(
        self, name: str, rowids: Sequence[int], parts: Sequence[Part]
    ) -> Iterator[tuple[Sequence[int], Sequence[Any]]]:
        """Numbers of rows, and those rows with their numbers, some at a time."""
        wanted = [part.sql.label(f"part{number}") for number, part in enumerate(parts)]
        rowid = self._rowid(name)
        if rowid is None:
            rows = self._rows(select(*wanted).select_from(_table(name)).limit(len(rowids)))
            yield rowids, [(number, *row) for number, row in enumerate(rows)]
            return
        query = select(rowid.label("number"), *wanted).select_from(_table(name))
        chosen = query.where(rowid.in_(select(_listed())))
        for chunk in _chunks(rowids):
            yield chunk, self._rows(chosen, chunk)

    def _rowid(self, name: str) -> ColumnElement[int] | None:
        found = self._rowid_of(name)
        return None if found is None else literal_column(found, Integer)

    def _rows(self, query: Select[Any], listed: Sequence[int] = ()) -> Sequence[Any]:
        try:
            return self._connection.execute(query, {"listed": json.dumps(listed)} if listed else {}).all()
        finally:
            self._connection.rollback()


def _filled(found: Sequence[tuple[int, int]]) -> float:
    """The share of all numbers that rows have; ``found`` are places drawn, each with the next row's number."""
    hits = sum(place == number for place, number in found)
    if hits >= ENOUGH_HITS:
        return hits / len(found)
    return 1 / (1 + sum(number - place for place, number in found) / max(len(found), 1))


def _listed() -> ColumnElement[Any]:
    """The numbers that a statement is given as ``listed``, as a column."""
    return func.json_each(bindparam("listed")).table_valued("value", name="listed").c.value


class _Seen:
    """What is kept of one column's values."""

    def __init__(self, fold: Callable[[str], str] | None) -> None:
        self._fold = fold
        self.hashes = array("q")
        self.bytes = self.looked_at = 0
        self._rises = self._falls = 0

    def add(self, values: Sequence[Any]) -> None:
        """These follow in the order of the rows."""
        fold = self._fold
        if fold is not None:
            values = [fold(value) if isinstance(value, str) else value for value in values]
        self.hashes.extend(map(hash, values))
        some = values[:: LOOKED_AT if len(values) >= CHUNK_ROWS else 1]
        self.looked_at += len(some)
        self.bytes += sum(map(width_of, some))
        for last, value in pairwise(some):
            if value.__class__ is last.__class__ and value is not None and value != last:
                self._rises += value > last
                self._falls += value < last

    @property
    def in_order(self) -> float:
        """How many of the steps from one value to another go the way that most go."""
        steps = self._rises + self._falls
        return max(self._rises, self._falls) / steps if steps else 1.0


def width_of(value: Any) -> int:
    """Bytes of a value in a record, its type not counted (https://sqlite.org/fileformat2.html#record_format)."""
    if value is None:
        return 0
    if isinstance(value, int):
        return _width_of_integer(value)
    if isinstance(value, float):
        return _width_of_integer(int(value)) if value.is_integer() and abs(value) < 2**47 else 8
    return len(value.encode()) if isinstance(value, str) else len(value)


def _width_of_integer(value: int) -> int:
    if value in (0, 1):
        return 0
    bits = (value if value >= 0 else ~value).bit_length() + 1
    return next((size for size in (1, 2, 3, 4, 6) if bits <= 8 * size), 8)


def _table(name: str) -> Any:
    return table(quoted_name(name, quote=True))


def _chunks(values: Sequence[int]) -> Iterator[list[int]]:
    rest = iter(values)
    while chunk := list(islice(rest, CHUNK_ROWS)):
        yield chunk
