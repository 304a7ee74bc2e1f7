"""Which patterns come first."""

import heapq
from collections.abc import Callable, Mapping
from typing import Final

from dbpilot.history.tally import Tally

SLACK: Final = 1.02
"""A percentile from a histogram may be so many times the largest duration: it is the middle of its bucket."""


def p95_of(tally: Tally) -> float:
    """The p95, in seconds; zero where nothing ran."""
    return tally.histogram.quantile(0.95) or 0.0


def ranked_by(tallies: Mapping[str, Tally], figure: Callable[[Tally], float]) -> list[str]:
    """All of them, the highest first; of equal ones those that ran most."""
    return sorted(tallies, key=lambda id_: (figure(tallies[id_]), tallies[id_].calls), reverse=True)


def ranked_by_p95(tallies: Mapping[str, Tally], limit: int) -> list[str]:
    """The highest ones by p95. It is never above the maximum, which costs nothing to look at: a histogram is added up
    only while it may still matter."""
    top: list[tuple[float, int, str]] = []
    for id_ in ranked_by(tallies, lambda tally: tally.max_s):
        tally = tallies[id_]
        if len(top) == limit and tally.max_s * SLACK < top[0][0]:
            break
        entry = (p95_of(tally), tally.calls, id_)
        if len(top) < limit:
            heapq.heappush(top, entry)
        else:
            heapq.heappushpop(top, entry)
    return [id_ for _, _, id_ in sorted(top, reverse=True)]
