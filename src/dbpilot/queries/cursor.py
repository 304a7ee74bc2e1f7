"""Stands where a driver's cursor would, and times the fetching of its rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from sqlalchemy.engine.interfaces import DBAPICursor

Done = Callable[[str, float, float, int, BaseException | None], None]
"""Told once: the statement, seconds spent executing and fetching, rows fetched, and the error that ended it."""


class WatchedCursor:
    """Everything is the driver's cursor's; fetches are timed, and ``done`` is told at the end.

    Made for every statement that answers rows: what SQLAlchemy asks of each one (``description``, ``fetchall``,
    ``close``) takes the shortest way.
    """

    __slots__ = ("_cursor", "_done", "_error", "_execute_s", "_fetch_s", "_rows", "_statement", "_ticks", "description")

    def __init__(
        self, cursor: DBAPICursor, ticks: Callable[[], float], done: Done, statement: str, execute_s: float
    ) -> None:
        self._cursor = cursor
        self._ticks = ticks
        self._done: Done | None = done
        self._statement = statement
        self._execute_s = execute_s
        self._fetch_s = 0.0
        self._rows = 0
        self._error: BaseException | None = None
        self.description = cursor.description

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def fetchone(self) -> Any:
        """The next row, or None."""
        ticks = self._ticks
        started = ticks()
        try:
            row = self._cursor.fetchone()
        except BaseException as error:
            self._error = error
            raise
        self._fetch_s += ticks() - started
        if row is not None:
            self._rows += 1
        return row

    def fetchmany(self, *size: int, **named: int) -> Sequence[Any]:
        """The next rows."""
        ticks = self._ticks
        started = ticks()
        try:
            rows = self._cursor.fetchmany(*size, **named)
        except BaseException as error:
            self._error = error
            raise
        self._fetch_s += ticks() - started
        self._rows += len(rows)
        return rows

    def fetchall(self) -> Sequence[Any]:
        """All rows that are left."""
        ticks = self._ticks
        started = ticks()
        try:
            rows = self._cursor.fetchall()
        except BaseException as error:
            self._error = error
            raise
        self._fetch_s += ticks() - started
        self._rows += len(rows)
        return rows

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

    @property
    def arraysize(self) -> int:
        """How many rows the driver's ``fetchmany`` brings by itself."""
        return self._cursor.arraysize

    @arraysize.setter
    def arraysize(self, rows: int) -> None:
        self._cursor.arraysize = rows

    def unwatched(self) -> DBAPICursor:
        """The driver's cursor; what was watched until now is told."""
        self._tell()
        return self._cursor

    def close(self) -> None:
        """The driver's cursor is closed."""
        self._tell()
        self._cursor.close()

    def __del__(self) -> None:
        if self._done is not None:
            self._tell()  # a result that nobody read to its end is an execution too

    def _tell(self) -> None:
        done = self._done
        if done is not None:
            self._done = None
            done(self._statement, self._execute_s, self._fetch_s, self._rows, self._error)
            self._error = None  # it holds the frames it went through
