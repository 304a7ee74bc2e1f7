"""bench-queries: what watching costs, remembers and forgives, beside OpenTelemetry, sqltap and empty listeners.

python -m benchmarks.queries [--rounds 300]
"""

import argparse
import math
import multiprocessing
import random
import statistics
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from benchmarks.faults import faults
from benchmarks.fingerprints import speed
from benchmarks.report import Figure, publish
from dbpilot import Autopilot, PilotConfig, unit_of_work
from dbpilot.config import HistoryConfig
from dbpilot.history.sql_store import SqlStore
from dbpilot.history.store import Batch, Pattern, Window
from dbpilot.history.tally import Tally
from dbpilot.testing import FakeClock

SEED: Final = 7
STATEMENTS: Final = 250
QUERY: Final = sa.text("SELECT 1")
PATTERNS: Final = 1000
PROCESSES: Final = 4
WINDOW_S: Final = 10
SIMULATED_S: Final = 1800
DAY_S: Final = 86_400
THREADS: Final = 8
MIB: Final = 2**20
PEERS: Final = ("OpenTelemetry", "sqltap")

Attach = Callable[[sa.Engine, ExitStack], None]


def costs(rounds: int, folder: Path, *, inside: bool) -> Iterator[Figure]:
    """What each watcher adds to a statement, interleaved in one process; the median of the rounds.

    The peers are measured outside of requests alone, and last: OpenTelemetry changes every engine of the process.
    """
    watchers: dict[str, Attach] = {
        "bare": lambda _engine, _stack: None,
        "empty listeners": _empty_listeners,
        "without fetch timing": lambda engine, stack: _watch(engine, stack, folder, fetch_timing=False),
        "with fetch timing": lambda engine, stack: _watch(engine, stack, folder, fetch_timing=True),
    }
    if not inside:
        watchers |= {"OpenTelemetry": _opentelemetry, "sqltap": _sqltap}
    added, bare_us = _added_us(watchers, rounds, inside)
    where = " in a request" if inside else ""
    empty_us, others = added["empty listeners"], {name: added[name] for name in PEERS if name in added}
    yield Figure(f"bare SELECT 1{where}", bare_us, "us")
    yield Figure(f"added by an empty pair of listeners{where}", empty_us, "us")
    for name, goal in (("without fetch timing", 0.35), ("with fetch timing", 0.75)):
        yield Figure(f"added by the pilot{where}, {name}", added[name], "us", others)
        ratio = added[name] / empty_us
        yield Figure(
            f"watching{where}, {name} / an empty pair of listeners", ratio, "x", {}, f"at most {goal} x", ratio <= goal
        )
    if others:
        ratio = others["OpenTelemetry"] / added["without fetch timing"]
        yield Figure("OpenTelemetry / watching without fetch timing", ratio, "x", {}, "at least 25 x", ratio >= 25)


def _added_us(watchers: dict[str, Attach], rounds: int, inside: bool) -> tuple[dict[str, float], float]:
    with ExitStack() as stack:
        connections = []
        for attach in watchers.values():
            engine = _engine()
            attach(engine, stack)
            connections.append(stack.enter_context(engine.connect()))
        if inside:
            stack.enter_context(unit_of_work("benchmark"))
        taken = [[_round_us(connection) for connection in connections] for _ in range(rounds)]
    medians = [statistics.median(one[number] - one[0] for one in taken) for number in range(len(watchers))]
    return dict(zip(watchers, medians, strict=True)), statistics.median(one[0] for one in taken)


def _engine() -> sa.Engine:
    return sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})


def _round_us(connection: sa.Connection) -> float:
    started = time.perf_counter()
    for _ in range(STATEMENTS):
        connection.execute(QUERY).all()
    return (time.perf_counter() - started) / STATEMENTS * 1e6


def _empty_listeners(engine: sa.Engine, _stack: ExitStack) -> None:
    for name in ("before_cursor_execute", "after_cursor_execute"):
        sa.event.listen(engine, name, lambda *_: None)


def _watch(engine: sa.Engine, stack: ExitStack, folder: Path, **queries: Any) -> Autopilot:
    history = f"sqlite:///{tempfile.mkdtemp(dir=folder)}/history.sqlite3"
    config = PilotConfig.model_validate({"queries": queries, "history": {"url": history}})
    return stack.enter_context(Autopilot(engine, config))


def _opentelemetry(engine: sa.Engine, _stack: ExitStack) -> None:
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    class Nothing(SpanProcessor):
        """Takes spans and drops them: what an exporter costs is not counted."""

    provider = TracerProvider()
    provider.add_span_processor(Nothing())
    SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=provider, skip_dep_check=True)


def _sqltap(engine: sa.Engine, stack: ExitStack) -> None:
    import sqltap

    profiler = sqltap.start(engine, collect_fn=lambda _stats: None)
    stack.callback(profiler.stop)


def threads(folder: Path) -> Iterator[Figure]:
    """Eight threads on one watched engine: every statement is counted, and each costs what it costs alone."""
    per_thread = 4000
    taken: dict[str, list[float]] = {"bare": [], "empty listeners": [], "pilot": []}
    for _ in range(5):
        for name in taken:
            with ExitStack() as stack:
                engine = sa.create_engine("sqlite://", pool_size=2 * THREADS, connect_args={"check_same_thread": False})
                if name == "empty listeners":
                    _empty_listeners(engine, stack)
                pilot = _watch(engine, stack, folder, fetch_timing=False) if name == "pilot" else None
                taken[name].append(_threads_us(engine, per_thread))
                if pilot is not None:
                    counted = sum(line.calls for line in pilot.query_stats(1, 10).patterns)
                    lost = THREADS * per_thread - counted
    bare, empty, ours = (statistics.median(figures) for figures in taken.values())
    yield Figure("eight threads: statements not counted", lost, "", {}, "0", lost == 0)
    yield Figure(
        "eight threads: added by the pilot, its worker included", ours - bare, "us", {"empty pair": empty - bare}
    )


def _threads_us(engine: sa.Engine, count: int) -> float:
    def run() -> None:
        with engine.connect() as connection:
            for _ in range(count):
                connection.execute(QUERY).all()

    started = time.perf_counter()
    running = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return (time.perf_counter() - started) / count / THREADS * 1e6


def memory() -> Iterator[Figure]:
    """A thousand patterns of ten thousand log-normal durations each, and how far their quantiles are off."""
    rng = random.Random(SEED)
    now = datetime.now(UTC)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tallies = {f"{number:016x}": Tally() for number in range(PATTERNS)}
    errors: list[float] = []
    for number, tally in enumerate(tallies.values()):
        middle = rng.uniform(-9, -2)
        for _ in range(1000 if number else 10_000):
            tally.add(now, rng.lognormvariate(middle, 0.8), 0.0, 1, None, 1.0)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    used_mib = (after - before) / MIB
    yield Figure("memory of 1,000 patterns with histograms", used_mib, "MiB", {}, "at most 6 MiB", used_mib <= 6)
    shapes: dict[str, Callable[[], float]] = {
        "log-normal": lambda: rng.lognormvariate(-6, 1.5),
        "exponential": lambda: rng.expovariate(100),
        "two humps": lambda: rng.gauss(0.001, 0.0001) if rng.random() < 0.9 else rng.gauss(1, 0.1),
        "uniform": lambda: rng.uniform(0.01, 0.02),
    }
    for draw in shapes.values():
        values = sorted(abs(draw()) for _ in range(20_000))
        tally = Tally()
        for value in values:
            tally.add(now, value, 0.0, 1, None, 1.0)
        for share in (0.5, 0.9, 0.95, 0.99, 0.999):
            exact = values[math.ceil(share * len(values)) - 1]
            errors.append(abs((tally.histogram.quantile(share) or 0) - exact) / exact)
    worst = 100 * max(errors)
    yield Figure("quantiles: farthest off, four shapes", worst, "%", {}, "at most 2 %", worst <= 2)


def history(folder: Path) -> Iterator[Figure]:
    """Four real processes write half an hour of a thousand patterns per ten seconds; its CPU time, as a share."""
    url = f"sqlite:///{folder}/shared.sqlite3"
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        cpu_s = pool.starmap(write_half_an_hour, [(url, number) for number in range(PROCESSES)])
    share = 100 * sum(cpu_s) / SIMULATED_S
    yield Figure(
        "history: CPU of 4 processes, 1,000 patterns per 10 s", share, "% of a core", {}, "under 1 %", share < 1
    )
    size = (folder / "shared.sqlite3").stat().st_size / MIB
    yield Figure("history: file after that half hour", size, "MiB")
    yield from _week(folder)


def write_half_an_hour(url: str, process: int) -> float:
    """One of the processes; CPU seconds of writing and folding alone. Its clock runs as fast as it can."""
    rng, clock = random.Random(process), FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    store = SqlStore(url, "shop", HistoryConfig(), clock)
    used_s = 0.0
    for number in range(SIMULATED_S // WINDOW_S):
        window = Window(clock.now(), _tallies(rng, clock.now(), calls=10))
        batch = Batch(_patterns(window), [window])
        started = time.process_time()
        store.write(batch)
        clock.advance(WINDOW_S)
        if number % 3 == 2:  # every thirty seconds
            store.maintain(clock.now())
        used_s += time.process_time() - started
    store.close()
    return used_s


def _patterns(window: Window) -> list[Pattern]:
    return [Pattern(id_, f"SELECT a FROM t{id_} WHERE b = ?", "SELECT", (f"t{id_}",)) for id_ in window.tallies]


def _tallies(rng: random.Random, at: datetime, calls: int) -> dict[str, Tally]:
    tallies = {}
    for number in range(PATTERNS):
        tally = tallies[f"{number + 1:016x}"] = Tally()
        middle = -9 + number % 7
        for _ in range(calls):
            tally.add(at, rng.lognormvariate(middle, 0.5), 0.0, 1, None, 1.0)
    return tallies


def _week(folder: Path) -> Iterator[Figure]:
    """A week in hours, the last minutes in windows; then the statistics over all of it."""
    rng, end = random.Random(SEED), datetime(2026, 1, 8, 23, 59, 30, tzinfo=UTC)
    clock = FakeClock(end - timedelta(days=7, hours=1))
    url = f"sqlite:///{folder}/week.sqlite3"
    database = sa.create_engine(f"sqlite:///{folder}/watched.sqlite3")
    config = PilotConfig.model_validate({"history": {"url": url}})
    pilot = Autopilot(database, config, clock=clock)
    store: Any = pilot._store
    pattern_of_hour = [_tallies(rng, clock.now(), calls=100) for _ in range(3)]
    for hour in range(7 * 24 + 1):
        window = Window(clock.now().replace(second=0), pattern_of_hour[hour % 3])
        store.write(Batch(_patterns(window), [window]))
        store.maintain(clock.now())
        clock.advance(3600)
    for _ in range(3 * PROCESSES):  # not folded yet
        window = Window(clock.now(), _tallies(rng, clock.now(), calls=10))
        store.write(Batch(_patterns(window), [window]))
    taken = []
    for _ in range(9):
        started = time.perf_counter()
        report = pilot.query_stats(hours=7 * 24, limit=50)
        taken.append((time.perf_counter() - started) * 1000)
    assert sum(line.calls for line in report.patterns) >= 50 * 7 * 24 * 100
    store.close()
    taken_ms = statistics.median(taken)
    yield Figure("query-stats over 7 days of 1,000 patterns", taken_ms, "ms", {}, "under 50 ms", taken_ms < 50)


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queries", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="rounds of 250 statements per watcher")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = [
            *costs(options.rounds, folder, inside=True),
            *threads(folder),
            *speed(),
            *memory(),
            *history(folder),
            *faults(folder),
            *costs(options.rounds, folder, inside=False),
        ]
    publish("queries", SEED, figures)


if __name__ == "__main__":
    main()
