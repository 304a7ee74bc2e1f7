"""What was done to indexes, and is being done: written in the watched database before anything is done there.

It dies and comes back with the indexes that it speaks of. What a process that was killed left behind is known by it,
and nothing else is ever taken for ours.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

import sqlalchemy as sa

from dbpilot.dialects.catalog import Key
from dbpilot.dialects.whatif import Grade, NewIndex
from dbpilot.indexes.changes import Act, Change, Promise

State = Literal["building", "watching", "finishing", "reverting", "kept", "reverted", "failed"]
"""``building``: the change is being made. ``watching``: it is made, and on trial. ``finishing``: an index that was
hidden for its trial is being dropped. ``reverting``: it is being undone. The others are the end."""
OPEN: Final = ("building", "finishing", "reverting")
"""Something is half done, by a process that is at it or that has died."""
NAME_LENGTH: Final = 64
NOTE_LENGTH: Final = 500

_metadata = sa.MetaData()
ledger = sa.Table(
    "dbpilot_index_ledger",
    _metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("table_name", sa.String(NAME_LENGTH), nullable=False),
    sa.Column("index_name", sa.String(NAME_LENGTH), nullable=False),
    sa.Column("act", sa.String(10), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("ddl", sa.Text, nullable=False),
    sa.Column("undo", sa.Text, nullable=False),
    sa.Column("definition", sa.Text),  # as JSON: of a new index; or what one that goes needs to come back
    sa.Column("promises", sa.Text, nullable=False),
    sa.Column("grade", sa.String(10), nullable=False),
    sa.Column("who", sa.String(200), nullable=False),
    sa.Column("why", sa.String(NOTE_LENGTH), nullable=False),
    sa.Column("note", sa.String(NOTE_LENGTH)),
    sa.Column("began_s", sa.Double, nullable=False),
    sa.Column("changed_s", sa.Double, nullable=False),
    sa.Column("until_s", sa.Double),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One change, from its beginning to its end."""

    id: int
    change: Change
    state: State
    ddl: tuple[str, ...]
    """What was to be executed, in this order."""
    undo: str
    """The statement that takes it back."""
    who: str
    began: datetime
    changed: datetime
    """When it came to this state."""
    until: datetime | None
    """The end of its trial."""
    note: str | None
    """Why it came to this state."""
    again: str | None = None
    """The statement that makes an index anew that went."""


class Ledger:
    """The ledger of one database, on a connection that commits each statement by itself."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def prepare(self) -> None:
        """The ledger is there."""
        _metadata.create_all(self._connection)

    @property
    def exists(self) -> bool:
        """Whether anything was ever changed here."""
        return sa.inspect(self._connection).has_table(ledger.name)

    def enter(
        self, change: Change, ddl: Sequence[str], undo: str, who: str, now: datetime, again: str | None = None
    ) -> Entry:
        """The change is written down as one that is being made."""
        gone = {"again": again, "served_by": change.served_by}
        made = self._connection.execute(
            sa.insert(ledger).values(
                table_name=change.table,
                index_name=change.name,
                act=change.act,
                state="building",
                ddl=json.dumps(ddl),
                undo=undo,
                definition=json.dumps(gone if change.index is None else asdict(change.index)),
                promises=json.dumps([asdict(promise) for promise in change.promises]),
                grade=change.grade,
                who=who[:200],
                why=change.why[:NOTE_LENGTH],
                began_s=now.timestamp(),
                changed_s=now.timestamp(),
            )
        )
        [number] = made.inserted_primary_key or (0,)
        return Entry(number, change, "building", tuple(ddl), undo, who, now, now, None, None, again)

    def advance(
        self,
        entry: Entry,
        state: State,
        note: str,
        now: datetime,
        until: datetime | None = None,
        undo: str | None = None,
    ) -> Entry:
        """The change has come to this state; from now on ``undo`` is what takes it back, unless that is as before."""
        undo = undo or entry.undo
        self._connection.execute(
            sa.update(ledger)
            .where(ledger.c.id == entry.id)
            .values(
                state=state,
                note=note[:NOTE_LENGTH],
                undo=undo,
                changed_s=now.timestamp(),
                until_s=None if until is None else until.timestamp(),
            )
        )
        return replace(entry, state=state, note=note, changed=now, until=until, undo=undo)

    def now(self, entry: Entry) -> Entry:
        """The entry as it is by now."""
        return next((found for found in self.entries() if found.id == entry.id), entry)

    def entries(self, *states: State) -> list[Entry]:
        """Those in these states, or all; the oldest first."""
        if not self.exists:
            return []
        found = sa.select(ledger).order_by(ledger.c.id)
        if states:
            found = found.where(ledger.c.state.in_(states))
        return [_entry(row) for row in self._connection.execute(found)]


def _entry(row: sa.Row[Any]) -> Entry:
    found = json.loads(row.definition or "{}")
    index = _index(found) if row.act == "create" else None
    promises = tuple(Promise(**promise) for promise in json.loads(row.promises))
    act: Act = row.act
    grade: Grade = row.grade
    served_by, again = found.get("served_by"), found.get("again")
    change = Change(act, row.table_name, row.index_name, row.why, index, promises, grade, served_by=served_by)
    began, changed = (datetime.fromtimestamp(moment, UTC) for moment in (row.began_s, row.changed_s))
    until = None if row.until_s is None else datetime.fromtimestamp(row.until_s, UTC)
    ddl = tuple(json.loads(row.ddl))
    return Entry(row.id, change, row.state, ddl, row.undo, row.who, began, changed, until, row.note, again)


def _index(found: dict[str, Any]) -> NewIndex:
    keys = tuple(Key(**key) for key in found["keys"])
    return NewIndex(found["table"], keys, tuple(found["include"]), found["unique"])
