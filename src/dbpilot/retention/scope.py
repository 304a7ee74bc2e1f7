"""Which rows of a table a rule means, and in which portions they are taken."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, Final

import sqlalchemy as sa

from dbpilot.retention.conditions import beyond, matches, older, one_of, untrue, within
from dbpilot.retention.holds import Hold, free
from dbpilot.retention.live import Child, Live
from dbpilot.retention.policy import Rule
from dbpilot.retention.targets import Key

MAX_KEYS: Final = 100_000
"""Keys of duplicates that are in memory at once: finding them means sorting the table."""
DENSE: Final = 0.9
"""The share of rows among the numbers from the first key to the last, from which on a portion is so many numbers."""
PARAMETERS: Final = 30_000
"""Of one statement; SQLite allows 32,766, PostgreSQL 65,535."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Rows of one batch: all due ones with a key from first to last, or those of exactly these keys."""

    first: Key
    last: Key
    keys: tuple[Key, ...] | None = None

    def condition(self, live: Live) -> sa.ColumnElement[bool]:
        """The row belongs to the portion, if it is due."""
        return within(live.key, self.first, self.last) if self.keys is None else one_of(live.key, self.keys)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a rule means today."""

    rule: Rule
    live: Live
    now: datetime
    holds: tuple[Hold, ...]
    children: Mapping[str, "Scope"]
    """What goes before in the same plan, by table."""

    @property
    def plain(self) -> sa.ColumnElement[bool]:
        """The row is old enough, as the rule wants it, and held by nobody."""
        return self._plain_in(self.live.table)

    @property
    def wanted(self) -> sa.ColumnElement[bool]:
        """The row would be due if nobody held it, and nothing pointed at it."""
        return self._wanted_in(self.live.table)

    def _plain_in(self, table: sa.FromClause) -> sa.ColumnElement[bool]:
        return sa.and_(self._wanted_in(table), free(table, self.holds))

    def _wanted_in(self, table: sa.FromClause) -> sa.ColumnElement[bool]:
        rule = self.rule
        age = older(table.c[rule.time_column], rule.cutoff(self.now)) if rule.time_column else sa.true()
        return sa.and_(age, matches(table, rule.where))

    @property
    def due(self) -> sa.ColumnElement[bool]:
        """The row may go now: nothing points at it any more."""
        return sa.and_(self.plain, *(~self._has_child(child) for child in self.live.children))

    @property
    def expected(self) -> sa.ColumnElement[bool]:
        """The row will be due when the rules before have run. Of a table that refers to itself this is more than will
        be, where a row stays two steps below."""
        return sa.and_(self.plain, *(~self._has_child(child, stays=True) for child in self.live.children))

    def _has_child(self, child: Child, *, stays: bool = False) -> sa.ColumnElement[bool]:
        """A row points at this one; or one does that no rule before takes away."""
        own = self.live.table
        itself = child.table.name == own.name
        before = self.children.get(child.table.name) if stays else None
        if before is None or before.rule.duplicates:
            other = child.table.alias()
            pointing = child.of(own, other)
            if itself:
                pointing = sa.and_(pointing, sa.or_(*(other.c[key.name] != key for key in self.live.key)))
            if itself and stays:
                pointing = sa.and_(pointing, untrue(self._plain_in(other)))
            return sa.select(sa.literal(1)).select_from(other).where(pointing).correlate(own).exists()
        pointing = sa.and_(child.of(own, before.live.table), untrue(before.expected))
        return sa.select(sa.literal(1)).select_from(before.live.table).where(pointing).correlate(own).exists()

    def keys(self, condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
        """The keys of these rows, in their order."""
        return sa.select(*self.live.key).where(condition).order_by(*self.live.key)

    def repeated(self) -> sa.Select[Any]:
        """The keys of rows of which the table has another that is kept, and that may go."""
        table, key = self.live.table, self.live.key
        same = [table.c[name] for name in self.rule.duplicates]
        order = key if self.rule.keep_which == "first" else [column.desc() for column in key]
        nth = sa.func.row_number().over(partition_by=same, order_by=order).label("dbpilot_nth")
        known = [column.is_not(None) for column in same]
        numbered = sa.select(*key, nth).where(matches(table, self.rule.where), *known).subquery()
        found = [numbered.c[name] == table.c[name] for name in self.live.key_names]
        joined = table.join(numbered, sa.and_(*found))
        return sa.select(*key).select_from(joined).where(numbered.c.dbpilot_nth > 1, self.due)

    def still_repeated(self, keys: Sequence[Key]) -> sa.Select[Any]:
        """Those of the keys whose rows may go, and still have another that is kept."""
        own, other = self.live.table, self.live.table.alias()
        kept = tuple(other.c[name] for name in self.live.key_names)
        first = self.rule.keep_which == "first"
        order = beyond(self.live.key, kept) if first else beyond(kept, tuple(self.live.key))
        same = [other.c[name] == own.c[name] for name in self.rule.duplicates]
        another = sa.select(sa.literal(1)).select_from(other).where(*same, matches(other, self.rule.where), order)
        return self.keys(sa.and_(one_of(self.live.key, keys), self.due, another.correlate(own).exists()))

    def counted(self, condition: sa.ColumnElement[bool]) -> sa.Subquery:
        """The rows of the plan, as key and age."""
        rows = self.repeated() if self.rule.duplicates else sa.select(*self.live.key).where(condition)
        if self.rule.time_column:
            rows = rows.add_columns(self.live.table.c[self.rule.time_column].label("dbpilot_time"))
        return rows.subquery()


class Portions:
    """Gives the rows of a scope out, portion by portion, none of them twice."""

    def __init__(self, scope: Scope, first: Key, last: Key, rows: int) -> None:
        self._last = last
        self._is_dense = _numbers(first, last) * DENSE <= rows
        self._rest = within(scope.live.key, first, last)
        self._keys: deque[Key] = deque()
        self._over = False

    def next(self, connection: sa.Connection, scope: Scope, size: int) -> Portion | None:
        """At most so many rows that are due now; None when there are no more."""
        take = self._repeated if scope.rule.duplicates else self._range
        return take(connection, scope, size)

    def _range(self, connection: sa.Connection, scope: Scope, size: int) -> Portion | None:
        rest = scope.keys(sa.and_(self._rest, scope.due))
        first = connection.execute(rest.limit(1)).first()
        if first is None:
            return None
        portion = Portion(tuple(first), self._end(connection, rest, tuple(first), size))
        self._rest = sa.and_(beyond(scope.live.key, portion.last), within(scope.live.key, portion.last, self._last))
        return portion

    def _end(self, connection: sa.Connection, rest: sa.Select[Any], first: Key, size: int) -> Key:
        """The last key of a portion that begins there; looking for it means reading its rows once more."""
        if self._is_dense:
            return (min(first[0] + size - 1, self._last[0]),)
        last = connection.execute(rest.limit(1).offset(size - 1)).first()
        return self._last if last is None else tuple(last)

    def _repeated(self, connection: sa.Connection, scope: Scope, size: int) -> Portion | None:
        if not self._keys and not self._over:
            self._fill(connection, scope)
        size = min(size, PARAMETERS // len(scope.live.key))
        while keys := tuple(self._keys.popleft() for _ in range(min(size, len(self._keys)))):
            if scope.rule.kind == "purge":  # what repeated another a while ago may be the last of its kind by now
                keys = tuple(tuple(row) for row in connection.execute(scope.still_repeated(keys)))
            if keys:
                return Portion(keys[0], keys[-1], keys)
            if not self._keys and not self._over:
                self._fill(connection, scope)
        return None

    def _fill(self, connection: sa.Connection, scope: Scope) -> None:
        found = scope.repeated().where(self._rest).order_by(*scope.live.key).limit(MAX_KEYS)
        self._keys.extend(tuple(row) for row in connection.execute(found))
        self._over = len(self._keys) < MAX_KEYS
        if self._keys:
            self._rest = beyond(scope.live.key, self._keys[-1])


def _numbers(first: Key, last: Key) -> float:
    """How many keys there may be from the first to the last; infinitely many where they are no whole numbers."""
    whole = len(first) == 1 and type(first[0]) is int and type(last[0]) is int
    return last[0] - first[0] + 1 if whole else inf


def chunks(keys: Sequence[Key], width: int) -> Iterator[Sequence[Key]]:
    """The keys, as many at a time as one statement can name."""
    size = max(1, PARAMETERS // width)
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
