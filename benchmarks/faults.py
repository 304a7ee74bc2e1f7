"""What an application's statements notice when something of the pilot's is broken: nothing, or how much.

Each case is a process of its own with one pilot, and runs a burst of statements in turn with the others, so that
whatever else the machine does falls on all of them alike.
"""

import logging
import multiprocessing
import random
import statistics
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from benchmarks.report import Figure
from dbpilot import Autopilot, PilotConfig
from dbpilot.history.sql_store import SqlStore

SEED: Final = 7
ROUNDS: Final = 120
BURST_S: Final = 0.3
"""Longer than the worker waits between two turns."""
FAULTS: Final = {
    "all is well, once more": "all is well",
    "the history is dead": "all is well",
    "the disk is full": "all is well",
    "the channel hangs": "the channel works",
}
"""Beside what a case is measured; the first says how far two equal processes are apart."""
EVERYTHING_IS_SLOW: Final = {"slow_s": 1e-6, "warning_s": 1e-5}
"""Otherwise there were nothing to tell of."""
QUERY: Final = sa.text("SELECT 1")


def faults(folder: Path) -> Iterator[Figure]:
    """The p99 of statements in each case, and by how much it moved: medians over the rounds."""
    names = list(dict.fromkeys([*FAULTS.values(), *FAULTS]))
    context = multiprocessing.get_context("spawn")
    ends, processes = {}, []
    for name in names:
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, name, folder / name), daemon=True)
        process.start()
        processes.append(process)
        ends[name] = here
    rng = random.Random(SEED)
    p99_us: dict[str, list[float]] = {name: [] for name in names}
    for number in range(ROUNDS + 1):
        for name in rng.sample(names, len(names)):
            ends[name].send("burst")
            measured = ends[name].recv()
            if number:  # the first one warms up
                p99_us[name].append(measured)
    for end in ends.values():
        end.send("stop")
    for process in processes:
        process.join(30)
    for name, beside in FAULTS.items():
        both = {case: statistics.median(p99_us[case]) for case in (name, beside)}
        yield Figure(f"p99 of a statement while {name}", both[name], "us", {beside: both[beside]})
        ratios = [faulty / well for faulty, well in zip(p99_us[name], p99_us[beside], strict=True)]
        moved = 100 * (statistics.median(ratios) - 1)
        yield Figure(f"p99 moved while {name}", moved, "%", {}, "less than 5 %", moved < 5)


def serve(parent: Connection, name: str, folder: Path) -> None:
    """One case, in a process of its own."""
    logging.getLogger("dbpilot").setLevel(logging.CRITICAL)
    folder.mkdir()
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    with _pilot(name, engine, folder), engine.connect() as connection:
        while parent.recv() == "burst":
            parent.send(_p99_us(connection))


def _pilot(name: str, engine: sa.Engine, folder: Path) -> Autopilot:
    history = folder / "history.sqlite3"
    settings: dict[str, Any] = {"history": {"url": f"sqlite:///{history}"}, "queries": {"window_s": 1}}
    options: dict[str, Any] = {}
    if name == "the history is dead":
        (folder / "no folder").write_text("a file")
        settings["history"] = {"url": f"sqlite:///{folder}/no folder/history.sqlite3"}
    elif name == "the disk is full":
        options["store"] = _full(folder)
    elif name in ("the channel works", "the channel hangs"):
        settings["queries"] |= EVERYTHING_IS_SLOW
        options["notifier"] = Channel(hangs=name == "the channel hangs")
    return Autopilot(engine, PilotConfig.model_validate(settings), **options)


class Channel:
    """A channel that takes every message, or never answers."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs

    def send(self, _title: str, _message: str) -> None:
        """Nothing comes back when it hangs."""
        if self._hangs:
            threading.Event().wait(600)


def _full(folder: Path) -> SqlStore:
    """A history on a disk that is full: SQLite says so when a file may not grow."""
    store = SqlStore(f"sqlite:///{folder}/full.sqlite3", "shop")
    store.maintain(datetime.now(UTC))
    store.close()
    sa.event.listen(store._engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
    return store


def _p99_us(connection: sa.Connection) -> float:
    taken, end = [], time.perf_counter() + BURST_S
    started = time.perf_counter()
    while started < end:
        connection.execute(QUERY).all()
        ended = time.perf_counter()
        taken.append(ended - started)
        started = ended
    return sorted(taken)[int(0.99 * len(taken))] * 1e6
