"""Holds what the listeners saw until the worker takes it: one buffer per thread, no lock on the way in."""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from dbpilot.queries.callsite import Frame
from dbpilot.queries.request import Request

MAX_SENT_AS_TEXT: Final = 2048
"""Characters kept of a statement that was sent as text: every execution may be another one, with values in it."""


def sent_as_text(statement: str) -> str:
    """What is kept of a statement that was sent as text, whatever becomes of it."""
    return statement if len(statement) <= MAX_SENT_AS_TEXT else f"{statement[:MAX_SENT_AS_TEXT]} ..."


@dataclass(slots=True)
class Detail:
    """What is kept of a slow, failed or sampled execution beside its figures, until the worker has seen it."""

    frame: Frame | None = None
    """The application's line that ran it."""
    relationship: str | None = None
    """The ORM relationship whose lazy loading it was: ``User.addresses``."""
    error: str | None = None
    """The class of the error it ended in."""
    wait_s: float = 0.0
    """How long its connection was waited for."""
    sent: tuple[str, Any] | None = None
    """The statement and the parameters of a slow one, for its plan, and of a sampled one that inserts nothing, for
    advice; never stored, never shown."""

    def __repr__(self) -> str:
        return f"Detail(frame={self.frame}, error={self.error})"


class Execution(NamedTuple):
    """One execution as the application's thread saw it."""

    statement: str
    """The compiled text that SQLAlchemy caches, or the text itself."""
    ended: float
    """The clock's ticks at its end."""
    execute_s: float
    """In the driver's execute call."""
    fetch_s: float
    """In the driver's fetch calls."""
    first_row_s: float
    """Until the fetch call that brought the first rows had returned; zero where none were fetched."""
    rows: int
    """Affected or fetched; -1 for not known."""
    request: Request | None
    detail: Detail | None

    @property
    def duration_s(self) -> float:
        """In the driver altogether."""
        return self.execute_s + self.fetch_s


Recorded: TypeAlias = tuple[str, float, float, float, float, int, Request | None, Detail | None]
"""An Execution's fields as the hot path appends them: a plain tuple is made five times as fast."""


class Buffer(threading.local):
    """The calling thread's executions: each thread sees its own, made when it first looks.

    Only that thread appends and counts drops; only the worker takes.
    """

    def __init__(self, known: Callable[["_Pending"], None]) -> None:
        self.pending = _Pending()
        self.life = life = _Life()
        self.pending.thread_life = weakref.ref(life)
        known(self.pending)


class _Pending(deque[Recorded]):
    """What one thread recorded and the worker has not taken yet; no two are equal."""

    __eq__ = object.__eq__

    thread_life: "weakref.ref[_Life]"
    dropped = 0


class _Life:
    """Held by a thread's local storage alone, so that it ends with the thread, whoever made that."""

    __slots__ = ("__weakref__",)


class Recorder:
    """The buffers of all threads that executed something.

    There is no lock: a cursor collected in the middle of any line here records an execution, and must not wait for
    the thread it runs in. Appending to a list and removing from one are single steps of the interpreter.
    """

    def __init__(self, max_pending: int, at_loss: Callable[[], None] = lambda: None) -> None:
        """``at_loss`` is called when an execution is dropped: perhaps nobody takes them any more."""
        self.limit = max_pending
        self._at_loss = at_loss
        self._pending: list[_Pending] = []
        self._dropped_before = 0
        self._first = 0
        self.mine = Buffer(self._pending.append)

    def append(self, execution: Recorded) -> None:
        """The execution waits for the worker, or is counted as dropped when too many wait."""
        pending = self.mine.pending
        if len(pending) < self.limit:
            pending.append(execution)
        else:
            self.lose(pending)

    def lose(self, pending: "_Pending") -> None:
        """An execution is dropped, and counted."""
        pending.dropped += 1
        self._at_loss()

    def take(self) -> Iterator[Execution]:
        """Everything that waits now, thread by thread; what is appended meanwhile may wait for the next time.

        Whoever stops in the middle begins with the next thread another time: one that sends without end does not keep
        the others from being counted. Buffers of ended threads go when they are empty.
        """
        buffers = list(self._pending)
        first = self._first
        for number in range(len(buffers)):
            pending = buffers[(first + number) % len(buffers)]
            self._first = first + number + 1
            ended = pending.thread_life() is None
            for _ in range(len(pending)):
                yield Execution._make(pending.popleft())
            if ended:
                self._pending.remove(pending)
                self._dropped_before += pending.dropped

    def drop_all(self) -> None:
        """Nothing waits any more; what did is counted as dropped."""
        self._dropped_before += sum(1 for _ in self.take())

    @property
    def dropped(self) -> int:
        """Executions lost because the worker did not keep up."""
        return self._dropped_before + sum(pending.dropped for pending in list(self._pending))
