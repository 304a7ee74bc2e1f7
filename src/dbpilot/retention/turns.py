"""Who of all processes and hosts does a thing that only one may do, and when it was done last.

One row for each such thing in a table of the watched database, so that it is there wherever the database is. Whoever
changes a row says how it was when he read it, and only one of those who do so at once succeeds.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from dbpilot.errors import RetentionError

Outcome = Literal["done", "failed", "unfinished"]
NAME_LENGTH: Final = 100

locks: Final = sa.Table(
    "dbpilot_locks",
    sa.MetaData(),
    sa.Column("name", sa.String(NAME_LENGTH), primary_key=True),
    sa.Column("holder", sa.String(200)),
    sa.Column("until_s", sa.Double),
    sa.Column("planned_s", sa.Double, nullable=False),
    sa.Column("started_s", sa.Double),
    sa.Column("ended_s", sa.Double),
    sa.Column("outcome", sa.String(20)),
)
"""Instants are in seconds since 1970. ``planned_s`` is the time up to which all planned runs were run or left out."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How the row was when it was read."""

    planned: datetime
    """Up to here all planned times are dealt with."""
    holder: str | None
    """Who does it now."""
    until: datetime | None
    """And until when it is his, if he does not say that it still is."""
    started: datetime | None = None
    ended: datetime | None = None
    """The last run; one that goes on has no end."""
    outcome: Outcome | None = None


class Turns:
    """Reads and writes the rows; the table is made on first use."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._is_made = False
        self.holder = f"{socket.gethostname()[:100]} {os.getpid()} {uuid4().hex[:12]}"
        """Whoever uses this object."""

    def turn(self, name: str, now: datetime) -> Turn:
        """How it stands; who asks for the first time ever has missed nothing before.

        Raises:
            RetentionError: the database cannot be asked.
        """
        found = self._found(name)
        if found is None:
            self._enter(name, now)
            found = self._found(name)
        if found is None:
            raise RetentionError(f"somebody deletes from the table {locks.name}; without it runs are forgotten")
        return found

    def _found(self, name: str) -> Turn | None:
        with self._connection() as connection:
            row = connection.execute(sa.select(locks).where(locks.c.name == name)).one_or_none()
        return None if row is None else _turn_of(row)

    def _enter(self, name: str, now: datetime) -> None:
        try:
            with self._connection() as connection:
                connection.execute(locks.insert().values(name=name, planned_s=now.timestamp()))
        except RetentionError as error:
            if not isinstance(error.__cause__, IntegrityError):  # else somebody else just did
                raise

    def begin(self, name: str, seen: Turn, planned: datetime, now: datetime, until: datetime) -> bool:
        """The run of a planned time is this holder's, if nobody was quicker; raises as :meth:`turn`."""
        return self._change(
            name,
            seen,
            holder=self.holder,
            until_s=until.timestamp(),
            planned_s=planned.timestamp(),
            started_s=now.timestamp(),
            ended_s=None,
            outcome=None,
        )

    def skip(self, name: str, seen: Turn, until: datetime) -> bool:
        """All planned times up to then are left out, if nobody else did anything meanwhile; raises as :meth:`turn`."""
        return self._change(name, seen, planned_s=until.timestamp())

    def free(self, name: str, seen: Turn) -> bool:
        """A dead holder's run counts as unfinished, if nobody else said so meanwhile; raises as :meth:`turn`."""
        return self._change(name, seen, holder=None, until_s=None, outcome="unfinished")

    def renew(self, name: str, until: datetime) -> bool:
        """The run goes on being this holder's; False if it is another's. Raises as :meth:`turn`."""
        return self._change_own(name, until_s=until.timestamp())

    def end(self, name: str, outcome: Outcome, now: datetime) -> bool:
        """The run has ended; False if it was another's already. Raises as :meth:`turn`."""
        return self._change_own(name, holder=None, until_s=None, ended_s=now.timestamp(), outcome=outcome)

    def _change(self, name: str, seen: Turn, **values: Any) -> bool:
        until_s = None if seen.until is None else seen.until.timestamp()
        return self._changed(
            values,
            locks.c.name == name,
            locks.c.planned_s == seen.planned.timestamp(),
            locks.c.holder.is_not_distinct_from(seen.holder),
            locks.c.until_s.is_not_distinct_from(until_s),
        )

    def _change_own(self, name: str, **values: Any) -> bool:
        return self._changed(values, locks.c.name == name, locks.c.holder == self.holder)

    def _changed(self, values: dict[str, Any], *where: sa.ColumnElement[bool]) -> bool:
        with self._connection() as connection:
            return connection.execute(sa.update(locks).where(*where).values(values)).rowcount == 1

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        """One transaction in a database that has the table."""
        try:
            if not self._is_made:
                self._make()
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            raise RetentionError(
                f"the table {locks.name} in the watched database cannot be used: {type(original).__name__}; without it "
                "nobody knows which process cleans. Is the database up, and may this user make and change that table?"
            ) from error

    def _make(self) -> None:
        try:
            with self._engine.begin() as connection:
                locks.create(connection, checkfirst=True)
        except DBAPIError:  # several processes made it at once
            if not sa.inspect(self._engine).has_table(locks.name):
                raise
        self._is_made = True


def _turn_of(row: sa.Row[Any]) -> Turn:
    return Turn(
        planned=_instant(row.planned_s),
        holder=row.holder,
        until=None if row.until_s is None else _instant(row.until_s),
        started=None if row.started_s is None else _instant(row.started_s),
        ended=None if row.ended_s is None else _instant(row.ended_s),
        outcome=row.outcome,
    )


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
