"""Brings finished windows to the store in a thread of its own, so that a slow or dead store delays nobody."""

import logging
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from threading import Condition, Lock, Thread
from typing import Final

from dbpilot.clock import Clock
from dbpilot.errors import StoreError
from dbpilot.history.store import Batch, Store

log = logging.getLogger(__name__)

MAX_UNWRITTEN: Final = 360
"""Batches kept while the store fails: an hour of ten-second windows. The oldest are lost first."""
RETRY_S: Final = 10.0
FORGET_EVERY_S: Final = 600.0


class HistoryWriter:
    """Takes batches, writes them in order, tries again while the store fails, and says what was lost."""

    def __init__(self, store: Store, clock: Clock, keep_hours: float) -> None:
        self._store = store
        self._clock = clock
        self._keep = timedelta(hours=keep_hours)
        self._unwritten: deque[Batch] = deque()
        self._wake = Condition()
        self._stopping = False
        self._next_forget = clock.ticks()
        self._thread: Thread | None = None
        self.reading = Lock()
        """Held while a batch moves from ``unwritten`` to the store; who reads both holds it too."""
        self.lost = 0
        """Windows that never reached the store."""
        self.error: str | None = None
        """Why the last attempt failed; None when it did not."""

    def start(self) -> None:
        """The thread runs."""
        self._stopping = False
        self._thread = Thread(target=self._run, name="dbpilot-history", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """What waited is written, or lost and counted when the store does not take it in time."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
        with self._wake:
            self.lost += sum(len(batch.windows) for batch in self._unwritten)
            self._unwritten.clear()

    def submit(self, batch: Batch) -> None:
        """The batch waits to be written; returns at once."""
        if not batch.windows:
            return
        with self._wake:
            self._unwritten.append(batch)
            while len(self._unwritten) > MAX_UNWRITTEN:
                self.lost += len(self._unwritten.popleft().windows)
            self._wake.notify()

    def unwritten(self) -> list[Batch]:
        """What waits now, oldest first."""
        with self._wake:
            return list(self._unwritten)

    def _run(self) -> None:
        while self._wait():
            wrote = self._attempt(self._write_all)
            if wrote and self._clock.ticks() >= self._next_forget:
                self._next_forget = self._clock.ticks() + FORGET_EVERY_S
                self._attempt(lambda: self._store.forget(self._clock.now() - self._keep))
            if not wrote and self._stop_or_pause():
                return

    def _wait(self) -> bool:
        """True when there is something to write, False when nothing is left and nothing more will come."""
        with self._wake:
            self._wake.wait_for(lambda: self._unwritten or self._stopping)
            return bool(self._unwritten)

    def _stop_or_pause(self) -> bool:
        with self._wake:
            return self._wake.wait_for(lambda: self._stopping, RETRY_S)

    def _attempt(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except StoreError as error:
            if self.error is None:  # once per outage, not once per attempt
                log.warning("%s; windows wait in memory and are written when it is back", error)
            self.error = str(error)
            return False
        self.error = None
        return True

    def _write_all(self) -> None:
        while batches := self.unwritten():
            with self.reading:
                self._store.write(batches[0])
                self._drop(batches[0])

    def _drop(self, batch: Batch) -> None:
        with self._wake:
            if self._unwritten and self._unwritten[0] is batch:
                self._unwritten.popleft()
