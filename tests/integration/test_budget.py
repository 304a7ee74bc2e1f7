"""Workers that share a server: together never over the budget, and what one leaves the others have."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
import sqlalchemy as sa

from dbpilot.clock import SYSTEM
from dbpilot.config import PoolConfig
from dbpilot.dialects import dialect_of
from dbpilot.dialects.base import Capacity
from dbpilot.history.leases import TTL_S, Lease, MemoryLeases, Settle, SqlLeases, Standing, server_of
from dbpilot.history.sql_store import SqlStore
from dbpilot.pool.budget import BudgetKeeper, BudgetReading
from dbpilot.pool.resizable import ResizableQueuePool
from dbpilot.testing.servers import SqlServer, start_mariadb, start_postgresql
from dbpilot.unsupported import Unsupported

BUDGET = 12
WORKERS = 4
DEADLINE_S = 60

# Holds as many connections as it is told to by a line on its standard input, or as many as it gets.
WORKER = """
import os, sys, threading, time
import sqlalchemy as sa
from dbpilot.clock import SYSTEM
from dbpilot.config import PoolConfig
from dbpilot.history.leases import SqlLeases, server_of
from dbpilot.history.sql_store import SqlStore
from dbpilot.pool import ResizableQueuePool
from dbpilot.pool.budget import BudgetKeeper

url, history, budget, book = sys.argv[1:]
limits = {"pool_size": 2, "max_overflow": int(budget) - 2, "pool_timeout": 300}
engine = sa.create_engine(url, poolclass=ResizableQueuePool, **limits)
written = os.open(book, os.O_WRONLY | os.O_APPEND)

def note(change):
    os.write(written, f"{time.monotonic()} {os.getpid()} {change}\\n".encode())

sa.event.listen(engine, "do_connect", lambda *_: note(1))
sa.event.listen(engine, "close", lambda *_: note(-1))
leases = SqlLeases(SqlStore(history, "shop"), server_of(engine.url))
keeper = BudgetKeeper(engine, leases, PoolConfig(budget=int(budget)), SYSTEM, lambda: None)
keeper.start()
load = 0

def serve(number):
    while load is not None:
        if number < load:
            with engine.connect() as connection:
                connection.execute(sa.text("SELECT 1"))
                time.sleep(0.05)
        else:
            time.sleep(0.02)

threads = [threading.Thread(target=serve, args=(number,)) for number in range(int(budget))]
for thread in threads:
    thread.start()
print("ready", flush=True)
for line in sys.stdin:
    load = int(line)
load = None
for thread in threads:
    thread.join()
engine.dispose()
keeper.stop()
assert not keeper.failures, keeper.failures
"""


class Worker:
    """One process of an application."""

    def __init__(self, url: sa.URL, history: sa.URL, book: Path) -> None:
        addresses = [one.render_as_string(hide_password=False) for one in (url, history)]
        command = [sys.executable, "-c", WORKER, *addresses, str(BUDGET), str(book)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def load(self, connections: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{connections}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(DEADLINE_S)


class Watch:
    """Counts, all the time, the connections that the server has from applications: rather more than there are, for it
    takes its time to see that one was closed."""

    def __init__(self, url: sa.URL) -> None:
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        self._count = sa.text(COUNT[url.get_backend_name()])
        self._stop = Event()
        self.now = 0
        self._thread = Thread(target=self._run, args=(url.database,))
        self._thread.start()

    def _run(self, database: str | None) -> None:
        with self._engine.connect() as connection:
            while not self._stop.wait(0.05):
                self.now = connection.execute(self._count, {"database": database}).scalar_one() - 1
        self._engine.dispose()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


COUNT = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = :database",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = :database",
}
COUNT["mariadb"] = COUNT["mysql"]


@contextmanager
def watched(url: sa.URL) -> Iterator[Watch]:
    watch = Watch(url)
    try:
        yield watch
    finally:
        watch.stop()


def until(law: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not law():
        assert time.monotonic() < deadline, f"did not become true in time: {what}"
        time.sleep(0.05)


@pytest.fixture(params=["mariadb", "postgresql"])
def server(request: pytest.FixtureRequest) -> SqlServer:
    found: SqlServer = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture(params=["mariadb", "postgresql"])
def own_server(request: pytest.FixtureRequest) -> Iterator[SqlServer]:
    """A server that nobody else connects to."""
    if request.param == "mariadb":
        with start_mariadb(options={"max_connections": "40"}) as server:
            yield server
    else:
        with start_postgresql(options={"max_connections": "40", "superuser_reserved_connections": "2"}) as server:
            yield server


@pytest.fixture(params=["history in a file", "history on the server"])
def history(request: pytest.FixtureRequest, server: SqlServer, sqlite_url: sa.URL) -> Iterator[sa.URL]:
    if request.param == "history in a file":
        yield sqlite_url
        return
    name = f"history_{os.getpid()}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture
def url(server: SqlServer) -> Iterator[sa.URL]:
    name = f"fleet_{os.getpid()}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Where each worker notes every connection, just before it opens it and when it closes it."""
    path = tmp_path / "book"
    path.touch()
    return path


def most_open(book: Path, killed: int, killed_at: float) -> int:
    """The most connections that there were at once."""
    noted = [(float(at), int(who), int(change)) for at, who, change in map(str.split, book.read_text().splitlines())]
    left = sum(change for _, who, change in noted if who == killed)
    open_ = most = 0
    for _, _, change in sorted([*noted, (killed_at, killed, -left)]):
        open_ += change
        most = max(most, open_)
    assert open_ == 0, "none is forgotten"
    return most


@pytest.fixture
def hire(url: sa.URL, history: sa.URL, book: Path) -> Iterator[Callable[[int], list[Worker]]]:
    hired: list[Worker] = []

    def hire(number: int) -> list[Worker]:
        new = [Worker(url, history, book) for _ in range(number)]
        hired.extend(new)
        for worker in new:
            worker.ready()
        return new

    yield hire
    for worker in hired:
        worker.process.kill()
        worker.process.wait()
        for stream in (worker.process.stdin, worker.process.stdout):
            assert stream is not None
            stream.close()


def test_workers_share_come_and_die(
    url: sa.URL, history: sa.URL, book: Path, hire: Callable[[int], list[Worker]]
) -> None:
    leases = SqlLeases(SqlStore(history.render_as_string(hide_password=False), "shop"), server_of(url))

    def leased() -> list[int]:
        return sorted(lease.connections for lease in leases.look().others)

    with watched(url) as watch:
        busy, *idle = workers = hire(WORKERS)
        busy.load(BUDGET)
        until(lambda: watch.now == BUDGET - len(idle), "one that is busy has all but one for each of the others")
        for worker in workers:
            worker.load(BUDGET)
        until(lambda: leased() == [BUDGET // WORKERS] * WORKERS, "all are busy, and each has its fair share")
        until(lambda: watch.now == BUDGET, "and uses it")
        busy.kill()
        killed_at = time.monotonic()
        until(lambda: len(leased()) == WORKERS - 1 and sum(leased()) == BUDGET, "one is killed, the others inherit")
        until(lambda: watch.now == BUDGET, "and use what they inherited")
        [late] = hire(1)
        late.load(BUDGET)
        until(lambda: leased() == [BUDGET // WORKERS] * WORKERS, "one comes, and the others make room")
        for worker in [late, *idle]:
            worker.load(0)
        until(lambda: max(leased()) <= 2, "none is busy, and what is idle is given back, but for one")
        assert [worker.end() for worker in [late, *idle]] == [0] * WORKERS
        assert leased() == [], "who leaves takes nothing along"
    leases.close()
    assert most_open(book, busy.process.pid, killed_at) == BUDGET, "never more, at any moment"


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
@pytest.mark.parametrize("history", ["history in a file"], indirect=True)
def test_who_was_stopped_for_long_shares_again(
    url: sa.URL, history: sa.URL, hire: Callable[[int], list[Worker]]
) -> None:
    leases = SqlLeases(SqlStore(history.render_as_string(hide_password=False), "shop"), server_of(url))

    def leased() -> list[int]:
        return sorted(lease.connections for lease in leases.look().others)

    stopped, *_ = workers = hire(3)
    for worker in workers:
        worker.load(BUDGET)
    until(lambda: leased() == [BUDGET // 3] * 3, "each has its fair share")
    stopped.process.send_signal(signal.SIGSTOP)
    until(lambda: len(leased()) == 2 and sum(leased()) == BUDGET, "the others take it for dead")
    stopped.process.send_signal(signal.SIGCONT)
    until(lambda: leased() == [BUDGET // 3] * 3, "it is back, and they make room")
    assert [worker.end() for worker in workers] == [0] * 3
    leases.close()


def test_where_the_budget_is_no_matter_everybody_has_its_limit(url: sa.URL, sqlite_url: sa.URL) -> None:
    config = PoolConfig(budget=20)
    with bounded(url, sqlite_url, config) as (one, pool), bounded(url, sqlite_url, config) as (_, other):
        until(lambda: (pool.limit, other.limit) == (10, 10), "both have their limit")
        with bounded(url, sqlite_url, config) as (_, third):
            until(lambda: third.limit == 1, "a third one may begin")
            until(lambda: (pool.limit, other.limit) == (1, 1), "and the idle ones have given back")
            reading = one.read()
            assert isinstance(reading, BudgetReading)
            assert (reading.budget, reading.processes, reading.fair_share) == (20, 3, 6)
        until(lambda: (pool.limit, other.limit) == (10, 10), "all as before")
        assert one.failures == 0


def test_a_pool_is_bounded_by_what_the_server_allows(server: SqlServer, url: sa.URL) -> None:
    engine = _engine(url, max_overflow=500)
    keeper = BudgetKeeper(engine, MemoryLeases(), PoolConfig(reserve=0.5), SYSTEM, lambda: _capacity(url))
    keeper.start()
    try:
        until(lambda: isinstance(keeper.read(), BudgetReading), "it is measured")
        found, reading = _capacity(url), keeper.read()
        assert isinstance(reading, BudgetReading)
        assert 1 <= reading.budget <= found.max_connections - found.reserved - found.max_connections // 2
    finally:
        keeper.stop()
        engine.dispose()


def _capacity(url: sa.URL) -> Capacity:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        capacity = dialect_of(engine).capacity
        assert not isinstance(capacity, Unsupported)
        found = capacity(connection)
    assert isinstance(found, Capacity)
    return found


def _settled_capacity(url: sa.URL, in_use: int) -> Capacity:
    """The capacity, once the server has seen who came and went."""
    until(lambda: _capacity(url).in_use == in_use, f"{in_use} connections are in use")
    return _capacity(url)


@contextmanager
def user(server: SqlServer, url: sa.URL, most: int) -> Iterator[sa.URL]:
    """A user who may do next to nothing, on a bound of their own, if it is not 0."""
    name, password = f"guest_{os.getpid()}", "guest"
    address = url.set(username=name, password=password)
    with sa.create_engine(server.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        if server.name == "postgresql":
            limit = f"CONNECTION LIMIT {most or -1}"
            connection.execute(sa.text(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' {limit}"))
        else:
            limit = f"WITH MAX_USER_CONNECTIONS {most}"
            connection.execute(sa.text(f"CREATE USER {name} IDENTIFIED BY '{password}' {limit}"))
            connection.execute(sa.text(f"GRANT SELECT ON {url.database}.* TO {name}"))
        yield address
        connection.execute(sa.text(f"DROP {'ROLE' if server.name == 'postgresql' else 'USER'} {name}"))


def test_a_server_says_how_many_connections_it_allows_and_has(own_server: SqlServer) -> None:
    url = own_server.create_database("shop")
    before = _settled_capacity(url, 0)
    assert (before.max_connections, before.reserved) == (40, 2 if own_server.name == "postgresql" else 0)
    engine = sa.create_engine(url)
    connections = [engine.connect() for _ in range(5)]
    after = _settled_capacity(url, 5)
    assert (after.max_connections, after.free) == (40, before.free - 5)
    with user(own_server, url, 0) as guest:
        assert _settled_capacity(guest, 6).max_connections == 40, "whoever asks; the sixth made the guest"
    with user(own_server, url, 7) as guest:
        assert _settled_capacity(guest, 0) == Capacity(7, 0, 0), "the nearest bound is what counts"
        with sa.create_engine(guest, poolclass=sa.NullPool).connect():
            assert _settled_capacity(guest, 1) == Capacity(7, 0, 1)
        until(lambda: _capacity(guest).in_use == 0, "the guest has gone")
    for connection in connections:
        connection.close()
    engine.dispose()


def test_a_database_may_have_a_bound_of_its_own(postgresql_url: sa.URL) -> None:
    engine = sa.create_engine(postgresql_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {postgresql_url.database} CONNECTION LIMIT 9"))
        assert _settled_capacity(postgresql_url, 1) == Capacity(9, 0, 1)


def test_sqlite_has_no_connections_to_run_out_of(sqlite_url: sa.URL) -> None:
    assert isinstance(dialect_of(sa.create_engine(sqlite_url)).capacity, Unsupported)


def test_without_a_history_the_application_goes_on(url: sa.URL, tmp_path: Path) -> None:
    nowhere = sa.URL.create("sqlite+pysqlite", database=str(tmp_path / "missing" / "file"))
    (tmp_path / "missing").write_text("a file where a folder should be")
    with bounded(url, nowhere, PoolConfig(budget=20)) as (keeper, pool):
        with pool.connect():
            until(lambda: keeper.failures > 0, "it is counted")
        until(lambda: pool.capped_at is None, "there is no bound")
        assert isinstance(keeper.read(), Unsupported)


class LostLeases(MemoryLeases):
    """Leases among others, until the history is lost."""

    def __init__(self, others: list[Lease]) -> None:
        super().__init__()
        self.others = others
        self.lost = False

    def exchange(self, settle: Settle) -> Standing:
        if self.lost:
            raise OSError
        self._mine = settle(self._mine, self.others)
        return Standing(self._mine, self.others)

    def look(self) -> Standing:
        return Standing(self._mine, self.others)


class HastyClock:
    """The machine's clock, and sometimes ahead of it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.now = SYSTEM.now

    def ticks(self) -> float:
        return SYSTEM.ticks() + self.ahead_s


def test_who_loses_the_history_makes_do_with_its_fair_share(url: sa.URL) -> None:
    engine, leases, clock = _engine(url), LostLeases([Lease("other", 5, 5, 5, 20, 20)]), HastyClock()
    keeper = BudgetKeeper(engine, leases, PoolConfig(budget=20), clock, _unmeasured)
    pool = engine.pool
    assert isinstance(pool, ResizableQueuePool)
    pool.resize(5, 25)
    keeper.start()
    try:
        connections = [engine.connect() for _ in range(14)]
        leases.lost = True
        until(lambda: keeper.failures > 0, "it is lost")
        assert pool.limit is not None
        assert pool.limit >= 14, "and nothing happens yet"
        clock.ahead_s += TTL_S + 1
        until(lambda: pool.limit == 10, "then what is more than its share is given back")
        for connection in connections:
            connection.close()
        until(lambda: pool.counts().slots <= 10, "as connections return")
        leases.lost = False
        until(lambda: pool.limit == 1, "and when it is back, so is the budget")
        leases.lost = True
        clock.ahead_s += TTL_S + 1
        until(lambda: keeper.failures > 1, "it is lost again")
        clock.ahead_s += TTL_S + 1
        until(lambda: pool.limit == 10, "and after long, one's share is one's own")
        for _ in range(20):
            time.sleep(0.02)
            assert pool.limit == 10, "whatever is in use"
    finally:
        keeper.stop()
        engine.dispose()


def test_a_disposed_pools_connections_count_until_they_are_closed(url: sa.URL, sqlite_url: sa.URL) -> None:
    engine = _engine(url)
    leases = SqlLeases(SqlStore(str(sqlite_url), "shop"), "server")
    keeper = BudgetKeeper(engine, leases, PoolConfig(budget=10), SYSTEM, _unmeasured)
    keeper.start()
    try:
        connections = [engine.connect() for _ in range(6)]
        engine.dispose()
        pool = engine.pool
        assert isinstance(pool, ResizableQueuePool)
        until(lambda: pool.limit == 4, "six of ten are still there")
        for connection in connections:
            connection.close()
        until(lambda: pool.limit == 10, "now they are gone")
    finally:
        keeper.stop()
        engine.dispose()
    assert pool.at_limit is None
    assert pool.capped_at is None


def test_pools_that_cannot_be_bounded_say_why(url: sa.URL) -> None:
    fixed, bounded_ = sa.create_engine(url), _engine(url)
    none, some = PoolConfig(budget=None), PoolConfig(budget=5)
    for engine, config in ((fixed, some), (bounded_, none)):
        keeper = BudgetKeeper(engine, MemoryLeases(), config, SYSTEM, _unmeasured)
        keeper.start()
        assert isinstance(keeper.read(), Unsupported)
        keeper.stop()
    no_server = BudgetKeeper(bounded_, MemoryLeases(), PoolConfig(), SYSTEM, lambda: Unsupported("no server", "none"))
    no_server.start()
    until(lambda: no_server.why_not() == Unsupported("no server", "none"), "it was told")
    pool = bounded_.pool
    assert isinstance(pool, ResizableQueuePool)
    until(lambda: pool.capped_at is None, "and lets go")
    no_server.stop()


def _unmeasured() -> Unsupported:
    raise AssertionError("the configuration says how many")


def _engine(url: sa.URL, max_overflow: int = 8) -> sa.Engine:
    return sa.create_engine(url, poolclass=ResizableQueuePool, pool_size=2, max_overflow=max_overflow)


@contextmanager
def bounded(url: sa.URL, history: sa.URL, config: PoolConfig) -> Iterator[tuple[BudgetKeeper, ResizableQueuePool]]:
    engine = _engine(url)
    leases = SqlLeases(SqlStore(history.render_as_string(hide_password=False), "shop"), "server")
    keeper = BudgetKeeper(engine, leases, config, SYSTEM, _unmeasured)
    pool = engine.pool
    assert isinstance(pool, ResizableQueuePool)
    keeper.start()
    try:
        yield keeper, pool
    finally:
        keeper.stop()
        engine.dispose()
