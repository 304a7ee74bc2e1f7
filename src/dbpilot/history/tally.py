"""Counts and latencies that add up: across threads, processes and time."""

import math
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

STEPS_PER_OCTAVE: Final = 32
"""Buckets between a duration and its double; the middle of a bucket is at most 1/64 (1.6 %) off."""

_OCTAVE_BITS: Final = STEPS_PER_OCTAVE.bit_length() - 1
NS_PER_S: Final = 1_000_000_000
NEVER: Final = datetime.min.replace(tzinfo=UTC)


class LatencyHistogram:
    """Durations in buckets of constant relative width (log-linear, as in HdrHistogram).

    Two histograms merge by addition, without loss. Only buckets that were hit take memory.
    """

    __slots__ = ("buckets",)

    def __init__(self, buckets: Iterable[tuple[int, int]] = ()) -> None:
        self.buckets: dict[int, int] = dict(buckets)

    def add(self, duration_s: float) -> None:
        """Count one duration in seconds; below zero counts as zero."""
        bucket = bucket_of(duration_s)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def merge(self, other: Self) -> None:
        """Add all that the other one counted."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that ``share`` (0 to 1) of all stayed at or below; None when nothing was counted."""
        total = sum(self.buckets.values())
        if not total:
            return None
        wanted = max(1, math.ceil(share * total))  # nearest rank
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                break
        return middle_of(bucket)

    def at_most(self, bound_s: float) -> int:
        """How many durations lie in buckets up to the one of ``bound_s``."""
        last = bucket_of(bound_s)
        return sum(count for bucket, count in self.buckets.items() if bucket <= last)

    def to_bytes(self) -> bytes:
        """Bucket numbers and counts in turn, as little-endian 64-bit integers."""
        flat = [number for bucket in sorted(self.buckets) for number in (bucket, self.buckets[bucket])]
        return struct.pack(f"<{len(flat)}q", *flat)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The histogram that ``to_bytes`` wrote."""
        return cls(struct.iter_unpack("<qq", raw))


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
    min_s: float = float("inf")
    max_s: float = 0.0
    last_seen: datetime = NEVER
    errors: Counter[str] = field(default_factory=Counter)
    """How often which class of error; failed executions are among the calls."""
    histogram: LatencyHistogram = field(default_factory=LatencyHistogram)

    def add(self, at: datetime, duration_s: float, fetch_s: float, rows: int, error: str | None, slow_s: float) -> None:
        """Count one execution that ended ``at``."""
        self.calls += 1
        self.slow += duration_s >= slow_s
        self.rows += max(rows, 0)  # drivers say -1 for "not known"
        self.total_s += duration_s
        self.fetch_s += fetch_s
        self.min_s = min(self.min_s, duration_s)
        self.max_s = max(self.max_s, duration_s)
        self.last_seen = max(self.last_seen, at)
        if error is not None:
            self.errors[error] += 1
        self.histogram.add(duration_s)

    def merge(self, other: Self) -> None:
        """Add all that the other one counted."""
        self.calls += other.calls
        self.slow += other.slow
        self.rows += other.rows
        self.total_s += other.total_s
        self.fetch_s += other.fetch_s
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
    def mean_s(self) -> float:
        """The mean duration; zero when nothing was counted."""
        return self.total_s / self.calls if self.calls else 0.0
