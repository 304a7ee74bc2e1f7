"""Stands where a driver's cursor would, and times the fetching of its rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Self, TypeAlias

from dbpilot.queries.recorder import Detail
from dbpilot.queries.request import Request

Known: TypeAlias = tuple[str, float, Request | None, Detail | None, str, Any]
"""Of an execution: its text, seconds spent executing, its request and detail; the statement and parameters sent."""


class WatchedCursor:
    """Everything is the driver's cursor's; fetches are timed, and the end of an execution is told once.

    One is made for every statement that answers rows, so its own attributes are few and found at once: a class with
    ``__getattr__`` would pay five times as much for each of them. What else the driver's cursor has is forwarded by
    properties of a subclass, made per driver by :func:`watched_class`.
    """

    __slots__ = ("_cursor", "description", "error", "fetch_s", "first_fetch_s", "known", "rows")

    _ticks: ClassVar[Any]
    _done: ClassVar[Any]

    def __init__(self, cursor: Any, known: Known) -> None:
        self._cursor = cursor
        self.known: Known | None = known
        self.fetch_s = self.first_fetch_s = 0.0
        self.rows = 0
        self.error: BaseException | None = None
        self.description = cursor.description

    def fetchone(self) -> Any:
        """The next row, or None."""
        started = self._ticks()
        try:
            row = self._cursor.fetchone()
        except BaseException as error:
            self.error = error
            raise
        self._fetched(started, row is not None)
        return row

    def fetchmany(self, *size: int, **named: int) -> Sequence[Any]:
        """The next rows."""
        started = self._ticks()
        try:
            rows: Sequence[Any] = self._cursor.fetchmany(*size, **named)
        except BaseException as error:
            self.error = error
            raise
        self._fetched(started, len(rows))
        return rows

    def fetchall(self) -> Sequence[Any]:
        """All rows that are left."""
        started = self._ticks()
        try:
            rows: Sequence[Any] = self._cursor.fetchall()
        except BaseException as error:
            self.error = error
            raise
        self._fetched(started, len(rows))
        return rows

    def _fetched(self, started: float, rows: int) -> None:
        self.fetch_s += self._ticks() - started
        if rows:
            if not self.rows:
                self.first_fetch_s = self.fetch_s
            self.rows += rows

    def nextset(self) -> Any:
        """The next result of a statement that answers several."""
        answer = self._cursor.nextset()
        self.description = self._cursor.description
        return answer

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchone, None)

    def __next__(self) -> Any:
        return next(iter(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def unwatched(self) -> Any:
        """The driver's cursor; what was watched until now is told."""
        if self.known is not None:
            self._done()
        return self._cursor

    def close(self) -> None:
        """The driver's cursor is closed."""
        if self.known is not None:
            self._done()
        self._cursor.close()

    def __del__(self) -> None:
        if self.known is not None:
            self._done()  # a result that nobody read to its end is an execution too


def watched_class(
    cursor: Any, ticks: Callable[[], float], done: Callable[[WatchedCursor], None]
) -> type[WatchedCursor]:
    """A class for the cursors of this driver; ``done`` is told of each one's end, and takes its ``known``."""
    own = {name for base in WatchedCursor.__mro__ for name in vars(base)}
    others = {name: _forwarded(name) for name in dir(cursor) if name not in own and not name.startswith("__")}
    # ``isinstance`` asks for __class__ and sees the driver's.
    body = {"__slots__": (), "_ticks": staticmethod(ticks), "_done": done, "__class__": _forwarded("__class__")}
    return type("WatchedCursor", (WatchedCursor,), {**others, **body})


def _forwarded(name: str) -> property:
    def get(self: WatchedCursor) -> Any:
        return getattr(self._cursor, name)

    def put(self: WatchedCursor, value: Any) -> None:
        setattr(self._cursor, name, value)

    return property(get, put)
