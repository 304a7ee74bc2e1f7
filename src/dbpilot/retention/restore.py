"""Rows come back from an archive into their live table, and leave it; what is live is never overwritten."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.dml import Insert

from dbpilot.errors import RefusedError, RetentionError
from dbpilot.retention import missing, parents
from dbpilot.retention.conditions import beyond, comparable, matches, one_of
from dbpilot.retention.digest import digest_of
from dbpilot.retention.elsewhere import recover
from dbpilot.retention.journal import Entry, Journal
from dbpilot.retention.live import MADE_BY_US, Live, reflected, stamp_name
from dbpilot.retention.policy import Rule
from dbpilot.retention.portable import Portable
from dbpilot.retention.scope import chunks
from dbpilot.retention.session import Session
from dbpilot.retention.targets import ArchiveTarget, Key

ROWS_AT_ONCE: Final = 500
"""Rows of one transaction; their keys are written down."""
NAMED_CONFLICTS: Final = 100
LIVE: Final = "a row of this key is live"
NO_PARENT: Final = frozenset({"1216", "1452", "23503", "SQLITE_CONSTRAINT_FOREIGNKEY"})
"""What databases call it that a row points at one which is not there."""
SEVERAL: Final = "the archive has several rows of this key; take the one that is meant out of its files by hand"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which archived rows are meant: all where nothing is said."""

    since: datetime | None = None
    until: datetime | None = None
    """Excluded. Both are instants of the rule's time column."""
    keys: frozenset[Key] | None = None

    def asked(self) -> missing.Asked:
        """The same, as far as the journal knows what batches had."""
        return missing.Asked(None if self.until is None else f"{self.until:%Y-%m}", self.keys)

    def has(self, key: Key) -> bool:
        """The row of this key is meant."""
        return self.keys is None or key in self.keys


@dataclass(frozen=True, slots=True)
class Conflict:
    """A row that stays in the archive, and why."""

    key: Key
    reason: str


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What was restored."""

    rule: str
    table: str
    archive: str
    restored: int = 0
    in_conflict: int = 0
    """Rows that stay in the archive."""
    conflicts: tuple[Conflict, ...] = ()
    """The first hundred of them, without those that parents come before."""
    parents_first: tuple[str, ...] = ()
    """Why rows stay that point at rows which are not live, and what brings them back."""
    missing_rows: int = 0
    """Rows that were put into the archive and are not there, as far as they may have been meant."""
    missing: tuple[str, ...] = ()
    """The files or batches that are gone as a whole: the first hundred."""

    @property
    def ok(self) -> bool:
        """All that was meant is live again."""
        return not (self.in_conflict or self.missing_rows)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would look at; rows whose key is live would stay in the archive."""

    rule: str
    table: str
    archive: str
    found: int
    missing_rows: int = 0
    """As a :class:`RestoreResult` has it."""
    missing: tuple[str, ...] = ()


class _Overriding(Insert):
    """An INSERT that brings the values of identity columns along, also of those that are GENERATED ALWAYS."""

    inherit_cache = False


@compiles(_Overriding)
def _insert(element: _Overriding, compiler: Any, **how: Any) -> str:
    return str(compiler.visit_insert(element, **how))


@compiles(_Overriding, "postgresql")
def _insert_overriding(element: _Overriding, compiler: Any, **how: Any) -> str:
    sql = str(compiler.visit_insert(element, **how))
    # Column names are quoted where they are words, so the first of these outside of them ends their list.
    place = min(found for word in (") VALUES ", ") SELECT ") if (found := sql.find(word)) >= 0)
    return f"{sql[: place + 1]} OVERRIDING SYSTEM VALUE{sql[place + 1 :]}"


@dataclass(slots=True)
class _Back:
    """What both ways back have in common."""

    session: Session
    rule: Rule
    live: Live
    now: Callable[[], datetime]
    rules: Sequence[Rule]
    """All there are: one of them archives the rows that these point at."""
    result: RestoreResult = field(init=False)
    _parents: Sequence[parents.Parent] = field(init=False)
    _without_parent: Counter[tuple[str, ...]] = field(default_factory=Counter, init=False)
    """Rows that must wait, by the tables of which they miss rows."""

    def __post_init__(self) -> None:
        with self.session.reading() as connection:
            self._parents = parents.parents_of(connection, self.live)

    def _told_of_parents(self) -> RestoreResult:
        """The result, with a sentence about all rows that could not come before their parents."""
        found = self._without_parent.items()
        said = [parents.said_of(rows, self.live.table.name, tables, self.rules) for tables, rows in found]
        return replace(self.result, parents_first=tuple(said))

    def _refused(self, key: Key, error: IntegrityError | DataError) -> None:
        """A row stays, because the live table does not take it."""
        if self._parents and self.session.code(error) in NO_PARENT:
            self._orphaned(Counter({tuple(dict.fromkeys(parent.table.name for parent in self._parents)): 1}))
        else:
            self._conflict([key], f"the live table refuses it: {self.session.said(error)}")

    def _orphaned(self, rows: Counter[tuple[str, ...]]) -> None:
        self._without_parent += rows
        self.result = replace(self.result, in_conflict=self.result.in_conflict + rows.total())

    def _orphans(self, rows: Mapping[Key, Row]) -> set[Key]:
        """Those of the rows that must wait for their parents, which are counted."""
        with self.session.reading() as connection:
            found = parents.orphans(connection, self.live, self._parents, rows)
        self._orphaned(Counter((table,) for table in found.values()))
        return set(found)

    def _restored(self, rows: int) -> None:
        self.result = replace(self.result, restored=self.result.restored + rows)

    def _conflict(self, keys: Collection[Key], reason: str) -> None:
        known = self.result.conflicts
        named = [Conflict(key, reason) for key in sorted(keys, key=repr)[: NAMED_CONFLICTS - len(known)]]
        self.result = replace(self.result, in_conflict=self.result.in_conflict + len(keys), conflicts=(*known, *named))

    def _taken(self, connection: sa.Connection, keys: Sequence[Key]) -> set[Key]:
        """Those of the keys that are live."""
        live = sa.select(*self.live.key)
        parts = (live.where(one_of(self.live.key, part)) for part in chunks(keys, len(self.live.key)))
        return {tuple(row) for part in parts for row in connection.execute(part)}

    def _note(self, connection: sa.Connection, entry: Entry) -> Entry:
        journal = Journal(connection)
        entry = replace(entry, number=journal.next_number(self.rule.name))
        journal.enter(entry, self.now())
        return entry


@dataclass(slots=True)
class FromBeside(_Back):
    """Brings rows back from a table beside the live one: each part in one transaction."""

    archive: sa.Table

    def run(self, wanted: Wanted) -> RestoreResult:
        """What is wanted is live again, apart from the conflicts that are told."""
        self.result = RestoreResult(self.rule.name, self.live.table.name, self.archive.name)
        condition = meant(self.archive, self.rule, self.live, wanted)
        lost = self._lost_columns()
        rest = sa.and_(condition, *(self.archive.c[name].is_(None) for name in lost))
        if lost:
            self._tell_lost(condition, lost)
        last: Key | None = None
        while keys := self._keys(rest, last):
            last = keys[-1]
            try:
                self.session.persistently(partial(self._bring, keys))
            except (IntegrityError, DataError):
                self._with_parents(keys)
        return self._told_of_parents()

    def _with_parents(self, keys: Sequence[Key]) -> None:
        """Those that may be live are."""
        orphans = self._orphans(self._pointing(keys))
        self._one_by_one([key for key in keys if key not in orphans])

    def _pointing(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """Where these rows point."""
        names = {name for parent in self._parents for name in (*parent.columns, *parent.parent_columns)}
        columns = [self.archive.c[name] for name in sorted({*names, *self.live.key_names}) if name in self.archive.c]
        with self.session.reading() as connection:
            rows = connection.execute(sa.select(*columns).where(one_of(self._key, keys))).mappings().all()
        return {tuple(row[name] for name in self.live.key_names): dict(row) for row in rows}

    @property
    def _key(self) -> list[sa.Column[Any]]:
        return _key_in(self.archive, self.live)

    def _lost_columns(self) -> list[str]:
        """Columns that only the archive has: their values would be lost with the archived row."""
        own = {stamp_name(self.live.table), *self.live.table.c.keys()}
        return [column.name for column in self.archive.columns if column.name not in own]

    def _tell_lost(self, condition: sa.ColumnElement[bool], lost: Sequence[str]) -> None:
        with self.session.reading() as connection:
            chosen = sa.select(*self._key).where(
                condition, sa.or_(*(self.archive.c[name].is_not(None) for name in lost))
            )
            keys = [tuple(row) for row in connection.execute(chosen)]
        self._conflict(keys, f"it has values in {', '.join(lost)}, which {self.live.table.name} does not have any more")

    def _keys(self, condition: sa.ColumnElement[bool], last: Key | None) -> list[Key]:
        key = self._key
        chosen = sa.select(*key).where(condition).order_by(*key).limit(ROWS_AT_ONCE)
        if last is not None:
            chosen = chosen.where(beyond(key, last))
        with self.session.reading() as connection:
            return [tuple(row) for row in connection.execute(chosen)]

    def _bring(self, keys: Sequence[Key]) -> None:
        with self.session.transaction() as connection:
            taken = self._taken(connection, keys)
            free = [key for key in keys if key not in taken]
            brought = self._moved(connection, free) if free else 0
        self._restored(brought)
        if taken:
            self._conflict(taken, LIVE)

    def _moved(self, connection: sa.Connection, keys: Sequence[Key]) -> int:
        names = [column.name for column in self.live.table.columns if column.computed is None]
        names = [name for name in names if name in self.archive.c]
        rows = sa.select(*(self.archive.c[name] for name in names)).where(one_of(self._key, keys))
        bring = _Overriding(self.live.table).from_select(names, rows.with_for_update())
        brought = connection.execute(bring, execution_options={"preserve_rowcount": True}).rowcount
        gone = connection.execute(sa.delete(self.archive).where(one_of(self._key, keys))).rowcount
        if brought != gone:
            raise RetentionError(
                f"{brought} rows would have come back from {self.archive.name}, and {gone} left it; nothing was done, "
                "try again"
            )
        target = f"beside:{self.archive.name}"
        ends = (keys[0], keys[-1])
        entry = Entry(self.rule.name, 0, self.live.table.name, target, "returned", "", ends, None, brought, ())
        self._note(connection, entry)
        return brought

    def _one_by_one(self, keys: Sequence[Key]) -> None:
        for key in keys:
            try:
                self.session.persistently(partial(self._bring, [key]))
            except (IntegrityError, DataError) as error:
                self._refused(key, error)


@dataclass(slots=True)
class FromElsewhere(_Back):
    """Brings rows back from another system: live in one transaction with the journal, then out of the archive."""

    target: ArchiveTarget
    portable: Portable

    def run(self, wanted: Wanted) -> RestoreResult:
        """What is wanted is live again, apart from the conflicts that are told.

        Raises:
            RetentionError: the archive failed; what came back until then is live, and leaves it with the next restore
                or cleaning.
        """
        with self.session.reading() as connection:
            lost = missing.missing(connection, self.rule.name, self.target, self.portable, wanted.asked())
        self.result = RestoreResult(
            self.rule.name, self.live.table.name, self.target.name, missing_rows=lost.rows, missing=lost.places
        )
        twice = self._archived_twice()
        for found in meant_rows(self.target, self.portable, self.rule, wanted):
            rows = [row for row in found if self._key_of(row) not in twice]
            if len(rows) < len(found):
                self._conflict([key for key in map(self._key_of, found) if key in twice], SEVERAL)
            if not rows:
                continue
            try:
                self._bring(rows)
            except (IntegrityError, DataError):
                orphans = self._orphans({self._key_of(row): row for row in rows})
                self._one_by_one([row for row in rows if self._key_of(row) not in orphans])
        return self._told_of_parents()

    def _archived_twice(self) -> set[Key]:
        """The keys of which files have several rows, as happens when a key is used again: to take one of them out of
        the archive would take all. Only where batches overlap are all keys looked at, and remembered."""
        with self.session.reading() as connection:
            batches = Journal(connection).batches(self.rule.name, self.target.name)
        if self.rule.kind != "files" or not _overlap([entry.keys for entry in batches]):
            return set()
        once: set[Key] = set()
        twice: set[Key] = set()
        for rows in self.target.rows(self.rule.name, self.portable.table, None, None, None):
            for key in map(self._key_of, rows):
                (twice if key in once else once).add(key)
        return twice

    def _key_of(self, row: Row) -> Key:
        return tuple(row[name] for name in self.live.key_names)

    def _bring(self, rows: Sequence[Row]) -> None:
        entry, taken = self.session.persistently(lambda: self._insert(rows))
        if taken:
            self._conflict(taken, LIVE)
        if entry is None:
            return
        self._restored(entry.rows)
        recover(self.session, entry, self.target, self.portable, self.now)

    def _insert(self, rows: Sequence[Row]) -> tuple[Entry | None, set[Key]]:
        with self.session.transaction() as connection:
            taken = self._taken(connection, [self._key_of(row) for row in rows])
            free = {self._key_of(row): row for row in reversed(rows) if self._key_of(row) not in taken}
            if not free:
                return None, taken
            brought = list(free.values())
            names = [name for name in self.portable.given if name in brought[0]]
            bring = _Overriding(self.live.table).values({name: self.portable.given[name] for name in names})
            connection.execute(bring, [{name: row[name] for name in names} for row in brought])
            known = [name for name in self.portable.names if name in brought[0]]
            digest, columns = digest_of(brought, known), tuple(known)
            table, keys = self.live.table.name, tuple(free)
            entry = Entry(
                self.rule.name, 0, table, self.target.name, "restored", "", keys, digest, len(brought), columns
            )
            return self._note(connection, entry), taken

    def _one_by_one(self, rows: Sequence[Row]) -> None:
        for row in rows:
            try:
                self._bring([row])
            except (IntegrityError, DataError) as error:
                self._refused(self._key_of(row), error)


def _overlap(spans: Sequence[Sequence[Key]]) -> bool:
    """Whether a key may lie in two of these; the order of text is the database's own, so of text it always may."""
    if any(isinstance(part, str) for keys in spans for part in keys[0]):
        return True
    ordered = sorted(spans, key=itemgetter(0))
    return any(one[-1] >= other[0] for one, other in pairwise(ordered))


def meant(archive: sa.Table, rule: Rule, live: Live, wanted: Wanted) -> sa.ColumnElement[bool]:
    """The row of an archive beside is one of those that are wanted."""
    conditions = [matches(archive, {name: value for name, value in rule.where.items() if name in archive.c})]
    if rule.time_column:
        age = archive.c[rule.time_column]
        conditions += [age >= comparable(age, wanted.since)] if wanted.since else []
        conditions += [age < comparable(age, wanted.until)] if wanted.until else []
    if wanted.keys is not None:
        conditions.append(one_of(_key_in(archive, live), list(wanted.keys)) if wanted.keys else sa.false())
    return sa.and_(*conditions)


def meant_rows(target: ArchiveTarget, portable: Portable, rule: Rule, wanted: Wanted) -> Iterator[list[Row]]:
    """The rows of an archive elsewhere that are wanted, in chunks."""
    names = portable.live.key_names
    for chunk in target.rows(rule.name, portable.table, wanted.since, wanted.until, rule.time_column):
        yield [row for row in chunk if wanted.has(tuple(row[name] for name in names))]


def _key_in(archive: sa.Table, live: Live) -> list[sa.Column[Any]]:
    return [archive.c[name] for name in live.key_names]


def archive_beside(connection: sa.Connection, rule: Rule) -> sa.Table:
    """The rule's archive.

    Raises:
        RefusedError: nothing was archived there.
    """
    if rule.archive in MADE_BY_US or not sa.inspect(connection).has_table(rule.archive):
        raise RefusedError(f"there is no archive {rule.archive}: rule {rule.name!r} archived nothing yet")
    return reflected(connection, rule.archive)
