"""bench-saturation: more connections are not more work; does the adaptive pool find how many are?

python -m benchmarks.saturation [--clients 50] [--each 6] [--databases postgresql,mariadb]

Fifty clients ask a database that two of them keep busy: first with statements that only compute, then with updates of
one and the same row. Pools of fixed sizes are measured one after the other, then the adaptive one, which begins with
twenty connections and a few seconds of light load. All are watched by a pilot, which takes the same cores. The time in
the database is the time of the execute call.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

import sqlalchemy as sa

from benchmarks.report import Figure, publish
from dbpilot import Autopilot, PilotConfig
from dbpilot.history.store import MemoryStore
from dbpilot.pool import ResizableQueuePool
from dbpilot.testing.servers import start_mariadb, start_postgresql

SIZES: Final = (1, 2, 3, 4, 8, 20, 50)
LIGHT_S: Final = 6.0
SETTLE_S: Final = 25.0
"""Given to the adaptive pool before it is measured."""
COMPUTE: Final = {
    "postgresql": "SELECT sum(sqrt(i)) FROM generate_series(1, 12000) AS i",
    "mysql": "SELECT BENCHMARK(9000, SHA1('price'))",
}
HOT: Final = "UPDATE hot SET n = n + 1 WHERE id = 1"
LOADS: Final = ("statements that compute", "one hot row")


class Clients:
    """Threads that ask again as soon as they are answered."""

    def __init__(self, engine: sa.Engine, statement: str, clients: int) -> None:
        self._engine = engine
        self._statement = sa.text(statement)
        self._stop = threading.Event()
        self._times: list[tuple[float, float]] = []
        """When each statement ended, and how long the database took."""
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            with self._engine.begin() as connection:
                began = time.perf_counter()
                connection.execute(self._statement)
                ended = time.perf_counter()
            self._times.append((ended, ended - began))

    def measured(self, length_s: float) -> tuple[float, float]:
        """Statements per second from now on, and the p99 of their time in the database, in seconds."""
        began = time.perf_counter()
        time.sleep(length_s)
        times = sorted(took for ended, took in list(self._times) if ended >= began)
        return len(times) / length_s, times[int(0.99 * len(times))]


def saturation(url: sa.URL, clients: int, each_s: float) -> Iterator[Figure]:
    """Both loads on one server."""
    name = url.get_backend_name()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE hot (id integer PRIMARY KEY, n integer NOT NULL)"))
        connection.execute(sa.text("INSERT INTO hot VALUES (1, 0)"))
    engine.dispose()
    for load, statement in zip(LOADS, (COMPUTE[name], HOT), strict=True):
        yield from _one(f"{name}, {load}", url, statement, clients, each_s)


def _one(label: str, url: sa.URL, statement: str, clients: int, each_s: float) -> Iterator[Figure]:
    fixed = {size: _fixed(url, statement, size, clients, each_s) for size in SIZES}
    per_s, p99_s, limit = _adaptive(url, statement, clients, each_s)
    again = {size: _fixed(url, statement, size, clients, each_s) for size in SIZES}
    both = {
        size: tuple(statistics.fmean(pair) for pair in zip(fixed[size], again[size], strict=True)) for size in SIZES
    }
    work = {f"{size} connections": figures[0] for size, figures in both.items()}
    slow_ms = {f"{size} connections": figures[1] * 1000 for size, figures in both.items()}
    yield Figure(f"{label}: adaptive, which chose {limit}: work done", per_s, "/s", work)
    yield Figure(f"{label}: adaptive: p99 in the database", p99_s * 1000, "ms", slow_ms)
    best = max(both, key=lambda size: both[size][0])
    share, ratio = per_s / both[best][0], p99_s / both[best][1]
    goal = "at least 0.95 x"
    yield Figure(f"{label}: work done, adaptive / best fixed size, {best}", share, "x", {}, goal, share >= 0.95)
    yield Figure(f"{label}: p99 in the database, adaptive / that size's", ratio, "x", {}, "at most 1.5 x", ratio <= 1.5)


def _engine(url: sa.URL, size: int, overflow: int) -> sa.Engine:
    return sa.create_engine(
        url, poolclass=ResizableQueuePool, pool_size=size, max_overflow=overflow, pool_use_lifo=True, pool_timeout=60
    )


def _fixed(url: sa.URL, statement: str, size: int, clients: int, each_s: float) -> tuple[float, float]:
    engine = _engine(url, size, 0)
    config = PilotConfig.model_validate({"pool": {"mode": "off"}})
    try:
        with Autopilot(engine, config, store=MemoryStore()), Clients(engine, statement, clients) as asking:
            time.sleep(1)
            return asking.measured(each_s)
    finally:
        engine.dispose()


def _adaptive(url: sa.URL, statement: str, clients: int, each_s: float) -> tuple[float, float, int]:
    engine = _engine(url, 20, 30)
    config = PilotConfig.model_validate({"pool": {"mode": "adaptive", "min_size": 2, "budget": None}})
    try:
        with Autopilot(engine, config, store=MemoryStore()):
            with Clients(engine, statement, 1):
                time.sleep(LIGHT_S)
            with Clients(engine, statement, clients) as asking:
                time.sleep(SETTLE_S)
                work, slow_s = asking.measured(2 * each_s)
                return work, slow_s, engine.pool.limit or 0
    finally:
        engine.dispose()


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.saturation", description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--each", type=float, default=6, help="seconds that each pool is measured")
    parser.add_argument("--databases", default="postgresql,mariadb")
    options = parser.parse_args(arguments)
    figures: list[Figure] = []
    starts = {"postgresql": start_postgresql, "mariadb": start_mariadb}
    for name in options.databases.split(","):
        with starts[name]() as server:
            figures += saturation(server.create_database("busy"), options.clients, options.each)
    publish("saturation", None, figures)


if __name__ == "__main__":
    main()
