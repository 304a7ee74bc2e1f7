"""Looks at a pool every second, keeps what it saw, and resizes it when a review says so."""

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any, Final

from sqlalchemy import Engine

from dbpilot.clock import Clock
from dbpilot.config import PoolConfig
from dbpilot.history.store import Batch, Event
from dbpilot.history.tally import LatencyHistogram
from dbpilot.pool.controller import Decision, PoolSample, decide, merged
from dbpilot.pool.resizable import Hold, ResizableQueuePool
from dbpilot.pool.sampler import ConnectionWatch, PoolReading
from dbpilot.unsupported import Unsupported

log = logging.getLogger(__name__)

POOL: Final = "pool"
ACTIVITY: Final = "activity"
KEPT_EVERY_S: Final = 10
REMEMBERED_S: Final = 600
STOP_S: Final = 2.0

Seen = Callable[[Sequence[PoolSample], Sequence[Hold]], None]
"""Told of the latest samples, oldest first, and of connections that are held too long."""


class PoolRegulator:
    """Runs between :meth:`start` and :meth:`stop`."""

    def __init__(
        self,
        engine: Engine,
        watch: ConnectionWatch,
        config: PoolConfig,
        clock: Clock,
        submit: Callable[[Batch], None],
        seen: Seen,
    ) -> None:
        self._engine = engine
        self._watch = watch
        self._config = config
        self._clock = clock
        self._submit = submit
        self._seen = seen
        self._lock = Lock()
        self._recent: deque[PoolSample] = deque(maxlen=round(max(config.review_s, REMEMBERED_S) / config.sample_s) + 1)
        self._unkept: list[PoolSample] = []
        self._before: PoolReading | None = None
        self._waits_before = LatencyHistogram()
        self._reviewed_at = clock.now()
        self._stopping = Flag()
        self._thread: Thread | None = None
        self._process = f"{socket.gethostname()}:{os.getpid()}"
        self.failures = 0
        """Turns that ended in an error of ours."""
        self.last: Decision | None = None
        """What the latest review came to."""
        self.resizes: Counter[str] = Counter()
        """How often the pool was resized since the start, by "grow" and "shrink"."""

    def start(self) -> None:
        """The thread runs."""
        self._stopping = Flag()
        self._reviewed_at = self._clock.now()
        thread = Thread(target=self._run, args=(self._stopping,), name="dbpilot-pool-watch", daemon=True)
        thread.start()
        self._thread = thread  # one that could not be started is not waited for

    def stop(self) -> None:
        """Nothing is looked at any more; the last samples are with the history."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
            self._thread = None
        with self._lock:
            self._keep()

    def why_not(self) -> Unsupported | None:
        """Why this pool is not resized; None when it is."""
        if not isinstance(self._engine.pool, ResizableQueuePool):
            kind = type(self._engine.pool).__name__
            fix = "create the engine with poolclass=dbpilot.pool.ResizableQueuePool"
            return Unsupported(f"{kind} cannot be resized while it runs", fix)
        if self._config.mode != "auto":
            return Unsupported(f"pool.mode is {self._config.mode}", "set DBPILOT_POOL__MODE=auto")
        return None

    def review(self) -> Decision | None:
        """A review now, whenever the last one was; None where the pool cannot be counted."""
        with self._lock:
            self._look()
            return self._review()

    def next_review_s(self) -> float | None:
        """Seconds until the next review; None where there is none."""
        if self._config.mode == "off" or self._thread is None:
            return None
        since_s = (self._clock.now() - self._reviewed_at).total_seconds()
        return max(0.0, self._config.review_s - since_s)

    def recent(self) -> list[PoolSample]:
        """What was seen in the last minutes, oldest first; before the first look, this is it."""
        if not self._recent:
            with self._lock:
                self._look()
        return list(self._recent)

    def unkept(self) -> list[Event]:
        """What was seen and is not with the history yet."""
        with self._lock:
            return [self._event(merged(self._unkept))] if self._unkept else []

    def holds(self) -> list[Hold]:
        """Who holds connections, longest first; nobody where the pool does not say."""
        pool = self._engine.pool
        return pool.holds() if isinstance(pool, ResizableQueuePool) else []

    def _run(self, stopping: Flag) -> None:
        while not stopping.wait(self._config.sample_s):
            try:
                with self._lock:
                    self._turn()
                long = [hold for hold in self.holds() if hold.age_s >= self._config.long_hold_s]
                self._seen(self.recent(), long)
            except Exception as error:
                if not self.failures:
                    log.error("dbpilot could not look at the pool", exc_info=error)
                self.failures += 1

    def _turn(self) -> None:
        self._look()
        if len(self._unkept) * self._config.sample_s >= KEPT_EVERY_S:
            self._keep()
        now = self._clock.now()
        if self._config.mode != "off" and (now - self._reviewed_at).total_seconds() >= self._config.review_s:
            self._review()

    def _look(self) -> None:
        """One sample more, where the pool can be counted."""
        reading, waits = self._watch.read(), self._watch.waits()
        before, self._before = self._before or reading, reading
        since = LatencyHistogram()
        for bucket, count in waits.items():
            since.count(bucket, count)
        for bucket, count in self._waits_before.items():
            since.count(bucket, -count)
        self._waits_before = waits
        if isinstance(reading.size, Unsupported) or isinstance(reading.in_use, Unsupported):
            return
        sample = PoolSample(
            at=self._clock.now(),
            size=reading.size,
            limit=_known(reading.limit),
            in_use=reading.in_use,
            most_in_use=reading.in_use,
            idle=_known(reading.idle) or 0,
            waiting=_known(reading.waiting) or 0,
            checkouts=reading.checkouts - before.checkouts,
            wait_s=reading.wait_s - before.wait_s,
            longest_p95_s=since.quantile(0.95) or 0.0,
            created=reading.created - before.created,
            closed=reading.closed - before.closed,
            failed=reading.failed - before.failed,
            timeouts=(_known(reading.timeouts) or 0) - (_known(before.timeouts) or 0),
        )
        self._recent.append(sample)
        self._unkept.append(sample)

    def _keep(self) -> None:
        """What was seen goes to the history as one sample."""
        if self._unkept:
            self._submit(Batch(events=[self._event(merged(self._unkept))]))
            self._unkept = []

    def _event(self, sample: PoolSample) -> Event:
        body = {name: value for name, value in asdict(sample).items() if name != "at"}
        return Event(POOL, sample.at, self._process, sample.in_use, body)

    def _review(self) -> Decision | None:
        now = self._clock.now()
        self._reviewed_at = now
        decision = decide(self._recent, self._config, now)
        self.last = decision
        pool = self._engine.pool
        acts = decision is not None and decision.action != "keep" and self.why_not() is None
        if decision is not None and acts and isinstance(pool, ResizableQueuePool):
            pool.resize(decision.size)
            self.resizes[decision.action] += 1
            self._submit(Batch(events=[_activity(decision, self._process)]))
            log.info("the pool has %d connections now, before %d: %s", decision.size, decision.before, decision.reason)
        return decision


def sample_of(event: Event) -> PoolSample:
    """The sample that an event of the history tells of."""
    return PoolSample(at=event.at, **event.body)


def _activity(decision: Decision, process: str) -> Event:
    body: dict[str, Any] = {
        "who": "pool review",
        "what": f"{decision.action}: {decision.before} -> {decision.size} connections",
        "why": decision.reason,
        "undo": f"pool.resize({decision.before})",
        "process": process,
    }
    return Event(ACTIVITY, decision.at.astimezone(UTC), "pool", float(decision.size), body)


def _known(value: int | Unsupported) -> int | None:
    return None if isinstance(value, Unsupported) else value
