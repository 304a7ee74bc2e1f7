"""bench-figures: the report's figures, measured on a Finstage of production size under load.

python -m benchmarks.figures [--scale 1.0] [--databases mariadb,postgresql] [--clients 32] [--minutes 3] [--keep FOLDER]

Each database is built once at the first revision's schema, and copied for three: as it was found, with the indexes that
a person gave it (the second revision), and with those that dbpilot advised, tried and kept while it served. The same
clients ask the same of each.
"""

import argparse
import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa

from benchmarks.load import ROUTES, Done, Task, Traffic, quantile_ms, using
from benchmarks.pool_picture import picture
from benchmarks.production import END, SEED, Built, built, hand_made, plan_of, pool_mib, served
from benchmarks.report import Figure, publish
from benchmarks.site import Counts, Indexes, Site, serving

CLIENTS: Final = 32
THINK_S: Final = 1.5
BATCH, PAUSE_S = 20, 0.5
"""News per import at scale 1, and the time between two of them."""
MINUTES: Final = 3.0
WATCHED_S: Final = 55.0
"""A minute after the start dbpilot makes its first analysis by itself, which then counts as fresh for some minutes: it
is asked before that."""
POOL_REVIEW_S: Final = 15
ANALYSIS_S, JUDGED_S, CANCELLED_S = 900.0, 1200.0, 300.0
PICTURE: Final = Path(__file__).parents[1] / "docs" / "images" / "pool-under-load.svg"
PICTURE_TITLE: Final = "Connections of the application: the pool's size (line), the most in use, by the minute (area)"
MEAN_GOAL, SLOW_GOAL, SCORE_GOAL = 0.5, 0.10, 80.0
AS_GOOD: Final = 1.1
"""Two runs of the same differ by this much."""
MIB: Final = 2**20
BY_HAND: Final = "recommended"
PROMISED: Final = (
    ("news by symbol", ("news by symbol",), 100),
    ("technical-analysis data", ("technical-analysis data",), 200),
    (
        "trading signals",
        ("trading signals of a symbol", "trading signals of a symbol and type", "latest trading signals"),
        150,
    ),
)
"""What is told, the routes that it is about, and the milliseconds in which 95 of 100 requests have to be answered."""

Name = Literal["before", "hand-made", "advised"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long, and how much, of everything."""

    clients: int
    think_s: float
    warm_s: float
    measured_s: float
    watched_s: float
    verified_s: float
    archived_s: float
    rounds: int = 2
    """How often dbpilot is asked: what else there is once its advice was followed, and what could not be done."""
    seed: int = SEED


@dataclass(frozen=True, slots=True)
class Run:
    """One variant under load."""

    traffic: Traffic
    seconds: float
    counts: Counts
    indexes: Indexes

    def of(self, *names: str) -> list[Done]:
        """The requests of these routes that were answered."""
        return [one for one in self.traffic.requests if one.ok and one.name in names]

    @property
    def per_s(self) -> float:
        """Requests answered."""
        return sum(one.ok for one in self.traffic.requests) / self.seconds

    @property
    def errors(self) -> int:
        """Requests and imports that failed."""
        return sum(not one.ok for one in (*self.traffic.requests, *self.traffic.imports))

    @property
    def rows_per_s(self) -> float:
        """News imported."""
        return sum(one.rows for one in self.traffic.imports) / self.seconds


@dataclass(frozen=True, slots=True)
class Archived:
    """Retention beside the load."""

    rows: int
    rows_per_s: float
    requests: Sequence[Done]
    stopped: Sequence[str]


@dataclass(frozen=True, slots=True)
class Found:
    """Everything about one database."""

    database: Built
    runs: Mapping[Name, Run]
    changes: Sequence[Mapping[str, Any]]
    hand_made_s: float
    archived: Archived
    pool: Sequence[Mapping[str, Any]]


def pace_of(clients: int, minutes: float) -> Pace:
    """Everything takes its part of these minutes."""
    seconds = 60 * minutes
    return Pace(clients, THINK_S, seconds / 2, seconds, min(seconds, WATCHED_S), max(20.0, seconds / 2), seconds)


def bench(kind: str, scale: float, pace: Pace, folder: Path) -> Found:
    """One database, all three ways; what was built stays in the folder."""
    database = built(kind, scale, folder)
    _say(f"{kind}: {database.size_mib:,} MiB, built in {database.took_s:.0f} s")
    runs: dict[Name, Run] = {}
    with served(database) as (_, url), _folder() as var, serving(url, var, _settings(watching=False)) as site:
        runs["before"] = _measured(site, database, pace, f"{kind}, before")
    with served(database) as (_, url), _folder() as var:
        hand_made_s = hand_made(url)
        with serving(url, var, _settings(watching=False)) as site:
            runs["hand-made"] = _measured(site, database, pace, f"{kind}, hand-made in {hand_made_s:.0f} s")
    with served(database) as (_, url), _folder() as var:
        changes, pool = _advised(url, var, database, pace)
        served_s = time.time()
        with serving(url, var, _settings(watching=False)) as site:
            runs["advised"] = _measured(site, database, pace, f"{kind}, advised")
            archived = _archived(site, database, pace)
            return Found(database, runs, changes, hand_made_s, archived, [*pool, *site.pool(served_s)])


def _settings(*, watching: bool, pace: Pace | None = None) -> dict[str, str]:
    """What the user sets; Finstage's own pool is in auto mode already."""
    settings = {"DBPILOT_POOL__REVIEW_S": str(POOL_REVIEW_S), "DBPILOT_INDEXES__ENABLED": str(watching).lower()}
    if pace is not None:
        settings |= {
            "DBPILOT_INDEXES__APPLY": "true",
            "DBPILOT_INDEXES__VERIFY_S": str(pace.verified_s),
            "DBPILOT_INDEXES__TRIAL_DAYS": str(pace.verified_s / 86_400),
        }
    return settings


def _task(site: Site, database: Built, pace: Pace) -> Task:
    batch = max(1, round(BATCH * database.scale))
    return Task(site.port, pace.clients, pace.think_s, pace.seed, database.symbols, END.isoformat(), batch, PAUSE_S)


def _measured(site: Site, database: Built, pace: Pace, what: str) -> Run:
    """Warmed up, then measured; its indexes are looked at when nobody asks any more."""
    with using(_task(site, database, pace), site.environment) as traffic:
        time.sleep(pace.warm_s)
        before, began_s = site.counts(), time.time()
        time.sleep(pace.measured_s)
        after, ended_s = site.counts(), time.time()
    now_s = time.time()
    indexes = site.indexes(now_s, ANALYSIS_S)
    run = Run(_between(traffic, began_s, ended_s), ended_s - began_s, after.since(before), indexes)
    _say(
        f"{what}: {run.per_s:.1f} requests/s, {run.errors} errors, a query {run.counts.mean_ms:.1f} ms, "
        f"{run.counts.slow_share:.1%} slow, score {indexes.score}, {indexes.size_bytes / MIB:.0f} MiB of indexes"
    )
    for route in ROUTES:
        _say(f"  {route.name}: {len(run.of(route.name))} x, p95 {quantile_ms(run.of(route.name), 0.95):.0f} ms")
    return run


def _between(traffic: Traffic, began_s: float, ended_s: float) -> Traffic:
    """What was begun then."""

    def inside(done: Sequence[Done]) -> list[Done]:
        return [one for one in done if began_s <= one.at_s < ended_s]

    return Traffic(inside(traffic.requests), inside(traffic.imports))


def _advised(url: sa.URL, var: Path, database: Built, pace: Pace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """dbpilot watched the load, and what it advised was applied and judged while that went on; returns what became of
    each step, and how the pool was.

    What the workload asks for, and what nothing needs: the indexes that Finstage recommends by hand are measured by
    themselves.
    """
    served_s = time.time()
    with (
        serving(url, var, _settings(watching=True, pace=pace)) as site,
        using(_task(site, database, pace), site.environment),
    ):
        changes: list[dict[str, Any]] = []
        for _ in range(pace.rounds):
            time.sleep(pace.watched_s)
            steps = site.indexes(time.time(), ANALYSIS_S + pace.watched_s).steps
            taken = [step for step in steps if step["safe"] and step["why"] != BY_HAND]
            for step in steps:
                _say(f"  {'taken' if step in taken else 'not taken'} ({step['why']}): {step['ddl']}")
            if not taken:
                break
            changes = site.apply([step["id"] for step in taken], JUDGED_S)
            for change in changes:
                _say(f"  {change['index']}: {change['step']}, {change['text']}")
        return changes, site.pool(served_s)


def _archived(site: Site, database: Built, pace: Pace) -> Archived:
    """Retention was run while the same load went on."""
    with using(_task(site, database, pace), site.environment) as traffic:
        time.sleep(pace.warm_s)
        began_s = time.time()
        last = site.clean(pace.archived_s, CANCELLED_S)
        ended_s = time.time()
    worked_s = sum(result["seconds"] for result in last["results"] if result["deleted"])
    told = [why for result in last["results"] if (why := result["error"] or result["stopped"])]
    archived = Archived(
        last["deleted"], last["deleted"] / max(worked_s, 1e-9), _between(traffic, began_s, ended_s).requests, told
    )
    _say(f"archived {archived.rows:,} rows, {archived.rows_per_s:,.0f}/s; {last['error']} {told}")
    return archived


def figures(found: Sequence[Found]) -> Iterator[Figure]:
    """What was promised first, the worst of all databases; then each database."""
    scale = found[0].database.scale
    said = "" if scale == 1 else f" (measured at {scale:g} of production size)"
    for figure in _promised(found):
        yield replace(figure, goal=f"{figure.goal}{said}")
    for one in found:
        yield from _of_database(one)


def _promised(found: Sequence[Found]) -> Iterator[Figure]:
    ratios = {_kind(one): _mean(one, "advised") / max(_mean(one, "before"), 1e-9) for one in found}
    worst = max(ratios.values())
    goal = f"at most {MEAN_GOAL:g} x"
    yield Figure("average query time, after / before", worst, "x", ratios, goal, worst <= MEAN_GOAL)
    slow = {name: 100 * share for name, share in _all(found, lambda run: run.counts.slow_share).items()}
    worst = max(slow[f"{_kind(one)}, advised"] for one in found)
    yield Figure("slow queries", worst, "%", slow, f"at most {SLOW_GOAL:.0%}", worst <= 100 * SLOW_GOAL)
    scores = _all(found, lambda run: run.indexes.score if run.indexes.score is not None else 0.0)
    worst = min(scores[f"{_kind(one)}, advised"] for one in found)
    yield Figure("index score", worst, "of 100", scores, f"at least {SCORE_GOAL:g}", worst >= SCORE_GOAL)
    for name, routes, most_ms in PROMISED:
        p95 = _all(found, partial(_p95_ms, routes))
        worst = max(p95[f"{_kind(one)}, advised"] for one in found)
        yield Figure(name, worst, "ms", p95, f"p95 at most {most_ms} ms", worst <= most_ms)


def _p95_ms(routes: Sequence[str], run: Run) -> float:
    return quantile_ms(run.of(*routes), 0.95)


def _all(found: Sequence[Found], value: Callable[[Run], float]) -> dict[str, float]:
    """By database and variant."""
    every = {f"{_kind(one)}, {name}": value(run) for one in found for name, run in one.runs.items()}
    return {name: value for name, value in every.items() if not math.isnan(value)}


def _kind(found: Found) -> str:
    return found.database.kind


def _mean(found: Found, name: Name) -> float:
    return found.runs[name].counts.mean_ms


def _of_database(found: Found) -> Iterator[Figure]:
    kind, hand = _kind(found), found.runs["hand-made"]
    for route in ROUTES:
        for share in (0.5, 0.95, 0.99):
            yield from _compared(
                found,
                f"{route.name}, p{100 * share:.0f}",
                "ms",
                lambda run, name=route.name, share=share: quantile_ms(run.of(name), share),
            )
    yield from _compared(
        found,
        "mean of a query",
        "ms",
        lambda run: run.counts.mean_ms,
        f"at most {AS_GOOD:g} x the hand-made one",
        lambda value: value <= AS_GOOD * hand.counts.mean_ms,
    )
    yield from _compared(
        found,
        "indexes",
        "MiB",
        lambda run: run.indexes.size_bytes / MIB,
        "no more than the hand-made ones",
        lambda value: value <= hand.indexes.size_bytes / MIB,
    )
    yield from _compared(found, "slow queries", "%", lambda run: 100 * run.counts.slow_share)
    yield from _compared(found, "index score", "of 100", lambda run: run.indexes.score or 0.0)
    yield from _compared(found, "requests answered", "1/s", lambda run: run.per_s)
    yield from _compared(found, "requests and imports that failed", "", lambda run: run.errors)
    yield from _compared(found, "news imported", "rows/s", lambda run: run.rows_per_s)
    yield from _compared(found, "one import, p95", "ms", lambda run: quantile_ms(run.traffic.imports, 0.95))
    steps = [change["step"] for change in found.changes]
    taken_back = {"taken back or failed": float(len(steps) - steps.count("kept"))}
    yield Figure(f"{kind}: steps that were advised, taken and kept", steps.count("kept"), "", taken_back)
    yield from _archiving(found)


def _archiving(found: Found) -> Iterator[Figure]:
    kind, archived = _kind(found), found.archived
    yield Figure(f"{kind}: archived beside the load", archived.rows, "rows")
    yield Figure(f"{kind}: archived beside the load, while it works", archived.rows_per_s, "rows/s")
    for name, routes, _ in PROMISED:
        meanwhile = quantile_ms([one for one in archived.requests if one.ok and one.name in routes], 0.95)
        alone = {"without": quantile_ms(found.runs["advised"].of(*routes), 0.95)}
        if not math.isnan(meanwhile):
            yield Figure(f"{kind}: {name}, p95 while rows are archived", meanwhile, "ms", alone)


def _compared(
    found: Found,
    name: str,
    unit: str,
    value: Callable[[Run], float],
    goal: str | None = None,
    holds: Callable[[float], bool] | None = None,
) -> Iterator[Figure]:
    """The advised one, beside the others; nothing where nothing was measured."""
    values = {variant: value(run) for variant, run in found.runs.items()}
    ours = values.pop("advised")
    if not math.isnan(ours):
        peers = {variant: other for variant, other in values.items() if not math.isnan(other)}
        yield Figure(f"{_kind(found)}: {name}", ours, unit, peers, goal, holds(ours) if holds else None)


def conditions(found: Sequence[Found], scale: float, pace: Pace) -> list[str]:
    """What a reader must know to judge the figures."""
    plan = plan_of(scale)
    size = "production size" if scale == 1 else f"{scale:g} of production size: the full size was not measured"
    return [
        f"Scale {scale:g}, which is {size}: {plan.news:,} news with bodies, {plan.signals:,} signals with outcomes, "
        f"{plan.symbols:,} symbols x {plan.years} years of prices; seed {plan.seed}, up to {plan.end}.",
        *(
            f"{one.database.version}: {one.database.size_mib:,} MiB of files, {pool_mib(scale):,} MiB of cache; "
            f"built in {one.database.took_s:.0f} s, indexed by hand in {one.hand_made_s:.0f} s."
            for one in found
        ),
        f"{pace.clients} clients, who think for {pace.think_s:g} s on the average (exponentially distributed), and an "
        f"importer; {pace.warm_s:.0f} s to warm up, {pace.measured_s:.0f} s measured; dbpilot watched for "
        f"{pace.watched_s:.0f} s before it was asked. Server, application, clients and dbpilot share the machine. A "
        "query is slow from 1 s on.",
    ]


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="finstage-figures-") as folder:
        yield Path(folder)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> None:
    """Measures, prints and publishes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--databases", default="mariadb,postgresql")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--keep", type=Path, help="Where built databases stay, for the next run.")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left that was started
    pace = pace_of(options.clients, options.minutes)
    with tempfile.TemporaryDirectory(prefix="finstage-built-") as made:
        folder = options.keep or Path(made)
        found = [
            bench(kind, options.scale, pace, folder / f"{kind}-{options.scale:g}")
            for kind in options.databases.split(",")
        ]
        PICTURE.write_text(picture({one.database.kind: one.pool for one in found}, PICTURE_TITLE))
        publish("figures", pace.seed, list(figures(found)), conditions(found, options.scale, pace))


if __name__ == "__main__":
    main()
