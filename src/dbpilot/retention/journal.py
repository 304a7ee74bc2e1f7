"""What is being moved between two systems, step by step: kept in the database that the rows come from.

It dies and comes back with the rows that it speaks of. A batch is written to the archive under an *intent*; its rows
are deleted, and the intent becomes *done*, in one transaction. So rows of an intent are all still live, and what the
archive holds of them is forgotten before anything else is done. A restore goes the other way: rows become live, and
its entry *restored*, in one transaction; then they leave the archive.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from dbpilot.errors import RetentionError
from dbpilot.retention.digest import MODULUS, Digest
from dbpilot.retention.keys import from_json, to_json
from dbpilot.retention.policy import NAME_LENGTH
from dbpilot.retention.targets import BatchKey, Key

State = Literal["intent", "done", "forgotten", "restored", "returned"]
OPEN: Final = ("intent", "restored")
HELD: Final = ("done", "returned")

_metadata = sa.MetaData()
journal = sa.Table(
    "dbpilot_archive_journal",
    _metadata,
    sa.Column(
        "rule",
        sa.String(NAME_LENGTH).with_variant(mysql.VARCHAR(NAME_LENGTH, collation="utf8mb4_bin"), "mysql", "mariadb"),
        primary_key=True,
    ),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("table_name", sa.String(64), nullable=False),
    sa.Column("target", sa.String(500), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("month", sa.String(7), nullable=False),
    # The first and the last key of a batch; all keys of a restore.
    sa.Column("keys", sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb"), nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("checksum", sa.String(20)),
    sa.Column("columns", sa.Text, nullable=False),
    sa.Column("began_s", sa.Double, nullable=False),
    sa.Column("ended_s", sa.Double),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch, or one part of a restore."""

    rule: str
    number: int
    table: str
    target: str
    state: State
    month: str
    keys: tuple[Key, ...]
    digest: Digest | None
    """What the archive holds of the batch, or gave back; None where only rows were counted."""
    rows: int
    columns: tuple[str, ...]
    """What the digest is of."""
    began: datetime | None = None
    """When it was entered; None before."""

    @property
    def batch(self) -> BatchKey:
        """The batch's name, as its target knows it."""
        return BatchKey(self.rule, self.number, self.keys[0], self.keys[-1], self.month)


@dataclass(frozen=True, slots=True)
class Expected:
    """What an archive must hold."""

    digest: Digest
    columns: tuple[str, ...]
    """What the checksum is of; empty when that changed meanwhile, or nobody knows, and only the rows are sure."""


class Journal:
    """The journal of one database."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def prepare(self) -> None:
        """The journal is there."""
        _metadata.create_all(self._connection)

    @property
    def exists(self) -> bool:
        """Something was archived here before."""
        return sa.inspect(self._connection).has_table(journal.name)

    def next_number(self, rule: str) -> int:
        """A number that no batch of the rule ever had."""
        most = self._connection.scalar(sa.select(sa.func.max(journal.c.number)).where(journal.c.rule == rule))
        return (most or 0) + 1

    def enter(self, entry: Entry, now: datetime) -> None:
        """The entry is written, when the transaction is committed."""
        over = entry.state not in OPEN
        self._connection.execute(
            sa.insert(journal).values(
                rule=entry.rule,
                number=entry.number,
                table_name=entry.table,
                target=entry.target,
                state=entry.state,
                month=entry.month,
                keys=to_json(entry.keys),
                rows=entry.rows,
                checksum=None if entry.digest is None else str(entry.digest.checksum),
                columns=to_json(entry.columns),
                began_s=now.timestamp(),
                ended_s=now.timestamp() if over else None,
            )
        )

    def advance(self, entry: Entry, state: State, digest: Digest | None, now: datetime) -> Entry:
        """The entry has come to this state, when the transaction is committed.

        Raises:
            RetentionError: somebody else advanced it; nothing may be done on its ground.
        """
        rows = entry.rows if digest is None else digest.rows
        values: dict[str, Any] = {"state": state, "rows": rows, "ended_s": now.timestamp()}
        if digest is not None:
            values["checksum"] = str(digest.checksum)
        changed = self._connection.execute(
            sa.update(journal)
            .where(journal.c.rule == entry.rule, journal.c.number == entry.number, journal.c.state == entry.state)
            .values(values)
        )
        if changed.rowcount != 1:
            raise RetentionError(
                f"batch {entry.number} of rule {entry.rule!r} was finished by another process meanwhile; its rows are "
                "safe, run the rule again"
            )
        return replace(entry, state=state, digest=digest or entry.digest, rows=rows)

    def unfinished(self, rule: str) -> list[Entry]:
        """The rule's entries that something is still to be done about, the oldest first."""
        found = sa.select(journal).where(journal.c.rule == rule, journal.c.state.in_(OPEN)).order_by(journal.c.number)
        return [_entry(row) for row in self._connection.execute(found)]

    def batches(self, rule: str, target: str) -> list[Entry]:
        """The rule's finished batches there, the oldest first."""
        found = (
            sa.select(journal)
            .where(journal.c.rule == rule, journal.c.target == target, journal.c.state == "done")
            .order_by(journal.c.number)
        )
        return [_entry(row) for row in self._connection.execute(found)]

    def returned(self, rule: str, target: str) -> list[Key]:
        """The keys of all rows that were restored from there."""
        found = sa.select(journal.c["keys"]).where(
            journal.c.rule == rule, journal.c.target == target, journal.c.state.in_(("restored", "returned"))
        )
        return [tuple(key) for keys in self._connection.scalars(found) for key in from_json(keys)]

    def knows(self, rule: str, target: str) -> bool:
        """Whether the rule ever had a batch there, finished or not."""
        found = sa.select(journal.c.number).where(journal.c.rule == rule, journal.c.target == target).limit(1)
        return self.exists and self._connection.execute(found).first() is not None

    def expected(self, target: str, rule: str | None = None) -> Expected:
        """What an archive must hold, of one rule or of all: every batch less what was restored."""
        columns = journal.c.state, journal.c.rows, journal.c.checksum, journal.c.columns
        found = sa.select(*columns).where(journal.c.target == target, journal.c.state.in_(HELD))
        if rule is not None:
            found = found.where(journal.c.rule == rule)
        rows = checksum = 0
        of: set[str] = set()
        for state, count, sum_, names in self._connection.execute(found.execution_options(yield_per=1000)):
            sign = 1 if state == "done" else -1
            rows += sign * count
            checksum += sign * int(sum_ or 0)
            of.add(names)
        one = tuple(from_json(of.pop())) if len(of) == 1 else ()
        return Expected(Digest(rows, checksum % MODULUS), one)


def _entry(row: sa.Row[Any]) -> Entry:
    digest = None if row.checksum is None else Digest(row.rows, int(row.checksum))
    keys = tuple(tuple(key) for key in from_json(row.keys))
    columns = tuple(from_json(row.columns))
    began = datetime.fromtimestamp(row.began_s, UTC)
    return Entry(
        row.rule, row.number, row.table_name, row.target, row.state, row.month, keys, digest, row.rows, columns, began
    )
