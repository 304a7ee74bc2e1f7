"""The thread that takes what was recorded, counts it, and hands every finished window to the history."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Event, RLock, Thread
from typing import Final

from dbpilot.clock import Clock
from dbpilot.history.store import Batch
from dbpilot.queries.intake import Intake
from dbpilot.queries.recorder import Recorder

log = logging.getLogger(__name__)

TURN_S: Final = 0.1
"""How long one turn may count: reading texts that are all different must not take the application's processor."""
READ_S: Final = 0.5
"""The same for somebody who waits for the figures."""
STOP_S: Final = 2.0


class Worker:
    """Runs between :meth:`start` and :meth:`stop`; whoever reads the windows holds ``lock`` and asks it to catch up."""

    def __init__(
        self, recorder: Recorder, intake: Intake, submit: Callable[[Batch], None], clock: Clock, drain_s: float
    ) -> None:
        self._recorder = recorder
        self._intake = intake
        self._submit = submit
        self._clock = clock
        self._drain_s = drain_s
        self._stopping = Event()
        self._thread: Thread | None = None
        self.lock = RLock()
        """Held while the windows are read or written."""
        self.failures = 0
        """Executions or turns that ended in an error of ours."""
        self.restarts = 0

    def start(self) -> None:
        """The thread runs."""
        self._stopping.clear()
        thread = Thread(target=self._run, name="dbpilot-worker", daemon=True)
        thread.start()
        self._thread = thread  # one that could not be started is not waited for

    def ensure_alive(self) -> None:
        """A thread that died, from whatever cause, is replaced and counted."""
        if self._thread is not None and not self._thread.is_alive() and not self._stopping.is_set():
            self.restarts += 1
            self.start()

    def stop(self) -> None:
        """The thread has ended, and what was recorded is with the history, or counted as dropped after a while."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        with self.lock:
            self._guarded(lambda: self.catch_up(STOP_S))
            self._recorder.drop_all()
            self._guarded(lambda: self._submit(self._intake.close(self._clock.now())))

    def catch_up(self, budget_s: float = READ_S) -> Intake:
        """What was recorded until now is counted, as far as that can be done in ``budget_s`` seconds.

        The caller holds the lock while it uses the result.
        """
        now, ticks = self._clock.now(), self._clock.ticks()
        for execution in self._recorder.take():
            at = now - timedelta(seconds=ticks - execution.ended)
            if self._intake.is_over(at) and at > self._intake.windows.current.start:
                self._close(at)  # only now: what ended before belongs to the window that a reader asks for
            try:
                self._intake.add(execution, at)
            except Exception as error:  # noqa: BLE001 - as in _guarded; one statement must not take the others along
                self._note(error)
            if self._clock.ticks() - ticks > budget_s:
                break
        if self._intake.is_over(now):
            self._close(now)
        return self._intake

    def _close(self, now: datetime) -> None:
        self._guarded(lambda: self._submit(self._intake.close(now)))

    def _run(self) -> None:
        while not self._stopping.wait(self._drain_s):
            with self.lock:
                self._guarded(lambda: self.catch_up(TURN_S))

    def _guarded(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the border to the thread, which has to go on
            self._note(error)

    def _note(self, error: Exception) -> None:
        if not self.failures:  # once: the same error may come with every statement
            log.error("dbpilot could not count what it recorded", exc_info=error)
        self.failures += 1
