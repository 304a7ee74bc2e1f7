"""Which index does another one of the same table serve as well? In doubt, none does, and the doubt is put in words.

What databases do was tried on MariaDB 10.11, PostgreSQL 15 and SQLite 3.40; each rule has its pair of indexes in
tests/contract/redundancy_pairs.py.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from dbpilot.dialects.catalog import Catalog, Index, Key, Table
from dbpilot.indexes.workload import Statement, Workload
from dbpilot.sql.predicates import TableUse

TOKEN: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|\[[^\]]*\]|\w+|\S")
HINT: Final = re.compile(
    r"\b(?:FORCE|USE|IGNORE)\s+(?:INDEX|KEY)\b[^()]*\(([^()]*)\)|\bINDEXED\s+BY\s+(\"[^\"]+\"|`[^`]+`|\[[^\]]+\]|\w+)",
    re.IGNORECASE,
)
MYSQLS: Final = ("mysql", "mariadb")
MUCH_SMALLER: Final = 0.5
"""Of the size of the index that serves in its place: a statement that reads much of it is twice as fast with it."""
HOT_USES: Final = 1000
"""An index that was read so often is missed when it becomes twice as large, where nobody says what reads it."""


@dataclass(frozen=True, slots=True)
class Redundant:
    """An index that may go, as ``cover`` does all that it does."""

    index: Index
    cover: Index
    doubts: tuple[str, ...] = ()
    """What somebody should look at first, in sentences."""

    @property
    def is_duplicate(self) -> bool:
        """Whether the other one is as long, rather than longer."""
        return len(self.index.keys) == len(self.cover.keys)


@dataclass(frozen=True, slots=True)
class Kept:
    """An index that looks as if another one served in its place, and why it must stay."""

    index: Index
    resembles: Index
    because: str


def redundancies(
    catalog: Catalog,
    table: Table,
    workload: Workload | None = None,
    unread: Collection[str] = (),
    planned: Iterable[Index] = (),
) -> Iterator[Redundant | Kept]:
    """Those indexes of the table that may all go together, each with one that stays; and those that only look so.

    Those that are ``unread`` may go for that, so that none of them serves in the place of one that is read. Those that
    are ``planned`` serve as if they were there. Nothing is said of a primary key, nor of an index that is not valid.
    """
    pairing = _Pairing(catalog, table, workload, unread)
    present = [index for index in table.indexes if index.valid]
    staying, gone = {index.name: index for index in (*present, *planned)}, list[tuple[Index, list[Index]]]()
    for index in sorted(present, key=lambda one: (*_shortness(one), one.name not in unread, *_unwanted(one))):
        if index.constraint == "PRIMARY KEY":
            continue
        others = [other for other in staying.values() if other is not index and pairing.resembles(index, other)]
        objections = {other.name: pairing.objection(index, other) for other in others}
        covers = [other for other in others if objections[other.name] is None]
        if covers:
            del staying[index.name]
            gone.append((index, covers))
        elif others:
            closest = min(others, key=_worth_keeping)
            yield Kept(index, closest, objections[closest.name] or "")
    there = {index.name for index in present}
    for index, covers in gone:
        found = [Redundant(index, one, tuple(pairing.doubts(index, one))) for one in covers if one.name in staying]
        yield min(found, key=lambda one: (one.cover.name not in there, len(one.doubts), _worth_keeping(one.cover)))


def _shortness(index: Index) -> tuple[int, ...]:
    """Sorts from the longest: they are decided first, so that what is named as a cover stays."""
    whole = sum(key.length or 10_000 for key in index.keys)
    return -len(index.keys) - len(index.include), -len(index.keys), -whole


def _unwanted(index: Index) -> tuple[object, ...]:
    """Sorts equal ones from the least wanted; of two that differ in nothing, from the later name."""
    return (*(-part for part in _wanted(index)), [-ord(letter) for letter in index.name])


def _wanted(index: Index) -> tuple[int, ...]:
    """Which of several equal indexes stays: the one with the smallest."""
    constraint = {None: 0, "EXCLUDE": 1, "UNIQUE": 1, "PRIMARY KEY": 2}[index.constraint]
    ascending = sum(not key.descending for key in index.keys)
    needed, uses = len(index.needed_by), index.uses or index.rows_read or 0
    return -constraint, -needed, -index.unique, index.ignored, -ascending, -uses, index.size_bytes or 0


def _worth_keeping(index: Index) -> tuple[object, ...]:
    return (len(index.keys) + len(index.include), *_wanted(index), index.name)


class _Pairing:
    """Compares two indexes of one table."""

    def __init__(self, catalog: Catalog, table: Table, workload: Workload | None, unread: Collection[str]) -> None:
        self._table = table
        self._workload = workload
        self._unread = unread
        self._like_mysql = catalog.dialect in MYSQLS
        self._like_postgresql = catalog.dialect == "postgresql"
        self._tail = hidden_tail(table)
        self._hinted = hinted(workload)
        self._checks: tuple[Callable[[Index, Index], str | None], ...] = (
            self._wanted_itself,
            self._not_in_use,
            self._other_kind,
            self._other_rows,
            self._rule,
            self._keys,
            self._directions,
            self._payload,
            self._order_of_rows,
        )

    def resembles(self, index: Index, other: Index) -> bool:
        """Whether the other one begins with the same columns, whatever else tells them apart."""
        columns = [self._plain(key) for key in index.keys]
        return columns == [self._plain(key) for key in other.keys[: len(columns)]]

    def objection(self, index: Index, other: Index) -> str | None:
        """Why the other one does not serve in its place; None where it does."""
        return next((said for check in self._checks if (said := check(index, other))), None)

    def doubts(self, index: Index, cover: Index) -> Iterator[str]:
        """What to look at before the index goes, though nothing is known that speaks against it."""
        if cover.clustered and not index.clustered:
            yield f"{cover.name} is the table itself: what only counts or reads these columns reads more without it"
        elif self._is_missed_for_its_size(index, cover):
            yield f"{cover.name} is much larger, and this one is read often: each read of many of its rows costs more"
        if self._workload is None and not self._keeps_tail(index, cover):
            yield (
                f"it also gives rows in the order of {_listed(self._tail)}, which {cover.name} does not, and no"
                " statements are known that would tell whether one needs that"
            )
        if index.method != cover.method:
            yield f"{cover.name} compares whole values at each step, where this one compares hashes"
        if index.unique:
            yield f"an error about a duplicate will name {cover.name} from then on"

    def _wanted_itself(self, index: Index, _: Index) -> str | None:
        if index.needed_by:
            return f"{_listed(index.needed_by)} rests on this very index"
        if index.name.lower() in self._hinted:
            return "a statement names it, and would fail without it"
        return None

    def _not_in_use(self, index: Index, other: Index) -> str | None:
        if other.ignored and not index.ignored:
            return f"the optimizer is told to leave {other.name} alone"
        if other.name in self._unread and index.name not in self._unread:
            return f"nothing reads {other.name}, which may rather go"
        return None

    def _other_kind(self, index: Index, other: Index) -> str | None:
        if index.method == "hash" and other.method == "btree":
            return None
        if index.method != other.method:
            return f"it is a {index.method} index and {other.name} a {other.method} index: each serves other conditions"
        if index.method != "btree" and not _made_alike(index, other):
            return f"a {index.method} index serves in another's place only when it is made in exactly the same way"
        return None

    def _other_rows(self, index: Index, other: Index) -> str | None:
        mine, others = self._condition(index), self._condition(other)
        if mine == others:
            return None
        if mine is None:
            return f"{other.name} holds only the rows WHERE {other.where}"
        if others is None:
            return f"it holds only the rows WHERE {index.where}, which makes it smaller than {other.name}"
        return f"it holds the rows WHERE {index.where}, and {other.name} those WHERE {other.where}"

    def _rule(self, index: Index, other: Index) -> str | None:
        """Whether a rule that the index keeps is kept by the other one as well, and nothing else rests on it."""
        if not index.unique and index.constraint is None:
            return None
        named = _listed(index.columns)
        if index.constraint == "EXCLUDE" or not other.unique or not self._same_rule(index, other):
            return f"it forbids that two rows have the same {named}, which {other.name} does not"
        if index.constraint and not self._like_mysql:
            return (
                f"it belongs to a constraint, though {other.name} forbids the same: drop the constraint, not the index"
            )
        return None

    def _same_rule(self, index: Index, other: Index) -> bool:
        same = [(self._plain(key), key.length, key.collation) for key in index.keys]
        nulls = index.nulls_distinct or not other.nulls_distinct
        return nulls and same == [(self._plain(key), key.length, key.collation) for key in other.keys]

    def _keys(self, index: Index, other: Index) -> str | None:
        pairs = zip(index.keys, other.keys, strict=False)
        return next((said for mine, others in pairs if (said := _differs(mine, others, other))), None)

    def _directions(self, index: Index, other: Index) -> str | None:
        """MariaDB neither looks up MIN and MAX nor skips from group to group in a descending index; elsewhere one that
        is descending in all of its columns is as good, read backwards."""
        mine = [self._direction(key) for key in index.keys]
        others = [self._direction(key) for key in other.keys[: len(mine)]]
        if mine == others:
            return None
        if mine != [(not down, not first) for down, first in others]:
            return f"it sorts {_ordered(index)}, and {other.name} {_ordered(other)}"
        if self._like_mysql and any(down for down, _ in others):
            return f"{other.name} is descending, where MIN, MAX and GROUP BY cannot be looked up"
        return None

    def _direction(self, key: Key) -> tuple[bool, bool]:
        """Whether it descends, and whether NULL comes first."""
        usual = key.descending == (self._like_postgresql)
        return key.descending, usual if key.nulls_first is None else key.nulls_first

    def _payload(self, index: Index, other: Index) -> str | None:
        carried = {*other.include, *(key.column for key in other.keys if key.length is None)}
        missing = [column for column in index.include if column not in carried]
        return f"it carries {_listed(missing)} besides its key, which {other.name} does not" if missing else None

    def _order_of_rows(self, index: Index, other: Index) -> str | None:
        """An index carries the primary key behind its own where rows lie in that; a statement may want that order."""
        if self._keeps_tail(index, other) or not any(self._wants_tail(index, other, use) for _, use in self._uses()):
            return None
        return f"a statement needs its rows in the order of {_listed(self._tail)}, which {other.name} does not give"

    def _keeps_tail(self, index: Index, other: Index) -> bool:
        mine, others = _with_tail(index, self._tail), _with_tail(other, self._tail)
        return other.clustered or others[: len(mine)] == mine

    def _wants_tail(self, index: Index, other: Index, use: TableUse) -> bool:
        """Whether rows are sought in an order that begins with all of the index's columns, and goes on with the tail;
        columns that are given need no order."""
        given = {*use.equal, *(join.column for join in use.joins)}
        ordered = {*(sort.column for sort in use.order), *use.ranges, *use.group, *use.distinct}
        return (
            bool(ordered.intersection(self._tail))
            and {*given, *ordered}.issuperset(index.columns)
            and not given.issuperset(other.columns)
        )

    def _is_missed_for_its_size(self, index: Index, cover: Index) -> bool:
        if index.size_bytes is None or cover.size_bytes is None or index.size_bytes > MUCH_SMALLER * cover.size_bytes:
            return False
        if self._workload is None:
            return index.is_used is not False and (index.uses is None or index.uses >= HOT_USES)
        carried = {*_with_tail(index, self._tail), *index.include}
        return any(index.columns[0] in use.all and carried.issuperset(use.all) for _, use in self._uses())

    def _uses(self) -> Iterator[tuple[Statement, TableUse]]:
        return uses_of(self._workload, self._table.name)

    def _plain(self, key: Key) -> str:
        if key.column is None:
            return self._normal(key.expression or "")
        return key.column if self._like_postgresql else key.column.lower()

    def _condition(self, index: Index) -> str | None:
        return None if index.where is None else self._normal(index.where)

    def _normal(self, expression: str) -> str:
        """PostgreSQL writes all expressions in one way; the others, as they were told."""
        return expression if self._like_postgresql else normal(expression, self._table.by_name)


def _made_alike(index: Index, other: Index) -> bool:
    """Whether their statements differ in the index's name only: parsers of texts and such stand nowhere else."""
    if index.definition is None or other.definition is None:
        return False
    return index.definition.replace(index.name, "", 1) == other.definition.replace(other.name, "", 1)


def _differs(mine: Key, others: Key, other: Index) -> str | None:
    """Why this part of the other one's key is less than mine."""
    if others.length is not None and (mine.length is None or mine.length > others.length):
        return f"{other.name} holds only the first {others.length} characters of {others.column}"
    if mine.collation != others.collation:
        return f"{other.name} compares {others.column or 'its expression'} in another collation"
    if mine.opclass != others.opclass:
        return f"{other.name} compares {others.column or 'its expression'} by other operators"
    return None


def hidden_tail(table: Table) -> tuple[str, ...]:
    """The columns that every index carries behind its own: those that the rows lie in the order of."""
    return next((index.columns for index in table.indexes if index.clustered), ())


def _with_tail(index: Index, tail: tuple[str, ...]) -> tuple[str, ...]:
    return (*index.columns, *(column for column in tail if column not in index.columns))


def normal(expression: str, columns: Iterable[str]) -> str:
    """The expression without what makes no difference: blanks, upper and lower case of words, quotes around names of
    ``columns`` and brackets around all of it."""
    names = {column.lower() for column in columns}
    words = [_word(word, names) for word in TOKEN.findall(expression)]
    while len(words) > 1 and words[0] == "(" and _closes_at(words) == len(words) - 1:
        words = words[1:-1]
    return " ".join(words)


def _word(word: str, names: set[str]) -> str:
    if word.startswith("'"):
        return word
    bare = word[1:-1].lower() if word[0] in '"`[' and len(word) > 1 else word.lower()
    return bare if word[0] not in '"`[' or bare in names else word


def _closes_at(words: list[str]) -> int:
    """Where the bracket that opens it is closed."""
    depth = 0
    for place, word in enumerate(words):
        depth += (word == "(") - (word == ")")
        if depth == 0:
            return place
    return -1


def hinted(workload: Workload | None) -> frozenset[str]:
    """The indexes that statements name (FORCE INDEX, INDEXED BY), in lower case: without them they would fail."""
    found = (
        name.strip().strip('"`[]').lower()
        for statement in (workload.statements if workload else ())
        for several, one in HINT.findall(statement.text)
        for name in (several or one).split(",")
    )
    return frozenset(found)


def uses_of(workload: Workload | None, table: str) -> Iterator[tuple[Statement, TableUse]]:
    """What each statement that could be read asks of the table."""
    for statement in workload.statements if workload else ():
        for use in statement.predicates.uses if statement.predicates else ():
            if use.table == table:
                yield statement, use


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(columns)


def _ordered(index: Index) -> str:
    return _listed(
        name + (" DESC" if key.descending else "") for name, key in zip(index.columns, index.keys, strict=True)
    )
