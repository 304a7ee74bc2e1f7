"""Counts and latencies that add up: across threads, processes and time."""

import math
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final, Protocol, Self

STEPS_PER_OCTAVE: Final = 32
"""Buckets between a duration and its double; the middle of a bucket is at most 1/64 (1.6 %) off."""

_OCTAVE_BITS: Final = STEPS_PER_OCTAVE.bit_length() - 1
NS_PER_S: Final = 1_000_000_000
NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Entries(Protocol):
    """Anything that can tell pairs of a bucket's number and its count."""

    def items(self) -> Iterable[tuple[int, int]]:
        """Each bucket once."""


class LatencyHistogram:
    """Durations in buckets of constant relative width (log-linear, as in HdrHistogram).

    Two histograms merge by addition, without loss. Memory goes to the range of buckets that were hit: about a
    kilobyte for latencies of one kind, five at the most.
    """

    __slots__ = ("_later", "counts", "first")

    def __init__(self, later: "Entries | None" = None) -> None:
        """``later`` is counted as soon as somebody looks."""
        self.first = 0
        """The number of the first bucket in ``counts``."""
        self.counts = array("q")
        self._later = [] if later is None else [later]

    def add(self, duration_s: float) -> None:
        """Count one duration in seconds; below zero counts as zero."""
        place = bucket_of(duration_s) - self.first
        if 0 <= place < len(self.counts):
            self.counts[place] += 1
        else:
            self.count(place + self.first, 1)

    def count(self, bucket: int, count: int) -> None:
        """Count so many durations in that bucket."""
        counts = self.counts
        if not counts:
            self.first = bucket
        if bucket < self.first:
            self.counts = counts = array("q", bytes(8 * (self.first - bucket))) + counts
            self.first = bucket
        missing = bucket - self.first + 1 - len(counts)
        if missing > 0:
            counts.frombytes(bytes(8 * missing))
        counts[bucket - self.first] += count

    def merge(self, other: "Entries") -> None:
        """Add all that the other one counted; it must not change any more."""
        self._later.append(other)

    def copy(self) -> "LatencyHistogram":
        """The same counts, apart from what is counted from now on."""
        twin = LatencyHistogram()
        twin.first, twin.counts, twin._later = self.first, self.counts[:], list(self._later)
        return twin

    def settle(self) -> None:
        """What was merged is counted here, and no longer held."""
        while self._later:
            for bucket, count in self._later.pop().items():
                self.count(bucket, count)

    def items(self) -> Iterator[tuple[int, int]]:
        """The numbers and counts of the buckets that were hit, in order."""
        self.settle()
        return ((bucket, count) for bucket, count in enumerate(self.counts, self.first) if count)

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that ``share`` (0 to 1) of all stayed at or below; None when nothing was counted."""
        self.settle()
        sums = list(accumulate(self.counts))
        if not sums or not sums[-1]:
            return None
        wanted = max(1, math.ceil(share * sums[-1]))  # nearest rank
        return middle_of(self.first + bisect_left(sums, wanted))

    def at_most(self, bound_s: float) -> int:
        """How many durations lie in buckets up to the one of ``bound_s``."""
        self.settle()
        return sum(self.counts[: max(0, bucket_of(bound_s) - self.first + 1)])


def bucket_of(duration_s: float) -> int:
    """The number of the bucket that this duration falls in."""
    ns = int(duration_s * NS_PER_S)
    if ns < STEPS_PER_OCTAVE:
        return max(ns, 0)
    shift = ns.bit_length() - _OCTAVE_BITS - 1
    return (shift << _OCTAVE_BITS) + (ns >> shift)


def middle_of(bucket: int) -> float:
    """The duration in seconds in the middle of a bucket."""
    if bucket < 2 * STEPS_PER_OCTAVE:
        return bucket / NS_PER_S
    shift = (bucket >> _OCTAVE_BITS) - 1
    low = (bucket - (shift << _OCTAVE_BITS)) << shift
    return (low + (1 << shift) / 2) / NS_PER_S


@dataclass(slots=True)
class Tally:
    """What is known of many executions of one pattern; durations in seconds."""

    calls: int = 0
    slow: int = 0
    rows: int = 0
    """Rows affected or fetched; drivers that do not know how many were affected count nothing."""
    total_s: float = 0.0
    fetch_s: float = 0.0
    """Of the total, the time in which rows were fetched."""
    first_row_s: float = 0.0
    """Time from the start until the first rows were there, of the executions that answered any."""
    wait_s: float = 0.0
    """Time in which connections were waited for, which is no part of the total."""
    min_s: float = float("inf")
    max_s: float = 0.0
    last_seen: datetime = NEVER
    errors: Counter[str] = field(default_factory=Counter)
    """How often which class of error; failed executions are among the calls."""
    histogram: LatencyHistogram = field(default_factory=LatencyHistogram)

    def add(
        self,
        at: datetime,
        duration_s: float,
        fetch_s: float,
        rows: int,
        error: str | None,
        slow_s: float,
        first_row_s: float = 0.0,
        wait_s: float = 0.0,
    ) -> None:
        """Count one execution that ended ``at``."""
        self.calls += 1
        self.slow += duration_s >= slow_s
        self.rows += max(rows, 0)  # drivers say -1 for "not known"
        self.total_s += duration_s
        self.fetch_s += fetch_s
        self.first_row_s += first_row_s
        self.wait_s += wait_s
        self.min_s = min(self.min_s, duration_s)
        self.max_s = max(self.max_s, duration_s)
        self.last_seen = max(self.last_seen, at)
        if error is not None:
            self.errors[error] += 1
        self.histogram.add(duration_s)

    def copy(self) -> "Tally":
        """The same figures, apart from what is counted from now on."""
        return replace(self, errors=self.errors.copy(), histogram=self.histogram.copy())

    def merge(self, other: Self) -> None:
        """Add all that the other one counted; it must not change any more."""
        self.calls += other.calls
        self.slow += other.slow
        self.rows += other.rows
        self.total_s += other.total_s
        self.fetch_s += other.fetch_s
        self.first_row_s += other.first_row_s
        self.wait_s += other.wait_s
        self.min_s = min(self.min_s, other.min_s)
        self.max_s = max(self.max_s, other.max_s)
        self.last_seen = max(self.last_seen, other.last_seen)
        self.errors.update(other.errors)
        self.histogram.merge(other.histogram)

    @property
    def failed(self) -> int:
        """How many executions ended in an error."""
        return self.errors.total()

    @property
    def execute_s(self) -> float:
        """Of the total, the time before rows were fetched."""
        return self.total_s - self.fetch_s

    @property
    def mean_s(self) -> float:
        """The mean duration; zero when nothing was counted."""
        return self.total_s / self.calls if self.calls else 0.0
