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
    properties of a subclass, made per driver by :func:`watched_class`, which has the fetching methods as well.
    """

    fetch_s = 0.0
    first_fetch_s = 0.0
    rows = 0
    error: BaseException | None = None

    _done: ClassVar[Any]

    def __init__(self, cursor: Any, known: Known) -> None:
        self._cursor = cursor
        self.known: Known | None = known
        self.description = cursor.description

    def nextset(self) -> Any:
        """The next result of a statement that answers several."""
        answer = self._cursor.nextset()
        self.description = self._cursor.description
        return answer

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchone, None)  # type: ignore[attr-defined]  # the subclass has it

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
    own = {name for base in WatchedCursor.__mro__ for name in vars(base)} | {"_cursor", "known", "description"}
    others = {name: _forwarded(name) for name in dir(cursor) if name not in own and not name.startswith("__")}
    # ``isinstance`` asks for __class__ and sees the driver's.
    body = {"_done": done, "__class__": _forwarded("__class__")}
    fetches = {"fetchone": _fetch_one(ticks), **{name: _fetch_some(name, ticks) for name in ("fetchmany", "fetchall")}}
    return type("WatchedCursor", (WatchedCursor,), {**others, **fetches, **body})


def _fetch_one(ticks: Callable[[], float]) -> Callable[[WatchedCursor], Any]:
    def fetchone(self: WatchedCursor) -> Any:
        started = ticks()
        try:
            row = self._cursor.fetchone()
        except BaseException as error:  # counted, and the caller's all the same
            self.error = error
            raise
        self.fetch_s = fetch_s = self.fetch_s + ticks() - started
        if row is not None:
            if not self.rows:
                self.first_fetch_s = fetch_s
            self.rows += 1
        return row

    return fetchone


def _fetch_some(name: str, ticks: Callable[[], float]) -> Callable[..., Sequence[Any]]:
    """``fetchmany`` or ``fetchall``."""

    def fetch(self: WatchedCursor, *size: int, **named: int) -> Sequence[Any]:
        started = ticks()
        try:
            rows: Sequence[Any] = getattr(self._cursor, name)(*size, **named)
        except BaseException as error:  # counted, and the caller's all the same
            self.error = error
            raise
        self.fetch_s = fetch_s = self.fetch_s + ticks() - started
        if rows:
            if not self.rows:
                self.first_fetch_s = fetch_s
            self.rows += len(rows)
        return rows

    return fetch


def _forwarded(name: str) -> property:
    def get(self: WatchedCursor) -> Any:
        return getattr(self._cursor, name)

    def put(self: WatchedCursor, value: Any) -> None:
        setattr(self._cursor, name, value)

    return property(get, put)
