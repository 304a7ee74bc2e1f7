"""What an archive elsewhere should have, and has not."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from dbpilot.retention.journal import Entry, Journal
from dbpilot.retention.portable import Portable
from dbpilot.retention.targets import ArchiveTarget, Key

NAMED: Final = 100


@dataclass(frozen=True, slots=True)
class Missing:
    """Rows that an archive should have, and has not."""

    rows: int = 0
    places: tuple[str, ...] = ()
    """The files or batches that are gone as a whole: the first hundred."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, as far as the journal can tell of a batch whether it had any of that."""

    until_month: str | None = None
    keys: Collection[Key] | None = None

    def may_be_in(self, entry: Entry) -> bool:
        """The batch may have had some of it: its month is that of its oldest row."""
        if self.until_month is not None and entry.month > self.until_month:
            return False
        return self.keys is None or any(_between(key, entry.keys) is not False for key in self.keys)


def missing(connection: sa.Connection, rule: str, target: ArchiveTarget, portable: Portable, asked: Asked) -> Missing:
    """What of that the archive of a rule should have by the journal, and has not.

    Raises:
        RetentionError: the archive cannot be read.
    """
    journal = Journal(connection)
    if not journal.exists:
        return Missing()
    lost = journal.expected(target.name, rule).digest.rows - target.count(rule, portable.table)
    if lost <= 0:
        return Missing()
    batches = journal.batches(rule, target.name)
    absent = target.absent([entry.batch for entry in batches], portable.table)
    returned = journal.returned(rule, target.name)
    gone = [(entry, rows) for entry in batches if entry.number in absent and (rows := _left(entry, returned)) > 0]
    meant = [(entry, rows) for entry, rows in gone if asked.may_be_in(entry)]
    # What is missing from batches that are there in part may be of any of them.
    rows = min(lost, sum(rows for _, rows in meant) + max(0, lost - sum(rows for _, rows in gone)))
    return Missing(rows, tuple(absent[entry.number] for entry, _ in meant)[:NAMED])


def _left(entry: Entry, returned: Sequence[Key]) -> int:
    """How many rows of the batch were not restored, as far as that can be told: the order of text is the database's
    own, so a batch of which both ends were restored counts as restored."""
    if any(_between(end, entry.keys) is None for end in entry.keys):
        return 0 if {entry.keys[0], entry.keys[-1]} <= set(returned) else entry.rows
    return entry.rows - sum(_between(key, entry.keys) is True for key in returned)


def _between(key: Key, ends: Sequence[Key]) -> bool | None:
    """Whether the key lies between the ends of a batch; None where only the database could tell."""
    if any(isinstance(part, str) for part in ends[0]):
        return None
    try:
        return ends[0] <= key <= ends[-1]
    except TypeError:
        return None


def said_of(lost: Missing) -> str:
    """What is missing, in a sentence; empty where nothing is."""
    if not lost.rows:
        return ""
    rows = f"{lost.rows} {'row' if lost.rows == 1 else 'rows'} that the archive should have"
    if not lost.places:
        return f"{rows} are missing from it"
    more = ", and others" if len(lost.places) == NAMED else ""
    return f"{rows} are missing; gone as a whole: {', '.join(lost.places)}{more}"
