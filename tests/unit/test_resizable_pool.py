"""A pool that is resized under load: never over its limit, nothing leaked, all served in order or told why not."""

import asyncio
import gc
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import exc
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from dbpilot.pool.resizable import AsyncResizableQueuePool, PoolFull, ResizableQueuePool

SOON_S = 5.0


class Server:
    """Something to connect to, which counts."""

    def __init__(self, connect_s: float = 0.0) -> None:
        self.connect_s = connect_s
        self.open: set[Driver] = set()
        self.most = 0
        self.connects = 0
        self.refusing = False
        self.lock = threading.Lock()

    def connect(self) -> "Driver":
        time.sleep(self.connect_s)
        if self.refusing:
            raise ConnectionRefusedError("no")
        connection = Driver(self)
        with self.lock:
            self.open.add(connection)
            self.connects += 1
            self.most = max(self.most, len(self.open))
        return connection


class Driver:
    """A driver's connection."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def close(self) -> None:
        with self.server.lock:
            self.server.open.remove(self)

    def rollback(self) -> None: ...


def _until(law: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not law():
        assert time.monotonic() < deadline, "did not become true in time"
        time.sleep(0.002)


class Callers:
    """Threads that ask the pool for a connection, one after the other, and keep it until told."""

    def __init__(self, pool: ResizableQueuePool) -> None:
        self.pool = pool
        self.got: list[int] = []
        self.errors: list[Exception] = []
        self.release = threading.Event()
        self.threads: list[threading.Thread] = []

    def ask(self, times: int) -> None:
        for _ in range(times):
            number, before = len(self.threads), self.pool.counts().waiting
            thread = threading.Thread(target=self._run, args=(number,))
            self.threads.append(thread)
            thread.start()
            _until(lambda number=number, before=before: number in self.got or self.pool.counts().waiting > before)

    def _run(self, number: int) -> None:
        try:
            connection = self.pool.connect()
        except exc.SQLAlchemyError as error:
            self.errors.append(error)
            return
        self.got.append(number)
        self.release.wait(SOON_S)
        connection.close()

    def end(self) -> None:
        self.release.set()
        for thread in self.threads:
            thread.join()


def test_growing_serves_those_who_wait_at_once_and_in_order() -> None:
    server = Server()
    pool = ResizableQueuePool(server.connect, pool_size=1, max_overflow=0)
    held, callers = pool.connect(), Callers(pool)
    callers.ask(6)
    assert (callers.got, pool.counts().waiting) == ([], 6)
    pool.resize(4)
    _until(lambda: len(callers.got) == 3)
    assert sorted(callers.got) == [0, 1, 2]
    held.close()
    _until(lambda: len(callers.got) == 4)
    assert callers.got[3] == 3
    callers.end()
    assert sorted(callers.got) == list(range(6))
    assert (server.most, pool.timeouts) == (4, 0)


def test_shrinking_closes_idle_connections_now_and_others_when_they_come_back() -> None:
    server = Server()
    pool = ResizableQueuePool(server.connect, pool_size=6, max_overflow=0, linger=0)
    connections = [pool.connect() for _ in range(6)]
    for connection in connections[:3]:
        connection.close()
    pool.resize(2)
    assert len(server.open) == 3
    assert (pool.counts().idle, pool.counts().in_use) == (0, 3)
    for connection in connections[3:]:
        connection.close()
    assert (len(server.open), pool.counts().open, pool.counts().idle) == (2, 2, 2)


def test_what_was_busy_a_moment_ago_is_kept_for_a_while() -> None:
    server = Server()
    pool = ResizableQueuePool(server.connect, pool_size=1, max_overflow=9, linger=0.1)
    for _ in range(20):
        burst = [pool.connect() for _ in range(5)]
        for connection in burst:
            connection.close()
    assert server.connects == 5, "each was opened once"
    _until(lambda: len(server.open) == 1)


def test_a_connect_for_one_who_waits_does_not_keep_him_from_a_connection_that_comes_back() -> None:
    server = Server()
    pool = ResizableQueuePool(server.connect, pool_size=2, max_overflow=0)
    held, callers = pool.connect(), Callers(pool)
    server.connect_s = 0.5
    started = time.monotonic()
    callers.ask(1)
    held.close()
    _until(lambda: callers.got == [0])
    assert time.monotonic() - started < 0.4
    callers.end()


def test_a_cap_goes_before_the_limits_and_who_meets_it_is_noticed() -> None:
    server, noticed = Server(), []
    pool = ResizableQueuePool(server.connect, pool_size=4, max_overflow=4, timeout=SOON_S, linger=0)
    pool.at_limit = lambda: noticed.append(pool.counts().in_use)
    held = [pool.connect() for _ in range(4)]
    pool.cap(2)
    assert (pool.limit, pool.capped_at, pool.recreate().capped_at) == (2, 2, 2)
    held.pop().close()
    held.pop().close()
    assert (len(server.open), pool.counts().slots) == (2, 2), "what is beyond the cap is closed when it comes back"
    callers = Callers(pool)
    callers.ask(1)
    assert noticed == [2]
    pool.cap(None)
    _until(lambda: callers.got == [0])
    assert pool.limit == 8
    callers.end()
    for connection in held:
        connection.close()


def test_connections_are_opened_ahead_of_need() -> None:
    server = Server()
    pool = ResizableQueuePool(server.connect, pool_size=2, max_overflow=6)
    pool.prepare(20)
    _until(lambda: pool.counts().idle == 8)
    pool.prepare(0)
    assert server.connects == 8, "as many as the limit lets"


def test_who_waits_too_long_hears_who_holds_the_connections() -> None:
    pool = ResizableQueuePool(Server().connect, pool_size=1, max_overflow=0, timeout=0.05)
    pool.where = lambda: "shop/orders.py:41"
    held = pool.connect()
    with pytest.raises(exc.TimeoutError, match=r"size 1 overflow 0.*1 are in use.*at shop/orders\.py:41"):
        pool.connect()
    held.close()
    pool.connect().close()
    assert (pool.timeouts, pool.counts().waiting) == (1, 0)


def test_a_full_queue_refuses_at_once() -> None:
    pool = ResizableQueuePool(Server().connect, pool_size=1, max_overflow=0, max_waiting=2)
    held, callers = pool.connect(), Callers(pool)
    callers.ask(2)
    with pytest.raises(PoolFull, match="2 callers wait"):
        pool.connect()
    held.close()
    callers.end()
    assert (sorted(callers.got), pool.refused) == ([0, 1], 1)


def test_a_connect_that_fails_is_its_callers_error_and_frees_the_slot() -> None:
    server = Server()
    pool = ResizableQueuePool(server.connect, pool_size=1, max_overflow=0)
    server.refusing = True
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            pool.connect()
    assert (pool.counts().open, pool.counts().connecting, pool.failed) == (0, 0, 3)
    server.refusing = False
    pool.connect().close()


def test_an_invalidated_connection_is_a_free_slot() -> None:
    server = Server()
    pool = ResizableQueuePool(server.connect, pool_size=1, max_overflow=0)
    held, callers = pool.connect(), Callers(pool)
    callers.ask(1)
    held.invalidate()
    held.close()
    _until(lambda: callers.got == [0])
    callers.end()
    assert (pool.counts().open, len(server.open)) == (1, 1)


def test_a_connection_that_nobody_returned_comes_back_when_it_is_collected() -> None:
    pool = ResizableQueuePool(Server().connect, pool_size=1, max_overflow=0, timeout=1)
    connection: PoolProxiedConnection | None = pool.connect()
    assert connection is not None
    connection = None
    gc.collect()
    pool.connect().close()


def test_disposing_closes_what_is_idle_now_and_what_is_in_use_later() -> None:
    server = Server()
    pool = ResizableQueuePool(server.connect, pool_size=3, max_overflow=0)
    held, idle = pool.connect(), pool.connect()
    idle.close()
    pool.resize(2, 7)
    pool.dispose()
    assert len(server.open) == 1
    twin = pool.recreate()
    assert (twin.size(), twin.limit, twin.counts().open) == (2, 9, 0)
    held.close()
    assert (len(server.open), pool.counts().open) == (0, 0)


@pytest.mark.parametrize(("size", "overflow"), [(0, 5), (-1, 5), (5, -2)])
def test_a_pool_of_nothing_is_refused(size: int, overflow: int) -> None:
    pool = ResizableQueuePool(Server().connect, pool_size=3, max_overflow=4)
    with pytest.raises(ValueError, match="is none"):
        pool.resize(size, overflow)
    assert (pool.size(), pool.limit) == (3, 7)


def test_last_in_first_out_keeps_few_connections_in_use() -> None:
    for use_lifo, used in ((True, 1), (False, 3)):
        pool = ResizableQueuePool(Server().connect, pool_size=3, use_lifo=use_lifo)
        for connection in [pool.connect() for _ in range(3)]:
            connection.close()
        seen = set()
        for _ in range(6):
            connection = pool.connect()
            seen.add(connection.dbapi_connection)
            connection.close()
        assert len(seen) == used


def test_resizing_at_random_under_load_keeps_every_count() -> None:
    server, rng, stop = Server(0.001), random.Random(7), threading.Event()
    pool = ResizableQueuePool(server.connect, pool_size=5, max_overflow=3, timeout=SOON_S, linger=0.02)
    limits = [8]
    served = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            connection = pool.connect()
            served.append(seed)
            if rng.random() < 0.2:
                time.sleep(0.001)
            if rng.random() < 0.02:
                connection.invalidate()
            if rng.random() < 0.1:
                del connection  # returned by the garbage collector
            else:
                connection.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(32)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        size, overflow = rng.randint(1, 20), rng.randint(0, 8)
        limits.append(size + overflow)
        pool.resize(size, overflow)
        time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join()
    pool.resize(4, 0)
    _until(lambda: pool.counts().connecting == 0 and len(server.open) == pool.counts().open <= 4)
    counts = pool.counts()
    assert (counts.idle, counts.connecting, counts.waiting, pool.timeouts) == (counts.open, 0, 0, 0)
    assert server.most <= max(limits)
    assert set(served) == set(range(32)), "nobody starves"


def test_nobody_is_forgotten_when_ten_thousand_tasks_are_cancelled_at_random() -> None:
    async def main() -> None:
        server, rng, cancelled = Server(), random.Random(7), 0
        pool = AsyncResizableQueuePool(server.connect, pool_size=3, max_overflow=2, timeout=120, linger=0.02)

        def borrow() -> None:
            connection = pool.connect()
            connection.close()

        async def one() -> None:
            await asyncio.sleep(rng.random() * 0.01)
            connection = await greenlet_spawn(pool.connect)
            try:
                await asyncio.sleep(rng.random() * 0.002)
            finally:
                await greenlet_spawn(connection.close)

        tasks = [asyncio.ensure_future(one()) for _ in range(16_000)]
        for number, task in enumerate(tasks):
            if rng.random() < 0.7:
                cancelled += task.cancel()
            if number % 100 == 0:
                pool.resize(rng.randint(1, 8), rng.randint(0, 4))
                await asyncio.sleep(0.002)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert cancelled > 10_000
        pool.resize(5, 0)
        await asyncio.sleep(0.2)
        counts = pool.counts()
        assert counts.open == counts.idle == len(server.open) <= 5
        assert (counts.waiting, counts.connecting, pool.timeouts) == (0, 0, 0)
        assert server.most <= 12
        await greenlet_spawn(borrow)
        await greenlet_spawn(pool.dispose)
        assert not server.open

    asyncio.run(main())


class PoolMachine(RuleBasedStateMachine):
    """Whatever is done to a pool, in any order: its counts are those of the server, and within its limit."""

    @initialize(size=st.integers(1, 5), overflow=st.integers(0, 5), linger=st.sampled_from([0.0, 60.0]))
    def begin(self, size: int, overflow: int, linger: float) -> None:
        self.server = Server()
        self.pool = ResizableQueuePool(
            self.server.connect, pool_size=size, max_overflow=overflow, timeout=0.001, linger=linger
        )
        self.held: list[PoolProxiedConnection] = []

    def _settled(self) -> Any:
        _until(lambda: self.pool.counts().connecting == 0)
        return self.pool.counts()

    @rule()
    def take(self) -> None:
        room = self._settled().in_use < (self.pool.limit or 0)
        self.pool._timeout = SOON_S if room else 0.001
        try:
            self.held.append(self.pool.connect())
            assert room, "beyond the limit"
        except exc.TimeoutError:
            assert not room

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 20))
    def give_back(self, number: int) -> None:
        self.held.pop(number % len(self.held)).close()

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 20))
    def invalidate(self, number: int) -> None:
        connection = self.held.pop(number % len(self.held))
        connection.invalidate()
        connection.close()

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 20))
    def detach(self, number: int) -> None:
        connection = self.held.pop(number % len(self.held))
        connection.detach()
        connection.close()

    @rule(size=st.integers(1, 6), overflow=st.integers(0, 6))
    def resize(self, size: int, overflow: int) -> None:
        self.pool.resize(size, overflow)

    @rule(connections=st.one_of(st.none(), st.integers(0, 8)))
    def cap(self, connections: int | None) -> None:
        self.pool.cap(connections)

    @rule(connections=st.integers(0, 12))
    def prepare(self, connections: int) -> None:
        self.pool.prepare(connections)

    @rule()
    def a_period_ends(self) -> None:
        self.pool._tidied()

    @rule()
    def dispose(self) -> None:
        self.pool.dispose()

    @invariant()
    def the_counts_are_the_servers(self) -> None:
        if not hasattr(self, "pool"):
            return
        counts = self._settled()
        assert counts.open == len(self.server.open)
        assert counts.in_use == len(self.held) == len(self.pool.holds())
        assert counts.waiting == 0
        limit = self.pool.limit
        assert limit is not None
        assert counts.open <= max(limit, counts.in_use), "what is idle is never beyond the limit"

    def teardown(self) -> None:
        for connection in getattr(self, "held", []):
            connection.close()


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_any_order_of_calls_keeps_the_counts = PoolMachine.TestCase
