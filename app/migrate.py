"""The tables, brought to the revision that this program needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from app.errors import RefusedForSafety, UnusableInput
from app.locks import exclusive

PATIENCE_S: Final = 3600
"""How long a migration waits for another one: that may be building an index over many millions of rows."""


class NoSuchRevision(UnusableInput):
    """The asked revision is none that this program knows."""


class NewerTables(RefusedForSafety):
    """The database is at a revision that this program does not know."""


class TablesNotReady(RefusedForSafety):
    """The tables are not at the revision that this program needs."""


def head() -> str:
    """The revision that this program needs."""
    return _revisions()[-1]


def current(engine: Engine) -> str | None:
    """The revision that the database is at; None when there are no tables of ours yet."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def require_tables(engine: Engine) -> None:
    """Returns only when there are tables, at whichever revision.

    Raises:
        TablesNotReady: there are none; says what to do.
    """
    if current(engine) is None:
        raise TablesNotReady("the database has no tables yet: run `finstage migrate` first")


def require_head(engine: Engine) -> None:
    """Returns only when the tables are as this program needs them.

    Raises:
        TablesNotReady: they are not; says what to do.
    """
    revision = current(engine)
    if revision != head():
        raise TablesNotReady(
            f"the database's tables are at revision {revision or 'none'}, this program needs {head()}: "
            "run `finstage migrate` first"
        )


def upgrade(engine: Engine, revision: str = "head") -> None:
    """The tables are at ``revision`` or later; the data in them is kept.

    Safe when several processes do it at once: one works, the others wait and find it done.

    Raises:
        NoSuchRevision: there is no such revision.
        NewerTables: the database is at one that only a newer program knows.
        app.migrations.steps.RefusedStep: the data does not allow it; nothing was changed.
    """
    target = _known(revision)
    if _position(current(engine)) >= _position(target):
        return
    with migrating(engine) as connection:
        command.upgrade(_config(connection), target)


def downgrade(engine: Engine, revision: str) -> None:
    """The tables are at ``revision`` or earlier; "base" drops them with everything in them."""
    with migrating(engine) as connection:
        command.downgrade(_config(connection), revision if revision == "base" else _known(revision))


def move(engine: Engine, revision: str) -> None:
    """The tables are at exactly ``revision``, whichever way that lies; the data in them is kept."""
    if _position(_known(revision)) < _position(current(engine)):
        downgrade(engine, revision)
    else:
        upgrade(engine, revision)


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """A connection for changing tables, alone among all that ask for one.

    Leaves the engine's own settings aside: its read timeout would cut a long index build in the middle.
    """
    patient = _patient(engine)
    with exclusive(patient, "finstage-migrate") as connection:
        yield connection
        if connection.dialect.name == "sqlite":
            _check_foreign_keys(connection)


def _patient(engine: Engine) -> Engine:
    arguments: dict[str, Any] = {}
    if engine.dialect.name in ("mysql", "mariadb"):
        arguments = {"charset": "utf8mb4"}
    if engine.dialect.name == "sqlite":
        arguments = {"timeout": PATIENCE_S}
    made = create_engine(engine.url, poolclass=NullPool, connect_args=arguments)
    if made.dialect.name == "sqlite":
        event.listen(made, "connect", _plain_sqlite)
        event.listen(made, "begin", _begin_immediate)
    return made


def _plain_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver would begin later than we must
    # Tables are changed by copying; with keys enforced, dropping the original would be refused.
    connection.execute("PRAGMA foreign_keys=OFF")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _check_foreign_keys(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken:
        raise IntegrityError("PRAGMA foreign_key_check", None, ValueError(f"{broken[0]} refers to missing {broken[2]}"))


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    return config


def _revisions() -> list[str]:
    """All revisions, oldest first."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return [script.revision for script in scripts][::-1]


def _known(revision: str) -> str:
    found = head() if revision == "head" else revision
    if found not in _revisions():
        raise NoSuchRevision(f"there is no revision {revision}; there are {', '.join(_revisions())}")
    return found


def _position(revision: str | None) -> int:
    if revision is None:
        return -1
    if revision not in _revisions():
        raise NewerTables(
            f"the database is at revision {revision}, which this program does not know: "
            f"it knows up to {head()}. Use the newer program that made it"
        )
    return _revisions().index(revision)
