"""bench-pages: how soon a page of the dashboard opens that has much to show.

python -m benchmarks.pages [--patterns 5000] [--days 7] [--times 7]

A history of days is written, hour by hour as pilots fold it and its last minutes in windows; Finstage serves it, and
each page is asked for over the whole range: by a program, until the last byte is here, and in Chromium, until its
charts are drawn.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import sqlalchemy as sa
from playwright.sync_api import sync_playwright

from benchmarks.api_load import serving
from benchmarks.processes import surroundings
from benchmarks.report import Figure, publish
from dbpilot.config import HistoryConfig
from dbpilot.history.sql_store import SqlStore, place
from dbpilot.history.store import Batch, Pattern, Window
from dbpilot.history.tally import Tally
from dbpilot.testing import FakeClock

SEED: Final = 7
CHROMIUM: Final = "/usr/bin/chromium"
SHAPES: Final = 3
"""So many different hours are made up; days are made of them."""
CALLS: Final = 20
ERROR_EVERY: Final = 50
PAGES: Final = ("", "queries", "queries?sort=p95_s", "queries?q=customer_17", "indexes", "pool", "activity")
GOAL_S: Final = 1.0


def _hour(rng: random.Random, at: datetime, patterns: int) -> dict[str, Tally]:
    tallies = {}
    for number in range(patterns):
        tally = tallies[_id(number)] = Tally()
        for call in range(CALLS):
            error = "OperationalError" if number % ERROR_EVERY == 0 and call == 0 else None
            tally.add(at, rng.lognormvariate(-9 + number % 7, 0.5), 0.0, 3, error, 1.0)
    return tallies


def _id(number: int) -> str:
    return f"{number + 1:016x}"


def _patterns(count: int) -> list[Pattern]:
    columns = ", ".join(f"orders.column_{number}" for number in range(12))
    text = f"SELECT {columns} FROM orders JOIN items ON items.order_id = orders.id WHERE orders.customer_{{}} = ?"
    return [Pattern(_id(number), text.format(number), "SELECT", ("orders", "items")) for number in range(count)]


def write_days(var: Path, patterns: int, days: int) -> None:
    """The history of Finstage in this folder has so many days of so many patterns."""
    rng, now = random.Random(SEED), datetime.now(UTC).replace(second=0, microsecond=0)
    clock = FakeClock(now - timedelta(days=days))
    database = place(sa.make_url(f"sqlite:///{var / 'finstage.sqlite3'}"))
    store = SqlStore(f"sqlite:///{var / 'dbpilot.sqlite3'}", database, HistoryConfig(), clock)
    shapes = [_hour(rng, clock.now(), patterns) for _ in range(SHAPES)]
    store.write(Batch(_patterns(patterns)))
    for hour in range(days * 24 - 1):
        store.write(Batch(windows=[Window(clock.now(), shapes[hour % SHAPES])]))
        store.maintain(clock.now())
        clock.advance(3600)
    while clock.now() < now:  # not folded yet
        store.write(Batch(windows=[Window(clock.now(), shapes[0])]))
        clock.advance(600)
    store.close()


def _fetched_s(url: str) -> float:
    started = time.perf_counter()
    with urlopen(url, timeout=60) as answer:
        answer.read()
    return time.perf_counter() - started


def _opened_s(page: Any, url: str) -> float:
    started = time.perf_counter()
    page.goto(url, wait_until="load")
    page.wait_for_function("document.documentElement.dataset.ready === '1'")
    return time.perf_counter() - started


def opened(port: int, hours: int, times: int) -> Iterator[Figure]:
    """Every page, again and again; the first time is told apart."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        window = browser.new_page()
        for path in PAGES:
            url = f"http://127.0.0.1:{port}/dashboard/{path}{'&' if '?' in path else '?'}hours={hours}"
            fetched = [_fetched_s(url) for _ in range(times)]
            shown = [_opened_s(window, url) for _ in range(times)]
            beside = {"the first time": fetched[0], "in Chromium, drawn": statistics.median(shown)}
            taken_s = max(statistics.median(shown), statistics.median(fetched))
            name = f"/dashboard/{path}: the page is here"
            yield Figure(name, statistics.median(fetched), "s", beside, "drawn within 1 s", taken_s < GOAL_S)
        browser.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--patterns", type=int, default=5000)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--times", type=int, default=7, help="how often each page is opened")
    parser.add_argument("--dry", action="store_true", help="publish nothing")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        var = Path(name)
        write_days(var, options.patterns, options.days)
        with serving(surroundings(var)) as (port, _):
            found = list(opened(port, options.days * 24, options.times))
    if options.dry:
        for one in found:
            print(f"{one.name}: {one.value:.3f} {one.unit}", one.peers)
    else:
        publish("pages", SEED, found)


if __name__ == "__main__":
    main()
