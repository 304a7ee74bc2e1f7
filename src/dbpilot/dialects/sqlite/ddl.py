"""SQLite: one short transaction, in which nobody else can write.

There is no other way; so an index is made when nobody writes, or not at all. Readers go on where the journal is a WAL.
"""

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, DropIndex

from dbpilot.dialects.ddl import Hindrances, Limits, Look, quoted, too_little_space, written
from dbpilot.unsupported import Unsupported

MS_PER_S: Final = 1000
ROWS_LOOKED_AT: Final = 1000
"""Per key of an index: https://www.sqlite.org/lang_analyze.html#approximate_analyze_for_large_databases advises it."""


class SqliteDdl:
    """See :class:`dbpilot.dialects.ddl.Ddl`."""

    passing = frozenset({"SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_BUSY_RECOVERY", "SQLITE_LOCKED"})
    interrupted = frozenset({"SQLITE_INTERRUPT"})
    taken = frozenset({"SQLITE_ERROR"})  # among others; whatever failed has left nothing
    poll_s = 1.0
    transactional = True

    def hides(self, _dialect: sa.Dialect) -> Unsupported | None:
        """It has no such switch."""
        return Unsupported(
            "SQLite cannot hide an index from its optimizer", "keep the statement that makes it anew: the undo"
        )

    def create(self, dialect: sa.Dialect, index: sa.Index, *, hidden: bool) -> str:  # noqa: ARG002 - the role's
        """CREATE INDEX, a transaction by itself."""
        return written(dialect, CreateIndex(index))

    def again(self, _dialect: sa.Dialect, definition: str) -> str:
        """The definition as the file has it."""
        return definition

    def drop(self, dialect: sa.Dialect, index: sa.Index) -> str:
        """DROP INDEX."""
        return written(dialect, DropIndex(index))

    def rebuild(self, dialect: sa.Dialect, index: sa.Index) -> str:
        """REINDEX."""
        return f"REINDEX {quoted(dialect, index)}"

    def hide(self, dialect: sa.Dialect, index: sa.Index, *, hidden: bool) -> str:
        """There is no such statement."""
        raise NotImplementedError("see hides()")

    def analyze(self, connection: sa.Connection, index: sa.Index) -> tuple[str, ...]:
        """The new index, and all of the tables that were never analysed, a bounded part of each.

        One with figures beside others without is judged by guesses about those. What the application has found out
        about its tables stays.
        """
        dialect = connection.dialect
        never = [quoted(dialect, sa.Table(name, sa.MetaData())) for name in _never_analysed(connection)]
        return tuple(f"ANALYZE {name}" for name in (*never, quoted(dialect, index)))

    def limit(self, connection: sa.Connection, wait_s: float, patience_s: float) -> None:  # noqa: ARG002 - others wait
        """A writer is not waited for longer than this."""
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(wait_s * MS_PER_S)}")
        connection.exec_driver_sql(f"PRAGMA analysis_limit = {ROWS_LOOKED_AT}")

    def backend(self, _connection: sa.Connection) -> int | None:
        """There is no server."""
        return None

    def look(self, _connection: sa.Connection, _backend: int) -> Look | None:
        """There is nothing to be seen from another connection."""
        return None

    def stop(self, connection: sa.Connection, backend: int, look: Look) -> None:
        """There is nothing to stop from another connection."""

    def broken(self, _connection: sa.Connection, _table: sa.Table) -> tuple[str, ...]:
        """None: an index is there or not."""
        return ()

    def hindrances(
        self, connection: sa.Connection, _table: sa.Table, size_bytes: float | None, _limits: Limits
    ) -> Hindrances:
        """The disk; whether somebody writes is seen when it is tried."""
        database = connection.engine.url.database
        if not database or database == ":memory:" or database.startswith("file:"):
            return Hindrances()
        return too_little_space(Path(database).absolute().parent, size_bytes, None)


def _never_analysed(connection: sa.Connection) -> list[str]:
    known: set[str] = set()
    if sa.inspect(connection).has_table("sqlite_stat1"):
        known = set(connection.scalars(sa.text("SELECT tbl FROM sqlite_stat1")))
    tables = connection.scalars(sa.text("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"))
    return sorted(name for name in tables if name not in known and not name.startswith("sqlite_"))


DDL: Final = SqliteDdl()
