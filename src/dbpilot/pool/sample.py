"""What is seen of a pool, and what is decided on it: plain values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class PoolSample:
    """A pool over a short time that ended ``at``."""

    at: datetime
    size: int
    limit: int | None
    """The most connections there may be; None for no limit."""
    in_use: float
    """Connections in use, on the average."""
    most_in_use: int
    idle: int
    waiting: int | None
    """The most callers that waited at once; None for a pool that does not say."""
    checkouts: int = 0
    wait_s: float = 0.0
    """How often a connection was asked for, and how long all of them waited together."""
    longest_p95_s: float = 0.0
    """The p95 of the waits; of merged samples the longest."""
    created: int = 0
    closed: int = 0
    failed: int = 0
    timeouts: int = 0
    over_s: float = 1.0
    """How long the sample took."""
    hold_s: float | None = None
    """How long a connection was held, on the average; None where it was not seen."""
    opened: int = 0
    connect_s: float = 0.0
    """Connections that the pool opened meanwhile, and how long that took altogether."""
    collected: int = 0
    """Connections that nobody returned: the garbage collector found them."""
    slowdown: float | None = None
    """How many times longer statements took than when the database was least busy; None where too few ran."""

    allowed: int | None = None
    """What the pool's own size and overflow allow, where a budget that others share bounds the limit as well."""

    @property
    def own_limit(self) -> int | None:
        """The limit that is this pool's to choose."""
        return self.limit if self.allowed is None else self.allowed

    @property
    def demand(self) -> float:
        """Connections that were needed at once, on the average: by Little's law how often one was asked for, times how
        long it was held; and not fewer than were seen in use. Who waits still has to be added."""
        return max(self.in_use, self.checkouts * (self.hold_s or 0.0) / self.over_s)

    @property
    def needed(self) -> int:
        """The most connections that would have been in use at once, had there been enough."""
        return self.most_in_use + (self.waiting or 0)

    @property
    def per_s(self) -> float:
        """Connections handed out per second."""
        return self.checkouts / self.over_s


@dataclass(frozen=True, slots=True)
class Decision:
    """What a review comes to."""

    at: datetime
    action: Literal["grow", "shrink", "keep"]
    before: int
    size: int
    utilization: float
    """The share of ``before`` that was in use."""
    reason: str
    limit: int | None = None
    """The most connections from now on, overflow included; None where the overflow stays as it is."""


def seconds_left(samples: Sequence[PoolSample]) -> float | None:
    """The time until the limit is reached if the use goes on growing as it did over the samples (least squares).

    None where it does not grow, there is no limit, or too little was seen.
    """
    if len(samples) < 10 or samples[-1].limit is None:
        return None
    times = [(sample.at - samples[0].at).total_seconds() for sample in samples]
    used = [sample.in_use for sample in samples]
    middle, mean = sum(times) / len(times), sum(used) / len(used)
    spread = sum((time - middle) ** 2 for time in times)
    if spread == 0:
        return None
    slope = sum((time - middle) * (use - mean) for time, use in zip(times, used, strict=True)) / spread
    left = samples[-1].limit - (mean + slope * (times[-1] - middle))
    return max(0.0, left / slope) if slope > 1e-3 else None


def merged(samples: Sequence[PoolSample]) -> PoolSample:
    """The samples, at least one of them, as one over all of their time."""
    last = samples[-1]
    return PoolSample(
        at=last.at,
        size=last.size,
        limit=last.limit,
        in_use=sum(sample.in_use for sample in samples) / len(samples),
        most_in_use=max(sample.most_in_use for sample in samples),
        idle=last.idle,
        waiting=max((sample.waiting for sample in samples if sample.waiting is not None), default=None),
        checkouts=sum(sample.checkouts for sample in samples),
        wait_s=sum(sample.wait_s for sample in samples),
        longest_p95_s=max(sample.longest_p95_s for sample in samples),
        created=sum(sample.created for sample in samples),
        closed=sum(sample.closed for sample in samples),
        failed=sum(sample.failed for sample in samples),
        timeouts=sum(sample.timeouts for sample in samples),
        over_s=sum(sample.over_s for sample in samples),
        hold_s=_mean((sample.hold_s, sample.checkouts) for sample in samples),
        opened=sum(sample.opened for sample in samples),
        connect_s=sum(sample.connect_s for sample in samples),
        collected=sum(sample.collected for sample in samples),
        allowed=last.allowed,
        slowdown=_mean((sample.slowdown, sample.checkouts) for sample in samples),
    )


def _mean(weighted: Iterable[tuple[float | None, int]]) -> float | None:
    """The mean of what is known, by weight."""
    known = [(value, max(1, weight)) for value, weight in weighted if value is not None]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else None
