"""What a pool would have made of a day: a trace of requests is replayed against the very policy that sizes real pools.

The database is one of so many cores that all statements share evenly, or one that is never busy. Everything happens in
the order of its time, nothing is drawn by chance: the same trace gives the same day.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

from dbpilot.config import PoolConfig
from dbpilot.pool.controller import decide
from dbpilot.pool.resizable import LINGER_S
from dbpilot.pool.sample import Decision, PoolSample

START: Final = datetime(2000, 1, 1, tzinfo=UTC)
KEPT: Final = timedelta(seconds=600)


@dataclass(frozen=True, slots=True)
class Request:
    """A connection is asked for ``at_s`` seconds after the beginning, for statements that take ``takes_s`` alone."""

    at_s: float
    takes_s: float


@dataclass(frozen=True, slots=True)
class Simulated:
    """What became of the trace."""

    samples: list[PoolSample]
    decisions: list[Decision]
    """Those that changed something."""
    waits_s: list[float]
    """How long each request waited for its connection, in the order in which they were served."""
    database_s: list[float]
    """How long the database took for each."""
    connects: int
    connection_s: float
    """Seconds that connections were open, added up."""


@dataclass(slots=True)
class _Second:
    """What is counted until the next sample."""

    checkouts: int = 0
    held_s: float = 0.0
    ended: int = 0
    alone_s: float = 0.0
    """How long those that ended were held, and would have been without the others."""
    wait_s: float = 0.0
    waiting: int = 0
    most_in_use: int = 0
    created: int = 0
    closed: int = 0


@dataclass(slots=True)
class _Pool:
    size: int
    limit: int
    open: int
    connecting: int = 0
    in_use: int = 0
    peak: int = 0
    waiting: deque[Request] = field(default_factory=deque)


class Simulation:
    """One run of a trace."""

    def __init__(
        self,
        config: PoolConfig,
        overflow: int,
        *,
        cores: float | None = None,
        connect_s: float = 0.015,
        linger_s: float = LINGER_S,
    ) -> None:
        """Begins with ``min_size`` open connections, and at most ``overflow`` more than the size.

        Args:
            config: the policy, as for a real pool.
            overflow: connections beyond the size while they are needed.
            cores: statements that the database works on at once without each taking longer; None for any number.
            connect_s: how long it takes to open a connection.
            linger_s: how long connections beyond the size are kept after they were all in use.
        """
        self._config = config
        self._overflow = overflow
        self._ceiling = config.max_size + overflow
        self._cores = cores or math.inf
        self._connect_s = connect_s
        self._linger_s = linger_s
        self._pool = _Pool(config.min_size, config.min_size + overflow, config.min_size)
        self._now_s = self._work = 0.0
        """The time, and how much work a statement that is there from the beginning has been given."""
        self._running: list[tuple[float, int, float, Request]] = []
        self._opening: list[float] = []
        self._order = count()
        self._second = _Second()
        self._busy_s = self._lingered_at = self._reviewed_at = 0.0
        self._last_peak = 0
        self._out = Simulated([], [], [], [], 0, 0.0)
        self._connects = 0
        self._connection_s = 0.0

    def run(self, trace: Iterable[Request]) -> Simulated:
        """What becomes of the requests, which come in the order of their time."""
        arrivals = deque(trace)
        tick_s = self._config.sample_s
        while arrivals or self._running or self._pool.waiting:
            done_s = self._now_s + (self._running[0][0] - self._work) / self._rate() if self._running else math.inf
            open_s = self._opening[0] if self._opening else math.inf
            next_s = arrivals[0].at_s if arrivals else math.inf
            at_s = min(done_s, open_s, next_s, tick_s)
            self._pass_until(at_s)
            if at_s == done_s:
                self._end()
            elif at_s == open_s:
                heapq.heappop(self._opening)
                self._pool.connecting -= 1
                self._second.created += 1
                self._free()
            elif at_s == next_s:
                self._arrive(arrivals.popleft())
            else:
                self._tick()
                tick_s += self._config.sample_s
        return replace(self._out, connects=self._connects, connection_s=self._connection_s)

    def _rate(self) -> float:
        """How much of a core each running statement has."""
        return min(1.0, self._cores / len(self._running)) if self._running else 1.0

    def _pass_until(self, at_s: float) -> None:
        passed_s = at_s - self._now_s
        self._work += passed_s * self._rate()
        self._busy_s += passed_s * self._pool.in_use
        self._connection_s += passed_s * self._pool.open
        self._now_s = at_s

    def _arrive(self, request: Request) -> None:
        pool = self._pool
        if pool.in_use < pool.open - pool.connecting and pool.in_use < pool.limit:
            self._serve(request)
            return
        pool.waiting.append(request)
        self._second.waiting = max(self._second.waiting, len(pool.waiting))
        self._open_more()

    def _open_more(self) -> None:
        pool = self._pool
        for _ in range(max(0, min(pool.limit - pool.open, len(pool.waiting) - pool.connecting))):
            pool.open += 1
            pool.connecting += 1
            self._connects += 1
            heapq.heappush(self._opening, self._now_s + self._connect_s)

    def _serve(self, request: Request) -> None:
        waited_s = self._now_s - request.at_s
        self._pool.in_use += 1
        self._pool.peak = max(self._pool.peak, self._pool.in_use)
        self._second.most_in_use = max(self._second.most_in_use, self._pool.in_use)
        self._second.checkouts += 1
        self._second.wait_s += waited_s
        self._out.waits_s.append(waited_s)
        heapq.heappush(self._running, (self._work + request.takes_s, next(self._order), self._now_s, request))

    def _end(self) -> None:
        _, _, began_s, request = heapq.heappop(self._running)
        took_s = self._now_s - began_s
        self._pool.in_use -= 1
        self._out.database_s.append(took_s)
        self._second.held_s += took_s
        self._second.ended += 1
        self._second.alone_s += request.takes_s
        self._free()

    def _free(self) -> None:
        """A connection is there: for the first who waits, or idle, or closed."""
        pool = self._pool
        if pool.open > pool.limit:
            self._close(1)
        elif pool.waiting:
            self._serve(pool.waiting.popleft())
        elif pool.open - pool.connecting - pool.in_use > pool.size:
            self._trim()

    def _close(self, connections: int) -> None:
        self._pool.open -= connections
        self._second.closed += connections

    def _trim(self) -> None:
        """Idle connections that nobody needed for a while are closed."""
        pool = self._pool
        kept = min(pool.limit, max(pool.size, pool.peak, self._last_peak))
        self._close(max(0, min(pool.open - pool.connecting - pool.in_use, pool.open - kept)))

    def _tick(self) -> None:
        """A sample is taken, and the policy asked."""
        pool, second, config = self._pool, self._second, self._config
        if self._now_s - self._lingered_at >= self._linger_s:
            self._lingered_at, self._last_peak, pool.peak = self._now_s, pool.peak, pool.in_use
            self._trim()
        now = START + timedelta(seconds=self._now_s)
        sample = PoolSample(
            at=now,
            size=pool.size,
            limit=pool.limit,
            in_use=self._busy_s / config.sample_s,
            most_in_use=second.most_in_use,
            idle=pool.open - pool.connecting - pool.in_use,
            waiting=second.waiting,
            checkouts=second.checkouts,
            wait_s=second.wait_s,
            created=second.created,
            closed=second.closed,
            over_s=config.sample_s,
            hold_s=second.held_s / second.ended if second.ended else None,
            slowdown=second.held_s / second.alone_s if second.alone_s else None,
        )
        self._out.samples.append(sample)
        self._second, self._busy_s = _Second(waiting=len(pool.waiting), most_in_use=pool.in_use), 0.0
        if config.mode == "adaptive" or self._now_s - self._reviewed_at >= config.review_s:
            self._reviewed_at = self._now_s
            self._apply(decide(self._recent(), config, now, self._ceiling))

    def _recent(self) -> Sequence[PoolSample]:
        kept = max(KEPT, timedelta(seconds=self._config.review_s))
        samples = self._out.samples
        return samples[max(0, len(samples) - int(kept / timedelta(seconds=self._config.sample_s)) - 1) :]

    def _apply(self, decision: Decision | None) -> None:
        if decision is None or not self._config.resizes or decision.action == "keep":
            return
        pool = self._pool
        pool.size = decision.size
        pool.limit = decision.size + self._overflow if decision.limit is None else decision.limit
        self._out.decisions.append(decision)
        self._trim()
        self._open_more()
