"""Patterns by what they are: filtered, ranked and paged; and everything about one of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from dbpilot.history.store import Pattern
from dbpilot.history.tally import Tally
from dbpilot.reports.queries import QueryStats
from dbpilot.reports.slow import SlowQueryRecord

Having = Literal["errors", "slow", "full_scan", "n_plus_one"]


@dataclass(frozen=True, slots=True)
class QueryFilter:
    """Which patterns are wanted; None for any. Case does not matter."""

    text: str | None = None
    """Somewhere in the statement, or its id."""
    table: str | None = None
    operation: str | None = None
    callsite: str | None = None
    """Somewhere in a line of code, a function or a route that ran it."""
    having: Having | None = None
    took_s: tuple[float, float] | None = None
    """Executions that took longer than the one and at most the other, some of which there must be."""

    @property
    def by_name(self) -> bool:
        """Whether the patterns' texts have to be known to tell."""
        return any((self.text, self.table, self.operation, self.callsite))

    def admits(self, pattern: Pattern) -> bool:
        """Whether the pattern is wanted for what it says and where it comes from."""
        return (
            (not self.text or self.text.lower() in f"{pattern.text} {pattern.id}".lower())
            and (not self.table or self.table.lower() in {name.lower() for name in pattern.tables})
            and (not self.operation or pattern.operation == self.operation.upper())
            and (not self.callsite or self.callsite.lower() in _origins(pattern))
        )


EVERY_QUERY = QueryFilter()


@dataclass(frozen=True, slots=True)
class QueryList:
    """One page of the patterns that were wanted, ranked."""

    since: datetime
    until: datetime
    patterns: list[QueryStats]
    found: int
    """How many were wanted, on all pages."""
    total_s: float
    """Time spent on all patterns, wanted or not: what a share is a share of."""
    history_error: str | None


@dataclass(frozen=True, slots=True)
class SeenPlan:
    """A plan by which the database answered, and when it was first and last seen."""

    first: datetime
    last: datetime
    hash: str
    text: str
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueryReport:
    """Everything about one pattern between ``since`` and ``until``."""

    since: datetime
    until: datetime
    stats: QueryStats
    ran: bool
    """Whether it ran in that time; else only its text and its plans are known."""
    share: float | None
    """Of the time spent on all patterns."""
    plans: list[SeenPlan]
    """The latest first; equal ones in a row are one."""
    samples: list[SlowQueryRecord]
    """Slow executions, the latest first."""
    history_error: str | None


def wanted_ids(
    tallies: Mapping[str, Tally],
    wanted: QueryFilter,
    named: Callable[[], Mapping[str, Pattern]],
    special: Callable[[str], set[str]],
) -> list[str]:
    """The patterns that are wanted, in no order; texts, plans and repetitions are asked for only where they matter."""
    ids = [id_ for id_, tally in tallies.items() if _took(tally, wanted.took_s)]
    if wanted.having == "errors":
        ids = [id_ for id_ in ids if tallies[id_].failed]
    elif wanted.having == "slow":
        ids = [id_ for id_ in ids if tallies[id_].slow]
    elif wanted.having is not None:
        ids = sorted(special(wanted.having) & tallies.keys())
    if not wanted.by_name:
        return ids
    patterns = named()
    return [id_ for id_ in ids if id_ in patterns and wanted.admits(patterns[id_])]


def seen_plans(plans: list[tuple[datetime, Mapping[str, Any]]]) -> list[SeenPlan]:
    """The plans, latest first, as runs of equal ones."""
    runs: list[SeenPlan] = []
    for at, body in plans:
        last = at
        if runs and runs[-1].hash == body["hash"]:
            last = runs.pop().last
        runs.append(SeenPlan(at, last, body["hash"], body["text"], tuple(body["findings"])))
    return runs


def reads_a_whole_table(plan: Mapping[str, Any]) -> bool:
    """Whether the plan, as the history keeps it, reads all of a table."""
    return any("whole table" in finding for finding in plan["findings"])


def _origins(pattern: Pattern) -> str:
    return " ".join(f"{one.callsite} {one.function} {one.route or ''}" for one in pattern.sources).lower()


def _took(tally: Tally, took_s: tuple[float, float] | None) -> bool:
    """Whether an execution took so long."""
    if took_s is None:
        return True
    least_s, most_s = took_s
    calls = sum(tally.histogram.counts)
    below = tally.histogram.at_most(least_s) if least_s else 0
    return (calls if most_s == float("inf") else tally.histogram.at_most(most_s)) > below
