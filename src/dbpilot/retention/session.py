"""The one connection that a cleaning or a restore works on, and the lock that keeps others from doing so meanwhile."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dbpilot.dialects import dialect_of
from dbpilot.errors import RefusedError, RetentionError

Answer = TypeVar("Answer")

LOCK: Final = "dbpilot-retention"
LOCK_WAIT_S: Final = 10.0
"""As long as a server may take to notice that the process which held the lock is dead."""
POLL_S: Final = 0.05
ATTEMPTS: Final = 5
PAUSE_S: Final = 0.2
PASSING: Final = frozenset({"1205", "1213", "40001", "40P01", "55P03", "SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT"})
"""Lock waits that took too long, deadlocks, conflicts: the same again may work."""

SETTINGS: Final = {
    "time_zone": "'+00:00'",
    "sql_mode": "CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
    "optimizer_switch": "'materialization=off'",
}
"""MariaDB and MySQL: a TIMESTAMP is read in UTC; what does not fit is an error instead of being cut; and whether a row
has children is looked up in their index, and not in a copy of all children that each batch would make."""


class Session:
    """A connection with short transactions at READ COMMITTED, each of which sees what was committed before it."""

    def __init__(self, engine: sa.Engine, connection: sa.Connection) -> None:
        self.connection = connection
        self._dialect = dialect_of(engine)

    @property
    def is_sqlite(self) -> bool:
        """There is one writer at a time, and it locks the whole database."""
        return self.connection.dialect.name == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """What the block does is done as a whole, or not at all."""
        self._check()
        with self.connection.begin():
            if self.is_sqlite and not _in_transaction(self.connection):
                # Who reads first and writes then may find that somebody else wrote in between, and fail.
                self.connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield self.connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """What the block reads holds nobody up afterwards."""
        self._check()
        with self.connection.begin() as transaction:
            yield self.connection
            transaction.rollback()

    def _check(self) -> None:
        """A connection that was lost took the lock and the settings with it; another one has neither."""
        if self.connection.invalidated:
            raise RetentionError("the connection to the database was lost; nothing more is begun, run it again")

    def persistently(self, work: Callable[[], Answer]) -> Answer:
        """The work's answer; what failed in passing is tried again."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return work()
            except DBAPIError as error:
                if attempt == ATTEMPTS or error.orig is None or self._dialect.error_code(error.orig) not in PASSING:
                    raise
            time.sleep(PAUSE_S * attempt)
        raise AssertionError("unreachable")

    def code(self, error: DBAPIError) -> str | None:
        """The database's own name for the error."""
        return None if error.orig is None else self._dialect.error_code(error.orig)

    def said(self, error: SQLAlchemyError) -> str:
        """What kind of error it is, without its words: they repeat values."""
        return failure(self._dialect, error)


def failure(dialect: Any, error: BaseException) -> str:
    """The class and the code of a driver's error, and what has to be mended; never its message."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(dialect.failure(original))


def _in_transaction(connection: sa.Connection) -> bool:
    """Whether an event hook of the application began one, as SQLAlchemy's manual advises for SQLite."""
    return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))


@contextmanager
def working(engine: sa.Engine, lock_wait_s: float = LOCK_WAIT_S) -> Iterator[Session]:
    """A session of the only process that cleans or restores in this database.

    Raises:
        RefusedError: another one does.
    """
    with engine.connect() as connection:
        if connection.dialect.name != "sqlite":
            connection.execution_options(isolation_level="READ COMMITTED")
        session = Session(engine, connection)
        with _alone(session, lock_wait_s), _settings(session):
            yield session


@contextmanager
def looking(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection that reads what a working one would, and locks nobody out."""
    with engine.connect() as connection:
        if connection.dialect.name != "sqlite":
            connection.execution_options(isolation_level="READ COMMITTED")
        session = Session(engine, connection)
        with _settings(session), session.reading():
            yield connection


@contextmanager
def _alone(session: Session, wait_s: float) -> Iterator[None]:
    """The lock is held; it goes with the connection, however that ends."""
    connection = session.connection
    if session.is_sqlite:
        with _locked_file(connection.engine.url.database, wait_s):
            yield
        return
    take, give = _statements(connection)
    deadline = time.monotonic() + wait_s
    while not _answer(session, take):
        if time.monotonic() > deadline:
            raise _busy()
        time.sleep(POLL_S)
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            with suppress(SQLAlchemyError):  # the lock goes with the connection, which is of no use any more
                _answer(session, give)


def _statements(connection: sa.Connection) -> tuple[sa.Select[Any], sa.Select[Any]]:
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(blake2b(LOCK.encode(), digest_size=8).digest(), signed=True)
        return sa.select(sa.func.pg_try_advisory_lock(number)), sa.select(sa.func.pg_advisory_unlock(number))
    # The server's databases share these names, and they end at 64 characters.
    name = sa.func.concat(LOCK, "-", sa.func.md5(sa.func.database()))
    return sa.select(sa.func.get_lock(name, 0)), sa.select(sa.func.release_lock(name))


def _answer(session: Session, statement: sa.Select[Any]) -> Any:
    with session.reading() as connection:
        return connection.scalar(statement)


@contextmanager
def _locked_file(database: str | None, wait_s: float) -> Iterator[None]:
    """A file beside the database is locked the way SQLite locks its own; the lock ends with the process."""
    if not database or database == ":memory:" or database.startswith("file:"):
        yield
        return
    lock = sqlite3.connect(f"{database}-retention.lock", timeout=wait_s, isolation_level=None)
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            raise _busy() from None
        yield
    finally:
        lock.close()


def _busy() -> RefusedError:
    return RefusedError(
        "another cleaning or restore is at work in this database; wait until it has ended, or end its process"
    )


@contextmanager
def _settings(session: Session) -> Iterator[None]:
    """The session's settings are ours, and afterwards again those of the pool."""
    connection = session.connection
    if connection.dialect.name not in ("mysql", "mariadb"):
        yield
        return
    names = list(SETTINGS)
    with session.reading():
        before = connection.execute(sa.text(f"SELECT {', '.join(f'@@SESSION.{name}' for name in names)}")).one()
        for name, value in SETTINGS.items():
            connection.execute(sa.text(f"SET SESSION {name} = {value}"))
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            # A connection that does not take them is one that the pool finds dead.
            with suppress(SQLAlchemyError), session.reading():
                for name, value in zip(names, before, strict=True):
                    connection.execute(sa.text(f"SET SESSION {name} = :value"), {"value": value})
