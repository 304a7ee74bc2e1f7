"""Rows move to a table beside the live one, or are deleted for good: each batch in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from dbpilot.errors import RetentionError
from dbpilot.retention.conditions import one_of
from dbpilot.retention.journal import Entry, Journal
from dbpilot.retention.live import Live, stamp_name
from dbpilot.retention.scope import PARAMETERS, Portion, Scope
from dbpilot.retention.session import Session
from dbpilot.retention.targets import Key

Answer = TypeVar("Answer")

STEADY_ATTEMPTS: Final = 5
RANGE_ATTEMPTS: Final = 2
"""Rows that come into a range between the copy and the deletion are rare; after that they are taken by key."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one batch."""

    copied: int = 0
    verified: int = 0
    deleted: int = 0
    left: int = 0
    """Rows that were to go, and stayed."""
    why: tuple[str, ...] = ()


class ChangedMeanwhileError(RetentionError):
    """Other rows would have been deleted than were meant; nothing was."""

    def __init__(self, table: str, wanted: int, deleted: int) -> None:
        super().__init__(
            f"{table}: {wanted} rows were to be deleted, and {deleted} would have been; nothing was deleted, run the "
            "rule again"
        )


def steadily(work: Callable[[], Answer]) -> Answer:
    """The work's answer; done again where a row, or a child of one, came in between two of its statements: the next
    time they see it.

    Raises:
        ChangedMeanwhileError: that happened every time.
    """
    for _ in range(STEADY_ATTEMPTS - 1):
        try:
            return work()
        except ChangedMeanwhileError:
            continue
    return work()


@dataclass(slots=True)
class Purge:
    """Deletes for ever, as a rule that says ``purge`` wants it."""

    session: Session
    scope: Scope

    def move(self, portion: Portion) -> Moved:
        """The portion's rows are gone."""
        return self.session.persistently(lambda: self._purge(portion))

    def finish(self) -> Moved:
        """Nothing was on its way."""
        return Moved()

    def _purge(self, portion: Portion) -> Moved:
        with self.session.transaction() as connection:
            live, condition = self.scope.live, sa.and_(portion.condition(self.scope.live), self.scope.due)
            if live.children:  # one that comes now would be taken along by a cascade, unseen
                lock(connection, live, condition)
            gone = _deleted(connection, live, condition)
        return Moved(deleted=gone)


@dataclass(slots=True)
class Beside:
    """Copies into the archive, and deletes exactly what was copied, or does nothing at all."""

    session: Session
    scope: Scope
    archive: sa.Table
    now: Callable[[], datetime]
    _number: int = field(default=0, init=False)

    @property
    def target(self) -> str:
        """The archive's name in the journal."""
        return f"beside:{self.archive.name}"

    def move(self, portion: Portion) -> Moved:
        """The portion's rows are in the archive, and nowhere else."""
        for _ in range(RANGE_ATTEMPTS):
            try:
                return self.session.persistently(lambda: self._moved(portion, self.scope.due))
            except ChangedMeanwhileError:
                continue
            except IntegrityError:
                return self._one_after_another(portion)
        return self._one_after_another(portion)

    def finish(self) -> Moved:
        """Nothing was on its way."""
        return Moved()

    def _moved(self, portion: Portion, due: sa.ColumnElement[bool]) -> Moved:
        """Rows are locked as they are copied, so the same condition means the same rows, or one more that just came."""
        condition = sa.and_(portion.condition(self.scope.live), due)
        with self.session.transaction() as connection:
            copied = self._copy(connection, condition)
            deleted = _deleted(connection, self.scope.live, condition)
            if copied != deleted:
                raise ChangedMeanwhileError(self.scope.live.table.name, copied, deleted)
            if copied:
                self._note(connection, portion, copied)
        return Moved(copied, copied, deleted)

    def _copy(self, connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
        live = self.scope.live.table
        names = [column.name for column in live.columns]
        rows = sa.select(*live.columns, sa.bindparam("dbpilot_stamp", self.now(), self.archive.c[self._stamp].type))
        copy = sa.insert(self.archive).from_select([*names, self._stamp], rows.where(condition).with_for_update())
        return connection.execute(copy, execution_options={"preserve_rowcount": True}).rowcount

    @property
    def _stamp(self) -> str:
        return stamp_name(self.scope.live.table)

    def _note(self, connection: sa.Connection, portion: Portion, copied: int) -> None:
        journal, rule = Journal(connection), self.scope.rule
        self._number = self._number + 1 if self._number else journal.next_number(rule.name)
        keys = (portion.first, portion.last)
        name = self.scope.live.table.name
        journal.enter(Entry(rule.name, self._number, name, self.target, "done", "", keys, None, copied, ()), self.now())

    def _one_after_another(self, portion: Portion) -> Moved:
        """The rows that can be moved are; those whose key the archive has already stay, unless they are the same."""
        moved = Moved()
        with self.session.reading() as connection:
            condition = sa.and_(portion.condition(self.scope.live), self.scope.due)
            keys = [tuple(row) for row in connection.execute(self.scope.keys(condition))]
        for start in range(0, len(keys), step := max(1, min(500, PARAMETERS // len(self.scope.live.key)))):
            moved = added(moved, self._by_key(keys[start : start + step]))
        return moved

    def _by_key(self, keys: Sequence[Key]) -> Moved:
        return steadily(lambda: self.session.persistently(lambda: self._by_key_once(keys)))

    def _by_key_once(self, keys: Sequence[Key]) -> Moved:
        live = self.scope.live
        with self.session.transaction() as connection:
            lock(connection, live, one_of(live.key, keys))
            chosen = self.scope.keys(sa.and_(one_of(live.key, keys), self.scope.due))
            locked = [tuple(row) for row in connection.execute(chosen)]
            if not locked:
                return Moved()
            there = self._archived(connection, locked)
            same = self._alike(connection, there)
            fresh = [key for key in locked if key not in there]
            copied = self._copy(connection, one_of(live.key, fresh)) if fresh else 0
            gone = [*fresh, *same]
            deleted = _deleted(connection, live, sa.and_(one_of(live.key, gone), self.scope.due)) if gone else 0
            if copied != len(fresh) or deleted != len(gone):
                raise ChangedMeanwhileError(live.table.name, len(gone), deleted)
            if copied:
                self._note(connection, Portion(fresh[0], fresh[-1]), copied)
        left = len(there) - len(same)
        why = (f"the archive {self.archive.name} has other rows of the same key",) if left else ()
        return Moved(copied, copied + len(same), deleted, left, why)

    def _archived(self, connection: sa.Connection, keys: Sequence[Key]) -> set[Key]:
        archived = [self.archive.c[name] for name in self.scope.live.key_names]
        return {tuple(row) for row in connection.execute(sa.select(*archived).where(one_of(archived, keys)))}

    def _alike(self, connection: sa.Connection, keys: set[Key]) -> set[Key]:
        """The keys whose rows are in both tables with the same content."""
        if not keys:
            return set()
        live, names = self.scope.live, [column.name for column in self.scope.live.table.columns]
        found = []
        for table in (live.table, self.archive):
            columns = [table.c[name] for name in live.key_names]
            as_kept = [sa.type_coerce(table.c[name], sa.types.NullType()) for name in names]
            rows = connection.execute(sa.select(*columns, *as_kept).where(one_of(columns, list(keys))))
            found.append({tuple(row[: len(columns)]): tuple(row[len(columns) :]) for row in rows})
        return {key for key in keys if found[0].get(key) == found[1].get(key)}


def added(one: Moved, other: Moved) -> Moved:
    """Both together."""
    return replace(
        one,
        copied=one.copied + other.copied,
        verified=one.verified + other.verified,
        deleted=one.deleted + other.deleted,
        left=one.left + other.left,
        why=tuple(dict.fromkeys([*one.why, *other.why])),
    )


def _deleted(connection: sa.Connection, live: Live, condition: Any) -> int:
    return connection.execute(sa.delete(live.table).where(condition)).rowcount


def lock(connection: sa.Connection, live: Live, condition: sa.ColumnElement[bool]) -> None:
    """Nobody else changes these rows, or gives them children, so that the next statement sees what will be."""
    if connection.dialect.name != "sqlite":
        connection.execute(sa.select(*live.key).where(condition).order_by(*live.key).with_for_update()).all()
