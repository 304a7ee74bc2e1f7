"""The connection pool of one process: watched, sized, and asked about."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from dbpilot.alerts import Finding, pool_findings
from dbpilot.clock import Clock
from dbpilot.config import PoolConfig
from dbpilot.dialects import Dialect
from dbpilot.dialects.connections import OwnConnections
from dbpilot.errors import RefusedError
from dbpilot.history.leases import Leases
from dbpilot.history.store import POOL, POOL_MINUTE, Batch, Event
from dbpilot.pool.budget import BudgetKeeper
from dbpilot.pool.foresight import Foresight, Remembered
from dbpilot.pool.outlook import exhaustion_of, holders_of, slow_connect_s
from dbpilot.pool.regulator import PoolRegulator
from dbpilot.pool.resizable import Hold, ResizableQueuePool
from dbpilot.pool.sample import PoolSample
from dbpilot.pool.sampler import ConnectionWatch, PoolReading, PoolTimes
from dbpilot.queries.callsite import calling_frame
from dbpilot.reports.pool import (
    Checkouts,
    PoolHistory,
    PoolReport,
    PoolReview,
    pool_history,
    recommendations_of,
    review_of,
    utilization_of,
)
from dbpilot.unsupported import Unsupported

LOOKS_PER_S: Final = 100
"""How often a checkout is asked where it comes from; a look takes some ten microseconds."""
BURST_S: Final = 1.0
"""As many looks as fit into so long may be taken at once: a pool that fills in a moment is known whole."""
ANSWER_S: Final = 5.0
IN_DETAIL_H: Final = 3.0
"""Up to so many hours are shown from samples of ten seconds, longer ranges from those of a minute."""


class Pooling:
    """Between :meth:`attach` and :meth:`detach` connections are counted; between :meth:`start` and :meth:`stop` the
    pool is looked at and sized."""

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        config: PoolConfig,
        clock: Clock,
        submit: Callable[[Batch], None],
        tell: Callable[[list[Finding]], None],
        slowdown: Callable[[], float | None],
        remembered: Remembered,
        leases: Leases,
        own: OwnConnections,
    ) -> None:
        """Touches nothing yet.

        Args:
            engine: whose pool it is.
            dialect: what is known about its database.
            config: how the pool is sized.
            clock: tells the time.
            submit: takes what the history has to remember.
            tell: takes what somebody may have to be told.
            slowdown: how many times longer statements take now than when the database was least busy.
            remembered: tells from the history what was asked of pools.
            leases: what each process may have open, as the history knows it.
            own: connections to ask the server how many it allows.
        """
        self._engine = engine
        self._config = config
        self._tell = tell
        self.watch = ConnectionWatch(engine, dialect, clock)
        self._foresight = Foresight(remembered, None if config.timezone is None else ZoneInfo(config.timezone))
        self._leases = leases
        capacity = dialect.capacity
        self._no_budget = capacity if isinstance(capacity, Unsupported) else None
        self._keeper = BudgetKeeper(
            engine,
            leases,
            config,
            clock,
            lambda: capacity if isinstance(capacity, Unsupported) else own.run(capacity, ANSWER_S),
        )
        self._regulator = PoolRegulator(
            engine, self.watch, config, clock, submit, self._seen, slowdown, self._foresight
        )

    def attach(self) -> None:
        """Connections are counted; a resizable pool knows where its connections are asked for."""
        self.watch.attach()
        if isinstance(self._engine.pool, ResizableQueuePool):
            self._engine.pool.where = HolderWatch()

    def detach(self) -> None:
        """Nothing is counted any more."""
        self.watch.detach()
        if isinstance(self._engine.pool, ResizableQueuePool):
            self._engine.pool.where = None

    def start(self) -> None:
        """The pool is looked at and, where the configuration says so, sized, within what all processes share."""
        if self._why_no_budget() is None:
            self._keeper.start()
        self._regulator.start()

    def stop(self) -> None:
        """The pool stays as it is; what was seen last is with the history."""
        self._regulator.stop()
        self._keeper.stop()

    def abandon(self) -> None:
        """After a fork: the lease is the parent's."""
        self._leases.abandon()

    def ensure_alive(self) -> None:
        """Threads that died, from whatever cause, are replaced."""
        self._regulator.ensure_alive()

    @property
    def failures(self) -> int:
        """Errors of our own."""
        return self.watch.failures + self._regulator.failures + self._keeper.failures

    @property
    def restarts(self) -> int:
        """Threads that were replaced."""
        return self._regulator.restarts

    def reading(self) -> PoolReading:
        """The pool at this moment."""
        return self.watch.read()

    def times(self) -> PoolTimes:
        """How long connections were waited for, held, and took to open."""
        return self.watch.times()

    def resizes(self) -> dict[str, int]:
        """How often the pool was resized since the start, by reason."""
        return dict(self._regulator.resizes)

    def report(self) -> PoolReport:
        """The pool: its state, why it has this size, and who holds its connections."""
        config, reading, last = self._config, self.reading(), self._regulator.last
        left = exhaustion_of(self._regulator.recent(), config)
        holders = holders_of(self._regulator.holds(), config)
        not_resized = self._regulator.why_not()
        return PoolReport(
            size=reading.size,
            limit=reading.limit,
            in_use=reading.in_use,
            idle=reading.idle,
            waiting=reading.waiting,
            utilization=utilization_of(reading),
            checkouts=Checkouts.of(self.times()),
            mode=config.mode,
            not_resized=not_resized,
            least=config.min_size,
            most=config.max_size,
            last_review=last,
            next_review_s=self._regulator.next_review_s(),
            expected=self._foresight.expected,
            budget=self._why_no_budget() or self._keeper.read(),
            exhaustion=left,
            holders=holders,
            recommendations=recommendations_of(reading, last, not_resized, left, holders),
            connections=reading,
        )

    def history(
        self, since: datetime, until: datetime, remembered: Callable[[str], tuple[Sequence[Event], str | None]]
    ) -> PoolHistory:
        """The pools of all processes; ``remembered`` tells what the history has of a kind, and its error."""
        in_detail = (until - since).total_seconds() <= IN_DETAIL_H * 3600
        kind = POOL if in_detail else POOL_MINUTE
        events, error = remembered(kind)
        return pool_history(since, until, [*events, *self._regulator.unkept(kind)], error)

    def review(self) -> PoolReview:
        """The pool is reviewed now, whenever the last review was, and resized if that comes to another size.

        Raises:
            RefusedError: this pool is not resized; says why.
        """
        refused = self._regulator.why_not()
        if refused is not None:
            raise RefusedError(f"{refused.reason}; {refused.fix}")
        decision = self._regulator.review()
        if decision is None:
            raise RefusedError("nothing was seen of the pool yet")
        return review_of(decision)

    def _why_no_budget(self) -> Unsupported | None:
        """Why this pool is bounded by its own limit alone; None where it is not."""
        return self._regulator.why_not() or self._no_budget

    def _seen(self, recent: Sequence[PoolSample], holds: Sequence[Hold], collected: Sequence[Hold]) -> None:
        """Somebody looked at the pool."""
        left, holders = exhaustion_of(recent, self._config), holders_of(holds, self._config)
        self._tell(pool_findings(left, holders, collected, slow_connect_s(recent, self._config)))


class HolderWatch:
    """Knows which lines of the application ask for connections: all of them, up to so many a second."""

    def __init__(self) -> None:
        self._spent_until = 0.0
        """Until then all looks are spent that there may be."""

    def __call__(self) -> str | None:
        """The line that asks for a connection now; None where that is not looked at."""
        now = time.monotonic()
        spent_until = max(self._spent_until, now)
        if spent_until - now > BURST_S:
            return None
        self._spent_until = spent_until + 1 / LOOKS_PER_S  # another thread may do so too: that is one look more
        try:
            frame = calling_frame()
        except Exception:  # noqa: BLE001 - the border to the application: it gets its connection
            return None
        return frame.callsite if frame else None
