"""Stands where a driver's cursor would, and times the fetching of its rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy.engine.interfaces import DBAPICursor

Done = Callable[[str, float, float, int, BaseException | None], None]
"""Told once: the statement, seconds spent executing and fetching, rows fetched, and the error that ended it."""


class WatchedCursor:
    """Everything is the driver's cursor's; fetches are timed, and ``done`` is told at the end."""

    __slots__ = ("_cursor", "_done", "_error", "_execute_s", "_fetch_s", "_rows", "_statement", "_ticks")

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

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def fetchone(self) -> Any:
        """The next row, or None."""
        started = self._ticks()
        try:
            row = self._cursor.fetchone()
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._fetch_s += self._ticks() - started
        self._rows += row is not None
        return row

    def fetchmany(self, *size: int) -> Sequence[Any]:
        """The next rows."""
        return self._timed(self._cursor.fetchmany, *size)

    def fetchall(self) -> Sequence[Any]:
        """All rows that are left."""
        return self._timed(self._cursor.fetchall)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchone, None)

    def close(self) -> None:
        """The driver's cursor is closed."""
        try:
            self._cursor.close()
        finally:
            self._tell()

    def __del__(self) -> None:
        self._tell()  # a result that nobody read to its end is an execution too

    def _timed(self, fetch: Callable[..., Sequence[Any]], *size: int) -> Sequence[Any]:
        started = self._ticks()
        try:
            rows = fetch(*size)
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._fetch_s += self._ticks() - started
        self._rows += len(rows)
        return rows

    def _tell(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self._statement, self._execute_s, self._fetch_s, self._rows, self._error)
            self._error = None  # it holds the frames it went through
