"""Reads an engine's pool and counts what happens to its connections."""

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, Final, TypeVar

from sqlalchemy import Engine, Pool, event
from sqlalchemy.pool import QueuePool

from dbpilot.clock import Clock
from dbpilot.dialects import Dialect
from dbpilot.history.tally import LatencyHistogram
from dbpilot.pool.resizable import Hold, ResizableQueuePool
from dbpilot.unsupported import Unsupported

log = logging.getLogger(__name__)

WAIT_NOTED_S: Final = 0.001
"""From so long a wait for a connection is told to the next statement on it; shorter ones are only added up."""
MAX_WAITS: Final = 1000

Noted = TypeVar("Noted")


@dataclass(frozen=True, slots=True)
class PoolReading:
    """One look at a pool: connections that are open, in use and idle; ``limit`` is the most it may open at once."""

    size: int | Unsupported
    """How many connections are kept open."""
    total: int | Unsupported
    in_use: int | Unsupported
    idle: int | Unsupported
    limit: int | Unsupported
    waiting: int | Unsupported
    """Callers that wait for a connection."""
    created: int
    closed: int
    failed: int
    """Connections made, closed, and attempts to get one that failed, since the pilot started."""
    failures: dict[str, int]
    """Those attempts by the class of their error."""
    checkouts: int
    wait_s: float
    """How often a connection was asked for, and how long that took altogether, new connections included."""
    timeouts: int | Unsupported
    """Callers who waited in vain, or were refused."""
    opened: int
    connect_s: float
    """Connections that the pool opened, and how long that took altogether."""
    ended: int
    hold_s: float
    collected: int
    """Holds that ended, how long they took altogether, and how many of them nobody ended: the garbage collector found
    the connection. Of those whose holders are known, by a pool that says."""
    oldest_s: float | None
    """The age of the oldest open connection that was made since the pilot started; None without any."""


@dataclass(frozen=True, slots=True)
class PoolTimes:
    """How long connections were waited for, held, and took to open, since the pilot started."""

    waits: LatencyHistogram
    holds: LatencyHistogram
    connects: LatencyHistogram
    """Both of a pool that says; holds are those whose holders are known."""


@dataclass(slots=True)
class _Counts:
    created: int = 0
    closed: int = 0
    checkouts: int = 0
    wait_s: float = 0.0
    opened: int = 0
    connect_s: float = 0.0
    ended: int = 0
    hold_s: float = 0.0
    collected: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    waits: LatencyHistogram = field(default_factory=LatencyHistogram)
    holds: LatencyHistogram = field(default_factory=LatencyHistogram)
    connects: LatencyHistogram = field(default_factory=LatencyHistogram)


class ConnectionWatch:
    """Counts connections of one engine between :meth:`attach` and :meth:`detach`."""

    def __init__(self, engine: Engine, dialect: Dialect, clock: Clock) -> None:
        self._engine = engine
        self._dialect = dialect
        self._ticks = clock.ticks
        self._counts = _Counts()
        self._born: dict[int, float] = {}
        self._counting = RLock()  # a connection collected meanwhile is counted by this very thread
        self.at_next: Callable[[], None] | None = None
        """Called once, when the next connection is asked for."""
        self.failures = 0
        """Errors of ours that the application's call for a connection would have met with."""
        self.waited: dict[int, float] = {}
        """Which connections were waited for, in seconds, by the ``id`` of the driver's connection, until the first
        statement on it takes that out."""

    def attach(self) -> None:
        """Connections asked for, made or closed from now on are counted."""
        for name, hook in self._hooks().items():
            event.listen(self._engine, name, hook)
        self._stand_in(self._engine.pool)

    def detach(self) -> None:
        """Nothing is counted any more."""
        for name, hook in self._hooks().items():
            if event.contains(self._engine, name, hook):
                event.remove(self._engine, name, hook)
        for name in ("connect", "recreate"):
            vars(self._engine.pool).pop(name, None)
        self.waited.clear()

    def _hooks(self) -> dict[str, Callable[..., None]]:
        return {"connect": self._on_connect, "close": self._on_close, "close_detached": self._on_close_detached}

    def _stand_in(self, pool: Pool) -> None:
        """The pool's ``connect``, by which engines get their connections, is timed; so is its successor's.

        No event says when the waiting for a connection begins, and one for a disposed engine would make SQLAlchemy
        look for listeners at every statement.
        """
        recreate = pool.recreate

        def recreated() -> Pool:
            successor = recreate()
            self._stand_in(successor)
            return successor

        vars(pool).update(connect=self._timed(pool.connect), recreate=recreated)

    def _timed(self, ask: Callable[[], Any]) -> Callable[[], Any]:
        ticks = self._ticks

        def connect() -> Any:
            if self.at_next is not None:
                self._call_at_next()
            started = ticks()
            try:
                connection = ask()
            except BaseException as error:  # counted, and the caller's all the same
                self._failed(error)
                raise
            self._got(ticks() - started, connection.dbapi_connection)
            return connection

        return connect

    def _call_at_next(self) -> None:
        call, self.at_next = self.at_next, None
        try:
            if call is not None:  # another thread may have been faster
                call()
        except Exception as error:  # the border to the application: a child may be allowed no thread, and yet connect
            log.error("dbpilot could not do what it put off until a connection was asked for", exc_info=error)
            self.failures += 1

    def read(self) -> PoolReading:
        """The pool as it is now."""
        pool, counts, now = self._engine.pool, self._counts, self._ticks()
        oldest_s = max((now - born for born in list(self._born.values())), default=None)
        rest = (
            counts.created,
            counts.closed,
            counts.failures.total(),
            dict(counts.failures),
            counts.checkouts,
            counts.wait_s,
        )
        opened = counts.opened, counts.connect_s, counts.ended, counts.hold_s, counts.collected
        if not isinstance(pool, QueuePool | ResizableQueuePool):
            none = Unsupported(
                f"{type(pool).__name__} keeps no connections that could be counted",
                "create the engine with poolclass=dbpilot.pool.ResizableQueuePool",
            )
            return PoolReading(none, none, none, none, none, none, *rest, none, *opened, oldest_s)
        in_use, idle = pool.checkedout(), pool.checkedin()
        waiting: int | Unsupported
        timeouts: int | Unsupported
        if isinstance(pool, ResizableQueuePool):
            most, waiting, timeouts = pool.limit, pool.counts().waiting, pool.timeouts + pool.refused
        else:
            # SQLAlchemy has no public reader for the limit; -1 stands for "without limit".
            most = pool.size() + pool._max_overflow if pool._max_overflow >= 0 else None
            waiting = timeouts = Unsupported(
                "SQLAlchemy's QueuePool does not say who waits",
                "create the engine with poolclass=dbpilot.pool.ResizableQueuePool",
            )
        limit = Unsupported("the pool has no limit", "set max_overflow") if most is None else most
        return PoolReading(pool.size(), in_use + idle, in_use, idle, limit, waiting, *rest, timeouts, *opened, oldest_s)

    def times(self) -> PoolTimes:
        """How long connections were waited for, held, and took to open; copies."""
        with self._counting:
            counts = self._counts
            return PoolTimes(counts.waits.copy(), counts.holds.copy(), counts.connects.copy())

    def take_collected(self) -> list[Hold]:
        """What became known of holds that ended is counted; those that nobody ended, since the last call."""
        pool = self._engine.pool
        if not isinstance(pool, ResizableQueuePool):
            return []
        collected = _taken(pool.collected)
        with self._counting:
            self._counts.collected += len(collected)
            for connect_s in _taken(pool.connects_s):
                self._counts.opened += 1
                self._counts.connect_s += connect_s
                self._counts.connects.add(connect_s)
            for hold in _taken(pool.returned_holds):
                self._counts.ended += 1
                self._counts.hold_s += hold.age_s
                self._counts.holds.add(hold.age_s)
        return collected

    def _got(self, wait_s: float, connection: object) -> None:
        with self._counting:
            self._counts.checkouts += 1
            self._counts.wait_s += wait_s
            self._counts.waits.add(wait_s)
            if wait_s >= WAIT_NOTED_S and len(self.waited) < MAX_WAITS:
                self.waited[id(connection)] = wait_s

    def _failed(self, error: BaseException) -> None:
        with self._counting:
            self._counts.failures[self._dialect.error_class(error)] += 1

    def _on_connect(self, connection: object, _record: object) -> None:
        with self._counting:
            self._counts.created += 1
            self._born[id(connection)] = self._ticks()

    def _on_close(self, connection: object, _record: object) -> None:
        self._on_close_detached(connection)

    def _on_close_detached(self, connection: object) -> None:
        with self._counting:
            self._counts.closed += 1
            self._born.pop(id(connection), None)
            self.waited.pop(id(connection), None)


def _taken(noted: deque[Noted]) -> list[Noted]:
    """What is there now, taken out; others may append meanwhile."""
    return [noted.popleft() for _ in range(len(noted))]
