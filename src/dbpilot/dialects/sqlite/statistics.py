"""What is known of tables and indexes: sqlite_stat1 as the file has it, and what is missing there estimated."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy.exc import DBAPIError

from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.sqlite.clone import Clone, Present
from dbpilot.dialects.sqlite.sample import Drawn, Part, Sampler
from dbpilot.dialects.sqlite.size import Entry, index_bytes
from dbpilot.dialects.whatif import NewIndex

GUESSED_ROWS: Final = 1_000_000.0
"""Rows of a table that nothing is known of; SQLite's own guess."""
IN_ORDER: Final = 0.9
"""Of the steps from row to row: rows are stored in the order of a column whose values go one way so often."""
CANNOT: Final = "SQLITE_ERROR"
"""What SQLite calls a statement that makes no sense; other names are about the file."""
GUESSED_WIDTH: Final = 12.0
GUESSED_ROWS_PER_VALUE: Final = 10.0
"""Rows of one value in an index that nothing is known of; SQLite's own guess."""

Stat = tuple[int, ...]
"""The rows of a table or index, and the rows per combination of values of its first columns."""


class Figures:
    """The figures that a clone is taught, and that costs are made of."""

    def __init__(
        self, clone: Clone, sampler: Sampler, catalog: Catalog, stat1: Sequence[tuple[str, str | None, str]]
    ) -> None:
        self._clone = clone
        self._sampler = sampler
        self._catalog = catalog
        self._texts = {(table, index): figures for table, index, figures in stat1}
        self._stats: dict[tuple[str, str | None], Stat] = {key: numbers_in(text) for key, text in self._texts.items()}
        self._analysed = {table for table, _ in self._stats}
        self._distinct: dict[tuple[str, str], float | None] = {}
        self._of_parts: dict[tuple[str, frozenset[Part]], int] = {}
        """Rows per combination of values, in whichever order."""
        self._of_new: dict[NewIndex, Stat] = {}
        self.is_new = True
        """Whether there is something that the clone was not taught yet."""

    def study(self, table: str) -> None:
        """The table and its indexes have figures, estimated where it was never analysed."""
        if table not in self._analysed:
            drawn = self._draw(table, ())
            self._analysed.add(table)
            if drawn is not None:
                self._put(table, None, (round(drawn.rows),))
        for index in self._clone.indexes(table):
            parts = self._clone.parts(index.name)
            is_known = any((table, name) in self._stats for name in self._names_of(table, index))
            if not (is_known or index.is_partial) and all(part.column for part in parts):
                self._estimate(table, index.name, parts, unique=index.unique)

    def study_new(self, index: NewIndex, name: str) -> None:
        """An index that was just made in the clone has figures."""
        if index in self._of_new:
            self._put(index.table, name, self._of_new[index])
            return
        self._estimate(index.table, name, self.parts(index, name), unique=index.unique)
        self._of_new[index] = self._stats.get((index.table, name), ())

    def parts(self, index: NewIndex, name: str) -> tuple[Part, ...]:
        """What its key holds, as the clone compares it."""
        parts = self._clone.parts(name)
        expressions = [key.expression for key in index.keys] + [None] * len(parts)
        return tuple(replace(part, expression=text) for part, text in zip(parts, expressions, strict=False))

    def count(self, table: str, columns: Sequence[str]) -> None:
        """The columns' different values are known: reading them together is cheaper than one by one."""
        if any((table, column) not in self._distinct for column in columns):
            self._draw(table, [Part(column) for column in columns])
        for column in columns:
            self.distinct(table, column)

    def forget(self, table: str, name: str) -> None:
        """A new index is no longer in the clone; what was found out about it is remembered."""
        self._stats.pop((table, name), None)

    def texts(self) -> Iterator[tuple[str, str | None, str]]:
        """Rows of sqlite_stat1 for all that has figures."""
        self.is_new = False
        for (table, index), stat in self._stats.items():
            yield table, index, self._texts.get((table, index)) or " ".join(map(str, stat))

    def size_bytes(self, index: NewIndex, name: str) -> float:
        """How large an index that is in the clone would be in the file, freshly built."""
        parts = self.parts(index, name)
        carried = self._clone.carried(name)
        drawn = self._draw(index.table, [*parts, *carried])
        if drawn is None:
            return index_bytes(self.rows(index.table), Entry([GUESSED_WIDTH] * len(parts)), self._clone.page_size)
        widths = [drawn.widths[part] for part in (*parts, *carried)] + [drawn.rowid_width] * (not carried)
        return index_bytes(drawn.rows, Entry(widths), self._clone.page_size)

    def rows(self, table: str) -> float:
        known = [stat[0] for (name, _), stat in self._stats.items() if name == table and stat]
        if known:
            return float(max(known))
        found = self._catalog.tables.get(table)
        return found.rows if found is not None and found.rows else GUESSED_ROWS

    def rows_per_value(self, table: str, index: str, columns: int) -> float:
        stat = self._stats.get((table, index), ())
        if columns < len(stat):
            return float(stat[columns])
        return self.rows(table) if not columns else 1.0 if stat else GUESSED_ROWS_PER_VALUE

    def is_in_order(self, table: str, column: str) -> bool:
        drawn = self._draw(table, (Part(column),))
        return drawn is not None and drawn.in_order[Part(column)] >= IN_ORDER

    def first_column(self, table: str, index: str) -> str | None:  # noqa: ARG002 - an index's name is enough
        first = self._clone.parts(index)[:1]
        return first[0].column if first else None

    def distinct(self, table: str, column: str) -> float | None:
        key = table, column
        if key not in self._distinct:
            drawn = self._draw(table, (Part(column),))
            self._distinct[key] = drawn.distinct([Part(column)]) if drawn is not None else None
        return self._distinct[key]

    def _estimate(self, table: str, name: str, parts: Sequence[Part], *, unique: bool) -> None:
        drawn = self._draw(table, parts)
        if drawn is None:
            return
        rows = max(drawn.rows, self.rows(table) if table in self._analysed else 0)
        falling: list[int] = []
        for length in range(1, len(parts) + 1):
            before = falling[-1] if falling else drawn.rows
            falling.append(1 if before == 1 else round(min(before, self._per_value(table, parts[:length], drawn))))
        if unique:
            falling[-1] = 1
        self._put(table, name, (round(rows), *falling))

    def _per_value(self, table: str, parts: Sequence[Part], drawn: Drawn) -> int:
        """Rows per combination of values: that of a present index on the same columns, or an estimate."""
        key = table, frozenset(parts)
        if key not in self._of_parts:
            self._of_parts[key] = self._estimated(table, parts, drawn)
        return self._of_parts[key]

    def _estimated(self, table: str, parts: Sequence[Part], drawn: Drawn) -> int:
        for index in self._clone.indexes(table):
            stat = self._stats.get((table, index.name), ())
            if len(stat) > len(parts) and set(self._clone.parts(index.name)[: len(parts)]) == set(parts):
                return stat[len(parts)]
        return rows_per_value(drawn.rows, drawn.distinct(parts))

    def _draw(self, table: str, parts: Sequence[Part]) -> Drawn | None:
        known = self.rows(table) if any(name == table for name, _ in self._stats) else None
        try:
            return self._sampler.of(table, parts, known)
        except DBAPIError as error:
            if getattr(error.orig, "sqlite_errorname", CANNOT) != CANNOT:
                raise
            return None  # an expression that cannot be evaluated, a virtual table that is broken

    @staticmethod
    def _names_of(table: str, index: Present) -> tuple[str, ...]:
        """What its row is called: that of the key that a table lies in is called like the table."""
        return (index.name, table) if index.is_constraint else (index.name,)

    def _put(self, table: str, index: str | None, stat: Stat) -> None:
        self._stats[table, index] = stat
        self.is_new = True


def rows_per_value(rows: float, distinct: float) -> int:
    """As ANALYZE rounds it: up, but 1 where hardly any value occurs twice."""
    if distinct <= 0:
        return 1
    found = int((rows + distinct - 1) // distinct)
    return 1 if found == 2 and rows * 10 <= distinct * 11 else found


def numbers_in(text: str) -> Stat:
    """The figures of a row of sqlite_stat1; words for the planner may follow them."""
    return tuple(int(word) for word in text.split() if word.isdecimal())
