"""The history in a SQL database: SQLite by default, MariaDB/MySQL or PostgreSQL by URL."""

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeAlias
from uuid import uuid4

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Row,
    Table,
    and_,
    bindparam,
    create_engine,
    delete,
    event,
    false,
    func,
    insert,
    make_url,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from dbpilot.clock import SYSTEM, Clock
from dbpilot.config import HistoryConfig
from dbpilot.errors import StoreError
from dbpilot.history import schema
from dbpilot.history.block import Block, BlockError, added_up, limited, merged
from dbpilot.history.store import Batch, Event, Pattern, Source, Window, joined, kept_events, packed
from dbpilot.history.tally import Tally
from dbpilot.history.timeline import Timeline, step_length_s, steps_of

log = logging.getLogger(__name__)

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
WRITING: Final = {"dbpilot_writes": True}

HOUR_S: Final = 3600
DAY_S: Final = 86_400
LENGTHS_S: Final = (60, HOUR_S, DAY_S)
"""The lengths of sums; each divides the next."""
MAX_PATTERNS_PER_SUM: Final = 5_000
MAX_PATTERNS: Final = 50_000
"""Patterns remembered by text; an application that makes up names all day would fill the disk."""
MOST_HOURS: Final = 24 * 8
"""Longer timelines are made of days."""
WIDE: Final = 500
"""With more patterns in an hour, a timeline of a day is made of hours, and not of minutes."""
SOME: Final[dict[str, Any]] = {"execution_options": {"yield_per": 20}}
WINDOWS_PER_FOLD: Final = 200
FOLD_LEASE: Final = timedelta(seconds=25)
FORGET_EVERY: Final = timedelta(minutes=10)
SPARE: Final = 4
"""A file keeps one free page in so many, for what is written next; the pages beyond are given back."""
GIVEN_BACK: Final = 5_000
"""Pages at a time, so that nobody waits long."""
PAGES: Final = ("auto_vacuum", "page_count", "freelist_count")
INCREMENTAL: Final = 2
SOURCES_EVERY_S: Final = 600.0
SEEN_EVERY_S: Final = 3600.0
MAX_WAITING: Final = 2_000
"""Patterns whose samples wait to be written; with more than that, all are written at once."""
PATTERN_ATTEMPTS: Final = 3
UPGRADE_ATTEMPTS: Final = 10
UPGRADE_PAUSE_S: Final = 0.2
UPGRADE_LOCK: Final = "dbpilot_schema"
UPGRADE_LOCK_S: Final = 20

Span: TypeAlias = tuple[float, float]
"""Seconds since 1970, the end excluded."""


class SqlStore:
    """Remembers in a database of its own or beside the application's tables; many processes may share one.

    What each process counts in a window is one row. Regularly one of the processes folds new rows into the sums of
    their minute, hour and day, all three in one transaction: so each is always as current as the others, and a long
    range is a few long sums with shorter ones at its edge. Nothing is connected before the first use, and the schema
    is brought up to date then.
    """

    def __init__(self, url: str, database: str, config: HistoryConfig | None = None, clock: Clock = SYSTEM) -> None:
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
        self._writing = self._engine.execution_options(**WRITING)
        self._reading = self._engine
        if self._engine.dialect.name != "sqlite":
            self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ")
            # MariaDB would lock gaps, and two processes that insert the same claim would end in a deadlock.
            self._writing = self._engine.execution_options(isolation_level="READ COMMITTED")
        self._config = config or HistoryConfig()
        self._clock = clock
        self._database = database
        self._name = place(self._engine.url)
        self._file = Path(str(self._engine.url.database)) if self._engine.dialect.name == "sqlite" else None
        self._process = uuid4().hex
        self._ready = False
        self._opening = Lock()
        self._patterns = WrittenPatterns()
        self._forgotten_at = clock.now() - FORGET_EVERY  # soon
        self.damaged = 0
        """Blocks that could not be read, and count as nothing."""

    def write(self, batch: Batch) -> None:
        self._notice_loss()
        now_s = self._clock.now().timestamp()
        self._write_patterns(batch, now_s)
        with self._connection(self._writing) as connection:
            if not _is_written(connection, batch.id):
                _insert_all(connection, schema.windows, [self._window_row(batch, window) for window in batch.windows])
                rows = [self._event_row(batch, number, event) for number, event in enumerate(batch.events)]
                _insert_all(connection, schema.events, rows)

    def _write_patterns(self, batch: Batch, now_s: float) -> None:
        due = self._patterns.due(batch, now_s)
        for attempt in range(PATTERN_ATTEMPTS if due else 0):
            try:
                with self._connection(self._writing) as connection:
                    _save_patterns(connection, due, int(now_s))
                break
            except StoreError as error:  # another process may have written one of them since we looked
                if not isinstance(error.__cause__, IntegrityError) or attempt == PATTERN_ATTEMPTS - 1:
                    raise
        self._patterns.wrote(batch, due, now_s)

    def begin(self, since: datetime, until: datetime) -> datetime:
        age_s = (self._clock.now() - since).total_seconds()
        length_s = (until - since).total_seconds()
        kept, shown = self._kept_s(), {60: 3 * HOUR_S, HOUR_S: 3 * DAY_S, DAY_S: float("inf")}
        step_s = 1
        for finer_s, coarser_s in pairwise((0, *LENGTHS_S)):
            if age_s > kept[finer_s] or length_s > shown[coarser_s]:
                step_s = coarser_s
        return _floor(since, step_s)

    def tallies(self, since: datetime, until: datetime) -> dict[str, Tally]:
        first_s = self.begin(since, until).timestamp()
        # What has not happened yet is in no sum: a sum that goes on is whole for a range until now.
        last_s = float("inf") if until >= self._clock.now() else until.timestamp()
        spans, edges = cover(first_s, last_s)
        with self._connection(self._reading) as connection:
            rows = [row for length_s, span in spans for row in connection.execute(self._sums_in(length_s, span))]
            rows += connection.execute(self._windows_in(first_s, last_s, edges)).all()
        return added_up(block for row in rows if (block := self._block(row.data)) is not None)

    def timeline(self, since: datetime, until: datetime, points: int, ids: Collection[str] = ()) -> Timeline:
        with self._connection(self._reading) as connection:
            length_s = self._length_for_steps(connection, since, until)
            step_s = step_length_s((until - since).total_seconds(), points, length_s)
            span = since.timestamp() // step_s * step_s, until.timestamp()
            sums = self._dated(schema.sums, span).where(schema.sums.c.length_s == length_s)
            new = self._dated(schema.windows, span).where(schema.windows.c.folded == false())
            return Timeline(step_s, steps_of(self._dated_blocks(connection, (sums, new)), step_s, ids))

    def _dated_blocks(self, connection: Connection, queries: Iterable[Any]) -> Iterator[tuple[float, Block]]:
        """What the queries find, a few rows at a time, one query after the other: a week of hours is 200 MB."""
        for query in queries:
            for row in connection.execute(query, **SOME):
                block = self._block(row.data)
                if block is not None:
                    yield row.start_s, block

    def _length_for_steps(self, connection: Connection, since: datetime, until: datetime) -> int:
        """The shortest sums that are still kept of then, and can be read at once."""
        length_s, kept = (until - since).total_seconds(), self._kept_s()
        age_s = (self._clock.now() - since).total_seconds()
        if length_s > MOST_HOURS * HOUR_S or age_s > kept[HOUR_S]:
            return DAY_S
        if age_s > kept[60] or length_s > DAY_S + HOUR_S:
            return HOUR_S
        return HOUR_S if length_s > 3 * HOUR_S and self._is_wide(connection, since) else 60

    def _is_wide(self, connection: Connection, since: datetime) -> bool:
        """Whether an hour has so many patterns that hundreds of its minutes are too much to read."""
        table = schema.sums
        span = since.timestamp(), float("inf")
        hours = self._dated(table, span).where(table.c.length_s == HOUR_S).order_by(table.c.start_s.desc()).limit(2)
        found = [self._block(row.data) for row in connection.execute(hours)]
        return any(block is not None and len(block.ids) > WIDE for block in found)

    def _dated(self, table: Table, span: Span) -> Any:
        columns = select(table.c.start_s, table.c.data)
        return columns.where(table.c.database == self._database, *_within(table.c.start_s, span))

    def _sums_in(self, length_s: int, span: Span) -> Any:
        table = schema.sums
        return select(table.c.data).where(
            table.c.database == self._database, table.c.length_s == length_s, *_within(table.c.start_s, span)
        )

    def _windows_in(self, first_s: float, last_s: float, edges: list[Span]) -> Any:
        """Windows at the edges, which no sum covers, and those that are in no sum yet."""
        table = schema.windows
        at_edge = [and_(*_within(table.c.start_s, span)) for span in edges]
        return select(table.c.data).where(
            table.c.database == self._database,
            *_within(table.c.start_s, (first_s, last_s)),
            or_(table.c.folded == false(), *at_edge),
        )

    def _block(self, data: bytes) -> Block | None:
        try:
            return Block.from_bytes(data)
        except BlockError:
            self.damaged += 1
            return None

    def patterns(self, ids: Iterable[str]) -> dict[str, Pattern]:
        wanted = sorted(set(ids))
        if not wanted:
            return {}
        with self._connection(self._reading) as connection:
            found = {id_: pattern for part in _parts(wanted) for id_, pattern in _stored_patterns(connection, part)}
        return {id_: self._patterns.with_unwritten(pattern) for id_, pattern in found.items()}

    def events(
        self,
        kind: str,
        since: datetime,
        until: datetime,
        limit: int,
        *,
        key: str | None = None,
        min_value: float | None = None,
    ) -> list[Event]:
        table = schema.events
        query = select(table).where(*self._events_in(kind, since, until))
        if key is not None:
            query = query.where(table.c.key == key)
        if min_value is not None:
            query = query.where(table.c.value >= min_value)
        with self._connection(self._reading) as connection:
            rows = connection.execute(query.order_by(table.c.at_s.desc()).limit(limit)).all()
        return [Event(row.kind, _instant(row.at_s), row.key, row.value, row.body, row.pattern_id) for row in rows]

    def values(self, kind: str, since: datetime, until: datetime) -> list[tuple[datetime, str, float]]:
        table = schema.events
        query = select(table.c.at_s, table.c.key, table.c.value).where(*self._events_in(kind, since, until))
        with self._connection(self._reading) as connection:
            rows = connection.execute(query.order_by(table.c.at_s)).all()
        return [(_instant(at_s), key, value) for at_s, key, value in rows]

    def _events_in(self, kind: str, since: datetime, until: datetime) -> list[Any]:
        table, span = schema.events, (since.timestamp(), until.timestamp())
        return [table.c.database == self._database, table.c.kind == kind, *_within(table.c.at_s, span)]

    def claim(self, key: str, until: datetime, now: datetime) -> bool:
        try:
            with self._connection(self._writing) as connection:
                return self._claim(connection, key, until, now)
        except StoreError as error:
            if isinstance(error.__cause__, IntegrityError):  # another process was faster
                return False
            raise

    def _claim(self, connection: Connection, key: str, until: datetime, now: datetime) -> bool:
        """Claims inside a transaction: until its end nobody else can."""
        table = schema.claims
        its = (table.c.database == self._database, table.c.key == key)
        free = or_(table.c.holder == self._process, table.c.until_s <= now.timestamp())
        values = {"holder": self._process, "until_s": until.timestamp()}
        if connection.execute(update(table).where(*its, free).values(values)).rowcount:
            return True
        if connection.execute(select(table.c.key).where(*its)).first():
            return False
        connection.execute(insert(table).values(database=self._database, key=key, **values))
        return True

    def maintain(self, now: datetime) -> None:
        while self._fold(now):
            pass
        if now - self._forgotten_at >= FORGET_EVERY:
            self._forgotten_at = now
            self._forget(now)

    def _fold(self, now: datetime) -> bool:
        """New windows are part of the sums; whether there may be more of them."""
        try:
            with self._connection(self._writing) as connection:
                if not self._claim(connection, "fold", now + FOLD_LEASE, now):
                    return False
                table = schema.windows
                new = select(table).where(table.c.database == self._database, table.c.folded == false())
                rows = connection.execute(new.order_by(table.c.start_s).limit(WINDOWS_PER_FOLD)).all()
                self._add_to_sums(connection, rows)
                _mark_folded(connection, rows)
                return len(rows) == WINDOWS_PER_FOLD
        except StoreError as error:
            if isinstance(error.__cause__, IntegrityError):  # the first claim of all: another process was faster
                return False
            raise

    def _add_to_sums(self, connection: Connection, rows: Sequence[Row[Any]]) -> None:
        blocks = [(row.start_s, block) for row in rows if (block := self._block(row.data)) is not None]
        for length_s in LENGTHS_S:
            parts: dict[int, list[Block]] = {}
            for start_s, block in blocks:
                parts.setdefault(start_s // length_s * length_s, []).append(block)
            for start_s, some in parts.items():
                self._add_to_sum(connection, length_s, start_s, some)

    def _add_to_sum(self, connection: Connection, length_s: int, start_s: int, blocks: list[Block]) -> None:
        table = schema.sums
        its = {"database": self._database, "length_s": length_s, "start_s": start_s}
        where = [table.c[name] == value for name, value in its.items()]
        stored = connection.execute(select(table.c.data).where(*where)).scalar()
        known = self._block(stored) if stored is not None else None
        total = limited(merged([*blocks, *([known] if known else [])]), MAX_PATTERNS_PER_SUM)
        # Hours and days are few, and read most: they are not compressed.
        data = total.to_bytes(compressed=length_s < HOUR_S)
        if stored is None:
            connection.execute(insert(table).values(**its, data=data))
        else:
            connection.execute(update(table).where(*where).values(data=data))

    def _forget(self, now: datetime) -> None:
        """What is older than its kind is kept for is gone."""
        now_s, kept = now.timestamp(), self._kept_s()
        windows, sums = schema.windows, schema.sums
        with self._connection(self._writing) as connection:
            # What is in no sum yet stays until its sums would be gone as well: another process may be folding.
            done = and_(windows.c.folded == true(), windows.c.start_s < now_s - kept[0])
            connection.execute(delete(windows).where(or_(done, windows.c.start_s < now_s - max(kept.values()))))
            for length_s in LENGTHS_S:
                old = (sums.c.length_s == length_s, sums.c.start_s < now_s - kept[length_s] - length_s)
                connection.execute(delete(sums).where(*old))
            self._forget_events(connection, now)
            connection.execute(delete(schema.claims).where(schema.claims.c.until_s < now_s - DAY_S))
            _forget_patterns(connection, now_s - max(kept.values()))
        self._patterns.clear()  # some of them may be gone
        if self._engine.dialect.name == "sqlite":
            self._give_back()

    def _give_back(self) -> None:
        """After a time when much was seen, the file becomes smaller again, bit by bit."""
        with self._connection(self._reading) as connection:
            kind, pages, free = (int(connection.exec_driver_sql(f"PRAGMA {of}").scalar_one()) for of in PAGES)
        most = min(GIVEN_BACK, free - pages // SPARE)
        if kind != INCREMENTAL or most <= 0:
            return
        with self._connection(self._engine) as connection, suppress(sqlite3.OperationalError):  # another time, then
            # A script, for the driver ends any other statement that has no rows after its first page; it ends the
            # transaction first.
            driver: Any = connection.connection.driver_connection
            driver.executescript(f"PRAGMA incremental_vacuum({most})")

    def _forget_events(self, connection: Connection, now: datetime) -> None:
        """Of each kind those that are too old are gone; the index leads to them, and to no others."""
        table, usual = schema.events, timedelta(days=self._config.keep_events_days)
        kept = kept_events(self._config)
        for database, kind in _kinds_of_events(connection):
            oldest = now - kept.get(kind, usual)
            its = (table.c.database == database, table.c.kind == kind)
            connection.execute(delete(table).where(*its, table.c.at_s < oldest.timestamp()))

    def _kept_s(self) -> dict[int, float]:
        """How long windows (0) and sums are kept, by their length in seconds."""
        config = self._config
        return {
            0: config.keep_windows_hours * HOUR_S,
            60: config.keep_minutes_hours * HOUR_S,
            HOUR_S: config.keep_hours_days * DAY_S,
            DAY_S: config.keep_days_days * DAY_S,
        }

    def close(self) -> None:
        self._engine.dispose()

    def abandon(self) -> None:
        """After a fork nothing is shared with the parent: connections are let go without a word to the server."""
        self._engine.dispose(close=False)
        self._process = uuid4().hex  # or it would claim what the parent holds
        self._opening = Lock()  # a thread of the parent may have held it
        self._patterns = WrittenPatterns()  # the parent writes the samples that waited

    def beside(self) -> "SqlStore":
        """The same history, on connections of its own: who must not wait for its other users has one."""
        url = self._engine.url.render_as_string(hide_password=False)
        return SqlStore(url, self._database, self._config, self._clock)

    def reads(self) -> AbstractContextManager[Connection]:
        """One transaction that reads, on an up-to-date schema; whatever goes wrong is a StoreError."""
        return self._connection(self._reading)

    def writes(self) -> AbstractContextManager[Connection]:
        """One transaction that writes; otherwise as :meth:`reads`."""
        return self._connection(self._writing)

    @contextmanager
    def _connection(self, engine: Engine) -> Iterator[Connection]:
        """One transaction on an up-to-date schema; whatever goes wrong is a StoreError."""
        try:
            self._open()
            with engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, CommandError, OSError) as error:
            raise StoreError(f"history {self._name}: {_reason(error)}") from error

    def _open(self) -> None:
        with self._opening:
            self._notice_loss()
            if not self._ready:
                _make_folder(self._engine)
                _upgrade(self._writing)
                self._ready = True

    def _notice_loss(self) -> None:
        """A SQLite file that somebody deleted is written no more: open connections would hold it, unseen by all."""
        if self._ready and self._file is not None and not self._file.exists():
            log.warning("the history's file %s is gone, and what was in it; a new one is begun", self._file)
            self._engine.dispose()
            self._patterns = WrittenPatterns()
            self._ready = False

    def _window_row(self, batch: Batch, window: Window) -> dict[str, Any]:
        row = {"batch": batch.id, "start_s": int(window.start.timestamp()), "database": self._database}
        return {**row, "folded": False, "data": packed(window).data}

    def _event_row(self, batch: Batch, number: int, event: Event) -> dict[str, Any]:
        return {
            "batch": batch.id,
            "number": number,
            "database": self._database,
            "kind": event.kind,
            "at_s": event.at.timestamp(),
            "key": event.key[: schema.KEY_LENGTH],
            "value": event.value,
            "pattern_id": event.pattern_id,
            "body": dict(event.body),
        }


class WrittenPatterns:
    """Which patterns this process wrote lately, and the samples of their sources that wait to be written.

    A pattern is written when it is new, and then now and again, for its sources and to say that it is still in use.
    """

    def __init__(self) -> None:
        self._at_s: dict[str, float] = {}
        self._waiting: dict[str, Pattern] = {}
        self._counted: deque[str] = deque(maxlen=1000)
        """Batches whose samples are written or wait; one that is written again adds none."""

    def due(self, batch: Batch, now_s: float) -> list[Pattern]:
        """Those that should be written now, with the samples that waited; some that waited may not be the batch's."""
        known = self._with_samples_of(batch)
        full = sum(bool(pattern.sources) for pattern in known) > MAX_WAITING
        return [pattern for pattern in known if self._is_due(pattern, now_s) or (full and pattern.sources)]

    def _is_due(self, pattern: Pattern, now_s: float) -> bool:
        return now_s - self._at_s.get(pattern.id, 0.0) >= (SOURCES_EVERY_S if pattern.sources else SEEN_EVERY_S)

    def _with_samples_of(self, batch: Batch) -> list[Pattern]:
        """All that wait, and the batch's."""
        counted = batch.id in self._counted
        new = [replace(pattern, sources=()) if counted else pattern for pattern in batch.patterns]
        return list({**self._waiting, **{pattern.id: self.with_unwritten(pattern) for pattern in new}}.values())

    def with_unwritten(self, pattern: Pattern) -> Pattern:
        """The pattern with the samples that wait."""
        waiting = self._waiting.get(pattern.id)
        return joined(waiting, pattern) if waiting else pattern

    def wrote(self, batch: Batch, due: Sequence[Pattern], now_s: float) -> None:
        """What was due is in the store; the batch's other samples wait."""
        known = self._with_samples_of(batch)
        self._at_s.update({pattern.id: now_s for pattern in due})
        written = {pattern.id for pattern in due}
        self._waiting = {p.id: p for p in known if p.sources and p.id not in written}
        if batch.id not in self._counted:
            self._counted.append(batch.id)

    def clear(self) -> None:
        """Each counts as new again."""
        self._at_s.clear()


def cover(first_s: float, last_s: float) -> tuple[list[tuple[int, Span]], list[Span]]:
    """Which sums, and which edges without one, make up the range [first, last): each instant once.

    From both edges inwards minutes, hours, and days in the middle.
    """
    spans: list[tuple[int, Span]] = []
    left, right = first_s, last_s
    edges: list[Span] = []
    for length_s in LENGTHS_S:
        inner_left = -(-left // length_s) * length_s
        inner_right = right if right == float("inf") else right // length_s * length_s
        if inner_left >= inner_right:
            break
        if spans:
            finer_s = spans.pop()[0]
            spans += [(finer_s, (left, inner_left)), (finer_s, (inner_right, right))]
        else:
            edges = [(left, inner_left), (inner_right, right)]
        spans.append((length_s, (inner_left, inner_right)))
        left, right = inner_left, inner_right
    if not spans:
        edges = [(first_s, last_s)]
    return [(length_s, span) for length_s, span in spans if span[0] < span[1]], [e for e in edges if e[0] < e[1]]


def _floor(instant: datetime, step_s: int) -> datetime:
    return instant if step_s == 1 else _instant(instant.timestamp() // step_s * step_s)


def _within(column: Any, span: Span) -> list[Any]:
    """Conditions for [start, end); an end that is infinite is none."""
    start_s, end_s = span
    return [column >= start_s, *([column < end_s] if end_s != float("inf") else [])]


def place(url: URL) -> str:
    """Where a database is, without user, password and options; tells databases in one history apart."""
    database = url.database or ""
    if url.get_backend_name() == "sqlite":  # the same name in another folder is another database
        path = (
            database if database in ("", ":memory:") or database.startswith("file:") else str(Path(database).resolve())
        )
        return f"sqlite:///{path}"[-schema.PLACE_LENGTH :]
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()}://{url.host or ''}{port}/{database}"[-schema.PLACE_LENGTH :]


def _engine(url: str) -> Engine:
    """An engine that waits only shortly for a server or a lock: its user is the pilot's worker."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise StoreError("a history in SQLite needs a file; to keep none, use MemoryStore")
        engine = create_engine(parsed, connect_args={"timeout": CONNECT_TIMEOUT_S})
        event.listen(engine, "connect", _write_ahead_log)
        event.listen(engine, "begin", _begin)
        return engine
    options = SILENCE.get(parsed.get_driver_name(), {})
    return create_engine(parsed, pool_size=1, max_overflow=1, pool_pre_ping=True, connect_args=options)


def _write_ahead_log(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver would begin a transaction only when something is written
    cursor = connection.cursor()
    cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")  # has a meaning for a new file alone
    cursor.execute("PRAGMA journal_mode=WAL")  # pages are read while the worker writes
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _begin(connection: Connection) -> None:
    """A reader sees one state of the file all the time; a writer waits for its turn before it reads, not after."""
    writes = connection.get_execution_options().get("dbpilot_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_folder(engine: Engine) -> None:
    database = engine.url.database
    if engine.dialect.name == "sqlite" and database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True)


def _upgrade(engine: Engine) -> None:
    """The schema is at the version this code needs; several processes may try at once.

    The one that comes second fails or waits, and tries again until the other one is through. Every step may be
    repeated.
    """
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    for attempt in range(UPGRADE_ATTEMPTS):
        if _version(engine) == head:
            return
        try:
            _migrate(engine)
        except DBAPIError:
            if attempt == UPGRADE_ATTEMPTS - 1:
                raise
            time.sleep(UPGRADE_PAUSE_S)


def _migrate(engine: Engine) -> None:
    """Every migration that is missing is made.

    Alembic's usual way in, ``command.upgrade``, would set up its process-wide ``context`` and ``op``, which the
    application may be using for its own migrations at this moment.
    """
    script = ScriptDirectory(str(MIGRATIONS))
    with engine.connect() as connection, _alone(connection), connection.begin():
        steps = {"fn": lambda revision, _context: script._upgrade_revs("head", revision)}  # what `command` calls
        context = MigrationContext.configure(connection, opts={**VERSION_TABLE, **steps})
        context.run_migrations(operations=Operations(context))


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """No other process changes the schema meanwhile.

    MariaDB and MySQL have to be told: they end the transaction at each step, and a process that came second at the
    first one would write its version beside the last one's, for good.
    """
    if connection.dialect.name not in ("mysql", "mariadb"):
        yield
        return
    if not connection.scalar(select(func.get_lock(UPGRADE_LOCK, UPGRADE_LOCK_S))):
        raise StoreError(f"another process has been changing the history's schema for {UPGRADE_LOCK_S} s")
    connection.commit()
    try:
        yield
    finally:
        connection.scalar(select(func.release_lock(UPGRADE_LOCK)))
        connection.commit()


def _version(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection, opts=VERSION_TABLE).get_current_revision()


def _is_written(connection: Connection, batch_id: str) -> bool:
    tables = (schema.windows, schema.events)
    return any(connection.execute(select(t.c.batch).where(t.c.batch == batch_id).limit(1)).first() for t in tables)


def _save_patterns(connection: Connection, patterns: list[Pattern], now_s: int) -> None:
    """New ones are written, known ones get the new samples of their sources."""
    known = dict(found for part in _parts([p.id for p in patterns]) for found in _stored_patterns(connection, part))
    new = [pattern for pattern in patterns if pattern.id not in known]
    rows = [
        {
            "id": pattern.id,
            "text": pattern.text,
            "operation": pattern.operation,
            "tables": list(pattern.tables),
            "sources": [asdict(source) for source in pattern.sources],
            "last_seen_s": now_s,
        }
        for pattern in new
    ]
    _insert_all(connection, schema.patterns, rows)
    changes = [
        {"which": pattern.id, "new_sources": [asdict(s) for s in joined(known[pattern.id], pattern).sources]}
        for pattern in patterns
        if pattern.id in known
    ]
    if changes:
        table = schema.patterns
        values = {"sources": bindparam("new_sources", type_=table.c.sources.type), "last_seen_s": now_s}
        connection.execute(update(table).where(table.c.id == bindparam("which")).values(values), changes)


def _stored_patterns(connection: Connection, ids: list[str]) -> Iterator[tuple[str, Pattern]]:
    for row in connection.execute(select(schema.patterns).where(schema.patterns.c.id.in_(ids))):
        sources = tuple(Source(**source) for source in row.sources)
        yield row.id, Pattern(row.id, row.text, row.operation, tuple(row.tables), sources)


def _kinds_of_events(connection: Connection) -> list[tuple[str, str]]:
    """Which databases have events of which kinds, in a few steps through the index: DISTINCT would read all of it."""
    table = schema.events.c
    databases = _distinct(connection, table.database)
    return [(one, kind) for one in databases for kind in _distinct(connection, table.kind, table.database == one)]


def _distinct(connection: Connection, column: Any, *where: Any) -> list[str]:
    """The values of an index's column, in order; the columns before it are given by ``where``."""
    found: list[str] = []
    query = select(func.min(column)).where(*where)
    while (one := connection.scalar(query.where(column > found[-1]) if found else query)) is not None:
        found.append(one)
    return found


def _forget_patterns(connection: Connection, before_s: float) -> None:
    table = schema.patterns
    newest_first = select(table.c.last_seen_s).order_by(table.c.last_seen_s.desc())
    over_limit_s = connection.execute(newest_first.offset(MAX_PATTERNS).limit(1)).scalar()
    connection.execute(delete(table).where(table.c.last_seen_s < max(before_s, over_limit_s or 0)))


def _mark_folded(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    table = schema.windows
    its = (table.c.batch == bindparam("its_batch"), table.c.start_s == bindparam("its_start_s"))
    if rows:
        done = [{"its_batch": row.batch, "its_start_s": row.start_s} for row in rows]
        connection.execute(update(table).where(*its).values(folded=True), done)


def _insert_all(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _parts(ids: list[str]) -> Iterator[list[str]]:
    return (ids[start : start + IDS_PER_QUERY] for start in range(0, len(ids), IDS_PER_QUERY))


_instant: Callable[[float], datetime] = partial(datetime.fromtimestamp, tz=UTC)


def _reason(error: Exception) -> str:
    """The driver's own words, on one line, without the statement and its values."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(f"{type(original).__name__}: {original}".split())
