"""Rows move to another system, through the journal: copied, read back, and deleted if they are still the same.

While a batch is written there by a thread of its own, the one before is deleted here and the next is read. All that
is done in the database that rows come from goes over the one connection that holds the lock.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any, Final, TypeAlias, TypeVar

import sqlalchemy as sa

from dbpilot.errors import RefusedError, RetentionError
from dbpilot.retention.beside import ChangedMeanwhileError, Moved, lock
from dbpilot.retention.conditions import one_of
from dbpilot.retention.digest import Digest, digest_of_columns, row_checksum
from dbpilot.retention.holds import held
from dbpilot.retention.journal import Entry, Journal, State
from dbpilot.retention.portable import Portable, digest_from, digest_of_fingerprints, read_digest
from dbpilot.retention.scope import Portion, Scope, chunks
from dbpilot.retention.session import Session
from dbpilot.retention.targets import ArchiveTarget, BatchKey, Key, KeysTakenError, Written

WRITINGS: Final = 2
"""How often a batch is written with nobody locked out, each time without the rows that changed meanwhile."""
FETCHED_AT_ONCE: Final = 200
CHANGED: Final = "they changed, or went, between the copy and the deletion"
TAKEN: Final = "the archive has other rows of the same key"

Answer = TypeVar("Answer")
Values: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = dict[Key, Values]
Left: TypeAlias = dict[Key, str]
"""Rows that stay, and why."""


@dataclass(slots=True)
class _InHand:
    """A batch on its way."""

    entry: Entry
    portion: Portion
    rows: Rows
    writing: Future[Digest | None]
    left: Left


@dataclass(slots=True)
class Elsewhere:
    """Moves batches to one target."""

    session: Session
    scope: Scope
    target: ArchiveTarget
    portable: Portable
    now: Callable[[], datetime]
    _number: int = field(default=0, init=False)
    _in_hand: _InHand | None = field(default=None, init=False)
    _writer: ThreadPoolExecutor = field(init=False)
    """Its one thread does all that is done at the target while batches are moved, in order."""

    def __post_init__(self) -> None:
        self._writer = ThreadPoolExecutor(1, "dbpilot-archive")

    def close(self) -> None:
        """Nothing is written any more: only then may others clean here."""
        self._writer.shutdown(cancel_futures=True)

    def recover(self) -> list[Entry]:
        """What a run that died has left open is put right; returns what that was, the oldest first."""
        with self.session.reading() as connection:
            entries = Journal(connection).unfinished(self.scope.rule.name)
        for entry in entries:
            recover(self.session, entry, self.target, self.portable, self.now)
        return entries

    def move(self, portion: Portion) -> Moved:
        """The portion's rows are on their way; returns what became of the portion before, which is where it belongs.

        Raises:
            RetentionError: the archive failed, or does not hold what was written; nothing of it is deleted.
        """
        rows = self._read(portion)
        if not rows:
            return Moved()
        before = self._in_hand
        if before is not None:
            before.writing.result()  # an archive that failed gets no further batch
        entry, left = self.session.persistently(lambda: self._intend(rows)), dict[Key, str]()
        self._in_hand = _InHand(entry, portion, rows, self._writing(entry.batch, rows, left), left)
        return Moved() if before is None else self._settled(before)

    def finish(self) -> Moved:
        """No portion is on its way; returns what became of the last one, and raises, as :meth:`move`."""
        last, self._in_hand = self._in_hand, None
        return Moved() if last is None else self._settled(last)

    def _settled(self, one: _InHand) -> Moved:
        """Its rows are in the archive and no longer live, apart from those that are told as left."""
        entry, rows, left = one.entry, one.rows, one.left
        for attempt in range(WRITINGS):
            if attempt:
                rows = {key: row for key, row in rows.items() if key not in left}
            digest = (self._write(entry.batch, rows, left) if attempt else one.writing.result()) if rows else None
            if digest is None:
                continue
            delete = partial(self._delete, entry, one.portion, rows, digest, exact=bool(left))
            try:
                changed = self.session.persistently(delete)
            except ChangedMeanwhileError:
                continue
            if not changed:
                return _moved(len(rows), left)
            left.update(dict.fromkeys(changed, CHANGED))
        keys = [key for key in rows if key not in left]
        moved = self._move_locked(entry, one.portion, keys, left)
        if not moved:
            self._forget(entry)
        return _moved(moved, left)

    def _move_locked(self, entry: Entry, portion: Portion, keys: Sequence[Key], left: Left) -> int:
        """The rows are moved while nobody else can change them: for a batch that somebody always did."""
        live, wanted = self.scope.live, set(keys)
        with self.session.transaction() as connection:
            condition = sa.and_(portion.condition(live), self._due(connection))
            lock(connection, live, portion.condition(live))
            rows = {key: row for key, row in self._found(connection, condition).items() if key in wanted}
            left.update(dict.fromkeys(wanted - set(rows), CHANGED))
            digest = self._write(entry.batch, rows, left) if rows else None
            if digest is None:
                left.update({key: CHANGED for key in rows if key not in left})
                return 0
            self._deleted(connection, condition, list(rows), len(rows))
            Journal(connection).advance(entry, "done", digest, self.now())
        return len(rows)

    def _due(self, connection: sa.Connection) -> sa.ColumnElement[bool]:
        """What may go at this moment: somebody may hold a row that is on its way."""
        self.scope = replace(self.scope, holds=tuple(held(connection, self.scope.rule.table)))
        return self.scope.due

    def _read(self, portion: Portion) -> Rows:
        with self.session.reading() as connection:
            return self._found(connection, sa.and_(portion.condition(self.scope.live), self.scope.due))

    def _found(self, connection: sa.Connection, condition: sa.ColumnElement[bool], *, lock: bool = False) -> Rows:
        """The rows as they are now. Python's collector, which would hold up the application, does not follow tuples of
        plain values, but it does SQLAlchemy's rows."""
        chosen = self.portable.read(condition)
        parts = connection.execute(chosen.with_for_update() if lock else chosen).partitions(FETCHED_AT_ONCE)
        return {self.portable.key_of(row): row for part in parts for row in map(tuple, part)}

    def _intend(self, rows: Rows) -> Entry:
        rule, table = self.scope.rule, self.scope.live.table.name
        keys = tuple(rows)
        with self.session.transaction() as connection:
            journal = Journal(connection)
            self._number = self._number + 1 if self._number else journal.next_number(rule.name)
            entry = Entry(
                rule=rule.name,
                number=self._number,
                table=table,
                target=self.target.name,
                state="intent",
                month=self._month(rows),
                keys=(keys[0], keys[-1]),
                digest=None,
                rows=len(keys),
                columns=self.portable.names,
            )
            journal.enter(entry, self.now())
        return entry

    def _month(self, rows: Rows) -> str:
        """The month of the oldest row."""
        name = self.scope.rule.time_column
        if name is None:
            return f"{self.now():%Y-%m}"
        place = self.portable.names.index(name)
        times = [row[place] for row in rows.values() if row[place] is not None]
        return f"{min(times, default=self.now()):%Y-%m}"

    def _write(self, batch: BatchKey, rows: Rows, left: Left) -> Digest | None:
        """What the archive was seen to hold; None when it has other rows of some keys, which are added to ``left``."""
        return self._writing(batch, rows, left).result()

    def _writing(self, batch: BatchKey, rows: Rows, left: Left) -> Future[Digest | None]:
        """The same, when it is done."""
        return self._submitted(partial(self._write_now, batch, rows, left))

    def _submitted(self, work: Callable[[], Answer]) -> Future[Answer]:
        try:
            return self._writer.submit(work)
        except RuntimeError:  # the program ends, and Python starts nothing more
            raise RetentionError("the program ends; what was begun is undone or done by the next run") from None

    def _write_now(self, batch: BatchKey, rows: Rows, left: Left) -> Digest | None:
        columns = _by_column(rows)
        wanted = digest_of_columns(columns)
        try:
            self.target.write(batch, self.portable.table, self.portable.as_mappings(list(rows.values())))
        except KeysTakenError as error:
            left.update(dict.fromkeys(error.keys, TAKEN))
            return None
        made = _fingerprints(rows)
        written = Written(columns, None if made is None else digest_of_fingerprints(made))
        if self.target.holds(batch, self.portable.table, written):
            return wanted
        found = self.target.read_back(batch, self.portable.table)
        if found != wanted:
            raise RetentionError(
                f"{self.target.name} does not give back what was written to it: of batch {batch.number} of rule "
                f"{batch.rule!r} it has {_said(found, wanted)}; nothing was deleted. A column there may be too "
                "short or too coarse, or the medium fails"
            )
        return found

    def _delete(self, entry: Entry, portion: Portion, rows: Rows, digest: Digest, *, exact: bool) -> list[Key]:
        """The rows are gone and the batch is done; or, if some changed since they were read, nothing is.

        Returns those that changed.
        """
        with self.session.transaction() as connection:
            condition = sa.and_(portion.condition(self.scope.live), self._due(connection))
            unchanged = not exact and self._unchanged(connection, condition, rows)
            present, changed = (len(rows), []) if unchanged else self._compared(connection, condition, rows)
            if changed:
                return changed
            more = exact or present > len(rows)
            self._deleted(connection, condition, list(rows) if more else None, len(rows))
            Journal(connection).advance(entry, "done", digest, self.now())
        return []

    def _unchanged(self, connection: sa.Connection, condition: sa.ColumnElement[bool], rows: Rows) -> bool:
        """The condition means these rows and no other, as they were read, and all are locked; False as well when the
        database cannot tell at once."""
        fingerprints, made = _fingerprints(rows), self.portable.fingerprint
        if fingerprints is None or made is None:
            return False
        found = connection.execute(read_digest(made, condition, connection.dialect, lock=True)).one()
        return digest_from(found) == digest_of_fingerprints(fingerprints)

    def _compared(
        self, connection: sa.Connection, condition: sa.ColumnElement[bool], rows: Rows
    ) -> tuple[int, list[Key]]:
        """How many rows there are now, all locked, and which of ours are not as they were read."""
        if _fingerprints(rows) is not None:
            found = connection.execute(self.portable.read_fingerprints(condition).with_for_update()).all()
            now = {tuple(row[:-1]): row[-1] for row in found}
            return len(now), [key for key, row in rows.items() if now.get(key) != row[-1]]
        present = self._found(connection, condition, lock=True)
        return len(present), [key for key, row in rows.items() if not self._same(row, present.get(key))]

    def _same(self, row: Values, found: Values | None) -> bool:
        if found is None or row == found:
            return found is not None
        # Not a number is not even equal to itself.
        was, now = self.portable.as_mappings([row, found])
        return row_checksum(was, self.portable.names) == row_checksum(now, self.portable.names)

    def _deleted(
        self, connection: sa.Connection, condition: sa.ColumnElement[bool], keys: Sequence[Key] | None, wanted: int
    ) -> None:
        """So many rows are gone: those of these keys, or all that the condition means, which is faster."""
        live = self.scope.live
        conditions = [condition]
        if keys is not None:
            conditions = [sa.and_(one_of(live.key, part), self.scope.due) for part in chunks(keys, len(live.key))]
        deleted = sum(connection.execute(sa.delete(live.table).where(each)).rowcount for each in conditions)
        if deleted != wanted:
            raise ChangedMeanwhileError(live.table.name, wanted, deleted)

    def _forget(self, entry: Entry) -> None:
        self._submitted(partial(self.target.forget, entry.batch, self.portable.table)).result()
        with self.session.transaction() as connection:
            Journal(connection).advance(entry, "forgotten", None, self.now())


def check_is_there(connection: sa.Connection, rule: str, target: ArchiveTarget, portable: Portable) -> None:
    """Returns when the archive holds anything, or need not: an empty one may be a disk that is not mounted.

    Raises:
        RetentionError: it is empty, and the journal knows of rows that it should hold.
    """
    journal = Journal(connection)
    expected = journal.expected(target.name, rule).digest.rows if journal.exists else 0
    if expected > 0 and next(iter(target.rows(rule, portable.table, None, None, None)), None) is None:
        raise RetentionError(
            f"{target.name} is empty, and should hold {expected} rows of rule {rule!r}; nothing is deleted from the "
            "live table. Is its disk mounted, and is it the archive that the rule had before?"
        )


def check_is_ours(connection: sa.Connection, rule: str, target: ArchiveTarget, portable: Portable) -> None:
    """Returns when no other database archives by a rule of this name to the same place: both would number their batches
    from one, and overwrite each other's.

    Raises:
        RefusedError: it holds rows, and the journal knows of none.
    """
    known = Journal(connection).knows(rule, target.name)
    if not known and next(iter(target.rows(rule, portable.table, None, None, None)), None) is not None:
        raise RefusedError(
            f"{target.name} has rows of a rule {rule!r} that this database never archived there; give the rule another "
            "name or another target"
        )


def _by_column(rows: Rows) -> list[list[Any]]:
    """The values of each column, without the fingerprints; without an iterator for each row, which ``zip`` would make
    and Python's collector follow."""
    whole = list(rows.values())
    return [list(map(itemgetter(place), whole)) for place in range(len(whole[0]) - 1)]


def _fingerprints(rows: Rows) -> list[str] | None:
    """What the database made of each row; None if it made nothing of one of them."""
    found = [row[-1] for row in rows.values()]
    return None if None in found else found


def _said(found: Digest | None, wanted: Digest) -> str:
    if found is None:
        return "nothing"
    return f"{found.rows} of {wanted.rows} rows" if found.rows != wanted.rows else "all rows, with other values"


def _moved(rows: int, left: Left) -> Moved:
    return Moved(rows, rows, rows, len(left), tuple(dict.fromkeys(left.values())))


def recover(
    session: Session, entry: Entry, target: ArchiveTarget, portable: Portable, now: Callable[[], datetime]
) -> None:
    """What a process that died began is undone, or done.

    Raises:
        RetentionError: it was writing to another archive than this.
    """
    if entry.target != target.name:
        raise RetentionError(
            f"batch {entry.number} of rule {entry.rule!r} was being moved to or from {entry.target} when the process "
            f"died, and the rule's archive is {target.name} now; run the rule once more with the archive that it had"
        )
    if entry.state == "intent":
        target.forget(entry.batch, portable.table)
    else:
        target.remove(entry.rule, portable.table, entry.keys)
    with session.transaction() as connection:
        over: State = "forgotten" if entry.state == "intent" else "returned"
        Journal(connection).advance(entry, over, entry.digest, now())
