"""bench-pool: one made market day, a minute long, through several pools, one after the other.

python -m benchmarks.pool [--day 60] [--requests 10000] [--databases postgresql,mariadb]

The day: a quiet night, a ramp, an opening that is ten times as busy within a second, a lull, a closing ramp. Requests
arrive whether or not others are done; each takes a connection, sleeps in the database for about 15 ms, and some for
100 ms. A connect takes 15 ms more than it does over loopback, as one with TLS and authentication does. The day is the
same for every pool: it is drawn from a seed.
"""

import argparse
import contextlib
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import sqlalchemy as sa
from psycopg_pool import ConnectionPool

from benchmarks.report import Figure, publish
from dbpilot import Autopilot, PilotConfig
from dbpilot.history.store import MemoryStore
from dbpilot.pool import ResizableQueuePool
from dbpilot.pool.resizable import LINGER_S
from dbpilot.pool.simulation import Request
from dbpilot.pool.traces import SEED, market_day
from dbpilot.pooling import HolderWatch
from dbpilot.testing.servers import start_mariadb, start_postgresql

CONNECT_S: Final = 0.015
HANDLERS: Final = 120
"""Threads that serve requests; more than the day ever needs at once."""
TIMEOUT_S: Final = 30.0


@dataclass
class Day:
    """What one pool made of the day."""

    served: list[tuple[float, float]] = field(default_factory=list)
    """When each connection was asked for, in seconds after the day began, and how long it was waited for."""
    errors: int = 0
    connects: int = 0
    inside: int = 0
    """Connects that a request waited for itself, in its own thread."""
    connection_s: float = 0.0

    @property
    def waits_s(self) -> list[float]:
        """How long connections were waited for."""
        return [wait_s for _, wait_s in self.served]


class Pool(Protocol):
    """Something to take connections from."""

    def connection(self) -> contextlib.AbstractContextManager[Callable[[float], None]]:
        """A function that keeps the database busy, on a connection of this pool's."""

    def open(self) -> int:
        """Connections that are open now."""

    def close(self) -> None:
        """All of them are closed."""


class SqlAlchemyPool:
    """An engine's pool: SQLAlchemy's own, or ours."""

    def __init__(
        self,
        url: sa.URL,
        seen: Day,
        policy: Mapping[str, Any] | None = None,
        store: MemoryStore | None = None,
        **options: Any,
    ) -> None:
        self._engine = sa.create_engine(url, pool_timeout=TIMEOUT_S, **options)
        busy = "SELECT SLEEP(%s)" if url.get_backend_name() in ("mysql", "mariadb") else "SELECT pg_sleep(%s)"
        self._busy, self._seen, self._open, self._lock = busy, seen, 0, threading.Lock()
        sa.event.listen(self._engine, "do_connect", self._before)
        sa.event.listen(self._engine, "connect", lambda *_: self._count(1))
        sa.event.listen(self._engine, "close", lambda *_: self._count(-1))
        self._engine.connect().close()
        self._pilot: Autopilot | None = None
        if policy is not None:
            config = PilotConfig.model_validate({"pool": policy})
            self._pilot = Autopilot(self._engine, config, store=store or MemoryStore())
            self._pilot.start()

    def _before(self, *_: object) -> None:
        time.sleep(CONNECT_S)
        self._seen.connects += 1
        self._seen.inside += threading.current_thread().name.startswith("handler")

    def _count(self, change: int) -> None:
        with self._lock:
            self._open += change

    @contextlib.contextmanager
    def connection(self) -> Iterator[Callable[[float], None]]:
        with contextlib.closing(self._engine.raw_connection()) as connection:
            yield lambda takes_s: _run(connection, self._busy, takes_s)

    def open(self) -> int:
        return self._open

    def close(self) -> None:
        if self._pilot is not None:
            self._pilot.stop()
        self._engine.dispose()


class PsycopgPool:
    """psycopg's own pool."""

    def __init__(self, url: sa.URL, seen: Day, **options: Any) -> None:
        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._seen = seen
        self._pool = ConnectionPool(address, configure=self._configure, timeout=TIMEOUT_S, open=True, **options)
        self._pool.wait()

    def _configure(self, _connection: object) -> None:
        time.sleep(CONNECT_S)
        self._seen.connects += 1
        self._seen.inside += threading.current_thread().name.startswith("handler")

    @contextlib.contextmanager
    def connection(self) -> Iterator[Callable[[float], None]]:
        with self._pool.connection() as connection:
            yield lambda takes_s: _run(connection, "SELECT pg_sleep(%s)", takes_s)

    def open(self) -> int:
        return int(self._pool.get_stats()["pool_size"])

    def close(self) -> None:
        self._pool.close()


def _run(connection: Any, statement: str, takes_s: float) -> None:
    cursor = connection.cursor()
    cursor.execute(statement, (takes_s,))
    cursor.fetchall()
    cursor.close()


def lived(pool: Pool, day: Sequence[Request], seen: Day) -> Day:
    """The day passes; what is served is written into ``seen``."""
    stop = threading.Event()
    watching = threading.Thread(target=_integrate, args=(pool, seen, stop))
    seen.connects = seen.inside = 0
    watching.start()
    with ThreadPoolExecutor(HANDLERS, thread_name_prefix="handler") as handlers:
        began = time.monotonic()
        for request in day:
            pause_s = began + request.at_s - time.monotonic()
            if pause_s > 0:
                time.sleep(pause_s)
            handlers.submit(_serve, pool, request, seen, began)
    stop.set()
    watching.join()
    return seen


def _serve(pool: Pool, request: Request, seen: Day, began: float) -> None:
    asked = time.monotonic()
    try:
        with pool.connection() as busy:
            seen.served.append((asked - began, time.monotonic() - asked))
            busy(request.takes_s)
    except Exception:  # noqa: BLE001 - whatever a pool does when it cannot serve
        seen.errors += 1


def _integrate(pool: Pool, seen: Day, stop: threading.Event) -> None:
    last = time.monotonic()
    while not stop.wait(0.01):
        now = time.monotonic()
        seen.connection_s += pool.open() * (now - last)
        last = now


def days(url: sa.URL, length_s: float, requests: int) -> Iterator[Figure]:
    """The same day through every pool, and what each made of it."""
    day, name = market_day(length_s, requests), url.get_backend_name()
    ours = {"poolclass": ResizableQueuePool, "pool_size": 5, "max_overflow": 45, "pool_use_lifo": True}
    rule = {"mode": "auto", "review_s": length_s / 15, "sample_s": length_s / 600}
    pools: dict[str, Callable[[Day], Pool]] = {
        "SQLAlchemy 5+0": lambda seen: SqlAlchemyPool(url, seen, pool_size=5, max_overflow=0),
        "SQLAlchemy 5+30": lambda seen: SqlAlchemyPool(url, seen, pool_size=5, max_overflow=30),
        "SQLAlchemy 5+45": lambda seen: SqlAlchemyPool(url, seen, pool_size=5, max_overflow=45),
        "SQLAlchemy 20+0": lambda seen: SqlAlchemyPool(url, seen, pool_size=20, max_overflow=0),
        "SQLAlchemy 20+30": lambda seen: SqlAlchemyPool(url, seen, pool_size=20, max_overflow=30),
        "ours 5+45": lambda seen: SqlAlchemyPool(url, seen, **ours),
        "ours, the report's rule": lambda seen: SqlAlchemyPool(url, seen, rule, **ours),
        "ours, adaptive": lambda seen: SqlAlchemyPool(url, seen, {"mode": "adaptive"}, **ours),
    }
    if name == "postgresql":
        pools["psycopg_pool 5-20"] = lambda seen: PsycopgPool(url, seen, min_size=5, max_size=20)
        pools["psycopg_pool 5-50"] = lambda seen: PsycopgPool(url, seen, min_size=5, max_size=50)
        pools["psycopg_pool 5-50, idle for 2 s"] = lambda seen: PsycopgPool(
            url, seen, min_size=5, max_size=50, max_idle=LINGER_S
        )
    seen: dict[str, Day] = {}
    for label, make in pools.items():
        result = Day()
        pool = make(result)
        seen[label] = lived(pool, day, result)
        pool.close()
        yield from _figures(f"{name}, {label}", seen[label])
    yield from _goals(name, seen)


def _figures(label: str, seen: Day) -> Iterator[Figure]:
    yield Figure(f"{label}: median wait", quantile_ms(seen.waits_s, 0.5), "ms")
    yield Figure(f"{label}: p99 wait", quantile_ms(seen.waits_s, 0.99), "ms")
    yield Figure(f"{label}: p99.9 wait", quantile_ms(seen.waits_s, 0.999), "ms")
    yield Figure(f"{label}: connects", seen.connects, "", {"in a request's own thread": seen.inside})
    yield Figure(f"{label}: connection-seconds", seen.connection_s, "s")
    yield Figure(f"{label}: errors", seen.errors, "")


def _goals(name: str, seen: dict[str, Day]) -> Iterator[Figure]:
    usual, as_many = seen["SQLAlchemy 5+30"], seen["SQLAlchemy 5+45"]
    for label in ("ours 5+45", "ours, adaptive"):
        ours, title = seen[label], f"{name}, {label}"
        ratio = quantile_ms(ours.waits_s, 0.99) / quantile_ms(usual.waits_s, 0.99)
        yield Figure(f"{title}: p99 wait / SQLAlchemy 5+30", ratio, "x", {}, "at most 1/40", ratio <= 1 / 40)
        ratio = quantile_ms(ours.waits_s, 0.99) / quantile_ms(as_many.waits_s, 0.99)
        yield Figure(f"{title}: p99 wait / SQLAlchemy 5+45, which may open as many", ratio, "x")
        yield Figure(f"{title}: connects inside a request", ours.inside, "", {}, "at most 20", ours.inside <= 20)
        yield Figure(f"{title}: errors", ours.errors, "", {}, "0", ours.errors == 0)
        if name == "postgresql":
            yield from _beside_psycopg(title, ours, seen)


def _beside_psycopg(title: str, ours: Day, seen: dict[str, Day]) -> Iterator[Figure]:
    """psycopg's pool keeps what is idle for ten minutes, so in a day this short it never shrinks; told to shrink as
    soon as ours does, it stands beside it, too."""
    peer, eager = seen["psycopg_pool 5-50"], seen["psycopg_pool 5-50, idle for 2 s"]
    waits = [quantile_ms(ours.waits_s, 0.99) / quantile_ms(one.waits_s, 0.99) for one in (peer, eager)]
    spent = [ours.connection_s / one.connection_s for one in (peer, eager)]
    beside = "idle for 2 s"
    yield Figure(
        f"{title}: p99 wait / psycopg_pool 5-50", waits[0], "x", {beside: waits[1]}, "at most 1 x", waits[0] <= 1
    )
    goal = "at most 0.75 x"
    what = f"{title}: connection-seconds / psycopg_pool 5-50"
    yield Figure(what, spent[0], "x", {beside: spent[1]}, goal, spent[0] <= 0.75)


def quantile_ms(waits_s: Sequence[float], share: float) -> float:
    """Of the waits, in milliseconds."""
    waits = sorted(waits_s)
    return waits[int(share * len(waits))] * 1000 if waits else float("inf")


def checkouts() -> Iterator[Figure]:
    """Taking a connection and giving it back, alone, and by twenty-four threads on five connections."""
    classes = {"QueuePool": sa.QueuePool, "ours": ResizableQueuePool}
    pools: dict[str, Any] = {name: of(_Driver, pool_size=5, max_overflow=0) for name, of in classes.items()}
    pools["watched"] = ResizableQueuePool(_Driver, pool_size=5, max_overflow=0)
    pools["watched"].where = HolderWatch()
    alone: dict[str, list[float]] = {name: [] for name in pools}
    for _ in range(30):
        for name, pool in pools.items():
            started = time.perf_counter()
            for _ in range(5000):
                pool.connect().close()
            alone[name].append((time.perf_counter() - started) / 5000 * 1e6)
    ours_us, peer_us = (statistics.median(alone[name]) for name in ("ours", "QueuePool"))
    yield Figure("checkout and return, uncontended", ours_us, "us", {"QueuePool": peer_us})
    for name, title in (("ours", "ours"), ("watched", "ours with its holders watched")):
        ratio = statistics.median(one / other for one, other in zip(alone[name], alone["QueuePool"], strict=True))
        yield Figure(f"checkout and return, {title} / QueuePool", ratio, "x", {}, "at most 1 x", ratio <= 1)
    waits = {name: _contended(of(_Driver, pool_size=5, max_overflow=0)) for name, of in classes.items()}
    p99 = {name: sorted(found)[int(0.99 * len(found))] * 1000 for name, found in waits.items()}
    yield Figure("24 threads on 5 connections: p99 wait", p99["ours"], "ms", {"QueuePool": p99["QueuePool"]})
    ratio = p99["ours"] / p99["QueuePool"]
    yield Figure("24 threads on 5 connections: p99 wait, ours / QueuePool", ratio, "x", {}, "at most 1 x", ratio <= 1)
    ratio = max(waits["ours"]) / statistics.median(waits["ours"])
    yield Figure("nobody starves: longest wait / median", ratio, "x", {}, "at most 3 x", ratio <= 3)


class _Driver:
    def rollback(self) -> None:
        """As a driver would."""

    def close(self) -> None:
        """As a driver would."""


def _contended(pool: Any) -> list[float]:
    waits: list[float] = []
    end = time.monotonic() + 5

    def work() -> None:
        rng = random.Random(threading.get_ident())
        while time.monotonic() < end:
            time.sleep(rng.random() * 0.01)  # or the same five threads would take it back every time
            asked = time.monotonic()
            connection = pool.connect()
            waits.append(time.monotonic() - asked)
            time.sleep(0.002)
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pool", description=__doc__)
    parser.add_argument("--day", type=float, default=60, help="seconds that the day takes")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--databases", default="postgresql,mariadb")
    options = parser.parse_args(arguments)
    figures = list(checkouts())
    starts = {"postgresql": start_postgresql, "mariadb": start_mariadb}
    for name in options.databases.split(","):
        with starts[name]() as server:
            figures += days(server.create_database("day"), options.day, options.requests)
    publish("pool", SEED, figures)


if __name__ == "__main__":
    main()
