"""Another connection that looks at a statement while it runs: how far it is, and whether it is in somebody's way."""

import time
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from dbpilot.dialects.ddl import Ddl, Look

WORTH: Final = 0.1
MOST_WAIT_S: Final = 2.0
"""At the end of a long statement others may wait behind it for this part of the time that would be lost otherwise, and
no longer."""
AGAIN_S: Final = 1.0
"""A statement takes a moment to end; one that does not is told again."""


class Onlooker:
    """As a context manager: looks at what the connection does inside of the block, and ends it where it must end."""

    def __init__(
        self,
        engine: Engine,
        ddl: Ddl,
        backend: int | None,
        wait_s: float,
        cancel: Event,
        at_progress: Callable[[Look], None],
    ) -> None:
        """Connects at once, so that no statement is begun that nobody could end.

        Args:
            engine: opens the other connection.
            ddl: the database's ways.
            backend: the server's number of the connection that is looked at; None where there is no server.
            wait_s: for how long others may wait behind the statement.
            cancel: when it is set the statement ends.
            at_progress: is told of each look; it must not raise.
        """
        self._ddl = ddl
        self._backend = backend
        self._wait_s = wait_s
        self._cancel = cancel
        self._at_progress = at_progress
        self._over = Event()
        self._began = time.monotonic()
        self._waiting_since: float | None = None
        self._stops_again = 0.0
        self.ended = False
        """Whether it ended the statement because others waited behind it."""
        self._connection = None if backend is None else _opened(engine)
        self._thread = Thread(target=self._look_on, name="dbpilot-onlooker", daemon=True)

    def __enter__(self) -> Self:
        if self._connection is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if self._connection is not None:
            self._thread.join()
            self._connection.close()

    def _look_on(self) -> None:
        while not self._over.wait(self._ddl.poll_s):
            try:
                self._look()
            except SQLAlchemyError:  # the statement has limits of its own in the server, for this case
                return

    def _look(self) -> None:
        if self._connection is None or self._backend is None:
            return
        look = self._ddl.look(self._connection, self._backend)
        if look is None:
            self._waiting_since = None
            return
        self.ended = self.ended or (not self._cancel.is_set() and self._waits_too_long(look))
        if (self.ended or self._cancel.is_set()) and time.monotonic() >= self._stops_again:
            self._stops_again = time.monotonic() + AGAIN_S
            self._ddl.stop(self._connection, self._backend, look)
        self._at_progress(look)

    def _waits_too_long(self, look: Look) -> bool:
        """Counted from the first look that found it waiting."""
        if not look.holds_up:
            self._waiting_since = None
            return False
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        worked_s = self._waiting_since - self._began
        most_s = max(self._wait_s, min(MOST_WAIT_S, WORTH * worked_s))
        return now - self._waiting_since >= most_s - self._ddl.poll_s


def _opened(engine: Engine) -> Connection:
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")
