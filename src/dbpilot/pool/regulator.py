"""Looks at a pool every second, keeps what it saw, and resizes it when a review says so."""

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from datetime import UTC
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any, Final

from sqlalchemy import Engine

from dbpilot.clock import Clock
from dbpilot.config import PoolConfig
from dbpilot.history.store import POOL, POOL_MINUTE, Batch, Event
from dbpilot.history.tally import LatencyHistogram
from dbpilot.pool.controller import decide
from dbpilot.pool.foresight import Foresight
from dbpilot.pool.resizable import Hold, ResizableQueuePool
from dbpilot.pool.sample import Decision, PoolSample, merged
from dbpilot.pool.sampler import ConnectionWatch
from dbpilot.unsupported import Unsupported

log = logging.getLogger(__name__)

ACTIVITY: Final = "activity"
KEPT_EVERY_S: Final = 10
MINUTE_S: Final = 60
REMEMBERED_S: Final = 600
MIN_OVER_S: Final = 1e-6
STOP_S: Final = 2.0

Seen = Callable[[Sequence[PoolSample], Sequence[Hold], Sequence[Hold]], None]
"""Told of the latest samples, oldest first, of connections held too long, and of those that nobody returned."""


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
        slowdown: Callable[[], float | None],
        foresight: Foresight,
    ) -> None:
        """Looks at nothing yet; ``slowdown`` tells how much longer statements take than at their best."""
        self._engine = engine
        self._watch = watch
        self._config = config
        self._clock = clock
        self._submit = submit
        self._seen = seen
        self._slowdown = slowdown
        self._foresight = foresight
        self._lock = Lock()
        self._recent: deque[PoolSample] = deque(maxlen=round(max(config.review_s, REMEMBERED_S) / config.sample_s) + 1)
        self._unkept: list[PoolSample] = []
        self._minute: list[PoolSample] = []
        self._collected: list[Hold] = []
        self._before = watch.read()
        self._looked_at = clock.ticks()
        self._waits_before = LatencyHistogram()
        self._reviewed_at = clock.now()
        self._stopping = Flag()
        self._thread: Thread | None = None
        self._process = f"{socket.gethostname()}:{os.getpid()}"
        self.restarts = 0
        self.failures = 0
        """Turns that ended in an error of ours."""
        self.last: Decision | None = None
        """What the latest review came to."""
        self.resizes: Counter[str] = Counter()
        """How often the pool was resized since the start, by "grow" and "shrink"."""

    def start(self) -> None:
        """The thread runs."""
        self._reviewed_at = self._clock.now()
        self._start_thread()

    def ensure_alive(self) -> None:
        """A thread that died, from whatever cause, is replaced and counted."""
        if self._thread is not None and not self._thread.is_alive() and not self._stopping.is_set():
            self.restarts += 1
            self._start_thread()

    def _start_thread(self) -> None:
        self._stopping = Flag()
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
            self._keep_minute()
        self._release()

    def _release(self) -> None:
        """A limit that was lowered is raised again, and what was opened ahead may go: nobody else would see to it."""
        pool, most = self._engine.pool, self._ceiling()
        if isinstance(pool, ResizableQueuePool) and self._config.mode == "adaptive":
            pool.prepare(0)
            if most is not None:
                pool.resize(pool.size(), most - pool.size())

    def _ceiling(self) -> int | None:
        """The most connections: the largest size, and the overflow that the application allows; None for no limit."""
        pool = self._engine.pool
        size, overflow = pool.made_with if isinstance(pool, ResizableQueuePool) else (0, -1)
        return max(size, self._config.max_size) + overflow if overflow >= 0 else None

    def why_not(self) -> Unsupported | None:
        """Why this pool is not resized; None when it is."""
        if not isinstance(self._engine.pool, ResizableQueuePool):
            kind = type(self._engine.pool).__name__
            fix = "create the engine with poolclass=dbpilot.pool.ResizableQueuePool"
            return Unsupported(f"{kind} cannot be resized while it runs", fix)
        if not self._config.resizes:
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
        if self._config.mode == "adaptive":
            return self._config.sample_s
        since_s = (self._clock.now() - self._reviewed_at).total_seconds()
        return max(0.0, self._config.review_s - since_s)

    def recent(self) -> list[PoolSample]:
        """What was seen in the last minutes, oldest first; before the first look, this is it."""
        if not self._recent:
            with self._lock:
                self._look()
        return list(self._recent)

    def unkept(self, kind: str) -> list[Event]:
        """What was seen and is not with the history yet, as one event of this kind."""
        with self._lock:
            seen = self._minute if kind == POOL_MINUTE else self._unkept
            return [self._event(merged(seen), kind)] if seen else []

    def holds(self) -> list[Hold]:
        """Who holds connections, longest first; nobody where the pool does not say."""
        pool = self._engine.pool
        return pool.holds() if isinstance(pool, ResizableQueuePool) else []

    def _run(self, stopping: Flag) -> None:
        while not stopping.wait(self._config.sample_s):
            try:
                with self._lock:
                    self._turn()
                    collected, self._collected = self._collected, []
                self._prepare()
                long = [hold for hold in self.holds() if hold.age_s >= self._config.long_hold_s]
                self._seen(self.recent(), long, collected)
            except Exception as error:  # the border to the thread, which has to go on
                if not self.failures:
                    log.error("dbpilot could not look at the pool", exc_info=error)
                self.failures += 1

    def _turn(self) -> None:
        self._look()
        if len(self._unkept) * self._config.sample_s >= KEPT_EVERY_S:
            self._keep()
        if self._is_due():
            self._review()

    def _prepare(self) -> None:
        """What is expected soon is opened in the background; the lock is free while the history is read."""
        pool = self._engine.pool
        if self._config.mode != "adaptive" or not isinstance(pool, ResizableQueuePool):
            return
        wanted = self._foresight.wanted(self._clock.now())
        if wanted is not None:
            pool.prepare(wanted)

    def _is_due(self) -> bool:
        """Whether the pool is to be reviewed: at every look, or at its time."""
        since_s = (self._clock.now() - self._reviewed_at).total_seconds()
        return self._config.mode == "adaptive" or (self._config.mode != "off" and since_s >= self._config.review_s)

    def _look(self) -> None:
        """One sample more, where the pool can be counted."""
        self._collected += self._watch.take_collected()
        reading, waits = self._watch.read(), self._watch.times().waits
        before, self._before = self._before, reading
        p95_s = _since(self._waits_before, waits).quantile(0.95) or 0.0
        self._waits_before = waits
        ticks, looked_at = self._clock.ticks(), self._looked_at
        self._looked_at = ticks
        if isinstance(reading.size, Unsupported) or isinstance(reading.in_use, Unsupported):
            return
        pool = self._engine.pool
        ended = reading.ended - before.ended
        sample = PoolSample(
            at=self._clock.now(),
            size=reading.size,
            limit=_known(reading.limit),
            in_use=reading.in_use,
            most_in_use=reading.in_use,
            idle=_known(reading.idle) or 0,
            waiting=_known(reading.waiting),
            checkouts=reading.checkouts - before.checkouts,
            wait_s=reading.wait_s - before.wait_s,
            longest_p95_s=p95_s,
            created=reading.created - before.created,
            closed=reading.closed - before.closed,
            failed=reading.failed - before.failed,
            timeouts=(_known(reading.timeouts) or 0) - (_known(before.timeouts) or 0),
            over_s=max(ticks - looked_at, MIN_OVER_S),
            hold_s=(reading.hold_s - before.hold_s) / ended if ended else None,
            opened=reading.opened - before.opened,
            connect_s=reading.connect_s - before.connect_s,
            collected=reading.collected - before.collected,
            slowdown=self._slowdown(),
            allowed=pool.allowed if isinstance(pool, ResizableQueuePool) else None,
        )
        self._recent.append(sample)
        self._unkept.append(sample)
        self._roll_up(sample)

    def _roll_up(self, sample: PoolSample) -> None:
        """A minute that is over goes to the history as one sample, which is kept longer than the others."""
        if self._minute and _minute_of(self._minute[0]) != _minute_of(sample):
            self._keep_minute()
        self._minute.append(sample)

    def _keep_minute(self) -> None:
        if self._minute:
            minute = merged(self._minute)
            self._foresight.note(minute)
            self._submit(Batch(events=[self._event(minute, POOL_MINUTE)]))
            self._minute = []

    def _keep(self) -> None:
        """What was seen goes to the history as one sample."""
        if self._unkept:
            self._submit(Batch(events=[self._event(merged(self._unkept))]))
            self._unkept = []

    def _event(self, sample: PoolSample, kind: str = POOL) -> Event:
        body = {name: value for name, value in asdict(sample).items() if name != "at"}
        return Event(kind, sample.at, self._process, float(sample.needed), body)

    def _review(self) -> Decision | None:
        now = self._clock.now()
        self._reviewed_at = now
        decision = decide(list(self._recent), self._config, now, self._ceiling())
        self.last = decision
        if decision is not None and decision.action != "keep" and self.why_not() is None:
            self._apply(decision)
        return decision

    def _apply(self, decision: Decision) -> None:
        pool = self._engine.pool
        if not isinstance(pool, ResizableQueuePool):
            return
        overflow = None if decision.limit is None else decision.limit - decision.size
        undo = f"pool.resize({pool.size()}, {-1 if pool.allowed is None else pool.allowed - pool.size()})"
        pool.resize(decision.size, overflow)
        self.resizes[decision.action] += 1
        self._submit(Batch(events=[_activity(decision, undo, self._process)]))
        log.info("the pool has %s now, before %d: %s", _words(decision), decision.before, decision.reason)


def sample_of(event: Event) -> PoolSample:
    """The sample that an event of the history tells of; what a later version wrote beside it is left out."""
    known = {field.name for field in fields(PoolSample)}
    return PoolSample(at=event.at, **{name: value for name, value in event.body.items() if name in known})


def _since(before: LatencyHistogram, now: LatencyHistogram) -> LatencyHistogram:
    """What was counted between the two."""
    since = LatencyHistogram()
    for bucket, count in now.items():
        since.count(bucket, count)
    for bucket, count in before.items():
        since.count(bucket, -count)
    return since


def _minute_of(sample: PoolSample) -> int:
    return int(sample.at.timestamp()) // MINUTE_S


def _words(decision: Decision) -> str:
    most = "" if decision.limit is None else f", at most {decision.limit}"
    return f"{decision.size} connections{most}"


def _activity(decision: Decision, undo: str, process: str) -> Event:
    body: dict[str, Any] = {
        "who": "pool review",
        "what": f"{decision.action}: {decision.before} -> {_words(decision)}",
        "why": decision.reason,
        "undo": undo,
        "process": process,
    }
    return Event(ACTIVITY, decision.at.astimezone(UTC), "pool", float(decision.size), body)


def _known(value: int | Unsupported) -> int | None:
    return None if isinstance(value, Unsupported) else value
