"""bench-fleet: six processes of one application on one server, and a load that moves among them.

python -m benchmarks.fleet [--seconds 30] [--takes 0.1] [--databases postgresql,mariadb]

Each process serves requests that arrive whether or not others are done; each request keeps a connection busy for about
100 ms. One process at a time is busy, for a few seconds, and needs far more than a sixth of the server's connections;
all together need less than the budget. The load is drawn from a seed, and the same for every way of sharing: a sixth of
the budget for each; leases; no budget at all. The server itself counts the connections, every few milliseconds.
"""

import argparse
import json
import multiprocessing
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from benchmarks.report import Figure, publish
from dbpilot.clock import SYSTEM
from dbpilot.config import PoolConfig
from dbpilot.history.leases import SqlLeases, server_of
from dbpilot.history.sql_store import SqlStore
from dbpilot.pool import ResizableQueuePool
from dbpilot.pool.budget import BudgetKeeper
from dbpilot.testing.servers import start_mariadb, start_postgresql
from dbpilot.unsupported import Unsupported

SEED: Final = 7
WORKERS: Final = 6
BUDGET: Final = 48
TAKES_S: Final = 0.1
"""As long as the processors are not what is scarce; they are sooner with a driver in pure Python, as for MariaDB."""
PHASE_S: Final = (2.0, 4.0)
BUSY: Final = 20
QUIET: Final = 1.5
"""Requests in the database at once, on the average, of the process that is busy and of each other."""
HANDLERS: Final = 64
SAMPLE_S: Final = 0.005
SETTLE_S: Final = 3.0
"""From here on latencies count: processes have started and pools have opened."""

COUNT: Final = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = :database",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = :database",
}
BUSY_FOR: Final = {"postgresql": "SELECT pg_sleep(:takes_s)", "mysql": "SELECT SLEEP(:takes_s)"}
WAYS: Final[Mapping[str, Mapping[str, int]]] = {
    "a sixth for each": {"pool_size": BUDGET // WORKERS, "max_overflow": 0},
    "leases": {"pool_size": 5, "max_overflow": BUDGET - 5},
    "no budget": {"pool_size": 5, "max_overflow": HANDLERS - 5},
}


@dataclass(frozen=True)
class Request:
    """It arrives at one process, ``at`` seconds after the start."""

    worker: int
    at: float
    takes_s: float


@dataclass
class Seen:
    """What one way of sharing made of the load."""

    latencies_s: list[float] = field(default_factory=list)
    errors: int = 0
    failures: int = 0
    most: int = 0
    """The most connections that the server counted at once."""
    over: float = 0.0
    """The share of the counts that were over the budget."""
    mean: float = 0.0


def load(seconds: float, median_s: float) -> list[Request]:
    """The requests of all processes, in order."""
    rng, requests, at, busy = random.Random(SEED), list[Request](), 0.0, 0
    while at < seconds:
        busy = rng.choice([worker for worker in range(WORKERS) if worker != busy])
        end = min(seconds, at + rng.uniform(*PHASE_S))
        for worker in range(WORKERS):
            rate = (BUSY if worker == busy else QUIET) / median_s
            arrival = at + rng.expovariate(rate)
            while arrival < end:
                requests.append(Request(worker, arrival, median_s * rng.lognormvariate(0, 0.2)))
                arrival += rng.expovariate(rate)
        at = end
    return sorted(requests, key=lambda one: one.at)


def work(parent: Connection, url: str, history: str, way: str, requests: Sequence[Request]) -> None:
    """One process of the application, from its start to its last answer."""
    engine = sa.create_engine(url, poolclass=ResizableQueuePool, pool_use_lifo=True, pool_timeout=120, **WAYS[way])
    busy = sa.text(BUSY_FOR["postgresql" if engine.dialect.name == "postgresql" else "mysql"])
    leases = SqlLeases(SqlStore(history, "fleet"), server_of(engine.url))
    keeper = BudgetKeeper(engine, leases, PoolConfig(budget=BUDGET), SYSTEM, _unmeasured)
    if way == "leases":
        keeper.start()
    engine.connect().close()
    parent.send("ready")
    began, seen = parent.recv(), Seen()

    def serve(request: Request) -> None:
        try:
            with engine.connect() as connection:
                connection.execute(busy, {"takes_s": request.takes_s}).all()
        except Exception:  # noqa: BLE001 - whatever a pool or a server does when it cannot serve
            seen.errors += 1
        if request.at >= SETTLE_S:
            seen.latencies_s.append(time.monotonic() - began - request.at)

    with ThreadPoolExecutor(HANDLERS) as handlers:
        for request in requests:
            time.sleep(max(0.0, began + request.at - time.monotonic()))
            handlers.submit(serve, request)
    seen.failures = keeper.failures
    engine.dispose()
    keeper.stop()
    parent.send(json.dumps(asdict(seen)))


def _unmeasured() -> Unsupported:
    return Unsupported("the budget is given", "none needed")


def shared(url: sa.URL, history: str, way: str, requests: Sequence[Request]) -> Seen:
    """The load passes through all processes."""
    context, ends, processes = multiprocessing.get_context("spawn"), [], []
    address = url.render_as_string(hide_password=False)
    for number in range(WORKERS):
        here, there = context.Pipe()
        own = [request for request in requests if request.worker == number]
        process = context.Process(target=work, args=(there, address, history, way, own), daemon=True)
        process.start()
        processes.append(process)
        ends.append(here)
    seen, counts, stop = Seen(), list[int](), threading.Event()
    watching = threading.Thread(target=_count, args=(url, counts, stop))
    for end in ends:
        end.recv()
    watching.start()
    began = time.monotonic() + 0.5
    for end in ends:
        end.send(began)
    parts: list[dict[str, Any]] = [json.loads(end.recv()) for end in ends]
    stop.set()
    watching.join()
    for process in processes:
        process.join()
    seen.latencies_s = [latency for part in parts for latency in part["latencies_s"]]
    seen.errors, seen.failures = sum(part["errors"] for part in parts), sum(part["failures"] for part in parts)
    seen.most, seen.mean = max(counts), statistics.fmean(counts)
    seen.over = sum(count > BUDGET for count in counts) / len(counts)
    return seen


def _count(url: sa.URL, counts: list[int], stop: threading.Event) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    query = sa.text(COUNT["postgresql" if url.get_backend_name() == "postgresql" else "mysql"])
    with engine.connect() as connection:
        while not stop.wait(SAMPLE_S):
            counts.append(connection.execute(query, {"database": url.database}).scalar_one() - 1)
    engine.dispose()


def fleets(url: sa.URL, histories: Mapping[str, str], requests: Sequence[Request]) -> Iterator[Figure]:
    """Every way of sharing, one after the other; leases once for each place that the history can be in."""
    name = "postgresql" if url.get_backend_name() == "postgresql" else "mariadb"
    seen = {
        f"{way}, {where}" if way == "leases" else way: shared(url, history, way, requests)
        for way in WAYS
        for where, history in list(histories.items())[: None if way == "leases" else 1]
    }
    for way, made in seen.items():
        yield from _figures(f"{name}, {way}", made)
    for way, made in seen.items():
        if way.startswith("leases"):
            yield from _goals(f"{name}, {way}", made, seen["no budget"])


def _figures(label: str, seen: Seen) -> Iterator[Figure]:
    yield Figure(f"{label}: median latency", _quantile_ms(seen, 50), "ms")
    yield Figure(f"{label}: p99 latency", _quantile_ms(seen, 99), "ms", {"p99.9": _quantile_ms(seen, 99.9)})
    yield Figure(
        f"{label}: most connections to the application's database", seen.most, "", {"on the average": seen.mean}
    )
    yield Figure(f"{label}: errors", seen.errors, "", {"of the leases": float(seen.failures)})


def _goals(label: str, seen: Seen, free: Seen) -> Iterator[Figure]:
    yield Figure(f"{label}: counts above {BUDGET}", seen.over, "", {}, "0", seen.over == 0)
    for percent, most in ((50, 1.2), (99, 3.0)):
        ratio = _quantile_ms(seen, percent) / _quantile_ms(free, percent)
        yield Figure(f"{label}: p{percent} / no budget", ratio, "x", {}, f"at most {most:g} x", ratio <= most)


def _quantile_ms(seen: Seen, percent: float) -> float:
    ordered = sorted(seen.latencies_s)
    return 1000 * ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--takes", type=float, default=TAKES_S, help="seconds that a request keeps a connection busy")
    parser.add_argument("--databases", default="postgresql,mariadb")
    options = parser.parse_args(arguments)
    starts: dict[str, Callable[..., Any]] = {
        "postgresql": lambda: start_postgresql(options={"max_connections": "500"}),
        "mariadb": lambda: start_mariadb(options={"max_connections": "500"}),
    }
    figures: list[Figure] = []
    for name in options.databases.split(","):
        with starts[name]() as server, tempfile.TemporaryDirectory() as folder:
            histories = {
                "history in a file": f"sqlite:///{Path(folder, 'history.sqlite3')}",
                "history on the server": server.create_database("history").render_as_string(hide_password=False),
            }
            figures += fleets(server.create_database("fleet"), histories, load(options.seconds, options.takes))
    publish("fleet", SEED, figures)


if __name__ == "__main__":
    main()
