"""The one thread that talks to the store: it writes finished windows and answers questions.

Nobody else waits for a store that is slow, dead or silent: windows wait in memory, and a question that is not answered
soon is an error at once, for as long as the store stays so.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from threading import Condition, Event, Thread
from typing import Final, TypeVar

from dbpilot.clock import Clock
from dbpilot.errors import StoreError
from dbpilot.history.store import Batch, Store, packed

log = logging.getLogger(__name__)

MAX_UNWRITTEN: Final = 360
"""Batches kept while the store fails: an hour of ten-second windows. The oldest are lost first."""
RETRY_S: Final = 10.0
MAINTAIN_EVERY_S: Final = 30.0
MAX_REFUSALS: Final = 6
"""How often in a row the store may refuse one batch while it takes a later one, before that batch is given up."""
ANSWER_S: Final = 3.0
"""How long a question may take: whoever asks may be one of few threads that serve requests."""

Answer = TypeVar("Answer")
Job = Callable[[], None]


class Historian:
    """Takes batches and questions from :meth:`start` to :meth:`stop`, and says what was lost."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._unwritten: deque[Batch] = deque()
        self._questions: deque[Job] = deque()
        self._wake = Condition()
        self._stopping = Event()
        self._thread: Thread | None = None
        self._busy_since: float | None = None
        self._failed_at = float("-inf")
        self._next_upkeep = clock.ticks() + MAINTAIN_EVERY_S
        self._refused = Counter[str]()
        """How often each batch, by its id, was refused while the store took another."""
        self.restarts = 0
        self.lost = 0
        """Windows that never reached the store."""
        self._failing: dict[str, str] = {}
        """Why the last attempts failed to write and to answer; a store may do the one and not the other."""

    def start(self) -> None:
        """The thread runs."""
        self._stopping = Event()  # a thread that was given up must not come back to life
        thread = Thread(target=self._run, args=(self._stopping,), name="dbpilot-history", daemon=True)
        thread.start()
        self._thread = thread  # one that could not be started is not waited for

    def ensure_alive(self) -> None:
        """A thread that died, from whatever cause, is replaced and counted."""
        if self._thread is not None and not self._thread.is_alive() and not self._stopping.is_set():
            self.restarts += 1
            self.start()

    def stop(self, timeout_s: float) -> None:
        """What waited is written, or lost and counted when the store does not take it in time."""
        with self._wake:
            self._stopping.set()
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None
        with self._wake:
            self.lost += sum(len(batch.windows) for batch in self._unwritten)
            self._unwritten.clear()

    def submit(self, batch: Batch) -> None:
        """The batch waits to be written; returns at once."""
        if not batch.windows and not batch.events:
            return
        if self._unwritten:  # the store is slow or down: this may wait for an hour, with hundreds of others
            batch = replace(batch, windows=[packed(window) for window in batch.windows])
        with self._wake:
            self._unwritten.append(batch)
            while len(self._unwritten) > MAX_UNWRITTEN:
                self.lost += len(self._unwritten.popleft().windows)
            self._wake.notify()

    def unwritten(self) -> list[Batch]:
        """What waits now, oldest first."""
        with self._wake:
            return list(self._unwritten)

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """The answer to a question that reads the store; no batch is written while it is asked.

        Raises:
            StoreError: the store fails, or does not answer in time.
        """
        if self._thread is None:
            return question()
        self._refuse_while_it_fails()
        answer: Future[Answer] = Future()
        with self._wake:
            self._questions.append(lambda: self._answer(question, answer))
            self._wake.notify()
        try:
            return answer.result(ANSWER_S)
        except TimeoutError:
            answer.cancel()
            raise StoreError(f"the history did not answer within {ANSWER_S:g} s") from None

    def _refuse_while_it_fails(self) -> None:
        now, busy_since = self._clock.ticks(), self._busy_since
        if busy_since is not None and now - busy_since > ANSWER_S:
            raise StoreError(f"the history has not answered for {now - busy_since:.0f} s")
        if self.error is not None and now - self._failed_at < RETRY_S:
            raise StoreError(self.error)

    def _answer(self, question: Callable[[], Answer], answer: Future[Answer]) -> None:
        """The question is answered, unless nobody waits any more or the store failed a moment ago."""
        if not answer.set_running_or_notify_cancel():
            return
        if self.error is not None and self._clock.ticks() - self._failed_at < RETRY_S:
            answer.set_exception(StoreError(self.error))
            return
        try:
            answer.set_result(question())
        except BaseException as error:  # whoever asked hears of it, whatever it is; and so does the thread
            answer.set_exception(error)
            raise

    def _run(self, stopping: Event) -> None:
        pause_s: float | None = None
        while job := self._next_job(stopping, pause_s):
            wrote = self._attempt(job, "write" if job == self._write_oldest else "answer")
            pause_s = None if wrote else RETRY_S
            if wrote and self._clock.ticks() >= self._next_upkeep:
                self._next_upkeep = self._clock.ticks() + MAINTAIN_EVERY_S
                self._attempt(lambda: self._store.maintain(self._clock.now()), "maintain")

    def _next_job(self, stopping: Event, pause_s: float | None) -> Job | None:
        """The next thing to do, waiting for it; None at the end. After a failure, writing waits for ``pause_s``."""
        with self._wake:
            if pause_s is not None:
                self._wake.wait_for(lambda: self._questions or stopping.is_set(), pause_s)
                if stopping.is_set():
                    return None
            self._wake.wait_for(lambda: self._questions or self._unwritten or stopping.is_set())
            if self._questions:
                return self._questions.popleft()
            return self._write_oldest if self._unwritten else None

    @property
    def error(self) -> str | None:
        """Why the store does not do what it should; None while it does."""
        return next(iter(list(self._failing.values())), None)

    def _attempt(self, job: Job, what: str) -> bool:
        self._busy_since = self._clock.ticks()
        try:
            job()
        except Exception as error:  # noqa: BLE001 - the border to stores, which anybody may write
            said = str(error) if isinstance(error, StoreError) else f"history: {type(error).__name__}"
            if not self._failing:  # once per outage, not once per attempt
                log.warning("%s; windows wait in memory and are written when it is back", said)
            self._failing[what] = said
            self._failed_at = self._clock.ticks()
            return False
        finally:
            self._busy_since = None
        if what == "write":
            self._failing.clear()  # it is well again
        else:  # one that answers may still refuse to be written
            self._failing.pop(what, None)
        return True

    def _write_oldest(self) -> None:
        """The oldest batch is written, or given up: the store refused it again and again, and took a later one."""
        oldest, *others = self.unwritten()
        error = self._refusal(oldest)
        if error is not None and not self._is_given_up(oldest, others):
            raise error

    def _refusal(self, batch: Batch) -> Exception | None:
        """Why the store did not take the batch, if it did not."""
        try:
            self._store.write(batch)
        except Exception as error:  # noqa: BLE001 - the border to stores, as in _attempt
            return error
        self._done(batch)
        return None

    def _is_given_up(self, oldest: Batch, others: list[Batch]) -> bool:
        """Whether the store, which refused the oldest batch, did so too often; its successors get their turn first.

        The newest batch tells whether the store takes anything. If so, all up to the first one that it takes were
        refused for what they are, however many they are; if not, nothing is known of any of them.
        """
        refused = [oldest]
        if not others or self._refusal(others[-1]) is not None:
            self._refused.clear()
            return False
        begun = self._clock.ticks()
        for batch in others[:-1]:
            if self._refusal(batch) is None or self._clock.ticks() - begun > ANSWER_S:  # somebody may want to ask
                break
            refused.append(batch)
        self._refused = Counter({batch.id: self._refused[batch.id] + 1 for batch in refused})
        self._give_up([batch for batch in refused if self._refused[batch.id] >= MAX_REFUSALS])
        return self._refused[oldest.id] >= MAX_REFUSALS

    def _give_up(self, batches: list[Batch]) -> None:
        for batch in batches:
            self._done(batch)
            self.lost += len(batch.windows)
        if batches:
            log.error("the history refuses batches of windows again and again; given up: %d", len(batches))

    def _done(self, batch: Batch) -> None:
        with self._wake:
            # It may not be there any more: given up, because too many waited.
            self._unwritten = deque(waiting for waiting in self._unwritten if waiting is not batch)
