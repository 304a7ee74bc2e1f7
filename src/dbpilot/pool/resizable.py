"""Connection pools whose limits can be changed while they run: one for threads, one for asyncio.

Drop-in for SQLAlchemy's ``QueuePool`` and ``AsyncAdaptedQueuePool``:
``create_engine(url, poolclass=ResizableQueuePool, pool_size=5, max_overflow=30)``. What is different:

- Who finds no connection waits in a queue, first come, first served, and gets whichever is there first: one that is
  returned, or one that is opened for those who wait, in the background. Nobody's request pays for a connect while
  another's connection comes back.
- ``resize`` works at once, on those who wait, too.
- What was in use a moment ago is kept open for ``linger`` seconds beyond ``pool_size``: closing it would make the next
  request wait for a connect.

All counting is done by whoever holds the lock. A connection may be returned at any moment, even by the garbage
collector in the middle of a line here; so returning never waits for the lock: records lie in ``_returned`` until its
holder puts it down.
"""

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from operator import itemgetter
from types import FrameType  # noqa: TC003 - read here, too
from typing import Any, Final, Self

from sqlalchemy import exc
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, Pool
from sqlalchemy.util import await_only, greenlet_spawn

LINGER_S: Final = 2.0
"""About the pause between two of a busy application's bursts; longer keeps connections that nobody needs."""
MAX_NOTED: Final = 10_000
NOT_HELD: Final = (0.0, None)
FRAMES_UP: Final = 4
NAMED_HOLDERS: Final = 3
"""Holders that an error names, those that hold longest."""


class PoolFull(exc.TimeoutError):
    """As many callers as may wait for a connection do so; nobody else is let in."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A connection that is checked out, for ``age_s`` seconds already."""

    age_s: float
    where: str | None
    """The application's line that asked for it, where somebody looked."""


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """One consistent look at a pool."""

    size: int
    max_overflow: int
    open: int
    """Connections that are open, in use or idle."""
    idle: int
    connecting: int
    waiting: int
    """Callers in the queue."""
    slots: int
    """Connections that are open, being opened or being closed: what the server may count."""

    @property
    def in_use(self) -> int:
        """Connections that are checked out."""
        return self.open - self.idle


def _is_collected() -> bool:
    """Whether the record that is being returned was found by the garbage collector.

    No event says so; SQLAlchemy's function that returns it, a few frames up from here, was told.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(FRAMES_UP):
        frame = frame.f_back if frame is not None else None
        if frame is not None and frame.f_code.co_name == "_finalize_fairy":
            return bool(frame.f_locals.get("is_gc_cleanup"))
    return False


class Waiter:
    """A thread that waits for a connection."""

    def __init__(self, where: str | None) -> None:
        self._wake = threading.Lock()
        self._wake.acquire()
        self.where = where
        self.outcome: ConnectionPoolEntry | BaseException | None = None

    def wait(self, timeout_s: float | None) -> None:
        """Returns when there is an outcome, or the time is over; None for no end of it."""
        self._wake.acquire(timeout=-1 if timeout_s is None else min(timeout_s, threading.TIMEOUT_MAX))

    def tell(self, outcome: ConnectionPoolEntry | BaseException) -> bool:
        """The outcome is there; False if nobody can hear of it any more."""
        self.outcome = outcome
        self._wake.release()
        return True


class AsyncWaiter(Waiter):
    """A task that waits for a connection, in the loop that it was made in."""

    def __init__(self, where: str | None) -> None:
        super().__init__(where)
        self._loop = asyncio.get_running_loop()
        self._told = self._loop.create_future()

    def wait(self, timeout_s: float | None) -> None:
        await_only(asyncio.wait((self._told,), timeout=timeout_s))

    def tell(self, outcome: ConnectionPoolEntry | BaseException) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._hear)
        except RuntimeError:  # its loop is closed, and it with it
            return False
        self.outcome = outcome
        return True

    def _hear(self) -> None:
        if not self._told.done():
            self._told.set_result(None)


class ResizableQueuePool(Pool):
    """A pool of at most ``size() + max_overflow`` connections; both may be changed by :meth:`resize` at any time."""

    _is_asyncio = False
    _waiter_class: type[Waiter] = Waiter

    def __init__(
        self,
        creator: Any,
        pool_size: int = 5,
        max_overflow: int = 10,
        timeout: float | None = 30.0,
        use_lifo: bool = False,
        linger: float = LINGER_S,
        max_waiting: int = -1,
        **options: Any,
    ) -> None:
        """Opens nothing yet.

        Args:
            creator: makes a connection, as for SQLAlchemy's pools.
            pool_size: connections that are kept open; 0 for no limit.
            max_overflow: connections beyond these while they are needed; -1 for no limit.
            timeout: seconds that a caller waits for a connection, at most; None for no end.
            use_lifo: whether the connection returned last is handed out first, so that others can age out.
            linger: seconds for which connections beyond ``pool_size`` stay open after they were all in use.
            max_waiting: callers that may wait; more are refused at once. -1 for no limit.
            options: as for SQLAlchemy's :class:`~sqlalchemy.pool.Pool`.
        """
        super().__init__(creator, **options)
        self.made_with = pool_size, -1 if pool_size == 0 else max_overflow
        """Size and overflow as the application gave them, whatever they were resized to since."""
        self._size = pool_size
        self._max_overflow = -1 if pool_size == 0 else max_overflow
        self._timeout = timeout
        self._use_lifo = use_lifo
        self._linger = linger
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._idle: deque[ConnectionPoolEntry] = deque()
        self._returned: deque[ConnectionPoolEntry] = deque()
        self._waiters: deque[Waiter] = deque()
        self._held: dict[ConnectionPoolEntry, tuple[float, str | None]] = {}
        """Since when each record is in use, and where it was asked for."""
        self._stale: set[ConnectionPoolEntry] = set()
        """Records in use that were disposed of meanwhile."""
        self._doomed: list[ConnectionPoolEntry] = []
        """Records to be closed as soon as the lock is put down."""
        self._wanted = 0
        """Connections to be opened as soon as the lock is put down; they are counted already."""
        self._open = 0
        """Slots that are taken: connections that are open, being opened or being closed."""
        self._connecting = 0
        self._closing = 0
        self._prepared = 0
        """How many connections somebody asked to have open ahead of need."""
        self._peak = self._last_peak = 0
        """The most connections in use at once, in the present period of ``linger`` seconds and in the last."""
        self._cap = float("inf")
        self._limit = self._kept = 0.0
        """The most connections there may be, and how many of them stay open when they are returned."""
        self._set_bounds()
        self._tidying = False
        self.opened = 0
        self.timeouts = 0
        self.refused = 0
        self.failed = 0
        """Connections opened, callers who waited in vain or were refused, and connects that failed."""
        self.where: Callable[[], str | None] | None = None
        """Asked at every checkout which line of the application it comes from; must not raise."""
        self.at_limit: Callable[[], None] | None = None
        """Called when somebody has to wait because of the cap; must neither raise nor wait."""
        self.returned_holds: deque[Hold] = deque(maxlen=MAX_NOTED)
        self.collected: deque[Hold] = deque(maxlen=MAX_NOTED)
        self.connects_s: deque[float] = deque(maxlen=MAX_NOTED)
        """Holds that ended, those among them that nobody ended (the garbage collector found the connection), and how
        long connections took to open. Of holds only those whose line is known; whoever reads takes them out."""

    # What SQLAlchemy calls.

    def _do_get(self) -> ConnectionPoolEntry:
        where = self.where() if self.where is not None else None
        with self._lock:
            if self._idle:
                record = self._idle.pop() if self._use_lifo else self._idle.popleft()
                self._held[record] = time.monotonic(), where
                if len(self._held) > self._peak:
                    self._rise()
                waiter = None
            else:
                record, waiter = None, self._queue_up(where)
        if self._returned or self._wanted:
            self._settle()
        if record is not None:
            return record
        if self.at_limit is not None and self._is_capped():
            self.at_limit()
        return self._waited(waiter)

    def _is_capped(self) -> bool:
        """Whether there would be room, were it not for the cap."""
        return self._cap <= self._open and (self.allowed is None or self._cap < self.allowed)

    def _queue_up(self, where: str | None) -> Waiter | None:
        """The caller's place in the queue; None if that is full."""
        if 0 <= self._max_waiting <= len(self._waiters):
            self.refused += 1
            return None
        waiter = self._waiter_class(where)
        self._waiters.append(waiter)
        self._want()
        return waiter

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if self.where is not None:
            self._note_end(record)
        if not self._lock.acquire(blocking=False):
            self._returned.append(record)
        else:
            try:
                self._put_away(record)
            finally:
                self._lock.release()
        if self._returned or self._doomed or self._wanted:
            self._settle()

    def _note_end(self, record: ConnectionPoolEntry) -> None:
        """The hold that ends here is noted, if its line is known."""
        since, where = self._held.get(record, NOT_HELD)
        if where is not None:
            hold = Hold(time.monotonic() - since, where)
            self.returned_holds.append(hold)
            if _is_collected():
                self.collected.append(hold)

    def recreate(self) -> Self:
        """A new pool with the limits of now."""
        self.logger.info("Pool recreating")
        twin = self.__class__(
            self._creator,
            pool_size=self._size,
            max_overflow=self._max_overflow,
            timeout=self._timeout,
            use_lifo=self._use_lifo,
            linger=self._linger,
            max_waiting=self._max_waiting,
            pre_ping=self._pre_ping,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )
        twin.made_with = self.made_with
        twin.where, twin.at_limit = self.where, self.at_limit
        twin.cap(self.capped_at)
        return twin

    def dispose(self) -> None:
        """Idle connections are closed; those in use are closed when they come back, by whoever returns them."""
        with self._lock:
            idle = list(self._idle)
            self._idle.clear()
            self._closing += len(idle)
            self._stale.update(self._held)
            self._peak = self._last_peak = self._prepared = 0
            self._set_bounds()
        for record in idle:
            self._close_one(record)
        self.logger.info("Pool disposed. %s", self.status())

    def status(self) -> str:
        """The counts in words."""
        now = self.counts()
        return (
            f"Pool size: {now.size}  Connections in pool: {now.idle} Current Overflow: {self.overflow()} "
            f"Current Checked out connections: {now.in_use}"
        )

    def size(self) -> int:
        """Connections that are kept open."""
        return self._size

    def timeout(self) -> float | None:
        """Seconds that a caller waits, at most."""
        return self._timeout

    def checkedin(self) -> int:
        """Connections that are idle."""
        return len(self._idle)

    def checkedout(self) -> int:
        """Connections that are in use."""
        return len(self._held)

    def overflow(self) -> int:
        """Connections beyond ``size()``; negative while there are fewer."""
        return self._alive() - self._size if self._size else 0

    # What is new.

    @property
    def limit(self) -> int | None:
        """The most connections at once; None for no limit."""
        return int(self._limit) if self._limit < float("inf") else None

    @property
    def allowed(self) -> int | None:
        """What size and overflow allow, whatever the cap; None for no limit."""
        return self._size + self._max_overflow if self._max_overflow >= 0 else None

    def resize(self, size: int, max_overflow: int | None = None) -> None:
        """The limits are these from now on; without ``max_overflow`` that one stays.

        Who waits gets a connection at once where there is room now. Surplus idle connections are closed now, those in
        use when they come back.

        Raises:
            ValueError: ``size`` is below 1 or ``max_overflow`` below -1.
        """
        overflow = self._max_overflow if max_overflow is None else max_overflow
        if size < 1 or overflow < -1:
            raise ValueError(f"a pool of {size} connections with an overflow of {overflow} is none")
        with self._locked():
            if size < self._size:  # what was busy before counts no more
                self._peak, self._last_peak = len(self._held), 0
            self._size, self._max_overflow = size, overflow
            self._set_bounds()
            self._trim()
            self._want()
        self._see_to_surplus()

    @property
    def capped_at(self) -> int | None:
        """The bound above the limits, if there is one."""
        return int(self._cap) if self._cap < float("inf") else None

    def cap(self, connections: int | None) -> None:
        """There are never more connections than these from now on, whatever the limits allow; None for no such bound.

        Surplus goes as it does when the pool is resized.
        """
        with self._locked():
            self._cap = float("inf") if connections is None else max(0, connections)
            self._set_bounds()
            self._trim()
            self._want()
        self._see_to_surplus()

    def prepare(self, connections: int) -> None:
        """So many connections, within the limit, are opened in the background if they are not open yet."""
        with self._locked():
            self._prepared = connections
            self._set_bounds()
            self._want()

    def counts(self) -> PoolCounts:
        """The pool as it is at this moment."""
        with self._locked():
            now = self._alive(), len(self._idle), self._connecting, len(self._waiters)
            return PoolCounts(self._size, self._max_overflow, *now, self._open)

    def holds(self) -> list[Hold]:
        """Who holds connections, longest first."""
        with self._locked():
            held, now = list(self._held.values()), time.monotonic()
        return [Hold(now - since, where) for since, where in sorted(held, key=itemgetter(0))]

    # Counting, with the lock held.

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The lock is held inside; what was returned meanwhile, and is to be opened or closed, is seen to after."""
        with self._lock:
            yield
        self._settle()

    def _settle(self) -> None:
        """What was returned is put away, and what is to be opened or closed is; unless somebody else holds the lock,
        who will look as soon as it is put down."""
        while (self._returned or self._doomed or self._wanted) and self._lock.acquire(blocking=False):
            try:
                while self._returned:
                    self._put_away(self._returned.popleft())
                doomed, self._doomed = self._doomed, []
                wanted, self._wanted = self._wanted, 0
            finally:
                self._lock.release()
            for _ in range(wanted):
                self._start(self._connect)
            for record in doomed:
                self._close(record)

    def _set_bounds(self) -> None:
        """What depends on the settings, and on how busy it was, is up to date."""
        self._limit = self._cap if self.allowed is None else min(self.allowed, self._cap)
        busy = max(self._peak, self._last_peak) if self._linger > 0 else 0
        self._kept = min(self._limit, max(self._size, busy, self._prepared) if self._size else float("inf"))

    def _rise(self) -> None:
        """More connections are in use than ever in this period."""
        self._peak = len(self._held)
        self._set_bounds()

    def _alive(self) -> int:
        """Connections that are open, in use or idle."""
        return self._open - self._connecting - self._closing

    def _put_away(self, record: ConnectionPoolEntry) -> None:
        """A record that came back goes to the first who waits, or is idle, or closed."""
        self._held.pop(record, None)
        if record.dbapi_connection is None:  # invalidated or detached: a free slot
            self._open -= 1
            self._stale.discard(record)
            self._want()
        elif self._stale and record in self._stale:
            self._stale.discard(record)
            self._doom(record)
        elif self._open - self._closing > self._limit:
            self._doom(record)
        elif not self._waiters or not self._give(record):
            if self._alive() > self._kept and len(self._idle) >= self._size:
                self._doom(record)
            else:
                self._idle.append(record)

    def _give(self, outcome: ConnectionPoolEntry | BaseException) -> bool:
        """The first who waits and can be reached has it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if waiter.tell(outcome):
                if not isinstance(outcome, BaseException):
                    self._held[outcome] = time.monotonic(), waiter.where
                    self._peak = max(self._peak, len(self._held))
                    self._set_bounds()
                return True
        return False

    def _doom(self, record: ConnectionPoolEntry) -> None:
        self._closing += 1
        self._doomed.append(record)

    def _trim(self) -> None:
        """Surplus idle connections are closed, the longest idle ones first."""
        while self._idle and self._open - self._closing > self._kept:
            self._doom(self._idle.popleft())

    def _want(self) -> None:
        """Connections are opened for those who wait, and those asked for ahead of need, as far as there is room."""
        room = self._limit - self._open
        missing = max(len(self._waiters) - self._connecting, self._prepared - self._open + self._closing)
        new = int(max(0, min(room, missing)))
        self._open += new
        self._connecting += new
        self._wanted += new

    # Waiting.

    def _waited(self, waiter: Waiter | None) -> ConnectionPoolEntry:
        """What the waiter gets.

        Raises:
            TimeoutError: nothing, in the time there was; says who holds the connections.
            PoolFull: as many wait as may.
        """
        if waiter is None:
            raise PoolFull(f"{self._max_waiting} callers wait for a connection, as many as may; {self._explained()}")
        try:
            waiter.wait(self._timeout)
        except BaseException:  # cancelled, interrupted: what it was given meanwhile goes on to the next
            self._leave(waiter)
            raise
        outcome = waiter.outcome or self._give_up(waiter)
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            raise exc.TimeoutError(
                f"QueuePool limit of size {self._size} overflow {self._max_overflow} reached, connection timed out, "
                f"timeout {self._timeout:0.2f}; {self._explained()}",
                code="3o7r",
            )
        return outcome

    def _give_up(self, waiter: Waiter) -> ConnectionPoolEntry | BaseException | None:
        """The time is over; unless at the last moment there was an outcome."""
        with self._locked():
            if waiter.outcome is None:
                self._waiters.remove(waiter)
                self.timeouts += 1
            return waiter.outcome

    def _leave(self, waiter: Waiter) -> None:
        """Nobody waits here any more; what it was given goes on."""
        with self._locked():
            if waiter.outcome is None:
                self._waiters.remove(waiter)
            elif not isinstance(waiter.outcome, BaseException):
                self._returned.append(waiter.outcome)

    def _explained(self) -> str:
        """Who holds the connections."""
        holds = self.holds()
        if not holds:
            return "none is in use: connecting takes too long"
        longest = ", ".join(
            f"{hold.age_s:.1f} s" + (f" at {hold.where}" if hold.where else "") for hold in holds[:NAMED_HOLDERS]
        )
        return f"{len(holds)} are in use, the longest for {longest}"

    # In the background.

    def _connect(self) -> None:
        """One connection more is open, and with whoever waits; a failure is told to the first who waits."""
        outcome: ConnectionPoolEntry | BaseException
        began = time.monotonic()
        try:
            outcome = self._create_connection()
            self.connects_s.append(time.monotonic() - began)
        except BaseException as error:  # noqa: BLE001 - it is the caller's, who waits in another thread
            outcome = error
        with self._locked():
            self._connecting -= 1
            if isinstance(outcome, BaseException):
                self._open -= 1
                self.failed += 1
                self._give(outcome)
                self._prepared = 0
                self._set_bounds()
                self._want()
            else:
                self.opened += 1
                self._put_away(outcome)
        self._see_to_surplus()

    def _see_to_surplus(self) -> None:
        """Somebody looks after connections beyond the size for as long as there are any."""
        with self._locked():
            begins = self._linger > 0 and not self._tidying and 0 < self._size < self._alive()
            self._tidying = self._tidying or begins
        if begins:
            self._start(self._tidy)

    def _tidy(self) -> None:
        """What was not needed for a while is closed; runs for as long as there is surplus."""
        while self._tidied():
            time.sleep(self._linger)

    def _tidied(self) -> bool:
        """A period is over; whether another one has to pass."""
        with self._locked():
            self._peak, self._last_peak = len(self._held), self._peak
            self._set_bounds()
            self._trim()
            self._tidying = 0 < self._size < self._alive()
            return self._tidying

    def _start(self, work: Callable[[], None]) -> None:
        """The work is done by a thread of its own, or by this one when none can be had."""
        context = copy_context()  # what hands out credentials may look there
        try:
            threading.Thread(target=context.run, args=(work,), name="dbpilot-pool", daemon=True).start()
        except RuntimeError:  # the interpreter ends
            if work != self._tidy:
                work()

    def _close(self, record: ConnectionPoolEntry) -> None:
        self._close_one(record)

    def _close_one(self, record: ConnectionPoolEntry) -> None:
        """The connection is closed, and its slot free."""
        try:
            record.close()
        finally:
            with self._locked():
                self._open -= 1
                self._closing -= 1
                self._want()


class AsyncResizableQueuePool(ResizableQueuePool):
    """The same for ``create_async_engine(url, poolclass=AsyncResizableQueuePool)``.

    ``resize`` and ``prepare`` may be called from any thread. Like SQLAlchemy's own it serves one event loop at a time.
    """

    _is_asyncio = True
    _waiter_class = AsyncWaiter
    _dialect = AsyncAdaptedQueuePool._dialect

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def _do_get(self) -> ConnectionPoolEntry:
        self._loop = asyncio.get_running_loop()
        return super()._do_get()

    def _start(self, work: Callable[[], None]) -> None:
        begun = self._spawn(self._tidy_later() if work == self._tidy else greenlet_spawn(work))
        if not begun and work == self._connect:  # nobody runs that could use it
            with self._lock:
                self._connecting -= 1
                self._open -= 1

    def _close(self, record: ConnectionPoolEntry) -> None:
        if not self._spawn(greenlet_spawn(self._close_one, record)):
            with self._lock:
                self._open -= 1
                self._closing -= 1

    async def _tidy_later(self) -> None:
        while await greenlet_spawn(self._tidied):  # noqa: ASYNC110 - time is what is waited for
            await asyncio.sleep(self._linger)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> bool:
        """The work is a task of the loop that uses this pool; False where none runs."""

        def begin() -> None:
            task = asyncio.ensure_future(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        loop = self._loop
        if loop is None or not loop.is_running():
            work.close()
            return False
        loop.call_soon_threadsafe(begin)
        return True
