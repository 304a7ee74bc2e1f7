"""Transactions that wait for each other, although they run in different processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from zlib import crc32

from sqlalchemy import Connection, Engine, func, select

WAIT_S: Final = 30
"""How long one question for a MariaDB lock may take: less than the driver's read timeout; then it is asked again."""


@contextmanager
def exclusive(engine: Engine, name: str) -> Iterator[Connection]:
    """One transaction; no other ``exclusive`` of this name in this database overlaps it.

    SQLite needs nothing: it lets one transaction write at a time.
    """
    if engine.dialect.name in ("mysql", "mariadb"):
        with engine.connect() as connection, _named_lock(connection, name), connection.begin():
            yield connection
        return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(crc32(name.encode()))))
        yield connection


@contextmanager
def _named_lock(connection: Connection, name: str) -> Iterator[None]:
    # The names are the whole server's, not the database's.
    full_name = f"{name}:{crc32((connection.engine.url.database or '').encode()):08x}"
    while not connection.scalar(select(func.get_lock(full_name, WAIT_S))):
        connection.rollback()
    connection.rollback()
    try:
        yield
    finally:
        if not connection.invalidated:  # a lost connection has lost its locks as well
            connection.execute(select(func.release_lock(full_name)))
            connection.rollback()
