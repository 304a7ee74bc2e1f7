"""The connection pool: how it is, why it has this size, who holds its connections, and how it was."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from dbpilot.config import PoolMode
from dbpilot.history.store import Event
from dbpilot.pool.budget import BudgetReading
from dbpilot.pool.forecast import Expectation
from dbpilot.pool.outlook import Exhaustion, Holder
from dbpilot.pool.regulator import sample_of
from dbpilot.pool.sample import Decision, PoolSample, merged
from dbpilot.pool.sampler import PoolReading, PoolTimes
from dbpilot.unsupported import Unsupported

MAX_POINTS: Final = 720


@dataclass(frozen=True, slots=True)
class Checkouts:
    """How long connections were waited for, held, and took to open since the start, in seconds; None before the
    first, and for holds where the pool does not say."""

    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    hold_p50_s: float | None
    hold_p95_s: float | None
    connect_p50_s: float | None
    connect_p95_s: float | None

    @classmethod
    def of(cls, times: PoolTimes) -> Self:
        """From the histograms."""
        waits = (times.waits.quantile(share) for share in (0.5, 0.95, 0.99))
        rest = (histogram.quantile(share) for histogram in (times.holds, times.connects) for share in (0.5, 0.95))
        return cls(*waits, *rest)


@dataclass(frozen=True, slots=True)
class PoolReport:
    """The pool of this process as it is now; durations in seconds."""

    size: int | Unsupported
    limit: int | Unsupported
    in_use: int | Unsupported
    idle: int | Unsupported
    waiting: int | Unsupported
    utilization: float | None
    """The share of the size that is in use; above 1 where the overflow is."""
    checkouts: Checkouts
    mode: PoolMode
    not_resized: Unsupported | None
    """Why this pool is not resized; None when it is."""
    least: int
    most: int
    last_review: Decision | None
    next_review_s: float | None
    """None where there is none."""
    expected: Expectation | None
    """The most connections that are expected within two minutes; None while too little is known of the days."""
    budget: BudgetReading | Unsupported
    """What all processes that share the history may have open together, and this one's part of it."""
    exhaustion: Exhaustion
    holders: list[Holder]
    """Longest first."""
    recommendations: list[str]
    connections: PoolReading


@dataclass(frozen=True, slots=True)
class PoolReview:
    """What a review on demand came to; ``size`` is the pool's from now on."""

    changed: bool
    before: int
    size: int
    utilization: float
    reason: str


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """What one process saw of its pool over a short time."""

    process: str
    sample: PoolSample


@dataclass(frozen=True, slots=True)
class PoolHistory:
    """The pools of all processes that share the history, between ``since`` and ``until``; oldest first."""

    since: datetime
    until: datetime
    samples: list[ProcessSample]
    history_error: str | None


def utilization_of(reading: PoolReading) -> float | None:
    """The share of the size that is in use; None where the pool cannot be counted."""
    if isinstance(reading.size, Unsupported) or isinstance(reading.in_use, Unsupported) or not reading.size:
        return None
    return reading.in_use / reading.size


def recommendations_of(
    reading: PoolReading,
    last: Decision | None,
    not_resized: Unsupported | None,
    left: Exhaustion,
    holders: list[Holder],
) -> list[str]:
    """What somebody could do, most urgent first."""
    found = []
    if left.state in ("near", "reached"):
        found.append(f"{left.message}: look at who holds them, or raise max_overflow.")
    long = [holder for holder in holders if holder.too_long]
    if long:
        where = f" (at {long[0].callsite})" if long[0].callsite else ""
        found.append(f"{len(long)} connections are held for {long[0].held_s:.0f} s and longer{where}: return them.")
    if last is not None and last.action != "keep" and not_resized is not None:
        found.append(f"{last.action} from {last.before} to {last.size}: {last.reason}. {not_resized.fix}.")
    if reading.failed:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in reading.failures.items())
        found.append(f"{reading.failed} attempts to get a connection failed ({kinds}).")
    return found


def pool_history(since: datetime, until: datetime, events: Iterable[Event], error: str | None) -> PoolHistory:
    """The samples of all processes, as many as a chart can show."""
    by_process: dict[str, list[PoolSample]] = {}
    for event in sorted(events, key=lambda event: event.at):
        by_process.setdefault(event.key, []).append(sample_of(event))
    points = max(1, MAX_POINTS // max(1, len(by_process)))
    found = [
        ProcessSample(process, merged(samples[first : first + step]))
        for process, samples in by_process.items()
        for step in [-(-len(samples) // points)]
        for first in range(0, len(samples), step)
    ]
    return PoolHistory(since, until, sorted(found, key=lambda one: one.sample.at), error)


def review_of(decision: Decision) -> PoolReview:
    """The decision as a report."""
    changed = decision.action != "keep"
    return PoolReview(changed, decision.before, decision.size, decision.utilization, decision.reason)
