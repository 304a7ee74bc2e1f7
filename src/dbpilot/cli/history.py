"""The history as somebody sees it who only looks: nothing is created, nothing brought up to date."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    NullPool,
    Row,
    Select,
    and_,
    create_engine,
    false,
    func,
    inspect,
    make_url,
    or_,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from dbpilot.cli.urls import engine_at, reason, with_driver
from dbpilot.errors import ConfigError, StoreError
from dbpilot.history import schema
from dbpilot.history.block import Block, BlockError, added_up
from dbpilot.history.sql_store import IDS_PER_QUERY, SILENCE, cover, place
from dbpilot.history.store import Event, Pattern, Source
from dbpilot.history.tally import Tally

LOCK_TIMEOUT_S: Final = 5.0
STEPS_S: Final = {60: 24.0, 3600: 24.0 * 30, 86_400: float("inf")}
"""Where a time begins that goes back at most so many hours: sums of shorter ones may be forgotten by then."""
NAME_ANOTHER: Final = "name another with --history URL or DBPILOT_HISTORY__URL"


class History:
    """What pilots wrote, read in the database where they keep it."""

    def __init__(self, url: str) -> None:
        """Names where the history is; nothing is connected yet.

        Raises:
            ConfigError: the URL cannot be read, or its driver is not installed. The message never repeats the URL,
                which may carry a password.
        """
        self._engine = engine_at(url, "the history's", _engine)
        self._url = with_driver(make_url(url))
        self.place = place(self._url)

    def databases(self) -> list[str]:
        """The places of the databases that something was seen of."""
        with self._connection() as connection:
            return _distinct(connection, schema.events.c.database)

    def counted_databases(self) -> list[str]:
        """The places of the databases whose statements were counted."""
        with self._connection() as connection:
            columns = schema.windows.c.database, schema.sums.c.database
            return sorted({one for column in columns for one in _distinct(connection, column)})

    def chosen(self, wanted: str | None) -> Sequence[str]:
        """The databases that are meant: all of them, or the one that is called so.

        Raises:
            ConfigError: no database, or more than one, is called so.
            StoreError: the history cannot be read.
        """
        return self._chosen(wanted, self.databases())

    def named(self, database: str) -> Sequence[str]:
        """The database at this place, where something was seen or counted of it; none where nothing was.

        Raises:
            StoreError: the history cannot be read.
        """
        return [database] if database in {*self.databases(), *self.counted_databases()} else []

    def chosen_counted(self, wanted: str) -> str:
        """The database that is called so, of those whose statements were counted; raises as :meth:`chosen` does."""
        return self._chosen(wanted, self.counted_databases())[0]

    def _chosen(self, wanted: str | None, known: list[str]) -> Sequence[str]:
        if wanted is None or wanted in known:
            return known if wanted is None else [wanted]
        found = [database for database in known if wanted in database]
        if len(found) != 1:
            which = ", ".join(found or known) or "none yet"
            how_many = "more than one" if found else "no"
            raise ConfigError(f"'{wanted}' names {how_many} database in {self.place}; there are: {which}")
        return found

    def events(
        self, database: str, kind: str, since: datetime, limit: int, *, key: str | None = None, about: str | None = None
    ) -> list[Event]:
        """The events of a kind since then, latest first; with this key, or one that begins with ``about``."""
        table = schema.events.c
        query = self._seen(database, kind).where(table.at_s >= since.timestamp())
        if key is not None:
            query = query.where(table.key == key)
        if about is not None:
            query = query.where(table.key.startswith(about, autoescape=True))
        with self._connection() as connection:
            rows = connection.execute(query.order_by(table.at_s.desc()).limit(limit)).all()
        return [Event(row.kind, _instant(row.at_s), row.key, row.value, row.body, row.pattern_id) for row in rows]

    def last_seen(self, database: str, kind: str) -> datetime | None:
        """When the latest event of a kind happened; None where there is none."""
        query = self._seen(database, kind).with_only_columns(func.max(schema.events.c.at_s))
        with self._connection() as connection:
            at_s = connection.scalar(query)
        return None if at_s is None else _instant(at_s)

    def tallies(self, database: str, hours: float, now: datetime) -> dict[str, Tally]:
        """What was counted in the last hours, by pattern id; from a full minute on, or of long ago from a full hour or
        day."""
        step_s = next(step_s for step_s, most in STEPS_S.items() if hours <= most)
        first_s = (now.timestamp() - hours * 3600) // step_s * step_s
        spans, edges = cover(first_s, float("inf"))
        sums, windows = schema.sums.c, schema.windows.c
        of_sums = [select(sums.data).where(sums.database == database, sums.length_s == length_s,
                                           _within(sums.start_s, span)) for length_s, span in spans]  # fmt: skip
        at_edges = [_within(windows.start_s, edge) for edge in edges]
        new = select(windows.data).where(
            windows.database == database, windows.start_s >= first_s, or_(windows.folded == false(), *at_edges)
        )
        with self._connection() as connection:
            blocks = [data for query in (*of_sums, new) for data in connection.scalars(query)]
        return added_up(block for data in blocks if (block := _block(data)) is not None)

    def patterns(self, ids: Iterable[str]) -> dict[str, Pattern]:
        """The patterns with these ids, as far as they are known."""
        table, wanted = schema.patterns, sorted(ids)
        parts = [wanted[at : at + IDS_PER_QUERY] for at in range(0, len(wanted), IDS_PER_QUERY)]
        with self._connection() as connection:
            rows = [row for part in parts for row in connection.execute(select(table).where(table.c.id.in_(part)))]
        return {row.id: _pattern(row) for row in rows}

    def _seen(self, database: str, kind: str) -> Select[Any]:
        table = schema.events
        return select(table).where(table.c.database == database, table.c.kind == kind)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A connection to a database that has a history; whatever goes wrong is a StoreError."""
        if self._url.get_backend_name() == "sqlite" and not Path(self._url.database or "").is_file():
            raise StoreError(f"there is no history at {self.place}; {NAME_ANOTHER}")
        try:
            with self._connect() as connection:
                if not inspect(connection).has_table(schema.events.name):
                    raise StoreError(f"there is no history in {self.place}; {NAME_ANOTHER}")
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise StoreError(f"the history at {self.place} cannot be read: {reason(self._url, error)}") from None

    def _connect(self) -> Connection:
        try:
            return self._engine.connect()
        except TypeError as error:  # how drivers refuse an option of the URL
            raise StoreError(f"the history at {self.place} cannot be read: {reason(self._url, error)}") from None


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "").resolve()
        return create_engine("sqlite://", creator=lambda: _open(path), poolclass=NullPool)
    options = SILENCE.get(url.get_driver_name(), {})
    return create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, connect_args=options)


def _open(path: Path) -> sqlite3.Connection:
    """The file, which is there; no other is left beside it.

    Who reads a log of changes that nobody has open would create its files, which belong to him then, and not to the
    pilot: without a log the file is whole, and read as it is.
    """
    log = path.with_name(f"{path.name}-wal")
    how = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=LOCK_TIMEOUT_S)


def _distinct(connection: Connection, column: ColumnElement[str]) -> list[str]:
    """The values of a column that begins an index, in steps through that: DISTINCT would read all of it."""
    found: list[str] = []
    query = select(func.min(column))
    while (one := connection.scalar(query.where(column > found[-1]) if found else query)) is not None:
        found.append(one)
    return found


def _within(column: ColumnElement[int], span: tuple[float, float]) -> ColumnElement[bool]:
    """From the one on, and before the other, which may be infinite."""
    start_s, end_s = span
    return column >= start_s if end_s == float("inf") else and_(column >= start_s, column < end_s)


def _block(data: bytes) -> Block | None:
    """None for one that is damaged, which counts as nothing."""
    try:
        return Block.from_bytes(data)
    except BlockError:
        return None


def _pattern(row: Row[Any]) -> Pattern:
    sources = tuple(Source(**source) for source in row.sources)
    return Pattern(row.id, row.text, row.operation, tuple(row.tables), sources)


def _instant(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
