"""A budget of connections to one server, shared by all processes that announce themselves in the history.

Each process holds a lease: so many connections it may have open, and no more. It raises its lease in the history
first and opens connections then; it closes connections first and lowers its lease then. So the sum of what is open is
never more than the sum of the leases, and that never more than the budget.

What is guaranteed: the above, for processes that reach the history at least every ``TTL_S`` seconds, in any order of
events, ``kill -9`` included. What is not: a process that is stopped or cut off from the history for longer is taken
for dead, and others use its share while its connections may still be open; the budget is exceeded by those at most.
When the history is gone for everybody, each keeps its lease for ``TTL_S``, then gives back what is beyond its fair
share as last known, and only after as long again takes what it lacks of it: that holds if connections come back within
that time. A process that never reached the history works without a budget after ``GRACE_S``: the application goes on.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Event as Flag
from threading import Thread
from typing import Final, TypeVar

from sqlalchemy import Engine

from dbpilot.clock import Clock
from dbpilot.config import PoolConfig
from dbpilot.dialects.base import Capacity
from dbpilot.errors import StoreError
from dbpilot.history.leases import TTL_S, Lease, Leases, Standing
from dbpilot.pool.resizable import ResizableQueuePool
from dbpilot.unsupported import Unsupported

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

HEARTBEAT_S: Final = 2.0
TICK_S: Final = 0.1
"""How often the pool is looked at where the budget is scarce."""
LOOK_S: Final = 0.1
LOOK_S_PER_PROCESS: Final = 0.01
"""How often the others' leases are read while they matter: all processes together read so many at most."""
ASK_S: Final = 0.05
"""The time between two exchanges, other than heartbeats."""
TURN_S: Final = 0.01
"""The time between two turns, however often callers meet the limit."""
BUSY_S: Final = 0.1
"""A connection that was not needed for so long is idle to those who have none."""
EXIT_S: Final = 0.05
"""A server takes some time to see that a connection was closed; until then it counts."""
PEAK_S: Final = 0.5
"""One that was not needed for so long is idle to everybody."""
MEASURE_S: Final = 20.0
RETRY_S: Final = 1.0
GRACE_S: Final = 1.0
"""A process that could not announce itself in this time after its start does without."""
STOP_S: Final = 2.0
SPARE_SHARE: Final = 0.25
"""Of what was in use lately, held in addition: what comes next need not ask first."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a process has use for."""

    limit: int
    """Its pool opens no more than these, whatever it is allowed."""
    open: int
    """Connections that the server may count now."""
    in_use: int
    waiting: int
    """Callers without a connection."""
    busy: int
    """The most in use at once in the last ``BUSY_S``."""
    peak: int
    """The same in the last ``PEAK_S``."""
    leaving: int = 0
    """Connections that were closed so lately that the server may not have noticed."""

    @property
    def wanted(self) -> int:
        """So many it could use at this moment; one at least, for the next request."""
        return min(self.limit, max(1, self.in_use + self.waiting))

    @property
    def comfort(self) -> int:
        """With so many nobody would have to wait if it went on as it did lately."""
        return min(self.limit, max(1, self.peak + self.waiting + math.ceil(SPARE_SHARE * self.peak)))


def fair_share(budget: int, processes: int) -> int:
    """What each process gets if it asks for it, whatever the others do; one, where the budget has as many."""
    return max(1, budget // processes)


def is_scarce(need: Need, others: Sequence[Lease], budget: int) -> bool:
    """Whether some process has to do with less than its pool's limit."""
    return need.limit + sum(other.limit for other in others) > budget


def share(need: Need, held: int, others: Sequence[Lease], budget: int) -> int:
    """What a process that holds so many connections should hold.

    More than ``held`` only as far as the budget has room. Less, if it does not use them, or if it holds more than its
    fair share and somebody who holds less than that asks.
    """
    free = budget - held - sum(other.connections for other in others)
    if not is_scarce(need, others, budget):
        return min(need.limit, held + max(0, free))
    fair = fair_share(budget, len(others) + 1)
    owed = sum(max(0, min(other.wanted, fair) - other.connections) for other in others)
    lacking = sum(max(0, other.wanted - other.connections) for other in others)
    grown = _grown(need, held, free, fair, owed, lacking)
    if grown > held:
        return grown
    due = _due(held, others, fair, owed - free)
    return max(min(_kept(need, held, fair, lacking - free), held - due), min(need.in_use, fair, held))


def _grown(need: Need, held: int, free: int, fair: int, owed: int, lacking: int) -> int:
    """First up to the fair share; then what nobody is owed; then, to be prepared, what nobody lacks."""
    comfort = need.comfort if need.wanted >= held else held
    for goal, spoken_for in ((min(need.wanted, fair), 0), (need.wanted, owed), (comfort, lacking)):
        step = max(0, min(goal - held, free - spoken_for))
        held += step
        free -= step
    return held


def _kept(need: Need, held: int, fair: int, lacking: int) -> int:
    """What is not idle; to others that lack connections, all beyond the fair share is idle that is not needed now.

    Within its fair share everybody keeps what it used lately: it would ask for it again at once.
    """
    if lacking > 0:
        return min(held, max(need.busy, need.wanted, min(need.peak, fair), held - lacking))
    return need.comfort if held > need.comfort + 1 else held  # one more or less is worth no exchange


def _due(held: int, others: Sequence[Lease], fair: int, missing: int) -> int:
    """What one gives back of its excess: all who have some give in proportion what is missing."""
    if held <= fair or missing <= 0:
        return 0
    excess = held - fair
    total = excess + sum(max(0, other.connections - fair) for other in others)
    return min(excess, math.ceil(missing * excess / total))


def settled(need: Need, held: int, own_budget: int, mine: Lease | None, others: Sequence[Lease]) -> tuple[int, Lease]:
    """What a process should hold after an exchange, and its new lease.

    The lease may be higher: what may be open already is leased, whatever there should be.
    """
    budget = min([own_budget, *(other.budget for other in others)])
    target = share(need, min(held, mine.connections if mine else 0), others, budget)
    connections = leased(need, max(target, held), mine)
    return target, Lease("", connections, need.open, need.wanted, need.limit, own_budget)


def leased(need: Need, held: int, mine: Lease | None) -> int:
    """The lease of a process that may open so many connections: those that it still has count as well."""
    return max(held, need.open, min(need.open + need.leaving, mine.connections if mine else 0))


def budget_of(capacity: Capacity, reserve: float, announced: int) -> int:
    """What the announced processes, who have so many connections, may have open together.

    The reserve is for others; where they use more already, that counts.
    """
    left = max(math.ceil(capacity.max_connections * reserve), capacity.in_use - announced)
    return max(1, capacity.max_connections - capacity.reserved - left)


@dataclass(frozen=True, slots=True)
class BudgetReading:
    """The budget as one process sees it."""

    budget: int
    processes: int
    fair_share: int
    held: int
    """Connections that this process may have open."""
    leased: int
    """Connections that all processes may have open."""
    wanted: int
    """Connections that all processes could use at once."""
    heard_s: float
    """Since so many seconds nothing was heard from the history."""


class BudgetKeeper:
    """Keeps a pool within its process's lease from :meth:`start` to :meth:`stop`.

    The thread never waits for the history or the server: it sends others on errands, and looks at what they brought.
    """

    def __init__(
        self,
        engine: Engine,
        leases: Leases,
        config: PoolConfig,
        clock: Clock,
        measure: Callable[[], Capacity | Unsupported],
    ) -> None:
        self._engine = engine
        self._leases = leases
        self._config = config
        self._ticks = clock.ticks
        self._measure = measure
        self._wake = Flag()
        self._stopping = Flag()
        self._thread: Thread | None = None
        self.failures = 0
        """Exchanges, measurements and turns that failed."""
        self._forget()

    def _forget(self) -> None:
        now = self._ticks()
        self._pools: list[ResizableQueuePool] = []
        """The engine's, and before it those that it had before and that still have connections."""
        self._held = 0
        self._budget = self._config.budget if isinstance(self._config.budget, int) else None
        self._refused: Unsupported | None = None
        self._used_by_others: deque[int] = deque(maxlen=2)
        self._seen = Standing(None)
        self._used: deque[tuple[float, int]] = deque()
        self._open = 0
        self._closed: deque[tuple[float, int]] = deque()
        self._errand: Future[tuple[Standing, int | None]] | None = None
        self._measuring: Future[Capacity | Unsupported] | None = None
        self._started_at = now
        self._reached_at: float | None = None
        """When the last exchange that succeeded began."""
        self._exchanged_at = self._looked_at = self._measured_at = self._failed_at = float("-inf")

    def why_not(self) -> Unsupported | None:
        """Why this pool has no budget; None where it has one."""
        if self._config.budget is None:
            return Unsupported("pool.budget is none", "set DBPILOT_POOL__BUDGET=server")
        if not isinstance(self._engine.pool, ResizableQueuePool):
            kind = type(self._engine.pool).__name__
            fix = "create the engine with poolclass=dbpilot.pool.ResizableQueuePool"
            return Unsupported(f"{kind} cannot be bounded while it runs", fix)
        return self._refused

    def read(self) -> BudgetReading | Unsupported:
        """The budget as it is known now."""
        refused, budget, seen = self.why_not(), self._common_budget(), self._seen
        if refused is not None:
            return refused
        if budget is None or seen.mine is None:
            return Unsupported("this process has no lease yet", "see whether the history and the server can be reached")
        all_ = [seen.mine, *seen.others]
        return BudgetReading(
            budget=budget,
            processes=len(all_),
            fair_share=fair_share(budget, len(all_)),
            held=self._held,
            leased=sum(one.connections for one in all_),
            wanted=sum(one.wanted for one in all_),
            heard_s=self._silent_s(),
        )

    def start(self) -> None:
        """The pool opens nothing more until there is a lease; the thread runs."""
        if self.why_not() is not None:
            return
        self._forget()
        self._stopping = Flag()
        self._adopt()
        self._hold(self._slots())
        thread = Thread(target=self._run, args=(self._stopping,), name="dbpilot-pool-budget", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # a pool that nobody looks after has no bound
            self._release()
            raise
        self._thread = thread

    def stop(self) -> None:
        """The lease is gone, and the pool goes on without; what is in use keeps its lease until that runs out."""
        if self._thread is None:
            return
        self._stopping.set()
        self._wake.set()
        self._thread.join(STOP_S)
        self._thread = None
        if self._errand is None and self._seen.mine is None:
            self._leases.close()  # nobody ever heard of this process
        else:
            if self._silent_s() <= TTL_S:
                self._hold(0)  # closes what is idle, or the others would count on connections that are still there
            self._part()
        self._release()

    def _part(self) -> None:
        try:
            _errand(self._leave, "dbpilot-pool-leave").result(STOP_S)
        except Exception as error:  # noqa: BLE001 - the border to the history, as in _run
            self._failed(error)

    def _leave(self) -> None:
        try:
            if self._errand is not None:
                self._errand.exception()  # or it would announce again who has left
            open_ = self._slots()
            if open_:
                self._leases.exchange(lambda mine, _: Lease("", open_, open_, 0, open_, mine.budget if mine else open_))
            else:
                self._leases.leave()
        finally:
            self._leases.close()

    def _release(self) -> None:
        """The pools know no budget any more."""
        for pool in self._pools:
            pool.at_limit = None
            pool.cap(None)

    def _run(self, stopping: Flag) -> None:
        while not stopping.is_set():
            try:
                pause_s = self._turn()
            except Exception as error:  # noqa: BLE001 - the border to the history, the server and the pool
                self._failed(error)
                pause_s = TICK_S
            if self._refused is not None:
                self._release()
                return
            self._wake.wait(pause_s)
            self._wake.clear()
            stopping.wait(TURN_S)

    def _failed(self, error: Exception) -> None:
        if not self.failures:
            said = str(error) if isinstance(error, StoreError) else type(error).__name__
            log.warning("the pool's budget: %s", said)
        self.failures += 1
        self._failed_at = self._ticks()

    def _turn(self) -> float:
        """What was brought is put to use, and what is due begins; seconds until there may be something to do."""
        self._adopt()
        self._collect_capacity()
        self._collect_leases()
        budget = self._common_budget()
        if budget is None:
            self._do_without()
            return TICK_S
        need = self._need(budget)
        target = share(need, self._held, self._seen.others, budget)
        if target < self._held and self._reached_at is not None and self._silent_s() <= TTL_S:
            self._hold(target)
            need = self._need(budget)
        scarce = is_scarce(need, self._seen.others, budget)
        self._begin(need, target, scarce=scarce)
        self._fall_back(need, budget)
        if need.leaving or need.wanted > self._held or any(one.wanted > one.connections for one in self._seen.others):
            return ASK_S
        settled = not scarce and self._seen.mine is not None and self._errand is None
        return max(TICK_S, self._exchanged_at + HEARTBEAT_S - self._ticks()) if settled else TICK_S

    # The pool.

    def _adopt(self) -> None:
        """The engine's pool is bounded; it has another one after ``dispose``."""
        pool = self._engine.pool
        if isinstance(pool, ResizableQueuePool) and (not self._pools or self._pools[-1] is not pool):
            self._pools.append(pool)
            pool.at_limit = self._wake.set
        former = [pool for pool in self._pools[:-1] if pool.counts().slots]
        if len(self._pools) > 1:
            self._pools = [*former, self._pools[-1]]
            self._hold(self._held)

    def _hold(self, connections: int) -> None:
        """The pool has no more connections than these, or will when they are returned."""
        self._held = connections
        former = sum(pool.counts().slots for pool in self._pools[:-1])
        self._pools[-1].cap(max(0, connections - former))

    def _slots(self) -> int:
        return sum(pool.counts().slots for pool in self._pools)

    def _need(self, budget: int) -> Need:
        now, counts = self._ticks(), [pool.counts() for pool in self._pools]
        latest, in_use = counts[-1], sum(count.in_use for count in counts)
        self._used.append((now, in_use))
        while self._used[0][0] < now - PEAK_S:
            self._used.popleft()
        open_ = sum(count.slots for count in counts)
        bounded = latest.size > 0 and latest.max_overflow >= 0
        return Need(
            limit=min(budget, latest.size + latest.max_overflow) if bounded else budget,
            open=open_,
            in_use=in_use,
            waiting=latest.waiting,
            busy=max(used for at, used in self._used if at >= now - BUSY_S),
            peak=max(used for _, used in self._used),
            leaving=self._leaving(open_, now),
        )

    def _leaving(self, open_: int, now: float) -> int:
        """Connections whose end was noticed here a moment ago."""
        if open_ < self._open:
            self._closed.append((now, self._open - open_))
        self._open = open_
        while self._closed and self._closed[0][0] < now - EXIT_S:
            self._closed.popleft()
        return sum(number for _, number in self._closed)

    # The history.

    def _common_budget(self) -> int | None:
        """The least of what all see: nobody's connections shall be refused."""
        own = self._budget
        return None if own is None else min([own, *(other.budget for other in self._seen.others)])

    def _begin(self, need: Need, target: int, *, scarce: bool) -> None:
        """Somebody is on the way to the history if that is due."""
        now = self._ticks()
        if self._errand is not None or now - self._failed_at < RETRY_S:
            return
        if self._exchange_is_due(need, target, now):
            held, own = self._held, self._budget or 1
            self._exchanged_at = self._looked_at = now
            self._errand = _errand(lambda: self._exchange(need, held, own), "dbpilot-pool-lease", self._wake.set)
        elif scarce and self._look_is_due(need, now):
            self._looked_at = now
            self._errand = _errand(lambda: (self._leases.look(), None), "dbpilot-pool-lease", self._wake.set)

    def _exchange_is_due(self, need: Need, target: int, now: float) -> bool:
        since_s, mine = now - self._exchanged_at, self._seen.mine
        if since_s >= HEARTBEAT_S or since_s < ASK_S:
            return since_s >= HEARTBEAT_S
        if mine is None or leased(need, target, mine) != mine.connections:
            return True
        lacks, lacked = need.wanted > self._held, mine.wanted > mine.connections
        return (lacks or lacked) and need.wanted != mine.wanted

    def _look_is_due(self, need: Need, now: float) -> bool:
        lacks, spares = need.wanted > self._held, self._held > max(1, need.busy)
        every_s = max(ASK_S if lacks else LOOK_S, LOOK_S_PER_PROCESS * (len(self._seen.others) + 1))
        return (lacks or spares) and now - self._looked_at >= every_s

    def _exchange(self, need: Need, held: int, own_budget: int) -> tuple[Standing, int]:
        """The leases after the exchange, and what this process should hold."""
        target = 0

        def settle(mine: Lease | None, others: Sequence[Lease]) -> Lease:
            nonlocal target
            target, lease = settled(need, held, own_budget, mine, others)
            return lease

        return self._leases.exchange(settle), target

    def _collect_leases(self) -> None:
        """What the errand brought is known, and the pool has what it was given."""
        errand = self._errand
        if errand is None or not errand.done():
            return
        self._errand = None
        self._seen, target = errand.result()
        if target is not None:
            self._reached_at = self._exchanged_at
            self._hold(target)

    def _fall_back(self, need: Need, budget: int) -> None:
        """Without word from the history this process makes do with its fair share, or with what it has so far."""
        silent_s = self._silent_s()
        fair = min(need.limit, fair_share(budget, len(self._seen.others) + 1))
        if self._reached_at is None:
            self._do_without()
        elif (silent_s > TTL_S and self._held > fair) or (silent_s > 2 * TTL_S and self._held < fair):
            self._hold(fair)

    def _silent_s(self) -> float:
        return self._ticks() - (self._started_at if self._reached_at is None else self._reached_at)

    def _do_without(self) -> None:
        """There is no lease, and has never been one: for a moment that is waited for."""
        if self._reached_at is None and self._ticks() - self._started_at > GRACE_S:
            for pool in self._pools:
                pool.cap(None)

    # The server.

    def _collect_capacity(self) -> None:
        """What the server allows is known, and measured again from time to time."""
        if self._config.budget != "server":
            return
        now, found = self._ticks(), self._measuring
        if found is not None and found.done():
            self._measuring = None
            self._learn(found.result())
        elif found is None and now - self._measured_at >= (MEASURE_S if self._budget else GRACE_S):
            self._measured_at = now
            self._measuring = _errand(self._measure, "dbpilot-pool-capacity", self._wake.set)

    def _learn(self, capacity: Capacity | Unsupported) -> None:
        if isinstance(capacity, Unsupported):
            self._refused = capacity
            return
        announced = self._slots() + sum(other.open for other in self._seen.others)
        # Others may have opened connections since they told how many they have: the lower of two counts is believed.
        self._used_by_others.append(max(0, capacity.in_use - announced))
        self._budget = budget_of(capacity, self._config.reserve, capacity.in_use - min(self._used_by_others))


def _errand(work: Callable[[], Answer], name: str, done: Callable[[], None] = lambda: None) -> "Future[Answer]":
    """Somebody does the work, in a thread of its own, and says when it is done."""
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is theirs who ask for the answer
            answer.set_exception(error)
        done()

    Thread(target=run, name=name, daemon=True).start()
    return answer
