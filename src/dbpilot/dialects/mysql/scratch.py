"""A schema of our own on somebody else's server, gone when we are.

Its owner holds a lock that bears its name for as long as it lives; what a dead owner left is dropped by the next one,
for a server frees a lock when its holder's connection ends, however it ends.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dbpilot.errors import RefusedError

PREFIX: Final = "dbpilot_shadow_"
NAME: Final = re.compile(rf"{PREFIX}([0-9a-f]{{8}})_[0-9a-f]{{8}}")
"""When it was made, in seconds since 1970, and chance; what is called otherwise is none of ours."""
LEFT_BEHIND_S: Final = 3600.0
"""A schema whose lock is free is dropped when it is so old: a lock on another server of a cluster cannot be seen."""
NAMES: Final = mysql.dialect(paramstyle="qmark").identifier_preparer
"""Quotes names for statements that the driver fills nothing into: a percent sign stays one."""
DENIED: Final = frozenset({1044, 1142, 1143, 1227, 1370})
"""The server's numbers for a right that is missing."""
READ_ONLY: Final = 1290
NOW: Final = text("SELECT CAST(UNIX_TIMESTAMP() AS UNSIGNED)")
TAKE: Final = text("SELECT GET_LOCK(:name, 0)")
RELEASE: Final = text("SELECT RELEASE_LOCK(:name)")
SHADOWS: Final = text(
    r"SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'dbpilot\_shadow\_%'"
)


def number_of(error: DBAPIError) -> int:
    """The server's number of an error; 0 where it is not the server's."""
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


@contextmanager
def scratch_schema(connection: Connection, left_behind_s: float) -> Iterator[str]:
    """There is an empty schema of this name until the block ends, on a connection that nobody uses besides.

    Raises:
        RefusedError: this user, or this server, has no place for one; says what would change that.
    """
    sweep(connection, left_behind_s)
    began = int(connection.execute(NOW).scalar_one())
    name = f"{PREFIX}{began:08x}_{secrets.token_hex(4)}"
    connection.execute(TAKE, {"name": name})
    try:
        _create(connection, name)
        yield name
    finally:
        with suppress(SQLAlchemyError):  # what a lost connection left is swept by the next one
            _drop(connection, name)
            connection.execute(RELEASE, {"name": name})


def _create(connection: Connection, name: str) -> None:
    quoted = NAMES.quote_identifier(name)
    try:
        connection.exec_driver_sql(f"CREATE DATABASE {quoted}").close()
    except DBAPIError as error:
        if number_of(error) in DENIED:
            raise RefusedError(_what_to_grant(connection)) from None
        if number_of(error) == READ_ONLY:
            raise RefusedError("the server takes no changes: ask its primary, or a copy that does") from None
        raise


def _what_to_grant(connection: Connection) -> str:
    user, _, host = str(connection.execute(text("SELECT CURRENT_USER()")).scalar_one()).rpartition("@")
    who = f"'{user}'@'{host}'"
    rights = "SELECT, INSERT, CREATE, DROP, ALTER, INDEX"
    return (
        "this user may not make the schema in which other indexes are tried; let an administrator say "
        rf"GRANT {rights} ON `dbpilot\_shadow\_%`.* TO {who}; and, so that samples of the tables are enough, "
        f"GRANT SELECT, INSERT, DELETE ON mysql.innodb_table_stats TO {who}; "
        f"GRANT SELECT, INSERT, DELETE ON mysql.innodb_index_stats TO {who};"
    )


def _drop(connection: Connection, name: str) -> None:
    quoted = NAMES.quote_identifier(name)
    connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quoted}").close()


def sweep(connection: Connection, left_behind_s: float) -> None:
    """Schemas are gone that are so old, and whose owners are gone."""
    now = int(connection.execute(NOW).scalar_one())
    for name in connection.execute(SHADOWS).scalars().all():
        made = NAME.fullmatch(name)
        is_old = made is not None and now - int(made[1], 16) >= left_behind_s
        if is_old and connection.execute(TAKE, {"name": name}).scalar_one():
            with suppress(DBAPIError):  # somebody else's, that this user may see and not drop
                _drop(connection, name)
            connection.execute(RELEASE, {"name": name})
