"""Reads an engine's pool and counts what happens to its connections."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import QueuePool

from dbpilot.unsupported import Unsupported


@dataclass(frozen=True, slots=True)
class PoolReading:
    """One look at a pool; ``limit`` is the most connections it may open at once."""

    in_use: int | Unsupported
    idle: int | Unsupported
    limit: int | Unsupported
    created: int
    closed: int
    failed: int
    """Connections made, closed, and attempts that failed, since the pilot started."""


class ConnectionWatch:
    """Counts connections of one engine between :meth:`attach` and :meth:`detach`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counts: Counter[str] = Counter()
        self._counting = RLock()  # a connection collected meanwhile is counted by this very thread

    def attach(self) -> None:
        """Connections made, closed or failed from now on are counted."""
        for name, hook in self._hooks().items():
            event.listen(self._engine, name, hook)

    def detach(self) -> None:
        """Nothing is counted any more."""
        for name, hook in self._hooks().items():
            if event.contains(self._engine, name, hook):
                event.remove(self._engine, name, hook)

    def _hooks(self) -> dict[str, Callable[..., None]]:
        return {"connect": self._on_connect, "close": self._on_close, "handle_error": self._on_error}

    def read(self) -> PoolReading:
        """The pool as it is now."""
        pool = self._engine.pool
        counts = (self._counts["created"], self._counts["closed"], self._counts["failed"])
        if not isinstance(pool, QueuePool):
            none = Unsupported(
                f"{type(pool).__name__} keeps no connections that could be counted",
                "create the engine with the default pool class, QueuePool",
            )
            return PoolReading(none, none, none, *counts)
        # SQLAlchemy has no public reader for the limit; -1 stands for "without limit".
        overflow = pool._max_overflow
        limit = pool.size() + overflow if overflow >= 0 else Unsupported("the pool has no limit", "set max_overflow")
        return PoolReading(pool.checkedout(), pool.checkedin(), limit, *counts)

    def _count(self, what: str) -> None:
        with self._counting:
            self._counts[what] += 1

    def _on_connect(self, _connection: object, _record: object) -> None:
        self._count("created")

    def _on_close(self, _connection: object, _record: object) -> None:
        self._count("closed")

    def _on_error(self, context: ExceptionContext) -> None:
        """An error outside of any connection is a failed attempt to connect."""
        if context.connection is None and not context.is_pre_ping:  # a ping that fails is followed by an attempt
            self._count("failed")
