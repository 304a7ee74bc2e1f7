"""One process at a time does a thing in a database: the lock is the connection's, and goes with it, however it ends.

Where a server goes on with a statement whose process has died, it also keeps the lock until that statement has ended.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import blake2b
from threading import Event
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dbpilot.errors import RefusedError

POLL_S: Final = 0.05
MOST_POLL_S: Final = 1.0
"""Who waits for long asks less often."""
ENDED: Final = "an end was asked for while another process was at work; nothing was begun"


@contextmanager
def alone(
    connection: sa.Connection, name: str, wait_s: float, busy: str, cancel: Event | None = None
) -> Iterator[None]:
    """The lock of this name is held by the connection; ``busy`` is what is said to who cannot have it.

    Nobody waits inside of the server: a statement that waits there is itself in the way of an index that is built.

    Raises:
        RefusedError: another process holds it, and for longer than ``wait_s``, or until an end was asked for.
    """
    if connection.dialect.name == "sqlite":
        with _locked_file(connection.engine.url.database, name, partial(_wait, wait_s, busy, cancel)):
            yield
        return
    take, give = _statements(connection, name)
    _wait(wait_s, busy, cancel, lambda: bool(connection.scalar(take)))
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            with suppress(SQLAlchemyError):  # the lock goes with the connection, which is of no use any more
                connection.scalar(give)


def _wait(wait_s: float, busy: str, cancel: Event | None, takes: Callable[[], bool]) -> None:
    ends, began = cancel or Event(), time.monotonic()
    while not takes():
        waited_s = time.monotonic() - began
        if waited_s > wait_s:
            raise RefusedError(busy)
        if ends.wait(max(POLL_S, min(MOST_POLL_S, waited_s / 20))):
            raise RefusedError(ENDED)


def _statements(connection: sa.Connection, name: str) -> tuple[sa.Select[Any], sa.Select[Any]]:
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)
        return sa.select(sa.func.pg_try_advisory_lock(number)), sa.select(sa.func.pg_advisory_unlock(number))
    # The server's databases share these names, and they end at 64 characters.
    full = sa.func.concat(name, "-", sa.func.md5(sa.func.database()))
    return sa.select(sa.func.get_lock(full, 0)), sa.select(sa.func.release_lock(full))


@contextmanager
def _locked_file(database: str | None, name: str, wait: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
    """A file beside the database is locked the way SQLite locks its own; the lock ends with the process."""
    if not database or database == ":memory:" or database.startswith("file:"):
        yield
        return
    lock = sqlite3.connect(f"{database}-{name.removeprefix('dbpilot-')}.lock", timeout=0, isolation_level=None)

    def takes() -> bool:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return False
        return True

    try:
        wait(takes)
        yield
    finally:
        lock.close()
