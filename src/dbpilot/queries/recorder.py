"""Holds what the listeners saw until the worker takes it: one buffer per thread, no lock on the way in."""

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_COMPILED: Final = 16_384
MAX_SENT_AS_TEXT: Final = 2048
"""Characters kept of a statement that SQLAlchemy compiled, and of one that was sent as text: the first is read once, of
the second every execution may be another one, with values in it."""


class Execution(NamedTuple):
    """One execution as the application's thread saw it."""

    statement: str
    """The compiled text that SQLAlchemy caches, or the text itself."""
    ended: float
    """The clock's ticks at its end."""
    duration_s: float
    """In the driver: executing and fetching."""
    fetch_s: float
    """Of which fetching."""
    rows: int
    """Affected or fetched; -1 for not known."""
    error: str | None


class Buffer:
    """One thread's executions. Only that thread appends and counts drops; only the worker takes."""

    __slots__ = ("_thread_ended", "dropped", "limit", "pending")

    def __init__(self, limit: int, life: object) -> None:
        self.pending: deque[Execution] = deque()
        self.limit = limit
        self.dropped = 0
        self._thread_ended = weakref.ref(life)

    @property
    def ended(self) -> bool:
        """Whether the thread is gone: what it alone held no longer exists."""
        return self._thread_ended() is None

    def append(self, execution: Execution) -> None:
        """The execution waits for the worker, or is counted as dropped when too many wait."""
        if len(self.pending) < self.limit:
            self.pending.append(execution)
        else:
            self.dropped += 1

    def take(self) -> Iterator[Execution]:
        """All that waits now, oldest first; what is appended meanwhile may wait for the next time."""
        for _ in range(len(self.pending)):
            yield self.pending.popleft()


class _Life:
    """Held by a thread's local storage alone, so that it ends with the thread, whoever made that."""

    __slots__ = ("__weakref__",)


class Recorder:
    """The buffers of all threads that executed something.

    There is no lock: a cursor collected in the middle of any line here records an execution, and must not wait for
    the thread it runs in. Appending to a list and removing from one are single steps of the interpreter.
    """

    def __init__(self, max_pending: int) -> None:
        self._limit = max_pending
        self._local = threading.local()
        self._buffers: list[Buffer] = []
        self._dropped_before = 0

    def buffer(self) -> Buffer:
        """The calling thread's own buffer."""
        try:
            return self._local.buffer  # type: ignore[no-any-return]  # thread-local attributes have no type
        except AttributeError:
            return self._new_buffer()

    def _new_buffer(self) -> Buffer:
        self._local.life = life = _Life()
        buffer = self._local.buffer = Buffer(self._limit, life)
        self._buffers.append(buffer)
        return buffer

    def take(self) -> Iterator[Execution]:
        """Everything that waits, thread by thread; buffers of ended threads go when they are empty."""
        for buffer in list(self._buffers):
            ended = buffer.ended
            yield from buffer.take()
            if ended:
                self._buffers.remove(buffer)
                self._dropped_before += buffer.dropped

    def drop_all(self) -> None:
        """Nothing waits any more; what did is counted as dropped."""
        self._dropped_before += sum(1 for _ in self.take())

    @property
    def dropped(self) -> int:
        """Executions lost because the worker did not keep up."""
        return self._dropped_before + sum(buffer.dropped for buffer in list(self._buffers))
