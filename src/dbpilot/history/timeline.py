"""How figures went: the same range of time cut into equal steps, all patterns together and some of them apart."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dbpilot.history.block import OTHER_ID, OTHER_NUMBER, Block, Ids, block_of, tally_of
from dbpilot.history.tally import LatencyHistogram, Tally

MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86_400
AN_ID: Final = re.compile("[0-9a-f]{16}")
NICE_S: Final = (
    *(MINUTE_S * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(HOUR_S * hours for hours in (1, 2, 3, 6, 12)),
    *(DAY_S * days for days in (1, 2, 7, 14, 30)),
)
"""Lengths of steps that people read well."""


@dataclass(frozen=True, slots=True)
class Step:
    """What was counted from ``start`` on."""

    start: datetime
    total: Tally = field(default_factory=Tally)
    patterns: dict[str, Tally] = field(default_factory=dict)
    """Those of the patterns asked for that ran."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Steps of equal length, by the second that each begins at; where nothing ran there is none."""

    step_s: int
    steps: dict[int, Step]


def step_length_s(range_s: float, points: int, least_s: int) -> int:
    """The length of steps by which a range becomes at most so many points, and one that people read well."""
    wanted_s = max(least_s, range_s / max(1, points))
    return next((length_s for length_s in NICE_S if length_s >= wanted_s and length_s % least_s == 0), NICE_S[-1])


def steps_of(blocks: Iterable[tuple[float, Block]], step_s: int, ids: Collection[str] = ()) -> dict[int, Step]:
    """The blocks, each with the second that it begins at, added up by step; by the second that the step begins at."""
    numbers = {_number(id_): id_ for id_ in ids if id_ == OTHER_ID or AN_ID.fullmatch(id_)}
    wanted = np.array(sorted(numbers), np.uint64)
    steps: dict[int, Step] = {}
    for at_s, block in blocks:
        start_s = int(at_s // step_s * step_s)
        step = steps.setdefault(start_s, Step(datetime.fromtimestamp(start_s, UTC)))
        step.total.merge(_total(block))
        for number, tally in _some(block, wanted):
            step.patterns.setdefault(numbers[number], Tally()).merge(tally)
    return steps


def with_live(stored: Timeline, windows: Iterable[tuple[float, Mapping[str, Tally]]], ids: Collection[str]) -> Timeline:
    """The timeline with what the store does not have yet."""
    blocks = ((at_s, block_of(dict(tallies))) for at_s, tallies in windows if tallies)
    for start_s, live in steps_of(blocks, stored.step_s, ids).items():
        step = stored.steps.setdefault(start_s, Step(live.start))
        step.total.merge(live.total)
        for id_, tally in live.patterns.items():
            step.patterns.setdefault(id_, Tally()).merge(tally)
    return stored


def _number(id_: str) -> int:
    return OTHER_NUMBER if id_ == OTHER_ID else int(id_, 16)


def _total(block: Block) -> Tally:
    """All patterns of the block together."""
    if not len(block.ids):
        return Tally()
    sums = block.sums.sum(axis=1, keepdims=True)
    errors = Counter[str]()
    for counts in block.errors.values():
        errors.update(counts)
    bounds = float(block.least.min()), float(block.most.max()), float(block.last_seen.max())
    totals = np.bincount(block.buckets, block.counts)
    hit = np.flatnonzero(totals)  # the block itself must not be kept: hundreds of them would stay in memory
    return tally_of(sums[:, 0].tolist(), bounds, errors, LatencyHistogram(later=_Entries(hit, totals[hit])))


def _some(block: Block, wanted: Ids) -> Iterable[tuple[int, Tally]]:
    """The patterns of the block that are wanted, one by one."""
    rows = np.flatnonzero(np.isin(block.ids, wanted)) if len(wanted) else np.zeros(0, np.intp)
    if not len(rows):
        return
    ends = np.cumsum(block.lengths, dtype=np.int64)[rows].tolist()
    lengths = block.lengths[rows].tolist()
    sums = block.sums[:, rows].T.tolist()
    bounds = zip(*(column[rows].tolist() for column in (block.least, block.most, block.last_seen)), strict=True)
    numbers = block.ids[rows].tolist()
    for place, (row, number, its) in enumerate(zip(rows.tolist(), numbers, bounds, strict=True)):
        entries = slice(ends[place] - lengths[place], ends[place])
        histogram = LatencyHistogram(later=_Entries(block.buckets[entries].copy(), block.counts[entries].copy()))
        yield number, tally_of(sums[place], its, Counter(block.errors.get(row, ())), histogram)


class _Entries:
    """Entries of a block, added up when they are looked at."""

    __slots__ = ("_buckets", "_counts")

    def __init__(self, buckets: NDArray[Any], counts: NDArray[Any]) -> None:
        self._buckets = buckets
        self._counts = counts

    def items(self) -> Iterable[tuple[int, int]]:
        """Pairs of a bucket's number and its count."""
        totals = np.bincount(self._buckets, self._counts)
        hit = np.flatnonzero(totals)
        return zip(hit.tolist(), totals[hit].astype(np.int64).tolist(), strict=True)
