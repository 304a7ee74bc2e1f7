"""Everything about one statement."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from dbpilot.errors import NotThereError
from dbpilot.reports.indexes import GainReport, IndexReport, StepReport
from dbpilot.reports.queries import QueryStats
from dbpilot.reports.search import SeenPlan
from dbpilot.web.pages import charts
from dbpilot.web.pages.overview import POINTS, SHOWN_MARKS
from dbpilot.web.pages.site import USUAL_H, Hours, Site, shown, view_of
from dbpilot.web.pages.words import Words

SHOWN_PLANS: Final = 2
SHOWN_SAMPLES: Final = 20
OFF_BY: Final = 10
"""An estimate that is so many times too high or too low misleads the optimizer."""
CLAUSES: Final = re.compile(
    r"(?<!\bLEFT)(?<!\bRIGHT)(?<!\bFULL)(?<!\bINNER)(?<!\bCROSS)(?<!\bOUTER)\s+"
    r"(?=(?:FROM|WHERE|GROUP BY|HAVING|ORDER BY|LIMIT|OFFSET|"
    r"VALUES|SET|UNION(?: ALL)?|RETURNING|WINDOW|"
    r"(?:(?:LEFT|RIGHT|FULL|INNER|CROSS)(?: OUTER)? )?JOIN|ON CONFLICT|ON DUPLICATE KEY)\b)"
)
ROWS: Final = re.compile(r" rows=(\d+)")
ALTERNATIVES: Final = re.compile(r"\s+(?=(?:AND|OR)\b)")


@dataclass(frozen=True, slots=True)
class Misjudged:
    """How many rows the database expected, and how many came on the average."""

    expected: float
    came: float


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One step of a plan."""

    depth: int
    text: str
    is_bad: bool
    """Whether it reads a whole table, or sorts what an index would give in order."""
    is_new: bool
    """Whether the plan before had no such step."""
    misjudged: Misjudged | None = None


def add_query(router: APIRouter, site: Site, clock: Callable[[], datetime]) -> None:
    """The router answers with one statement's page."""

    @router.get("/queries/{pattern_id}")
    def query(pattern_id: str, request: Request, hours: Hours = USUAL_H) -> HTMLResponse:
        view = view_of(site, request, clock())
        report = site.pilot.query(pattern_id, hours, SHOWN_SAMPLES)
        if report is None:
            raise NotThereError(f"no statement is known as {pattern_id[:40]}; it may have been forgotten")
        timeline = site.pilot.timeline(hours, POINTS, [pattern_id])
        points = timeline.patterns[pattern_id]
        marks = charts.marks_of(view.t, site.pilot.activity(hours, SHOWN_MARKS).activities)
        marks += [
            charts.Mark(plan.first, "plan", view.t("mark.plan")) for plan in report.plans if len(report.plans) > 1
        ]
        where = parts_of(view.t, report.stats)
        indexes = site.pilot.indexing.latest()
        dots = [(one.at, one.duration_s, one.callsite or "") for one in report.samples if one.at >= timeline.since]
        return shown(
            view,
            "query",
            page="queries",
            report=report,
            sql=readable(report.stats.query),
            where_time=where,
            bar=[(kind, seconds) for kind, _, seconds in where],
            whole_s=sum(seconds for _, _, seconds in where),
            rate=charts.rate_chart(view.t, timeline, points, marks),
            latency=charts.latency_chart(view.t, timeline, points, marks, dots),
            plans=plans_of(report.plans[:SHOWN_PLANS], report.stats),
            advised=advised(indexes.steps, pattern_id),
            is_analysed=indexes.as_of is not None,
            why_not_judged=why_not_judged(indexes, pattern_id),
        )


def readable(text: str) -> str:
    """The statement with a line for each of its clauses; nothing else of it is changed."""
    lines = CLAUSES.sub("\n", " ".join(text.split()))
    return ALTERNATIVES.sub("\n  ", lines)


def parts_of(t: Words, stats: QueryStats) -> list[tuple[str, str, float]]:
    """Where the time went: the class that colours each part, its name, and its seconds."""
    return [
        ("execute", t("part.execute"), stats.execute_s),
        ("fetch", t("part.fetch"), stats.fetch_s),
        ("wait", t("part.wait"), stats.wait_s),
    ]


def plans_of(plans: Sequence[SeenPlan], stats: QueryStats) -> list[tuple[SeenPlan, list[PlanLine]]]:
    """Each plan as lines, compared with the one before it in time, and the latest with what came of it."""
    found = []
    for place, plan in enumerate(plans):
        earlier = plans[place + 1] if place + 1 < len(plans) else None
        known = {_shape(line) for line in earlier.text.splitlines()} if earlier else None
        lines = [_line(line, plan, known) for line in plan.text.splitlines()]
        if place == 0 and lines:
            lines[0] = replace(lines[0], misjudged=misjudged(lines[0].text, stats))
        found.append((plan, lines))
    return found


def misjudged(step: str, stats: QueryStats) -> Misjudged | None:
    """What the database expected of the whole statement, where that is far from what came; None also where either is
    not known. Of the steps below it nobody knows what came: a statement is never executed to find out.
    """
    expected = ROWS.search(step)
    if expected is None or stats.operation != "SELECT" or not stats.calls or not stats.rows:
        return None
    found = Misjudged(float(expected[1]), stats.rows / stats.calls)
    least, most = sorted((max(1.0, found.expected), max(1.0, found.came)))
    return found if most >= OFF_BY * least else None


def advised(steps: Sequence[StepReport], pattern_id: str) -> list[tuple[StepReport, GainReport]]:
    """The index steps that would help this statement, and by how much."""
    return [(step, gain) for step in steps for gain in step.gains if gain.pattern_id == pattern_id]


def why_not_judged(indexes: IndexReport, pattern_id: str) -> str | None:
    """Why nothing can be said of what an index would do for this statement; None where nothing speaks against it."""
    alone = indexes.workload.not_judged.get(pattern_id) if indexes.workload is not None else None
    return alone or indexes.why_no_advice


def _line(line: str, plan: SeenPlan, known: set[str] | None) -> PlanLine:
    text = line.lstrip()
    return PlanLine(
        (len(line) - len(text)) // 2, text, _is_bad(text, plan), known is not None and _shape(line) not in known
    )


def _is_bad(text: str, plan: SeenPlan) -> bool:
    table = re.search(r"\bon (\S+)", text)
    whole = table is not None and any(f"the whole table {table[1]}" in finding for finding in plan.findings)
    return (whole and " using " not in text) or "filesort" in text.lower() or "temp b-tree" in text.lower()


def _shape(line: str) -> str:
    """The step without its estimates, which differ each time."""
    return re.sub(r" (?:rows|cost)=\S+", "", line)
