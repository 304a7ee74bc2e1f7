"""From what statements ask to indexes that may help them: not yet good ones, but all that deserve a question.

Columns that have to equal something come first, those that most statements share before the others; then one range,
or the order or groups that rows are wanted in, for a range ends both; and last what makes it needless to read the
table, where that is narrow. A column that tables are joined by is tried in front of the others (the table is looked
into row by row) and behind them (its rows are chosen first).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import combinations
from typing import Final

from dbpilot.dialects.catalog import MIN_ROWS, Catalog, Index, Key, Table
from dbpilot.dialects.whatif import NewIndex
from dbpilot.indexes.widths import (
    MAX_PAYLOAD_BYTES,
    beginning_of,
    expression_key,
    fits,
    indexable,
    mixed_directions,
    payload_bytes,
    text_order,
)
from dbpilot.sql.predicates import Predicates, Sort, TableUse

MAX_PER_TABLE: Final = 64
MAX_IN_ALL: Final = 200
"""So many an optimizer can be asked about at once without taking longer for that than for planning."""
MAX_MERGED: Final = 40
MAX_EQUAL: Final = 4
"""More columns hardly leave fewer rows."""
MAX_RANGES: Final = 3
MAX_PAYLOAD: Final = 6
RARE: Final = 0.05
"""A value of a column with few different ones that this share of the rows has, or less, is worth looking up."""
CAST: Final = re.compile(r"cast\s*\(([^()]*) as ([^()]*)\)")
MOST_NAME_BYTES: Final = {"postgresql": 63, "mysql": 64, "mariadb": 64, "sqlite": 63}
"""Of SQLite, which knows no bound, as of PostgreSQL."""

# How promising a shape is beside the others of the same statement.
WHOLE: Final = 1.0
ORDERED: Final = 0.95
LOOKED_UP: Final = 0.9
PART: Final = 0.6
COVERING: Final = 0.8


@dataclass(frozen=True, slots=True)
class _Shape:
    """What an index would have to offer."""

    equal: tuple[str, ...]
    """In any order, as far as use is concerned."""
    tail: tuple[Sort, ...] = ()
    """In this order and these directions, or all of them reversed."""
    worth: float = WHOLE
    may_cover: bool = True
    hidden: Key | None = None
    """An expression, between both."""

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.equal, *(sort.column for sort in self.tail))


def candidates(
    predicates: Iterable[Predicates], catalog: Catalog, weights: Sequence[float] | None = None
) -> tuple[NewIndex, ...]:
    """Indexes that may help statements which ask this, the most promising first; none that is there already.

    Args:
        weights: how much each statement counts, its calls for instance; all the same where they are not told.
    """
    return _Search(tuple(predicates), catalog, weights).found()


def merged(found: Sequence[NewIndex], catalog: Catalog | None = None) -> tuple[NewIndex, ...]:
    """These, each once, and behind them such as carry what two of the same key carry, the most promising first.

    Args:
        catalog: where it is known, none carries more bytes than is narrow.
    """
    unique = tuple(dict.fromkeys(found))
    made = (_both(one, other) for one, other in combinations(unique, 2) if one.table == other.table)
    more = [index for index in dict.fromkeys(made) if index is not None and index not in unique]
    narrow = [index for index in more if catalog is None or _is_narrow(index, catalog)]
    return (*unique, *narrow[: min(MAX_MERGED, MAX_IN_ALL - len(unique))])


def _both(one: NewIndex, other: NewIndex) -> NewIndex | None:
    """None where one of them carries it all, or it is too much."""
    both = tuple(sorted({*one.include, *other.include}))
    if one.keys != other.keys or not max(len(one.include), len(other.include)) < len(both) <= MAX_PAYLOAD:
        return None
    return replace(one, include=both)


def _is_narrow(index: NewIndex, catalog: Catalog) -> bool:
    table = catalog.tables[index.table]
    return payload_bytes((table.by_name[name] for name in index.include), catalog) <= MAX_PAYLOAD_BYTES


class _Search:
    """Candidates for all statements together: which column comes first depends on what the others ask."""

    def __init__(
        self, predicates: tuple[Predicates, ...], catalog: Catalog, weights: Sequence[float] | None = None
    ) -> None:
        self._catalog = catalog
        self._asked = tuple(zip(predicates, weights or [1.0] * len(predicates), strict=True))
        self._shared = Counter[tuple[str, str]]()
        for asked, weight in self._asked:
            for use in asked.uses:
                for column in {*use.equal, *(join.column for join in use.joins)}:
                    self._shared[use.table, column] += weight  # type: ignore[assignment]  # typed to count whole ones
        self._updated = {
            (asked.written.table, column)
            for asked, _ in self._asked
            if asked.written is not None and asked.written.operation == "UPDATE"
            for column in asked.written.columns
        }

    def found(self) -> tuple[NewIndex, ...]:
        worth = Counter[NewIndex]()
        for asked, weight in self._asked:
            for use in asked.uses:
                for index, promise in self._of_use(use, asked).items():
                    worth[index] += weight * promise  # type: ignore[assignment]  # typed to count whole ones
        return self._bounded(worth)

    def _bounded(self, worth: Counter[NewIndex]) -> tuple[NewIndex, ...]:
        taken = Counter[str]()
        found: list[NewIndex] = []
        for index, _ in sorted(worth.items(), key=lambda item: (-item[1], repr(item[0]))):
            taken[index.table] += 1
            if taken[index.table] <= MAX_PER_TABLE:
                found.append(index)
        return tuple(found[:MAX_IN_ALL])

    def _of_use(self, use: TableUse, asked: Predicates) -> dict[NewIndex, float]:
        table = self._catalog.tables.get(use.table)
        if table is None or table.rows < MIN_ROWS:
            return {}
        found: dict[NewIndex, float] = {}
        for shape in self._shapes(use, table):
            for index, promise in self._made(shape, use, table, covers=_only_reads(use, asked)):
                found[index] = max(promise * table.rows, found.get(index, 0))
        return found

    # What an index would have to offer.

    def _shapes(self, use: TableUse, table: Table) -> Iterator[_Shape]:
        equal = self._sorted(use.equal, table)
        tails = list(self._tails(use, equal))
        yield _Shape(equal, worth=LOOKED_UP if tails else WHOLE)
        for tail, worth in tails:
            yield _Shape(equal, tail, worth)
        for column in equal[:2] if len(equal) > 1 and not Served(self._catalog, table).finds(equal) else ():
            yield _Shape((column,), worth=PART, may_cover=False)
        yield from self._joined(use, equal, table)
        yield from self._of_arms(use, equal, table)
        for defeat in use.defeats:
            if defeat.expression is not None:
                hidden = expression_key(defeat.expression, self._catalog, prefix=defeat.prefix)
                yield _Shape(equal, hidden=hidden, may_cover=False)
                yield _Shape((), hidden=hidden, may_cover=False, worth=PART)

    def _sorted(self, columns: Iterable[str], table: Table) -> tuple[str, ...]:
        """Those that more statements share first, then those with more different values."""
        usable = [name for name in dict.fromkeys(columns) if indexable(table.by_name[name], self._catalog)]
        found = sorted(usable, key=lambda name: (-self._shared[table.name, name], -(table.by_name[name].distinct or 0)))
        return tuple(found[:MAX_EQUAL])

    def _tails(self, use: TableUse, equal: tuple[str, ...]) -> Iterator[tuple[tuple[Sort, ...], float]]:
        """What may follow the columns that are equal: one range, or an order."""
        for number, name in enumerate([name for name in use.ranges if name not in equal][:MAX_RANGES]):
            yield (Sort(name),), WHOLE - number / 10
        orders = [use.order, _ascending(use.group), _ascending(use.distinct)]
        for order in dict.fromkeys(orders):
            left = tuple(sort for sort in order if sort.column not in equal)
            if left:
                yield left, WHOLE if use.limited else ORDERED

    def _joined(self, use: TableUse, equal: tuple[str, ...], table: Table) -> Iterator[_Shape]:
        for columns in self._join_keys(use, table):
            rest = tuple(name for name in equal if name not in columns)
            yield _Shape(columns, worth=LOOKED_UP)
            if rest:
                yield _Shape((*columns, *rest), worth=LOOKED_UP)
                yield _Shape(rest, tuple(map(Sort, columns)), LOOKED_UP)
            for name in [name for name in use.ranges if name not in columns][:MAX_RANGES]:
                yield _Shape((*columns, *rest), (Sort(name),), PART)

    def _join_keys(self, use: TableUse, table: Table) -> list[tuple[str, ...]]:
        """The columns of joins, each alone, and all together that one other table is joined by."""
        by_other: dict[str, list[str]] = {}
        for join in use.joins:
            by_other.setdefault(join.other_table, []).append(join.column)
        together = [self._sorted(columns, table) for columns in by_other.values()]
        alone = [(column,) for columns in together for column in columns]
        return [columns for columns in dict.fromkeys((*alone, *together)) if columns]

    def _of_arms(self, use: TableUse, equal: tuple[str, ...], table: Table) -> Iterator[_Shape]:
        for arm in use.arms:
            columns = tuple(name for name in arm if indexable(table.by_name[name], self._catalog))
            if columns:
                yield _Shape((), tuple(map(Sort, columns)), LOOKED_UP, may_cover=False)
            rest = tuple(Sort(name) for name in columns if name not in equal)
            if equal and rest:
                yield _Shape(equal, rest, PART, may_cover=False)

    # From a shape to an index.

    def _made(self, shape: _Shape, use: TableUse, table: Table, *, covers: bool) -> Iterator[tuple[NewIndex, float]]:
        served = Served(self._catalog, table)
        keys = self._keys(shape, use, table)
        if keys is None:
            return
        plain = served.shortened(keys)
        is_worth_it = bool(plain) and not self._is_unselective(shape, table)
        if is_worth_it and not served.has(shape.equal, keys):
            yield NewIndex(table.name, plain), shape.worth
        if covers and shape.may_cover and shape.columns:
            made = self._covering(shape, keys, use, served)
            if made is not None:
                yield made, shape.worth * COVERING

    def _keys(self, shape: _Shape, use: TableUse, table: Table) -> tuple[Key, ...] | None:
        """None where the database has no such index."""
        parts = [self._key(Sort(name), table, use, is_sort=False) for name in shape.equal]
        parts.sort(key=lambda key: key is not None and key.length is not None)
        if shape.hidden is not None:
            parts.append(shape.hidden)
        is_range = len(shape.tail) == 1 and shape.tail[0].column in use.ranges
        parts += [self._key(sort, table, use, is_sort=not is_range) for sort in _normal(shape.tail)]
        keys = tuple(key for key in parts if key is not None)
        if len(keys) < len(parts) or not keys or not fits(keys, table, self._catalog):
            return None
        if any(key.length for key in keys[:-1]):  # nothing is in order behind the beginnings of texts
            return None
        if any(key.descending for key in keys) and not mixed_directions(self._catalog):
            return None
        return keys

    def _key(self, sort: Sort, table: Table, use: TableUse, *, is_sort: bool) -> Key | None:
        column = table.by_name[sort.column]
        if not indexable(column, self._catalog):
            return None
        length = beginning_of(column, self._catalog)
        if length is not None and is_sort:  # the beginnings of texts do not put them in order
            return None
        key = Key(sort.column, descending=sort.descending, nulls_first=sort.nulls_first, length=length)
        if sort.column in use.prefixes and not is_sort and sort.column not in use.equal:
            return text_order(key, column, self._catalog)
        return key

    def _is_unselective(self, shape: _Shape, table: Table) -> bool:
        """Whether the only column has hardly different values, and none of them is rare."""
        if len(shape.columns) != 1 or shape.hidden is not None:
            return False
        column = table.by_name[shape.columns[0]]
        few = column.family == "boolean" or (column.distinct is not None and column.distinct <= 2)
        return few and not any(share <= RARE for _, share in column.common)

    def _covering(self, shape: _Shape, keys: tuple[Key, ...], use: TableUse, served: "Served") -> NewIndex | None:
        table = served.table
        named = {key.column for key in keys}
        payload = tuple(sorted(name for name in use.all if name not in named and name not in served.carried))
        columns = [table.by_name[name] for name in payload]
        narrow = payload_bytes(columns, self._catalog)
        if not payload or narrow > MAX_PAYLOAD_BYTES or len(payload) > MAX_PAYLOAD or any(key.length for key in keys):
            return None
        joined = any(join.column in shape.equal for join in use.joins)
        served_already = served.has(shape.equal, keys, payload, many=joined)
        if any((table.name, name) in self._updated for name in payload) or served_already:
            return None
        if self._catalog.dialect == "postgresql":
            return NewIndex(table.name, keys, payload)
        longer = (*keys, *(Key(name) for name in payload))
        return NewIndex(table.name, longer) if fits(longer, table, self._catalog) else None


class Served:
    """What a table's present indexes offer."""

    def __init__(self, catalog: Catalog, table: Table) -> None:
        self.table = table
        self.carried = _carried(catalog, table)
        """Columns that every index of the table ends with, whether it names them or not."""
        self._usable = [index for index in table.indexes if index.valid and not index.ignored and _is_tree(index)]

    def has(
        self, equal: Sequence[str], keys: Sequence[Key], payload: Sequence[str] = (), *, many: bool = False
    ) -> bool:
        """Whether an index finds these rows as well, those columns that are equal in whatever order; ``many``: they
        are looked up over and over, so that reading the table for each counts."""
        if any(not key.is_plain for key in keys):
            trees = (index for index in self.table.indexes if index.valid and not index.ignored and not index.where)
            return any(_holds(self._offered(index), keys) for index in trees if index.method == "btree")
        return any(self._serves(index, equal, keys, payload, many=many) for index in self._usable)

    def _serves(
        self, index: Index, equal: Sequence[str], keys: Sequence[Key], payload: Sequence[str], *, many: bool
    ) -> bool:
        if index.unique and set(index.columns) <= set(equal) and not (many and payload and not index.clustered):
            return True  # there is at most one row to read
        offered = self._offered(index)
        count = len(equal)
        if {key.column for key in offered[:count]} != set(equal):
            return False
        if not _same_order(offered[count : len(keys)], keys[count:]):
            return False
        return index.clustered or set(payload) <= {*index.columns, *index.include, *self.carried}

    def finds(self, equal: Sequence[str]) -> bool:
        """Whether an index finds the rows in which these columns equal something."""
        return self.has(equal, [Key(name) for name in equal])

    def _offered(self, index: Index) -> list[Key]:
        return [*index.keys, *(Key(name) for name in self.carried if name not in index.columns)]

    def shortened(self, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        """Without what the index would end with anyhow; nothing where that is all."""
        for count in range(len(keys)):
            kept = keys[:count]
            names = [key.column for key in kept]
            if _same_order([*kept, *(Key(name) for name in self.carried if name not in names)][: len(keys)], keys):
                return kept
        return keys


def _is_tree(index: Index) -> bool:
    return index.is_plain and bool(index.keys)


def _holds(offered: Sequence[Key], keys: Sequence[Key]) -> bool:
    """Whether these keys begin with those, expressions compared by what they say."""
    return len(offered) >= len(keys) and all(map(_same_key, offered, keys))


def _same_key(one: Key, other: Key) -> bool:
    if one.column is None or other.column is None:
        return _said(one.expression) == _said(other.expression) and one.opclass == other.opclass
    return one == other


def _said(expression: str | None) -> str:
    """Without spaces, quotation marks, brackets and casts to text, in all of which databases write it differently."""
    plain = CAST.sub(r"\1::\2", (expression or "").lower()).replace("::text", "").replace("::character varying", "")
    return plain.translate(str.maketrans("", "", ' "`[]()'))


def _same_order(offered: Sequence[Key], wanted: Sequence[Key]) -> bool:
    """Whether reading them forwards or backwards gives the order that is wanted."""
    if [key.column for key in offered] != [key.column for key in wanted]:
        return False
    if any(key.nulls_first is not None for key in (*offered, *wanted)):
        return list(offered) == list(wanted)
    turned = {key.descending != other.descending for key, other in zip(offered, wanted, strict=True)}
    return len(turned) <= 1


def _carried(catalog: Catalog, table: Table) -> tuple[str, ...]:
    if catalog.dialect in ("mysql", "mariadb"):
        return table.primary_key
    if catalog.dialect != "sqlite":
        return ()
    is_rowid = any(index.clustered for index in table.indexes if index.constraint == "PRIMARY KEY")
    return table.primary_key if table.without_rowid or is_rowid else ()


def _normal(tail: tuple[Sort, ...]) -> tuple[Sort, ...]:
    """Read backwards where that makes the first column ascending: both are the same index."""
    if not tail or not tail[0].descending:
        return tail
    return tuple(
        Sort(sort.column, not sort.descending, None if sort.nulls_first is None else not sort.nulls_first)
        for sort in tail
    )


def _ascending(columns: Iterable[str]) -> tuple[Sort, ...]:
    return tuple(map(Sort, columns))


def _only_reads(use: TableUse, asked: Predicates) -> bool:
    """Whether the table's rows are not needed as soon as an index holds the columns."""
    written = asked.written
    return bool(use.all) and not (written and written.table == use.table and written.operation in ("UPDATE", "DELETE"))


# Names.


def name_of(index: NewIndex, catalog: Catalog) -> str:
    """``ix_<table>_<columns>``, as long as the database allows and unlike all names that are taken; always the same for
    the same index."""
    words = [key.column or "expr" for key in index.keys]
    plain = "_".join(["ix", index.table, *words])
    limit = MOST_NAME_BYTES.get(catalog.dialect, 63)
    if _is_telling(index) and len(plain.encode()) <= limit and _readings(plain, catalog) == 1:
        wanted = plain
    else:
        mark = blake2b(repr(index).encode(), digest_size=3).hexdigest()
        wanted = f"{_cut(plain, limit - len(mark) - 1)}_{mark}"
    return _free(wanted, limit, catalog)


def _is_telling(index: NewIndex) -> bool:
    """Whether table and columns are all there is to it."""
    return not index.include and not index.unique and all(key == Key(key.column) for key in index.keys)


def _readings(name: str, catalog: Catalog) -> int:
    """As how many lists of columns, of whatever table, the name could be read."""
    return sum(
        _splits(name[len(start) :], table)
        for table in catalog.tables.values()
        if name.startswith(start := f"ix_{table.name}_")
    )


def _splits(text: str, table: Table) -> int:
    if not text:
        return 0
    found = int(text in table.by_name)
    return found + sum(_splits(text[len(name) + 1 :], table) for name in table.by_name if text.startswith(f"{name}_"))


def _cut(name: str, most_bytes: int) -> str:
    return name.encode()[:most_bytes].decode(errors="ignore")


def _free(wanted: str, limit: int, catalog: Catalog) -> str:
    taken = {index.name.lower() for table in catalog.tables.values() for index in table.indexes}
    taken |= {name.lower() for name in catalog.tables}
    name, number = wanted, 2
    while name.lower() in taken:
        ending = f"_{number}"
        name, number = _cut(wanted, limit - len(ending)) + ending, number + 1
    return name
