"""How the statements went, step by step; durations in seconds, instants in UTC."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from dbpilot.history.tally import Tally
from dbpilot.history.timeline import Timeline

BANDS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Bounds of the bands of latency: the first band is all that is faster, the last one all that is slower."""


@dataclass(frozen=True, slots=True)
class Point:
    """What was counted in one step; figures are None where nothing ran."""

    start: datetime
    calls: int
    errors: int
    slow: int
    per_s: float | None
    """Calls per second, over that part of the step that is not in the future."""
    total_s: float
    wait_s: float
    mean_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    bands: tuple[int, ...]
    """How many calls fell into each band of latency; empty for single patterns."""


@dataclass(frozen=True, slots=True)
class TimelineReport:
    """Every step from ``since`` on, also those in which nothing ran."""

    since: datetime
    until: datetime
    step_s: int
    bands_s: tuple[float, ...]
    points: list[Point]
    total: Point
    """All of them together."""
    patterns: dict[str, list[Point]]
    """The same for each of the patterns asked for."""
    history_error: str | None


def timeline_report(
    since: datetime, until: datetime, timeline: Timeline, ids: Collection[str], error: str | None
) -> TimelineReport:
    """The timeline without gaps in time: a step in which nothing ran says so."""
    step_s = timeline.step_s
    first_s = int(since.timestamp() // step_s * step_s)
    starts = range(first_s, int(until.timestamp()) + 1, step_s)
    steps = [timeline.steps.get(start_s) for start_s in starts]
    lengths = [min(step_s, max(1.0, until.timestamp() - start_s)) for start_s in starts]
    rows = list(zip(starts, steps, lengths, strict=True))
    return TimelineReport(
        since=datetime.fromtimestamp(first_s, UTC),
        until=until,
        step_s=step_s,
        bands_s=BANDS_S,
        points=[_point(at_s, step.total if step else Tally(), length_s, bands=True) for at_s, step, length_s in rows],
        total=_point(first_s, _sum(step.total for step in timeline.steps.values()), until.timestamp() - first_s),
        patterns={
            id_: [
                _point(at_s, step.patterns.get(id_, Tally()) if step else Tally(), length_s)
                for at_s, step, length_s in rows
            ]
            for id_ in ids
        },
        history_error=error,
    )


def courses_of(
    timeline: Timeline, since: datetime, until: datetime, ids: Iterable[str]
) -> dict[str, list[float | None]]:
    """The time spent on each pattern in each step, in seconds; None where it did not run."""
    starts = range(
        int(since.timestamp() // timeline.step_s * timeline.step_s), int(until.timestamp()) + 1, timeline.step_s
    )
    steps = [timeline.steps.get(start_s) for start_s in starts]
    return {
        id_: [step.patterns[id_].total_s if step is not None and id_ in step.patterns else None for step in steps]
        for id_ in ids
    }


def _point(start_s: float, tally: Tally, length_s: float, *, bands: bool = False) -> Point:
    start = datetime.fromtimestamp(start_s, UTC)
    if not tally.calls:
        return Point(start, 0, 0, 0, None, 0.0, 0.0, None, None, None, None, ())
    p50_s, p95_s, p99_s = (tally.histogram.quantile(share) for share in (0.5, 0.95, 0.99))
    return Point(
        start=start,
        calls=tally.calls,
        errors=tally.failed,
        slow=tally.slow,
        per_s=tally.calls / length_s,
        total_s=tally.total_s,
        wait_s=tally.wait_s,
        mean_s=tally.mean_s,
        p50_s=p50_s,
        p95_s=p95_s,
        p99_s=p99_s,
        bands=_bands(tally) if bands else (),
    )


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    return total


def _bands(tally: Tally) -> tuple[int, ...]:
    below = [0, *(tally.histogram.at_most(bound_s) for bound_s in BANDS_S), sum(tally.histogram.counts)]
    return tuple(high - low for low, high in pairwise(below))
