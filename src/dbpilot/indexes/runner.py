"""Statements that change indexes are run so that nobody waits behind them, and are tried again when a lock was met."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dbpilot.dialects import Dialect
from dbpilot.dialects.alone import alone
from dbpilot.dialects.ddl import Limits, Look
from dbpilot.indexes.ledger import Ledger
from dbpilot.indexes.onlooker import Onlooker
from dbpilot.indexes.verify import Rule

LOCK: Final = "dbpilot-indexes"
BUSY: Final = (
    "another process changes indexes of this database, or a server still works at what a dead one began; wait until it "
    "has ended"
)
INSTANT_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Manners:
    """How patient and how gentle changes are."""

    limits: Limits = field(default_factory=Limits)
    lock_wait_s: float = 0.05
    """So long others may wait behind a statement of ours, and no longer, but for the last attempts."""
    last_attempts: int = 5
    """Of these each waits twice as long as the one before: a table that slow statements read all the time is never free
    for an instant."""
    desperate_attempts: int = 2
    used_to: float = 6.0
    most_lock_wait_s: float = 60.0
    """The very last of them wait so many times as long as the slowest statement on the table takes on the average, for
    who reads it is used to that; but no longer than this."""
    patience_s: float = 20.0
    """So long a statement of ours waits where nobody waits behind it."""
    builds: int = 10
    """Attempts to build an index, when somebody else's lock is met."""
    polite_builds: int = 1
    """The first of them wait for nobody at all, where the database knows that; a build that ends so is lost."""
    attempts: int = 30
    """The same of statements that take an instant."""
    polite_attempts: int = 8
    pause_s: float = 0.02
    most_pause_s: float = 10.0
    """Between attempts; each pause is about twice the last, but for statements that take an instant half a second at
    the most."""
    alone_wait_s: float = 10.0
    """As long as a server may take to notice that the process which held the lock is dead."""
    back_s: float = 30.0
    """How long a database that went away is waited for, to put right what was half done."""
    watch_s: float = 900.0
    """The time in which a new index has to show what it is worth."""
    trial_s: float = 7 * 86400.0
    """The time for which an index is hidden, or gone, before its removal counts as harmless."""
    rule: Rule = field(default_factory=Rule)

    def wait_s(self, attempts_left: int, statement_s: float) -> float:
        """So long others may wait behind an attempt after which there are so many; ``statement_s``: what the slowest
        statement on the table takes."""
        usual_s = self.lock_wait_s * float(2 ** max(0, self.last_attempts - attempts_left))
        if attempts_left >= self.desperate_attempts:
            return usual_s
        return max(usual_s, min(self.most_lock_wait_s, self.used_to * statement_s))


class CancelledError(Exception):
    """Somebody asked for an end."""


class _PassingError(Exception):
    """A lock was in the way; the same again may work."""

    def __init__(self, error: DBAPIError) -> None:
        super().__init__()
        self.error = error


@dataclass(frozen=True)
class Session:
    """A connection on which each statement is committed by itself."""

    connection: sa.Connection
    backend: int | None
    """The server's number of it."""

    @property
    def dialect(self) -> sa.Dialect:
        """What SQLAlchemy knows of the database."""
        return self.connection.dialect

    @property
    def ledger(self) -> Ledger:
        """The database's ledger."""
        return Ledger(self.connection)


class Runner:
    """Opens sessions, and runs statements in them."""

    def __init__(
        self,
        engine: sa.Engine,
        dialect: Dialect,
        manners: Manners,
        at_progress: Callable[[Look], None],
        cancel: Event,
    ) -> None:
        self._engine = engine
        self._dialect = dialect
        self._ddl = dialect.ddl
        self._manners = manners
        self._at_progress = at_progress
        self._cancel = cancel
        self._random = random.Random()  # noqa: S311 - so that two who wait do not always meet

    @contextmanager
    def alone(self, *, may_end: bool = True) -> Iterator[Session]:
        """The session of the only process that changes indexes here; waiting for it hears a wish for an end if it may.

        Raises:
            RefusedError: another one does.
        """
        manners = self._manners
        # What has to be put right is not waited for as long as what is only wished for.
        wait_s = manners.alone_wait_s if may_end else min(manners.alone_wait_s, manners.back_s)
        with (
            self.looking() as session,
            alone(session.connection, LOCK, wait_s, BUSY, self._cancel if may_end else None),
        ):
            yield session

    @contextmanager
    def looking(self) -> Iterator[Session]:
        """A session that changes nothing, and locks nobody out."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield Session(connection, self._ddl.backend(connection))

    def persistently(
        self,
        session: Session,
        statement: str,
        after_failure: Callable[[], object] | None = None,
        *,
        may_end: bool = True,
        builds: bool = False,
        statement_s: float = 0.0,
    ) -> None:
        """The statement was executed; one that met a lock was tried again, after ever longer pauses.

        Args:
            session: where.
            statement: as the server shall read it.
            after_failure: what is to be done before the next attempt.
            may_end: whether a wish for an end is heard meanwhile; not where something is put right.
            builds: whether it takes long, rather than an instant.
            statement_s: what the slowest statement on the table takes.

        Raises:
            CancelledError: somebody asked for an end.
            DBAPIError: it failed, or the lock was there every time.
        """
        manners = self._manners
        attempts = manners.builds if builds else manners.attempts
        polite = manners.polite_builds if builds else manners.polite_attempts
        most_pause_s = manners.most_pause_s if builds else INSTANT_PAUSE_S
        for attempt in range(1, attempts + 1):
            wait_s = 0.0 if attempt <= polite else manners.wait_s(attempts - attempt, statement_s)
            try:
                self._run(session, statement, wait_s, may_end=may_end)
            except _PassingError as met:
                if after_failure is not None:
                    after_failure()
                if attempt == attempts:
                    raise met.error from None
            else:
                return
            self.pause(attempt, most_pause_s, may_end=may_end)

    def if_possible(self, session: Session, statement: str) -> None:
        """Executed, unless something is in the way: it helps, and nothing rests on it."""
        try:
            self._run(session, statement, self._manners.lock_wait_s, may_end=False)
        except _PassingError:
            return
        except DBAPIError:  # it may also be one that this account must not execute
            if session.connection.invalidated:
                raise

    def pause(self, attempt: int, most_s: float, *, may_end: bool = True) -> None:
        """Some time has passed, at random, and more after each attempt."""
        most = min(most_s, self._manners.pause_s * 2 ** (attempt - 1))
        pause_s = most * self._random.uniform(0.5, 1.0)
        if not may_end:
            time.sleep(pause_s)
        elif self._cancel.wait(pause_s):
            raise CancelledError

    def _run(self, session: Session, statement: str, wait_s: float, *, may_end: bool) -> None:
        connection = session.connection
        self._ddl.limit(connection, wait_s, self._manners.patience_s)
        cancel = self._cancel if may_end else Event()
        if cancel.is_set():
            raise CancelledError
        onlooker = Onlooker(self._engine, self._ddl, session.backend, wait_s, cancel, self._at_progress)
        try:
            with onlooker:
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True}).close()
        except DBAPIError as error:
            code = self.code(error)
            if onlooker.ended:
                self._clear(connection)
            if code in self._ddl.passing or (onlooker.ended and code in self._ddl.interrupted):
                raise _PassingError(error) from None
            if cancel.is_set() and code in self._ddl.interrupted:
                raise CancelledError from None
            raise

    def _clear(self, connection: sa.Connection) -> None:
        """A wish for an end that came when the statement had ended by itself ends this, and not the next one."""
        try:
            connection.execute(sa.select(sa.literal(1))).close()
        except DBAPIError as error:
            if self.code(error) not in self._ddl.interrupted:
                raise

    def code(self, error: BaseException) -> str | None:
        """The server's own code of an error."""
        return self._dialect.error_code(error.orig) if isinstance(error, DBAPIError) and error.orig else None

    def said(self, error: BaseException) -> str:
        """What kind of error it is, without its words: they repeat values."""
        if isinstance(error, CancelledError):
            return "an end was asked for"
        original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        return self._dialect.failure(original)
