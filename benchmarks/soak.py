"""bench-soak: two hours of mixed work, on a clock that runs ahead, with memory that stays flat.

python -m benchmarks.soak [--windows 720]

Every ten-second window is short: the statements of each are run as fast as they go, then the clock is put forward to
the next. So two hours of windows, roll-ups and expiry pass in a few minutes; the statements are fewer than in two real
hours of a busy application.
"""

import argparse
import gc
import random
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from benchmarks.report import Figure, publish
from dbpilot import Autopilot, PilotConfig, unit_of_work
from dbpilot.testing import FakeClock

SEED: Final = 7
WINDOW_S: Final = 10
STATEMENTS: Final = 400
SHAPES: Final = 3000
SETTLED: Final = 0.5
"""The share of the windows after which caches are full, and memory has no reason to grow: an hour of them."""


class Ahead(FakeClock):
    """Its stopwatch runs as always, and jumps when the clock is put forward."""

    def ticks(self) -> float:
        return super().ticks() + time.perf_counter()


def soak(windows: int, folder: Path) -> list[Figure]:
    """Statements of thousands of shapes, failing ones, slow ones, requests with N+1; memory before and after."""
    rng, clock = random.Random(SEED), Ahead()
    engine = sa.create_engine(f"sqlite:///{folder}/application.sqlite3")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER)"))
    settings = {
        "queries": {"slow_s": 0.0005, "warning_s": 0.001, "drain_s": 0.02, "max_patterns": 1000},
        "history": {"url": f"sqlite:///{folder}/history.sqlite3", "keep_windows_hours": 0.5, "keep_events_days": 0.02},
    }
    first_mib = 0.0
    with Autopilot(engine, PilotConfig.model_validate(settings), clock=clock) as pilot:
        for window in range(windows):
            _work(engine, rng)
            pilot.query_stats(1, 10)
            clock.advance(WINDOW_S)
            time.sleep(0.03)  # the worker and the history have their turn
            if window == int(windows * SETTLED):
                first_mib = _resident_mib()
        last_mib = _resident_mib()
        watching = pilot.performance_summary(1).watching
        pending = sum(len(waiting) for waiting in pilot._recorder._pending)
    engine.dispose()
    grown = 100 * (last_mib / first_mib - 1)
    size_mib = (folder / "history.sqlite3").stat().st_size / 2**20
    return [
        Figure(f"soak: {windows} windows, {windows * STATEMENTS:,} statements: memory at half", first_mib, "MiB"),
        Figure("memory at the end", last_mib, "MiB"),
        Figure("soak: memory grown in the second hour by", grown, "%", {}, "less than 3 %", grown < 3),
        Figure("soak: statements dropped", watching.dropped, "", {}, "0", watching.dropped == 0),
        Figure("soak: errors of the pilot's own", watching.failures, "", {}, "0", watching.failures == 0),
        Figure("soak: windows lost", watching.lost_windows, "", {}, "0", watching.lost_windows == 0),
        Figure("statements that wait at the end", pending, ""),
        Figure("file of the history", size_mib, "MiB"),
        Figure("threads at the end", threading.active_count(), ""),
    ]


def _work(engine: sa.Engine, rng: random.Random) -> None:
    with unit_of_work("soak"), engine.connect() as connection:
        for _ in range(STATEMENTS):
            # Half of them from everywhere, so that all shapes were seen long before memory is looked at.
            shape = rng.randrange(SHAPES) if rng.random() < 0.5 else min(int(rng.paretovariate(0.7)), SHAPES)
            kind = rng.random()
            if kind < 0.01:
                with_error = sa.text(f"SELECT nowhere{shape} FROM t")
                try:
                    connection.execute(with_error)
                except sa.exc.OperationalError:
                    connection.rollback()
            elif kind < 0.2:
                connection.exec_driver_sql(f"SELECT a AS a{shape} FROM t WHERE id IN ({rng.random()}, 2)").all()
            else:
                connection.execute(sa.text(f"SELECT a AS a{shape} FROM t WHERE id = :id"), {"id": shape}).all()


def _resident_mib() -> float:
    gc.collect()
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmRSS:"))) / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--windows", type=int, default=720, help="windows of ten seconds")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        publish("soak", SEED, soak(options.windows, Path(name)))


if __name__ == "__main__":
    main()
