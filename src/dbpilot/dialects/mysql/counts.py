"""How indexes were used, as MariaDB and MySQL count it: by the performance_schema, or by MariaDB's userstat.

Both count rows that were read, not statements: a search that finds nothing leaves no trace, nor does the check of a
foreign key; but ANALYZE TABLE .. PERSISTENT leaves one in every index.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from dbpilot.dialects.catalog import Changes
from dbpilot.dialects.reading import Line
from dbpilot.unsupported import Unsupported

REFUSED: Final = frozenset({1044, 1142, 1143, 1146, 1227})
"""Error numbers: access denied to a database, a table or a column; no such table; a privilege is needed."""
STATUS: Final = text("SHOW GLOBAL STATUS WHERE Variable_name IN ('Uptime', 'Performance_schema_index_stat_lost')")
INSTRUMENTED: Final = text(
    """SELECT (SELECT ENABLED FROM performance_schema.setup_instruments WHERE NAME = 'wait/io/table/sql/handler'),
    (SELECT ENABLED FROM performance_schema.setup_consumers WHERE NAME = 'global_instrumentation')"""
)
IO: Final = text(
    """SELECT OBJECT_NAME, INDEX_NAME, COUNT_FETCH, COUNT_INSERT, COUNT_UPDATE, COUNT_DELETE
    FROM performance_schema.table_io_waits_summary_by_index_usage WHERE OBJECT_SCHEMA = :schema"""
)
USERSTAT: Final = text("SELECT * FROM information_schema.INDEX_STATISTICS WHERE TABLE_SCHEMA = :schema")
"""MariaDB 11.5 counts statements (QUERIES), too."""
ORIGIN: Final = text(
    "SELECT GLOBAL_VALUE_ORIGIN FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME = 'USERSTAT'"
)
SWITCHED_ON_LATE: Final = Unsupported(
    "userstat was switched on while the server ran, and does not tell when",
    "put userstat=1 under [mysqld] in my.cnf, too",
)
FOUND_ONLY: Final = Unsupported(
    "the server counts rows that were read of an index: no searches that found nothing, nor checks of foreign keys",
    "keep what a foreign key needs, and take an index out of use (IGNORED, INVISIBLE) before it is dropped",
)

Place = tuple[str, str]
"""A table, and one of its indexes or columns."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted; what is not there was never read."""

    rows_read: Mapping[Place, int] | None = None
    """None where nobody counts."""
    statements: Mapping[Place, int] | None = None
    """None where only rows are counted."""
    changes: Mapping[str, Changes] | None = None
    since: datetime | None = None
    unknown: Unsupported | None = None
    notes: tuple[Unsupported, ...] = ()

    def rows_of(self, place: Place) -> int | None:
        """How many entries of an index were read."""
        return None if self.rows_read is None else self.rows_read.get(place, 0)

    def uses_of(self, place: Place) -> int | None:
        """How often an index was read; of one whose rows only are counted it is known when that is never."""
        if self.statements is not None:
            return self.statements.get(place, 0)
        return 0 if self.rows_of(place) == 0 else None

    def changes_of(self, table: str) -> Changes | None:
        """How many of its rows were written."""
        return None if self.changes is None else self.changes.get(table, Changes(0, 0, 0))


def perhaps(connection: Connection, query: sa.TextClause, asked: Mapping[str, Any]) -> Sequence[Line] | None:
    """The rows; None where this user may not read them, or this version does not have them."""
    try:
        return connection.execute(query, asked).all()
    except DBAPIError as error:
        number = next(iter(getattr(error.orig, "args", ())), None)
        if number in REFUSED:
            return None
        raise


def counts_in(connection: Connection, schema: str, variables: Mapping[str, str]) -> Counts:
    """By whichever means is switched on, and allowed to this user."""
    means: tuple[tuple[str, Callable[[Connection, str], Counts | None]], ...] = (
        ("performance_schema", _by_performance_schema),
        ("userstat", _by_userstat),
    )
    for switch, count in means:
        found = count(connection, schema) if variables.get(switch) == "ON" else None
        if found is not None:
            return found
    fix = "put performance_schema=ON under [mysqld] in my.cnf and restart the server"
    if "userstat" in variables:
        fix = "SET GLOBAL userstat = 1, and put userstat=1 under [mysqld] in my.cnf"
    return Counts(unknown=Unsupported("the server counts no uses of indexes", fix))


def _by_performance_schema(connection: Connection, schema: str) -> Counts | None:
    """None where it is told to leave tables out, or had no room for some of them."""
    switched = perhaps(connection, INSTRUMENTED, {})
    rows = perhaps(connection, IO, {"schema": schema}) if switched and set(switched[0]) == {"YES"} else None
    status = _status(connection)
    if rows is None or status.get("Performance_schema_index_stat_lost"):
        return None
    changes: dict[str, Changes] = {}
    for table, _, _, *written in rows:
        sofar = changes.get(table, Changes(0, 0, 0))
        inserted, updated, deleted = map(int, written)
        changes[table] = Changes(sofar.inserted + inserted, sofar.updated + updated, sofar.deleted + deleted)
    return Counts(
        {(table, index): int(fetched) for table, index, fetched, *_ in rows if index is not None},
        changes=changes,
        since=_started(connection, status),
        notes=(FOUND_ONLY,),
    )


def _by_userstat(connection: Connection, schema: str) -> Counts | None:
    rows = perhaps(connection, USERSTAT, {"schema": schema})
    if rows is None:
        return None
    counts_statements = bool(rows) and "QUERIES" in rows[0]._fields
    late = connection.execute(ORIGIN).scalar() == "SQL"
    return Counts(
        {(row.TABLE_NAME, row.INDEX_NAME): int(row.ROWS_READ) for row in rows},
        {(row.TABLE_NAME, row.INDEX_NAME): int(row.QUERIES) for row in rows} if counts_statements else None,
        since=None if late else _started(connection, _status(connection)),
        notes=(FOUND_ONLY, SWITCHED_ON_LATE) if late else (FOUND_ONLY,),
    )


def _status(connection: Connection) -> Mapping[str, int]:
    return {row[0]: int(row[1]) for row in connection.execute(STATUS)}


def _started(connection: Connection, status: Mapping[str, int]) -> datetime:
    """When the server began, by its own clock."""
    now: datetime = connection.execute(text("SELECT UTC_TIMESTAMP()")).scalar_one()
    return now.replace(tzinfo=UTC) - timedelta(seconds=status["Uptime"])
