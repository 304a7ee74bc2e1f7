"""bench-opening: a market opens; is the pool open before it?

python -m benchmarks.opening [--days 3] [--databases postgresql,mariadb]

The history holds days on which nobody asks for much until a certain minute, and many do from then on. This benchmark
waits for that minute of today: a quiet minute before it, then forty seconds of load that begins from one moment to the
next. A connect takes 15 ms more than it does over loopback. Measured are the waits for a connection in the first five
seconds, beside those in the last twenty, when every pool has what it needs.
"""

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from benchmarks.pool import Day, Pool, PsycopgPool, SqlAlchemyPool, lived, quantile_ms
from benchmarks.report import Figure, publish
from dbpilot.history.store import POOL_MINUTE, Batch, Event, MemoryStore
from dbpilot.pool import ResizableQueuePool
from dbpilot.pool.simulation import Request
from dbpilot.testing.servers import start_mariadb, start_postgresql

SEED: Final = 7
QUIET_PER_S: Final = 4
BUSY_PER_S: Final = 250
BUSY_S: Final = 40
TAKES_S: Final = 0.08
EXPECTED: Final = 32.0
"""Connections in use at once on the days before, from the opening on."""
LEAD_S: Final = 75
"""The opening is at a full minute, at least so long away."""
FIRST_S: Final = 5
STEADY_S: Final = 20


def _days_before(opening: datetime, days: int) -> MemoryStore:
    """A history of days like today."""
    store, now = MemoryStore(max_events=days * 1440), datetime.now(UTC)
    minutes = (opening - timedelta(minutes=ago) for ago in range(days * 1440 - 1, 0, -1))
    after = [(opening + timedelta(minutes=minute)).time() for minute in range(60)]
    events = [
        Event(POOL_MINUTE, at, "earlier", EXPECTED if at.time() in after else 1.0, {}) for at in minutes if at < now
    ]
    store.write(Batch(events=events))
    return store


def _load(quiet_s: float) -> list[Request]:
    chance = random.Random(SEED)
    requests, at_s = [], 0.0
    while at_s < quiet_s + BUSY_S:
        at_s += chance.expovariate(QUIET_PER_S if at_s < quiet_s else BUSY_PER_S)
        requests.append(Request(at_s, TAKES_S * chance.lognormvariate(0, 0.2)))
    return requests


def openings(url: sa.URL, days: int) -> Iterator[Figure]:
    """The opening with every pool, one after the other, each at a minute of its own."""
    name = url.get_backend_name()
    ours: dict[str, Any] = {"poolclass": ResizableQueuePool, "pool_size": 5, "max_overflow": 45, "pool_use_lifo": True}
    adaptive = {"mode": "adaptive", "timezone": "UTC", "budget": None}
    pools: dict[str, Callable[[Day, MemoryStore], Pool]] = {
        "SQLAlchemy 5+45": lambda seen, _: SqlAlchemyPool(url, seen, pool_size=5, max_overflow=45),
        "ours 5+45": lambda seen, _: SqlAlchemyPool(url, seen, **ours),
        "ours, with foresight": lambda seen, store: SqlAlchemyPool(url, seen, adaptive, store, **ours),
    }
    if name == "postgresql":
        pools["psycopg_pool 5-50"] = lambda seen, _: PsycopgPool(url, seen, min_size=5, max_size=50)
    first, steady, errors = {}, {}, {}
    for label, make in pools.items():
        now = datetime.now(UTC)
        opening = (now + timedelta(seconds=LEAD_S + 60)).replace(second=0, microsecond=0)
        seen, store = Day(), _days_before(opening, days)
        pool = make(seen, store)
        quiet_s = (opening - datetime.now(UTC)).total_seconds()
        lived(pool, _load(quiet_s), seen)
        pool.close()
        errors[label] = seen.errors
        first[label] = quantile_ms(_between(seen, quiet_s, quiet_s + FIRST_S), 0.99)
        steady[label] = quantile_ms(_between(seen, quiet_s + BUSY_S - STEADY_S, quiet_s + BUSY_S), 0.99)
    for label in pools:
        title = f"{name}, {label}: p99 wait in the first 5 s"
        yield Figure(title, first[label], "ms", {"steady": steady[label]})
        yield Figure(f"{name}, {label}: errors", errors[label], "")
    ratio = first["ours, with foresight"] / steady["ours, with foresight"]
    title = f"{name}: p99 wait in the first 5 s / steady, with foresight"
    yield Figure(title, ratio, "x", {}, "at most 2 x", ratio <= 2)


def _between(seen: Day, since_s: float, until_s: float) -> list[float]:
    return [wait_s for asked_s, wait_s in seen.served if since_s <= asked_s < until_s]


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.opening", description=__doc__)
    parser.add_argument("--days", type=int, default=3, help="days that the history holds")
    parser.add_argument("--databases", default="postgresql,mariadb")
    options = parser.parse_args(arguments)
    figures: list[Figure] = []
    starts = {"postgresql": start_postgresql, "mariadb": start_mariadb}
    for name in options.databases.split(","):
        with starts[name]() as server:
            figures += openings(server.create_database("opening"), options.days)
    publish("opening", SEED, figures)


if __name__ == "__main__":
    main()
