"""Courses over time as the browser draws them, and in words for those who do not see them."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, Literal

from dbpilot.reports.activity import Activity
from dbpilot.reports.pool import PoolHistory
from dbpilot.reports.timeline import BANDS_S, Point, TimelineReport
from dbpilot.web.pages import figures
from dbpilot.web.pages.words import Words

Unit = Literal["s", "count", "per_s", "share"]
MAX_MARKS: Final = 40
HEAT_COLUMNS: Final = 180
GAP_STEPS: Final = 3
"""After so many steps of nothing a course is interrupted."""


@dataclass(frozen=True, slots=True)
class Line:
    """One course of a chart."""

    label: str
    values: Sequence[float | None]
    colour: str
    style: Literal["line", "step", "area", "dots"] = "line"


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, on a time axis."""

    at: datetime
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as a page shows it."""

    id: str
    title: str
    unit: Unit
    times: Sequence[datetime]
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    span: tuple[datetime, datetime] | None = None
    """The range that the axis shows, whatever is known of it."""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known."""
        return not any(value is not None for line in self.lines for value in line.values)

    def spec(self) -> dict[str, Any]:
        """What the script draws."""
        return {
            "unit": self.unit,
            "x": [round(at.timestamp(), 1) for at in self.times],
            "lines": [
                {"label": line.label, "colour": line.colour, "style": line.style, "values": _rounded(line.values)}
                for line in self.lines
            ],
            "marks": [
                {"x": round(mark.at.timestamp(), 1), "kind": mark.kind, "label": mark.label}
                for mark in self.marks[:MAX_MARKS]
            ],
            "span": [round(at.timestamp(), 1) for at in self.span] if self.span else None,
            **self.more,
        }

    def summary(self, t: Words) -> str:
        """The chart in a sentence."""
        if self.is_empty:
            return t("chart.empty", title=self.title)
        parts = []
        for line in self.lines:
            known = [value for value in line.values if value is not None]
            if known:
                least, most, last = (self._said(value) for value in (min(known), max(known), known[-1]))
                parts.append(t("chart.course", label=line.label, least=least, most=most, last=last))
        return f"{self.title}: {'; '.join(parts)}"

    def _said(self, value: float) -> str:
        said = {"s": figures.duration, "share": figures.share}.get(self.unit, figures.count)
        return said(value)


def rate_chart(t: Words, report: TimelineReport, points: Sequence[Point], marks: Sequence[Mark]) -> Chart:
    """Statements per second, and errors."""
    lines = [
        Line(t("series.statements"), [point.per_s for point in points], "blue", "area"),
        Line(t("series.errors"), [_rate(point.errors, point) for point in points], "red"),
    ]
    return Chart("rate", t("chart.rate"), "per_s", _starts(points), lines, marks, (report.since, report.until))


def latency_chart(
    t: Words,
    report: TimelineReport,
    points: Sequence[Point],
    marks: Sequence[Mark],
    dots: Sequence[tuple[datetime, float, str]] = (),
) -> Chart:
    """Percentiles, and single executions as dots that lead to their request."""
    lines = [
        Line("p50", [point.p50_s for point in points], "green"),
        Line("p95", [point.p95_s for point in points], "blue"),
        Line("p99", [point.p99_s for point in points], "violet"),
    ]
    more = {"dots": [{"x": round(at.timestamp(), 1), "y": value, "label": label} for at, value, label in dots]}
    span = report.since, report.until
    return Chart("latency", t("chart.latency"), "s", _starts(points), lines, marks, span, more)


def pool_chart(t: Words, history: PoolHistory, marks: Sequence[Mark] = ()) -> Chart:
    """Connections of all processes together: in use, the most at once, size and limit."""
    rows = _by_minute(history)
    lines = [
        Line(t("series.in_use"), [row["in_use"] for row in rows], "blue", "area"),
        Line(t("series.most"), [row["most"] for row in rows], "violet"),
        Line(t("series.size"), [row["size"] for row in rows], "green", "step"),
        Line(t("series.limit"), [row["limit"] for row in rows], "red", "step"),
    ]
    times = [row["at"] for row in rows]
    return Chart("pool", t("chart.pool"), "count", times, lines, marks, (history.since, history.until))


def wait_chart(t: Words, history: PoolHistory, marks: Sequence[Mark] = ()) -> Chart:
    """How long connections were waited for."""
    rows = _by_minute(history)
    lines = [
        Line(t("series.longest_p95"), [row["p95"] for row in rows], "blue"),
        Line(t("series.mean"), [row["mean"] for row in rows], "green"),
    ]
    times = [row["at"] for row in rows]
    return Chart("wait", t("chart.wait"), "s", times, lines, marks, (history.since, history.until))


def heat_spec(report: TimelineReport, links: Sequence[str]) -> dict[str, Any]:
    """The heatmap: a column per step, a row per band of latency, and where a click leads: the address
    of a column, and there ``band``, the number of the row."""
    bands = len(report.bands_s) + 1
    return {
        "x": [round(point.start.timestamp()) for point in report.points],
        "step": report.step_s,
        "bands": list(report.bands_s),
        "cells": [list(point.bands) or [0] * bands for point in report.points],
        "links": list(links),
    }


def wait_heat(history: PoolHistory) -> dict[str, Any]:
    """The heatmap of waits: a column per step, a row per band, and in each cell how many connections were asked for in
    moments whose p95 was in that band; of a moment no more than its p95 is kept."""
    since_s, until_s = history.since.timestamp(), history.until.timestamp()
    step_s = max(_spacing_s(history), (until_s - since_s) / HEAT_COLUMNS)
    first, last = int(since_s // step_s), int(until_s // step_s)
    cells = [[0] * (len(BANDS_S) + 1) for _ in range(first, last + 1)]
    for sample in (one.sample for one in history.samples):
        column = min(max(int(sample.at.timestamp() // step_s) - first, 0), last - first)
        cells[column][bisect_left(BANDS_S, sample.longest_p95_s)] += sample.checkouts
    starts = [round((first + column) * step_s) for column in range(len(cells))]
    return {"x": starts, "step": step_s, "bands": list(BANDS_S), "cells": cells, "links": []}


def marks_of(t: Words, done: Iterable[Activity]) -> list[Mark]:
    """What the pilot did, for time axes, the latest first."""
    return [
        Mark(one.at, one.subject, f"{t.either('mark.' + one.subject, one.subject)}: {t.said(one.what)}") for one in done
    ]


def _starts(points: Sequence[Point]) -> list[datetime]:
    return [point.start for point in points]


def _rate(count: int, point: Point) -> float | None:
    """Per second, as the calls are."""
    return None if point.per_s is None or not point.calls else count * point.per_s / point.calls


def _by_minute(history: PoolHistory) -> list[dict[str, Any]]:
    """The samples of all processes of the same time as one; a pause is a row of nothing."""
    step_s = _spacing_s(history)
    groups: dict[int, dict[str, list[Any]]] = {}
    for one in history.samples:
        place = int(one.sample.at.timestamp() // step_s)
        groups.setdefault(place, {}).setdefault(one.process, []).append(one.sample)
    rows: list[dict[str, Any]] = []
    last: int | None = None
    for place in sorted(groups):
        if last is not None and place - last > GAP_STEPS:
            rows.append(_row((last + 1) * step_s, []))
        rows.append(_row((place + 0.5) * step_s, list(groups[place].values())))
        last = place
    return rows


def _row(at_s: float, processes: Sequence[Sequence[Any]]) -> dict[str, Any]:
    at = datetime.fromtimestamp(at_s).astimezone()
    samples = [sample for some in processes for sample in some]
    latest = [some[-1] for some in processes]
    if not samples:
        return {"at": at, **dict.fromkeys(("in_use", "most", "size", "limit", "p95", "mean"))}
    asked, waited_s = sum(one.checkouts for one in samples), sum(one.wait_s for one in samples)
    limits = [one.limit for one in latest]
    return {
        "at": at,
        "in_use": sum(sum(one.in_use for one in some) / len(some) for some in processes),
        "most": sum(max(one.most_in_use for one in some) for some in processes),
        "size": sum(one.size for one in latest),
        "limit": None if None in limits else sum(limits),
        "p95": max(one.longest_p95_s for one in samples) if asked else None,
        "mean": waited_s / asked if asked else None,
    }


def _spacing_s(history: PoolHistory) -> float:
    """The usual time between two samples of one process, and no more points than a chart can show."""
    range_s = (history.until - history.since).total_seconds()
    by_process: dict[str, list[datetime]] = {}
    for one in history.samples:
        by_process.setdefault(one.process, []).append(one.sample.at)
    longest = max(by_process.values(), key=len, default=[])
    if len(longest) < 2:
        return max(10.0, range_s / 360)
    gaps = sorted((later - earlier).total_seconds() for earlier, later in pairwise(longest))
    return max(10.0, gaps[len(gaps) // 2], range_s / 360)


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.4g}") for value in values]
