"""The thread that takes what was recorded, counts it, and hands every finished window to the history."""

import logging
from collections.abc import Callable
from datetime import timedelta
from threading import Event, RLock, Thread

from dbpilot.clock import Clock
from dbpilot.history.store import Batch
from dbpilot.queries.recorder import Recorder
from dbpilot.queries.windows import QueryWindows

log = logging.getLogger(__name__)


class Worker:
    """Runs between :meth:`start` and :meth:`stop`; whoever reads the windows holds ``lock`` and asks it to catch up."""

    def __init__(
        self, recorder: Recorder, windows: QueryWindows, submit: Callable[[Batch], None], clock: Clock, drain_s: float
    ) -> None:
        self._recorder = recorder
        self._windows = windows
        self._submit = submit
        self._clock = clock
        self._drain_s = drain_s
        self._stopping = Event()
        self._thread: Thread | None = None
        self.lock = RLock()
        """Held while the windows are read or written."""
        self.failures = 0
        """Turns of the worker that ended in an error of ours."""

    def start(self) -> None:
        """The thread runs."""
        self._stopping.clear()
        self._thread = Thread(target=self._run, name="dbpilot-worker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended, and all that was recorded is with the history."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        with self.lock:
            self.catch_up()
            self._submit(self._windows.close(self._clock.now()))

    def catch_up(self) -> QueryWindows:
        """Everything recorded until now is counted. The caller holds the lock while it uses the result."""
        now, ticks = self._clock.now(), self._clock.ticks()
        if self._windows.is_over(now):
            self._submit(self._windows.close(now))
        for execution in self._recorder.take():
            self._windows.add(execution, now - timedelta(seconds=ticks - execution.ended))
        return self._windows

    def _run(self) -> None:
        while not self._stopping.wait(self._drain_s):
            try:
                with self.lock:
                    self.catch_up()
            except Exception:
                self.failures += 1
                log.exception("dbpilot could not count what it recorded")
