"""The history in a SQL database: SQLite by default, MariaDB/MySQL or PostgreSQL by URL."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, Final
from uuid import uuid4

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, Row, create_engine, delete, event, insert, make_url, select, union
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from dbpilot.errors import StoreError
from dbpilot.history import schema
from dbpilot.history.store import Batch, Pattern, SlowQuery, Window
from dbpilot.history.tally import LatencyHistogram, Tally

CONNECT_TIMEOUT_S: Final = 5
SILENCE: Final[dict[str, dict[str, Any]]] = {
    "pymysql": {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": 30, "write_timeout": 30},
    "psycopg": {"connect_timeout": CONNECT_TIMEOUT_S, "tcp_user_timeout": 30_000},
}
"""How each driver is told not to wait for ever for a server that went silent."""
IDS_PER_QUERY: Final = 500  # SQLite of old allows 999 parameters
VERSION_TABLE: Final = {"version_table": "dbpilot_schema_version"}
"""The history may share a database with an application that uses Alembic itself."""
MIGRATIONS: Final = Path(__file__).with_name("migrations")


class SqlStore:
    """Remembers in a database of its own or beside the application's tables; many processes may share one.

    Nothing is connected before the first use, and the schema is brought up to date then.
    """

    def __init__(self, url: str, database: str) -> None:
        """Names where the history is kept, and the database that it is about.

        Raises:
            StoreError: the URL cannot be read, or its driver is not installed.
        """
        try:
            self._engine = _engine(url)
        except ImportError as error:
            raise StoreError(f"the history's URL asks for a driver that is not installed: {error}") from None
        except (SQLAlchemyError, ValueError):
            raise StoreError("the history's URL cannot be read; write it as SQLAlchemy does") from None
        self._database = database
        self._name = place(self._engine.url)
        self._process = uuid4().hex
        self._number = count()
        self._ready = False
        self._opening = Lock()
        self._written_patterns: set[str] = set()

    def write(self, batch: Batch) -> None:
        with self._connection() as connection:
            new = [pattern for pattern in batch.patterns if pattern.id not in self._written_patterns]
            _insert_patterns(connection, new)
            _insert_all(connection, schema.windows, list(self._window_rows(batch.windows)))
            _insert_all(connection, schema.slow_queries, [self._slow_row(query) for query in batch.slow])
        self._written_patterns.update(pattern.id for pattern in new)

    def tallies(self, since: datetime, until: datetime) -> dict[str, Tally]:
        table = schema.windows
        span = (table.c.start_s >= since.timestamp(), table.c.start_s < until.timestamp())
        query = select(table).where(*span, table.c.database == self._database)
        sums: dict[str, Tally] = {}
        with self._connection() as connection:
            for row in connection.execute(query.execution_options(yield_per=1000)):
                sums.setdefault(row.pattern_id, Tally()).merge(_tally(row))
        return sums

    def patterns(self, ids: Iterable[str]) -> dict[str, Pattern]:
        wanted = sorted(set(ids))
        with self._connection() as connection:
            rows = [row for part in _parts(wanted) for row in connection.execute(_patterns_named(part))]
        return {row.id: Pattern(row.id, row.text, row.operation, tuple(row.tables)) for row in rows}

    def slow(self, since: datetime, until: datetime, limit: int) -> list[SlowQuery]:
        table = schema.slow_queries
        span = (table.c.at_s >= since.timestamp(), table.c.at_s < until.timestamp())
        query = select(table).where(*span, table.c.database == self._database)
        with self._connection() as connection:
            rows = connection.execute(query.order_by(table.c.at_s.desc()).limit(limit)).all()
        return [SlowQuery(_instant(row.at_s), row.pattern_id, row.duration_s, row.row_count, row.error) for row in rows]

    def forget(self, before: datetime) -> None:
        with self._connection() as connection:
            connection.execute(delete(schema.windows).where(schema.windows.c.start_s < before.timestamp()))
            connection.execute(delete(schema.slow_queries).where(schema.slow_queries.c.at_s < before.timestamp()))
            named = union(select(schema.windows.c.pattern_id), select(schema.slow_queries.c.pattern_id))
            connection.execute(delete(schema.patterns).where(schema.patterns.c.id.not_in(named)))
        self._written_patterns.clear()  # another process may have deleted some of them as well

    def close(self) -> None:
        self._engine.dispose()

    def abandon(self) -> None:
        """Connections are let go without a word to the server: after a fork they are another process's."""
        self._engine.dispose(close=False)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """One transaction on an up-to-date schema; whatever goes wrong is a StoreError."""
        try:
            self._open()
            with self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, CommandError, OSError) as error:
            raise StoreError(f"history {self._name}: {_reason(error)}") from error

    def _open(self) -> None:
        with self._opening:
            if not self._ready:
                _make_folder(self._engine)
                _upgrade(self._engine)
                self._ready = True

    def _window_rows(self, windows: Iterable[Window]) -> Iterator[dict[str, Any]]:
        for window in windows:
            for id_, tally in window.tallies.items():
                yield {
                    "start_s": int(window.start.timestamp()),
                    "process": self._process,
                    "number": next(self._number),
                    "database": self._database,
                    "pattern_id": id_,
                    "calls": tally.calls,
                    "slow": tally.slow,
                    "row_count": tally.rows,
                    "total_s": tally.total_s,
                    "fetch_s": tally.fetch_s,
                    "min_s": tally.min_s,
                    "max_s": tally.max_s,
                    "last_seen_s": tally.last_seen.timestamp(),
                    "errors": dict(tally.errors),
                    "histogram": tally.histogram.to_bytes(),
                }

    def _slow_row(self, query: SlowQuery) -> dict[str, Any]:
        return {
            "at_s": query.at.timestamp(),
            "process": self._process,
            "number": next(self._number),
            "database": self._database,
            "pattern_id": query.pattern_id,
            "duration_s": query.duration_s,
            "row_count": query.rows,
            "error": query.error,
        }


def place(url: URL) -> str:
    """Where a database is, without user, password and options; tells databases in one history apart."""
    name = f"{url.get_backend_name()}://{url.host or ''}:{url.port or ''}/{url.database or ''}"
    return name[-schema.PLACE_LENGTH :]


def _engine(url: str) -> Engine:
    """An engine that waits only shortly for a server or a lock: its user is the pilot's worker."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise StoreError("a history in SQLite needs a file; to keep none, use MemoryStore")
        engine = create_engine(parsed, connect_args={"timeout": CONNECT_TIMEOUT_S})
        event.listen(engine, "connect", _write_ahead_log)
        return engine
    options = SILENCE.get(parsed.get_driver_name(), {})
    return create_engine(parsed, pool_size=1, max_overflow=1, pool_pre_ping=True, connect_args=options)


def _write_ahead_log(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # pages are read while the worker writes
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _make_folder(engine: Engine) -> None:
    database = engine.url.database
    if engine.dialect.name == "sqlite" and database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True)


def _upgrade(engine: Engine) -> None:
    """The schema is at the version this code needs; two processes may try at once.

    Alembic's usual way in, ``command.upgrade``, would set up its process-wide ``context`` and ``op``, which the
    application may be using for its own migrations at this moment.
    """
    script = ScriptDirectory(str(MIGRATIONS))
    head = script.get_current_head()
    if _version(engine) == head:
        return
    try:
        with engine.begin() as connection:
            steps = {"fn": lambda revision, _context: script._upgrade_revs("head", revision)}  # what `command` calls
            context = MigrationContext.configure(connection, opts={**VERSION_TABLE, **steps})
            context.run_migrations(operations=Operations(context))
    except DBAPIError:
        if _version(engine) != head:  # otherwise another process was faster
            raise


def _version(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection, opts=VERSION_TABLE).get_current_revision()


def _insert_patterns(connection: Connection, new: list[Pattern]) -> None:
    known = {row.id for part in _parts([p.id for p in new]) for row in connection.execute(_patterns_named(part))}
    for pattern in new:
        if pattern.id in known:
            continue
        row = {"id": pattern.id, "text": pattern.text, "operation": pattern.operation, "tables": list(pattern.tables)}
        try:
            with connection.begin_nested():
                connection.execute(insert(schema.patterns).values(row))
        except IntegrityError:  # another process wrote it since we looked
            continue


def _insert_all(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _patterns_named(ids: list[str]) -> Any:
    return select(schema.patterns).where(schema.patterns.c.id.in_(ids))


def _parts(ids: list[str]) -> Iterator[list[str]]:
    return (ids[start : start + IDS_PER_QUERY] for start in range(0, len(ids), IDS_PER_QUERY))


def _tally(row: Row[Any]) -> Tally:
    return Tally(
        calls=row.calls,
        slow=row.slow,
        rows=row.row_count,
        total_s=row.total_s,
        fetch_s=row.fetch_s,
        min_s=row.min_s,
        max_s=row.max_s,
        last_seen=_instant(row.last_seen_s),
        errors=Counter(row.errors),
        histogram=LatencyHistogram.from_bytes(row.histogram),
    )


_instant: Callable[[float], datetime] = partial(datetime.fromtimestamp, tz=UTC)


def _reason(error: Exception) -> str:
    """The driver's own words, on one line, without the statement and its values."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(f"{type(original).__name__}: {original}".split())
