"""Holds what the listeners saw until the worker takes it: one buffer per thread, no lock on the way in."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_STATEMENT: Final = 16_384
"""Characters kept of a statement that was sent as text; the fingerprint reads no more."""


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

    __slots__ = ("dropped", "limit", "owner", "pending")

    def __init__(self, limit: int) -> None:
        self.pending: deque[Execution] = deque()
        self.limit = limit
        self.dropped = 0
        self.owner = threading.current_thread()

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


class Recorder:
    """The buffers of all threads that executed something."""

    def __init__(self, max_pending: int) -> None:
        self._limit = max_pending
        self._local = threading.local()
        self._buffers: list[Buffer] = []
        self._dropped_by_ended_threads = 0
        self._registering = threading.Lock()

    def buffer(self) -> Buffer:
        """The calling thread's own buffer."""
        try:
            return self._local.buffer  # type: ignore[no-any-return]  # thread-local attributes have no type
        except AttributeError:
            return self._new_buffer()

    def _new_buffer(self) -> Buffer:
        buffer = self._local.buffer = Buffer(self._limit)
        with self._registering:
            self._buffers.append(buffer)
        return buffer

    def take(self) -> Iterator[Execution]:
        """Everything that waits, thread by thread; buffers of ended threads go when they are empty."""
        for buffer in list(self._buffers):
            ended = not buffer.owner.is_alive()
            yield from buffer.take()
            if ended:
                self._forget(buffer)

    def _forget(self, buffer: Buffer) -> None:
        with self._registering:
            self._buffers.remove(buffer)
            self._dropped_by_ended_threads += buffer.dropped

    @property
    def dropped(self) -> int:
        """Executions lost because the worker did not keep up."""
        with self._registering:
            return self._dropped_by_ended_threads + sum(buffer.dropped for buffer in self._buffers)
